"""What takes part: something that keeps one conversation on disk."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

__all__ = ["Contender", "role"]


def role(position: int) -> str:
    """Return whose message is at a position: the user's and the assistant's take turns."""
    return "assistant" if position % 2 else "user"


class Contender(ABC):
    """One conversation in an empty directory, used as its documentation says, and with the least call that adds a message.

    :param path: the directory.
    :param texts: the messages to begin with. They may be stored at once.
    """

    #: The distribution to install; ``""``: none.
    package: ClassVar[str] = ""
    #: Whether an added message survives a power cut, by the documentation or the code; what strace sees has precedence.
    durable: ClassVar[bool] = True
    #: Whether it writes all of a conversation to a file for each message.
    whole_file: ClassVar[bool] = False
    #: How it writes, in a few words.
    writes: ClassVar[str] = ""

    @abstractmethod
    def __init__(self, path: str, texts: Iterable[str]) -> None: ...

    @abstractmethod
    def add(self, text: str) -> None:
        """Add a message; it is stored when this returns."""

    @abstractmethod
    def read(self) -> int:
        """Open the storage anew, read all messages, and return how many they are."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Close what is open."""

    @staticmethod
    def sync(*paths: str) -> None:
        """Sync files and directories from outside: for those who do not do so themselves."""
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
