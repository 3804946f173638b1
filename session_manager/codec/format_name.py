"""The name of a file format, with which each of our files starts."""

from __future__ import annotations

import re

from session_manager.codec.json import DecodeError
from session_manager.errors import UnsupportedFormatError

__all__ = ["FormatName"]


class FormatName:
    """The name of one of our formats.

    :param name: with its number, such as ``"session_manager-log/1"``.
    :param otherwise: what a file is that starts with no such name: the reason of the error.
    """

    def __init__(self, name: str, otherwise: str) -> None:
        self.name = name
        self._otherwise = otherwise
        kind = name.partition("/")[0].encode()
        self._pattern = re.compile(rb'\{"format":"(%b/[0-9]{1,9})"' % re.escape(kind))

    def check(self, data: bytes, path: str) -> None:
        """Judge the start of a file.

        :param path: the file, for the error.
        :raises UnsupportedFormatError: if it is of the format with another number.
        :raises DecodeError: if it is of no such format.
        """
        named = self._pattern.match(data)
        if named is None:
            raise DecodeError(0, self._otherwise if data else "empty")
        found = named.group(1).decode()
        if found != self.name:
            raise UnsupportedFormatError(path, found, self.name)
