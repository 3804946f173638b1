"""Whether the bytes of a session's file may hold a searched text: most files are told at the speed of reading.

A search compares texts that were decoded (`session_manager.history.search`). To decode a file takes five times as long as to
look through its bytes. A text that stands for itself in JSON, letters and spaces above all, is not in any message if its bytes
are not in the file.
"""

from __future__ import annotations

import re

from session_manager.history.search import case_fold
from session_manager.history.shapes import reads_as_written

__all__ = ["may_hold"]

#: A JSON text may have these as escapes; a control character, too.
_ESCAPED = frozenset('"\\/')
#: A number is searched as Python writes it, which may not be how the file has it.
_OF_NUMBERS = frozenset("0123456789+-.einfa")
#: An expression finds two bytes in half the time of ``in``.
_BY_NUMBER = re.compile(rb"\\u")
#: How many bytes are looked through before all of them.
_FIRST = 4096


def may_hold(data: bytes, text: str) -> bool:
    r"""Say whether a message in a file may contain a text. If not, `session_manager.history.search.best` finds none.

    The letters of both are compared without case, as a search does. An escape by number (``\u0041``) may be any character.

    :param data: the file: JSON in UTF-8.
    :param text: what is searched for; not empty.
    """
    needle = case_fold(text)
    if not reads_as_written() or not needle.isprintable() or not _ESCAPED.isdisjoint(needle):
        return True
    if _OF_NUMBERS.issuperset(needle) or _is_in(needle, data):
        return True
    return _BY_NUMBER.search(data) is not None


def _is_in(needle: str, data: bytes) -> bool:
    """Say whether a folded text is in a file as it stands there, or the file is not UTF-8."""
    if data.isascii():
        wanted = needle.encode()  # a common text is found in the first bytes
        return needle.isascii() and (wanted in data[:_FIRST].lower() or wanted in data.lower())
    try:
        return needle in case_fold(data.decode())
    except UnicodeDecodeError:
        return True
