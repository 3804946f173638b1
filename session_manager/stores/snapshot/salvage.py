"""A damaged snapshot: its whole messages, and its header as far as it is there.

One checksum covers all messages. If it differs, it tells the damaged byte (`session_manager.codec.checksum`), and so the message that is not
whole. If it does not, because many bytes are damaged or the end is missing, no checksum proves the messages that still parse: they are doubtful.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import attrs

from session_manager.codec.checksum import damaged_byte
from session_manager.codec.fragments import Fragment, fields_in, messages_in
from session_manager.codec.json import DecodeError
from session_manager.codec.state import State, decode_state
from session_manager.errors import InvalidKeyError
from session_manager.model.key import check_key
from session_manager.model.message import Message
from session_manager.stores.fragments import in_order, session_of_fields
from session_manager.stores.salvaged import Expected, Flaw, Salvaged
from session_manager.stores.snapshot.format import FOOTER, START, check_format

__all__ = ["MAX_KEY", "key_in_damaged", "salvage"]

_HEADER_END = re.compile(rb',"header_crc32":"([0-9a-f]{8})","messages":\[')
_FOOTER = re.compile(rb'\],"crc32":"([0-9a-f]{8})"\}\n')
_FIELDS = (
    *("key", "generation", "revision", "created", "updated", "last_message_at", "start", "end", "refs"),
    *("summary", "metadata", "count", "archived", "expires_after", "header_crc32"),
)
#: More bytes than any header has up to the field behind its key. Each byte of a key may take six characters.
MAX_KEY = 8192
#: The bytes between two messages.
_BETWEEN = 2


@attrs.frozen(eq=False, repr=False)
class _Header:
    """The header of a damaged file."""

    #: Its fields, as far as they are there.
    fields: dict[str, object]
    #: The state, if its checksum proves it.
    state: State | None
    #: Where the messages begin.
    stop: int


def salvage(data: bytes, key: str, path: str) -> Salvaged:
    """Return all of a damaged file that is whole.

    :param data: the file, which `session_manager.stores.snapshot.format.decode` refuses.
    :raises UnsupportedFormatError: if a newer version wrote it.
    """
    header = _header(data, key)
    if header.state is None:
        _check_version(data, path)
    fragments, flaws, proven = _messages(data, header.stop, path)
    messages = in_order(one.value for one in fragments)
    state = header.state
    if state is None:
        flaws = [Flaw(path, 0, "the header is damaged: what it says of the session is in doubt"), *flaws]
        session = session_of_fields(key, header.fields, messages)
    else:
        messages = [one for one in messages if state.start <= (one.position or 0) < state.end]
        session = session_of_fields(key, _fields_of(state), messages)
    return Salvaged(
        session=session._with(revision=session.revision + 1),
        flaws=flaws or [Flaw(path, 0, "a byte around the messages is damaged")],
        doubtful=frozenset(() if proven else (one.position or 0 for one in messages)),
        expected=None if state is None else Expected(state.start, state.end, state.count),
        archived=0 if state is None else state.archived or 0,
    )


def key_in_damaged(data: bytes) -> str | None:
    """Return the key in a damaged header, unchecked: the name of its file proves it. `None` if there is none.

    :param data: the first `MAX_KEY` bytes of the file.
    """
    key = fields_in(data, _FIELDS[:2]).get("key")
    try:
        return check_key(key)
    except (InvalidKeyError, TypeError):
        return None


def _fields_of(state: State) -> dict[str, object]:
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    return {**fields, "expires_after": state.expires_after or None}


def _check_version(data: bytes, path: str) -> None:
    """Raise `UnsupportedFormatError` if a newer version wrote a file. Its header's checksum is not that of this format."""
    try:
        check_format(data, path)
    except DecodeError:
        return


def _header(data: bytes, key: str) -> _Header:
    """Return the header, with the first bytes as they must be: damage there does no harm."""
    end = data.find(b"\n") + 1 or len(data)
    found = list(_HEADER_END.finditer(data, 0, end))
    for match in found:
        covered = START + data[len(START) : match.start() + 1]
        if zlib.crc32(covered) == int(match[1], 16):
            try:
                state = decode_state(covered[:-1] + b"}")
            except DecodeError:
                continue
            if state.key == key:
                return _Header({}, state, match.end() + 1)
    fields = fields_in(data[:end], _FIELDS)
    if fields.get("key", key) != key:
        fields = {}
    return _Header(fields, None, found[0].end() + 1 if found else end)


def _messages(data: bytes, start: int, path: str) -> tuple[list[Fragment[Message]], list[Flaw], bool]:
    """Return the whole messages, the damaged places, and whether a checksum proves these messages."""
    stop = max(len(data) - len(FOOTER % 0), start)
    footer, body = data[stop:], data[start : max(stop - 1, start)]
    fragments = messages_in(data, start, stop)
    crc = zlib.crc32(body)
    if _differences(footer, FOOTER % crc) <= 1:
        return fragments, [] if footer == FOOTER % crc else [Flaw(path, stop, "the end is damaged")], True
    match = _FOOTER.fullmatch(footer)
    damaged = None if match is None else damaged_byte(body, int(match[1], 16))
    if damaged is None:
        return fragments, _holes(fragments, start, stop, path) or [Flaw(path, start, "no checksum proves it")], False
    place = start + damaged
    whole = [one for one in fragments if not one.start <= place < one.stop]
    return whole, [Flaw(path, place, "a message is damaged")], True


def _differences(one: bytes, other: bytes) -> int:
    return len(other) if len(one) != len(other) else sum(map(int.__ne__, one, other))


def _holes(fragments: Sequence[Fragment[Message]], start: int, stop: int, path: str) -> list[Flaw]:
    ends = [start, *(one.stop + _BETWEEN for one in fragments)]
    starts = [*(one.start for one in fragments), stop]
    return [
        Flaw(path, end, "damaged bytes between messages")
        for end, begin in zip(ends, starts, strict=True)
        if begin > end
    ]
