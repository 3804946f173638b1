"""Each format of a file as one thing to attack: its golden files, how it is read, how its checksums are made right again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs

from session_manager import Message, Session, UnsupportedFormatError
from session_manager.codec.json import DecodeError
from session_manager.model import Version
from session_manager.stores.archive import format as archive_format
from session_manager.stores.contract import SessionInfo
from session_manager.stores.log import format as log_format
from session_manager.stores.log.replay import decode as decode_log
from session_manager.stores.snapshot import format as snapshot_format
from tests.faults.mutations import resealed_archive, resealed_log, resealed_snapshot
from tests.golden.sessions import SESSIONS
from tests.support.places import GOLDEN
from tests.support.strategies import CANARY, facts, held_text

__all__ = ["FORMATS", "GOLDEN", "Format", "check_sound", "outcome"]

#: Whose archive the golden one is.
NASTY = SESSIONS["nasty"]


@attrs.frozen
class Format:
    """A format, and files of it."""

    files: dict[str, bytes]
    #: Returns what is read of a file: a session, or the messages of an archive.
    read: Callable[[bytes], Sequence[Session | Message]]
    #: Makes checksums right again.
    resealed: Callable[[bytes], bytes]


def outcome(read: Callable[[bytes], Sequence[Session | Message]], data: bytes) -> Any:
    """Return what is read, in texts, or the class of the error, which must be one of the two, and show no text."""
    failure: Exception | None = None
    try:
        return tuple(map(facts, read(data)))
    except (DecodeError, UnsupportedFormatError) as error:
        failure = error
    assert CANARY not in held_text(failure)
    assert not isinstance(failure, DecodeError) or 0 <= failure.offset <= len(data)
    return type(failure)


def check_sound(session: Session) -> None:
    """See that a session is as good as any: it can be described, and written in each format and read again."""
    told = facts(session)
    SessionInfo.of(session)
    lines = snapshot_format.Lines().appended(session.messages, session.end)
    snapshot = b"".join(snapshot_format.encode(session, lines))
    assert facts(snapshot_format.decode(snapshot, "path")[0]) == told
    log = b"".join(log_format.encode_first(session).buffers)
    assert facts(decode_log(log, "path").session) == told
    assert CANARY not in repr(session)


def _read_snapshot(data: bytes) -> list[Session | Message]:
    session, _ = snapshot_format.decode(data, "path")
    state = snapshot_format.decode_header(data[: data.find(b"\n") + 1], "path")
    assert (state.key, state.count) == (session.key, len(session.messages))
    return [session]


def _read_log(data: bytes) -> list[Session | Message]:
    end = log_format.state_at_end(data[-log_format.MAX_STATE :])
    log = decode_log(data, "path")
    log_format.key_in(data, "path")
    if end is not None and log.torn is None:
        assert (end.revision, end.count) == (log.session.revision, len(log.session.messages))
    return [log.session]


def _read_archive(data: bytes) -> list[Session | Message]:
    found = archive_format.decode(data, NASTY.key, Version(NASTY.generation, 8), "path")
    messages = archive_format.decode_bodies(body for _, body in found.lines)
    if found.damage is not None:
        raise found.damage
    return list(messages)


def _files(pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(GOLDEN.glob(pattern))}


def _small_archive() -> bytes:
    """An archive of the same session in which there is nothing large, so that much of it can be tried."""
    plain = SESSIONS["plain"].messages
    lines = [(revision, archive_format.body_of(message)) for revision, message in zip((2, 8), plain, strict=True)]
    encoded = archive_format.encode_lines(NASTY.key, NASTY.generation, 0, lines)
    return archive_format.encode_header(NASTY.key) + encoded


FORMATS = {
    "snapshot": Format(_files("*.session.json"), _read_snapshot, resealed_snapshot),
    "log": Format(_files("*.session.jsonl"), _read_log, resealed_log),
    "archive": Format(
        {**_files("*.archive.jsonl"), "small": _small_archive()},
        _read_archive,
        partial(resealed_archive, key=NASTY.key),
    ),
}
