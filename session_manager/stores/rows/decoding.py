"""Rows to values, checked: what does not fit raises `DamageError`, which names the place and holds no text."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from operator import attrgetter
from typing import Any, TypeVar

from session_manager.codec.json import DecodeError
from session_manager.codec.lines import decode_messages, plain_messages
from session_manager.codec.state import Described, State, decode_described, decode_state, session_of
from session_manager.errors import CorruptSessionError, raise_alone
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.model.view import View
from session_manager.stores.descriptions import SessionInfo
from session_manager.stores.order import time_at
from session_manager.stores.rows.encoding import seed_of
from session_manager.threads import pieces

__all__ = [
    "DamageError",
    "check_window",
    "checked_state",
    "decode_line",
    "decoded_state",
    "described_row",
    "messages_of",
    "plain_messages_of",
    "refreshed",
    "session_of_rows",
    "version_of",
]

S = TypeVar("S", State, Described)

_CHUNK = 500
_ONLY_BYTES = frozenset((bytes,))


class DamageError(Exception):
    """The rows of a session are damaged. ``args[0]`` says where, without any of the text."""


def session_of_rows(state: State, rows: Sequence[Any]) -> Session:
    """Return the session of a state and the rows of its messages: position, line, checksum.

    :raises DamageError: if a message is damaged, or they do not belong together.
    """
    messages = messages_of(rows, seed_of(state.key))
    try:
        return session_of(state, messages)
    except DecodeError:
        reason = f"it has {len(messages)} messages, which are not the {state.count} that its state tells of"
        raise_alone(DamageError(reason))


def refreshed(known: Session, state: State, still: Sequence[int], rows: Sequence[Any]) -> Session | None:
    """Return a session as it is now, by a picture of it, and the rows that are newer than that; `None` if they do not fit together.

    :param known: the picture, of the same generation.
    :param state: the state that is stored now.
    :param still: the positions of the rows that were there at the time of the picture, and are unchanged.
    :param rows: all other rows, by position.
    :raises DamageError: if one of these is damaged.
    """
    old: Sequence[Message] = known.messages
    if len(still) != len(old):
        there = set(still)
        old = [message for message in old if message.position in there]
    if len(still) != len(old):
        return None
    new = messages_of(rows, seed_of(state.key))
    messages = known.messages.appended(new) if old is known.messages else View([*old, *new])
    if old and new and (old[-1].position or 0) > (new[0].position or 0):
        messages = View(sorted(messages, key=attrgetter("position")))
    try:
        return session_of(state, messages)
    except DecodeError:
        return None


def check_window(
    state: State, messages: list[Message], limit: int | None, before: int | None, after: int | None
) -> None:
    """Raise `DamageError` for messages that are not those that the state tells of, as far as it tells of them.

    The state knows how many messages there are, between which positions they are, and when the last one was written.
    """
    from_start, to_end = after is None or after < state.start, before is None or before >= state.end
    expected = state.count if limit is None else min(state.count, limit)
    is_end = bool(messages) and to_end and (after is None or limit is None or len(messages) < limit)
    if from_start and to_end and len(messages) != expected:
        raise DamageError(f"{len(messages)} of its messages are there, not {expected}")
    if any(one.position is None or not state.start <= one.position < state.end for one in messages[:1] + messages[-1:]):
        raise DamageError("it has a message at a position that its state does not tell of")
    if is_end and messages[-1].created_at != state.last_message_at:
        raise DamageError("its last message is not the one that its state tells of")


def described_row(
    path: str, key: str, there: object, row: Sequence[Any], state_of: Callable[..., Described]
) -> SessionInfo:
    """Describe a session by a row. A damaged one is described as such, and listed where it was last.

    :param path: of the storage, for the error.
    :param there: the place of the row in lists.
    :param row: generation, revision, state and checksum.
    :param state_of: returns the state in these columns: `checked_state`, or one that checks another checksum.
    """
    reason = ""
    generation, revision, data, checksum = row
    try:
        return SessionInfo.of_state(state_of(key, generation, revision, data, checksum, decode_described))
    except DamageError as error:
        reason = str(error)
    return SessionInfo(key=key, updated=time_at(there), error=CorruptSessionError(key, path, None, reason))


def checked_state(
    key: str,
    generation: object,
    revision: object,
    data: object,
    checksum: object,
    decode: Callable[[bytes], S] = decode_state,  # type: ignore[assignment]
) -> S:
    """Return the state in a row.

    :param decode: gives it, or as much of it as the caller needs.
    :raises DamageError: if it is damaged.
    """
    if not isinstance(data, bytes) or zlib.crc32(data, seed_of(key)) != checksum:
        raise DamageError("its state is damaged: the checksum differs")
    return decoded_state(key, generation, revision, data, decode)


def decoded_state(key: str, generation: object, revision: object, data: bytes, decode: Callable[[bytes], S]) -> S:
    """Return the state in a row whose checksum is right.

    :raises DamageError: if it is not the state of this row.
    """
    try:
        state = decode(data)
    except DecodeError as error:
        raise_alone(DamageError(f"its state is damaged: {error.reason}"))
    if state.key != key:
        raise DamageError("its state is that of another session")
    if (state.generation.encode(), state.revision) != (generation, revision):
        raise DamageError("its state is of another version than its row")
    return state


def messages_of(rows: Sequence[Any], seed: int) -> View[Message]:
    """Return the messages in rows of position, line and checksum, checked.

    :param seed: the CRC of the key.
    :raises DamageError: if one is damaged.
    """
    return View(chain.from_iterable(_decoded(piece, seed) for piece in pieces(rows, _CHUNK)))


def plain_messages_of(rows: Sequence[Any]) -> list[Message] | None:
    """Return the messages in rows of key, position, line and checksum, of any sessions; `None` if one needs a closer look.

    `decode_line` takes that look. Of a hundred rows at once, each takes half the time.
    """
    if not all(type(key) is type(data) is bytes for key, _, data, _ in rows):
        return None
    if [zlib.crc32(data, zlib.crc32(key)) for key, _, data, _ in rows] != [checksum for _, _, _, checksum in rows]:
        return None
    messages = plain_messages([data for _, _, data, _ in rows])
    if messages is None or [one.position for one in messages] != [position for _, position, _, _ in rows]:
        return None
    return messages


def _decoded(rows: Sequence[Any], seed: int) -> View[Message]:
    if not rows:
        return View()
    lines = [data for _, data, _ in rows]
    if not _ONLY_BYTES.issuperset(map(type, lines)) or list(map(zlib.crc32, lines, repeat(seed))) != [
        checksum for _, _, checksum in rows
    ]:
        for row in rows:
            _check_line(row, seed)
    try:
        messages = decode_messages(b"[\n%b\n]" % b",\n".join(lines))
    except DecodeError:
        messages = View()
    if [message.position for message in messages] != [position for position, _, _ in rows]:
        for row in rows:
            decode_line(row, seed)
    return messages


def _check_line(row: Any, seed: int) -> None:
    position, data, checksum = row
    if not isinstance(data, bytes) or zlib.crc32(data, seed) != checksum:
        raise DamageError(f"the message at {_place(position)} is damaged: the checksum differs")


def _place(position: object) -> str:
    """Name a position for an error. In a damaged row it may be anything, even the text of a message."""
    return f"position {position}" if isinstance(position, int) else "a position that is no number"


def decode_line(row: Any, seed: int) -> Message:
    """Return the message in a row of position, line and checksum, checked.

    :param seed: the CRC of the key.
    :raises DamageError: if it is damaged.
    """
    _check_line(row, seed)
    position, data, _ = row
    try:
        message = decode_messages(b"[\n" + data + b"\n]")[0]
    except (DecodeError, IndexError) as error:
        reason = error.reason if isinstance(error, DecodeError) else "is not a message"
        raise_alone(DamageError(f"the message at {_place(position)} is damaged: {reason}"))
    if message.position != position:
        raise DamageError(f"the message at {_place(position)} is that of another position")
    return message


def version_of(generation: object, revision: object, token: object = None) -> Version:
    """Return the version in a row.

    :param token: the digest of the token of its write, if the row has it.
    :raises DamageError: if it is invalid.
    """
    if not isinstance(generation, bytes) or not isinstance(revision, int):
        raise DamageError("its version is damaged")
    digest = token if isinstance(token, bytes) and any(token) else b""
    return Version(generation.decode("utf-8", "replace"), revision)._of(digest)
