"""What takes part: something that keeps conversations in a database of a PostgreSQL server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

__all__ = ["Conversation"]


class Conversation(ABC):
    """One conversation in a database, used as its documentation says.

    :param url: the database; its tables are made if they are missing.
    :param key: which conversation; others may be in the same database.
    """

    #: The distribution to install; ``""``: none.
    package: ClassVar[str] = ""
    #: What a turn of it does, in a few words.
    does: ClassVar[str] = ""

    @abstractmethod
    def __init__(self, url: str, key: str) -> None: ...

    @abstractmethod
    def begin(self, texts: Sequence[str]) -> None:
        """Store the messages to begin with, the user's and the assistant's in turn. They may be stored at once."""

    @abstractmethod
    def read(self) -> list[str]:
        """Return the texts of the conversation, as a worker reads them to ask a model."""

    @abstractmethod
    def add(self, question: str, answer: str) -> None:
        """Add what was asked and answered, after `read`. It is durable when this returns."""

    def turn(self, question: str, answer: str) -> int:
        """Take a turn: read the conversation, and add a question and its answer; return how many messages it has read."""
        found = len(self.read())
        self.add(question, answer)
        return found

    def answer(self, question: str, ask: Callable[[int], str]) -> str:
        """Answer a delivery once, as well as the library can: it may have been answered already, and others may be at it.

        :param question: tells the delivery from others.
        :param ask: asks a model that was shown so many messages.
        """
        texts = self.read()
        if question in texts[:-1]:
            return texts[texts.index(question) + 1]
        answered = ask(len(texts))
        self.add(question, answered)
        return answered

    def close(self) -> None:  # noqa: B027 - some have nothing to close
        """Close what is open."""
