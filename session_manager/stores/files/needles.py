"""Whether the bytes of a session's file may hold a searched text, and how often: most files are told at the speed of reading.

A search compares texts that were decoded (`session_manager.history.search`). To decode a file takes five times as long as to
look through its bytes. A text that stands for itself in JSON, letters and spaces above all, is not in any message if its bytes
are not in the file. A message that says one text and nothing else scores no more than its bytes tell: they hold the searched text
at least as often, and the message is at least as long as they are without their escapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

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
    """A message that says one text (`session_manager.history.text.plain_text`), as it is written."""

    content: msgspec.Raw
    role: msgspec.Raw = msgspec.Raw()
    tool_call_id: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct, Generic[M], gc=False):
    message: M


class _Change(msgspec.Struct, Generic[M], gc=False):
    messages: list[_Line[M]] = []
    message: _Line[M] | None = None


class _Lines(msgspec.Struct, Generic[M], gc=False):
    """All messages of a snapshot, of the first line of a log, or of a record: there, some of them may be gone by now."""

    messages: list[_Line[M]] = []
    changes: list[_Change[M]] = []

    def each(self) -> list[M]:
        """Return the messages."""
        found = [line.message for line in self.messages]
        for change in self.changes:
            found += [line.message for line in change.messages]
            if change.message is not None:
                found.append(change.message.message)
        return found


_decode_plain = msgspec.json.Decoder(_Lines[_Plain]).decode
_decode_any = msgspec.json.Decoder(_Lines[msgspec.Raw]).decode
_decode_message = msgspec.json.Decoder(_Plain).decode


def may_score(lines: Sequence[bytes | memoryview], text: str, least: float) -> bool:
    """Say whether a message in some lines of a file may have a score (`session_manager.history.search.score_of`), or a higher one.

    :param lines: JSON objects in UTF-8, of a whole file.
    :param text: the searched text; not empty.
    :param least: the score; more than 0.
    """
    needle = case_fold(text)
    if not _stands_for_itself(needle) or (gives_way() and sum(map(len, lines)) > _LARGE):
        return True
    try:
        return any(_BY_NUMBER.search(line) or _may_score(*_said(line), needle, least) for line in lines)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return True


def _said(line: bytes | memoryview) -> tuple[list[bytes], list[bytes]]:
    """Return the texts of messages that say nothing else, as they are written, and all other messages."""
    plain = _all_plain(line)
    if plain is not None:
        texts, others = [bytes(message.content) for message in plain], []
    else:
        messages = [bytes(message) for message in _decode_any(line).each()]
        found = [_text_of(message) for message in messages]
        texts = [text for text in found if text is not None]
        others = [message for message, text in zip(messages, found, strict=True) if text is None]
    return texts, others + [text for text in texts if not text.startswith(b'"')]


def _all_plain(line: bytes | memoryview) -> list[_Plain] | None:
    try:
        return _decode_plain(line).each()
    except msgspec.ValidationError:
        return None


def _text_of(message: bytes) -> bytes | None:
    try:
        return bytes(_decode_message(message).content)
    except msgspec.ValidationError:
        return None


def _may_score(texts: list[bytes], others: list[bytes], needle: str, least: float) -> bool:
    """Say whether a text may have a score. Each escape in it has two bytes. What others say is not known: they may, if they hold the needle."""
    folded: list[Any]
    wanted: Any
    escape: Any
    if needle.isascii() and all(map(bytes.isascii, texts)):
        folded, wanted, escape = list(map(bytes.lower, texts)), needle.encode(), b"\\"
    else:
        folded, wanted, escape = [case_fold(text.decode()) for text in texts], needle, "\\"
    room = 2 * most_for_each(least)  # most are told without their escapes, which may be half of a text
    dense = [(text, count) for text in folded if len(text) <= room * (count := text.count(wanted))]
    if any(score_of(count, len(text) - 2 - text.count(escape)) >= least for text, count in dense):
        return True
    return any(needle in case_fold(other.decode()) for other in others)
