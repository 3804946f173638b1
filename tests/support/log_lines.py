"""Lines of a log, as a store writes them."""

from __future__ import annotations

from session_manager import Session
from session_manager.codec.changes import encode_changes
from session_manager.stores.log.format import encode_first, encode_metadata, encode_record, encode_state


def first_line(session: Session) -> bytes:
    """Return the first line of a log."""
    return b"".join(encode_first(session).buffers)


def record(session: Session, changes) -> bytes:
    """Return the line of a save that leads to a session."""
    return b"".join(
        encode_record(encode_changes(changes), encode_state(session, encode_metadata(session._metadata)[1]))
    )
