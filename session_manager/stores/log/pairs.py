"""The log of a session as bytes, read beside its writer and without decoding its messages."""

from __future__ import annotations

import os

from session_manager.codec.json import DecodeError
from session_manager.errors import UnsupportedFormatError
from session_manager.model.session import Version
from session_manager.stores.archive.pairs import Pair
from session_manager.stores.contract import Finding
from session_manager.stores.files.atomic import NotRegularError, read_whole
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log.format import MAX_STATE, LogState, state_at_end
from session_manager.stores.log.replay import decode

__all__ = ["read_log"]


def read_log(files: Files, key: str, name: str) -> Pair | None:
    """Return the file of a session, without a torn record at its end; `None` if there is no file.

    Only the end of the last record is checked, unless it is torn.

    :raises OSError: if it cannot be read.
    """
    path = os.path.join(files.path, name)
    try:
        data, _ = read_whole(files, name)
    except FileNotFoundError:
        return None
    except NotRegularError as error:
        return Pair((), damage=Finding(key, path, 0, f"is {error}"))
    if (state := _last_state(data)) is not None:
        version = Version(state.generation, state.revision)
        return Pair(((name, data),), version, state.count, state.archived)
    try:
        log = decode(data, path)
    except DecodeError as error:
        return Pair(((name, data),), damage=Finding(key, path, error.offset, error.reason))
    except UnsupportedFormatError as error:
        return Pair(((name, data),), damage=Finding(key, path, 0, error.reason))
    session = log.session
    return Pair(((name, data[: log.torn]),), session.version, len(session.messages), session._archived)


def _last_state(data: bytes) -> LogState | None:
    """Return the state at the end of the last record; `None` if the record is torn, for its end is written last."""
    return state_at_end(data[-MAX_STATE:]) if data.endswith(b"\n") else None
