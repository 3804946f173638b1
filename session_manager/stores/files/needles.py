"""Whether the bytes of a session's file may hold a searched text, and how often: most files are told at the speed of reading.

A search compares texts that were decoded (`session_manager.history.search`). To decode a file takes five times as long as to
look through its bytes. A text that stands for itself in JSON, letters and spaces above all, is not in any message if its bytes
are not in the file. Of a message that says one text and nothing else, the text tells the score: no session has to be made of
the file, and no message.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

import msgspec

from session_manager.history.search import case_fold, most_for_each, score_of
from session_manager.history.shapes import reads_as_written
from session_manager.threads import gives_way

__all__ = ["may_hold", "may_score"]

#: A JSON text may have these as escapes; a control character, too.
_ESCAPED = frozenset('"\\/')
#: A number is searched as Python writes it, which may not be how the file has it.
_OF_NUMBERS = frozenset("0123456789+-.einfa")
#: An expression finds two bytes in half the time of ``in``.
_BY_NUMBER = re.compile(rb"\\u")
#: How many bytes are looked through before all of them.
_FIRST = 4096
#: Beside an event loop, larger files are left to the search, which gives way.
_LARGE = 256 * 1024


def may_hold(data: bytes, text: str) -> bool:
    r"""Say whether a message in a file may contain a text. If not, `session_manager.history.search.best` finds none.

    The letters of both are compared without case, as a search does. An escape by number (``\u0041``) may be any character.

    :param data: the file: JSON in UTF-8.
    :param text: the searched text; not empty.
    """
    needle = case_fold(text)
    return not _stands_for_itself(needle) or _is_in(needle, data) or _BY_NUMBER.search(data) is not None


def _stands_for_itself(needle: str) -> bool:
    """Say whether a file has a folded text as a search has it, but for escapes by number."""
    if not reads_as_written() or not needle.isprintable():
        return False
    return _ESCAPED.isdisjoint(needle) and not _OF_NUMBERS.issuperset(needle)


def _is_in(needle: str, data: bytes) -> bool:
    """Say whether a folded text is in a file as it stands there, or the file is not UTF-8."""
    if data.isascii():
        wanted = needle.encode()  # a common text is found in the first bytes
        return needle.isascii() and (wanted in data[:_FIRST].lower() or wanted in data.lower())
    try:
        return needle in case_fold(data.decode())
    except UnicodeDecodeError:
        return True


M = TypeVar("M")


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A message that says one text (`session_manager.history.text.plain_text`)."""

    content: str
    role: msgspec.Raw = msgspec.Raw()
    tool_call_id: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct, Generic[M], gc=False):
    message: M


class _Change(msgspec.Struct, Generic[M], gc=False):
    messages: list[_Line[M]] = []
    message: _Line[M] | None = None


class _Part(msgspec.Struct, Generic[M], gc=False):
    """All messages of a snapshot, of the first line of a log, or of a record: there, some of them may be gone by now."""

    messages: list[_Line[M]] = []
    changes: list[_Change[M]] = []


_decode_plain = msgspec.json.Decoder(_Part[_Plain]).decode_lines
_decode_any = msgspec.json.Decoder(_Part[msgspec.Raw]).decode_lines
_decode_message = msgspec.json.Decoder(_Plain).decode


def may_score(data: bytes, text: str, least: float) -> bool:
    """Say whether a message in a file may have a score (`session_manager.history.search.score_of`), or a higher one.

    :param data: the whole file: JSON objects in UTF-8.
    :param text: the searched text; not empty.
    :param least: the score; more than 0.
    """
    if not reads_as_written() or (gives_way() and len(data) > _LARGE):
        return True
    needle = case_fold(text)
    try:
        texts, others = _said(data)
        return _scores(texts, needle, least) or any(may_hold(other, text) for other in others)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return True


def _said(data: bytes) -> tuple[list[str], list[bytes]]:
    """Return the texts of messages that say nothing else, and all other messages, as they are written."""
    try:
        return [message.content for message in _messages(_decode_plain(data))], []
    except msgspec.ValidationError:
        messages = [bytes(message) for message in _messages(_decode_any(data))]
    found = [_text_of(message) for message in messages]
    others = [message for message, text in zip(messages, found, strict=True) if text is None]
    return [text for text in found if text is not None], others


def _messages(parts: list[_Part[M]]) -> list[M]:
    changes = [change for part in parts for change in part.changes]
    messages = [line.message for part in parts for line in part.messages]
    messages += [line.message for change in changes for line in change.messages]
    return messages + [change.message.message for change in changes if change.message is not None]


def _text_of(message: bytes) -> str | None:
    try:
        return _decode_message(message).content
    except msgspec.ValidationError:
        return None


def _scores(texts: list[str], needle: str, least: float) -> bool:
    """Say whether a text has a score."""
    fold = str.lower if all(map(str.isascii, texts)) else case_fold
    room = most_for_each(least)  # most texts are told by it
    counts = [(len(text), count) for text in map(fold, texts) if len(text) <= room * (count := text.count(needle))]
    return any(score_of(count, length) >= least for length, count in counts)
