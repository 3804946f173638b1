"""Renames that a crash may cut short: a note of each lies in the directory until only one of its two sessions is left.

A session's key is in its file, so a rename writes the session anew, and then removes the old one. Before that, the note is made
durable: ``.renaming-<name of the old key>.json``, one JSON object with ``key``, ``new_key``, and the ``generation`` and
``revision`` of the session. The next opening of the directory finishes what a note tells of:

* The new session is there, and the old one is what was renamed: the old one goes.
* The new session is what was renamed, and the old one has gone on since, as after a rename that failed: the new one goes.
* Anything else was finished, or never begun.

The note goes last. One that a power cut brings back finds nothing to do.
"""

from __future__ import annotations

import contextlib

import msgspec

from session_manager.codec.json import encode_json
from session_manager.errors import SaveFailedError, SaveOutcomeUnknownError, SessionManagerError
from session_manager.model.session import Version
from session_manager.resource import Resource
from session_manager.stores.contract import Store
from session_manager.stores.files.atomic import NotRegularError, OutcomeUnknownError, read_whole, replace
from session_manager.stores.files.names import file_name
from session_manager.stores.files.session_directory import SessionDirectory

__all__ = ["Renames"]

_PREFIX, _SUFFIX = ".renaming-", ".json"


class _Note(msgspec.Struct):
    key: str
    new_key: str
    generation: str
    revision: int

    @property
    def version(self) -> Version:
        return Version(self.generation, self.revision)


class Renames(Resource):
    """The renames in a directory of sessions.

    :param directory: open for writing.
    :param store: reads, writes and deletes its sessions.
    """

    def __init__(self, directory: SessionDirectory, store: Store) -> None:
        self._directory, self._store = directory, store
        self._files = directory.files

    def run(self, key: str, new_key: str, expected: Version) -> None:
        """Rename a session, as `Store.rename` says.

        :raises SaveError: as that does.
        """
        name = _name(key)
        self._take_back(name, new_key)
        self._directory.look_for(self._directory.name(new_key))  # an interrupted one may have written it
        note = _Note(key, new_key, expected.generation, expected.revision)
        data = encode_json(msgspec.to_builtins(note)) + b"\n"
        try:
            replace(self._files, name, [data], lambda: None)
        except (OSError, OutcomeUnknownError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            self._forget(name)
            raise SaveFailedError(key, f"its rename: {getattr(cause, 'strerror', '')}") from cause
        try:
            Store.rename(self._store, key, new_key, expected)
        except SaveOutcomeUnknownError:
            raise
        except SessionManagerError:
            self._forget(name)
            raise
        self._forget(name)

    def finish(self) -> None:
        """Finish what a crash has cut short, when the directory is opened. What fails is left to the next opening."""
        for name in sorted(self._directory.other_names):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and (note := self._read(name)) is not None:
                with contextlib.suppress(SessionManagerError):
                    self._settle(note)
                    self._forget(name)

    def _settle(self, note: _Note) -> None:
        """Leave one of the two sessions of a note."""
        old, there = self._store.version(note.key), self._store.version(note.new_key)
        if old is None or there is None or not old.generation == there.generation == note.generation:
            return
        if old == note.version:
            self._store.load(note.new_key)  # raises if it is damaged, and the old one stays
            self._store.delete(note.key, old)
            self._store.release(note.new_key)
        elif there == note.version:
            self._store.delete(note.new_key, there)

    def _take_back(self, name: str, new_key: str) -> None:
        """Take back an earlier rename to another key, if its outcome was unknown."""
        note = self._read(name)
        if note is not None and note.new_key != new_key and self._store.version(note.new_key) == note.version:
            self._store.delete(note.new_key, note.version)

    def _read(self, name: str) -> _Note | None:
        """Return the note in a file; `None` if there is none, or it cannot be read."""
        with contextlib.suppress(OSError, NotRegularError, msgspec.MsgspecError):
            note = msgspec.json.decode(read_whole(self._files, name)[0], type=_Note)
            return note if _name(note.key) == name else None
        return None

    def _forget(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._files.unlink(name)
            self._files.sync_directory()


def _name(key: str) -> str:
    return _PREFIX + file_name(key, _SUFFIX)
