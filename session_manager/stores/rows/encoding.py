"""Values to rows: the state of a session, its messages, and the digests of keys and tokens."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

from session_manager.codec.json import encode_json
from session_manager.codec.lines import encode_message
from session_manager.codec.state import encode_state
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.commits import TOKEN_BYTES, token_digest
from session_manager.stores.order import recent_first
from session_manager.threads import giving_way

__all__ = [
    "TOKEN_BYTES",
    "EncodedState",
    "Line",
    "encode_lines",
    "encode_state_row",
    "seed_of",
    "token_digest",
    "tombstone_key",
]

#: The values bound for a message: position, line, checksum.
Line = tuple[int, bytes, int]
#: What is bound for a state: generation, revision, state, checksum, place, and the revision that it is the place of.
EncodedState = tuple[str, int, bytes, int, int, int]


def encode_state_row(session: Session) -> EncodedState:
    """Return the row of a session: all but its messages."""
    state = encode_state(session)
    data = encode_json(state)
    checksum, revision = zlib.crc32(data, seed_of(session.key)), session.revision
    return session.generation, revision, data, checksum, recent_first(state.last_message_at or state.updated), revision


def encode_lines(key: str, messages: Sequence[Message]) -> list[Line]:
    """Return the rows of some messages of a session."""
    seed = seed_of(key)
    return [
        (message.position or 0, line := encode_message(message), zlib.crc32(line, seed))
        for message in giving_way(messages)
    ]


def tombstone_key(key: str) -> bytes:
    """Return the digest of a deleted session's key."""
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def seed_of(key: str) -> int:
    """Return the CRC of a key, with which that of each of its rows begins."""
    return zlib.crc32(key.encode())
