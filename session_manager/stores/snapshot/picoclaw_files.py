"""The files of picoclaw in a directory: found at the opening, read when a call needs them, removed once superseded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from datetime import datetime, timezone

from session_manager.errors import CorruptSessionError, InvalidKeyError
from session_manager.model.key import check_key
from session_manager.model.session import Session
from session_manager.resource import Resource
from session_manager.stores.files.atomic import NotRegularError, read_whole
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.foreign import check_start, is_candidate, key_or_damage
from session_manager.stores.files.quarantine import quarantine
from session_manager.stores.files.session_directory import reading
from session_manager.stores.snapshot import picoclaw_format as picoclaw
from session_manager.stores.snapshot.format import SUFFIX

__all__ = ["LegacyFiles"]


class LegacyFiles(Resource):
    """picoclaw's files in a directory. Their keys are read at once; nothing else of them is kept.

    A file that cannot be read damages every key that picoclaw would have put there.

    :param files: the directory.
    :param names: what is in it.
    """

    def __init__(self, files: Files, names: Iterable[str]) -> None:
        self._files = files
        self._names: dict[str, list[str]] = {}
        self._damaged: dict[str, tuple[str, str]] = {}
        #: Keys of files that were dropped, and that a power cut may bring back.
        self._unsynced: set[str] = set()
        for name in sorted(name for name in names if not name.endswith(SUFFIX) and is_candidate(name)):
            key, reason = key_or_damage(files, name)
            if key is not None:
                self._names.setdefault(key, []).append(name)
            elif reason is not None:
                self._damaged[name.removesuffix(".json")] = name, reason

    def keys(self) -> list[str]:
        """Return the keys; for a file that does not tell its key, the stem of its name."""
        stems = []
        for stem in list(self._damaged):
            with contextlib.suppress(InvalidKeyError):
                stems.append(check_key(stem))
        return [*self._names, *stems]

    def names_of(self, key: str, *, damaged: bool) -> list[str]:
        """Return the files of a key.

        :param damaged: include the unreadable file that may hold the key.
        """
        stem = picoclaw.stem_of(key)
        unreadable = [self._damaged[stem][0]] if damaged and stem in self._damaged else []
        return [*self._names.get(key, ()), *unreadable]

    def load(self, key: str) -> Session | None:
        """Return a session; `None` if no file has it.

        :raises CorruptSessionError: if its file is damaged, or two files have it.
        :raises StorageError: if it cannot be read.
        """
        names = self.names_of(key, damaged=True)
        if not names:
            return None
        path = os.path.join(self._files.path, names[0])
        if names[0] not in self._names.get(key, ()):
            reason = self._damaged[picoclaw.stem_of(key)][1]
            raise CorruptSessionError(key, path, 0, f"{reason}, so that nobody knows whose it is")
        if len(self._names[key]) > 1:
            raise CorruptSessionError(key, path, None, f"{names[1]} has the same key")

        def decoded(_: str) -> tuple[str, Session]:
            data, status = read_whole(self._files, names[0], judge=check_start)
            session = picoclaw.decode(data, _modified(status))
            return session.key, session

        return reading(self._files, key, names[0], decoded)

    def drop(self, name: str, generations: Collection[str]) -> None:
        """Remove a file that holds one of these generations; move any other file, which was never read, to quarantine.

        :raises OSError: if it cannot be removed or moved.
        """
        try:
            data, _ = read_whole(self._files, name)
            read = picoclaw.generation_of(data) in generations
        except FileNotFoundError:
            return
        except NotRegularError:
            read = False
        if read:
            self._files.unlink(name)
        else:
            quarantine(self._files, name)

    def superseded(self, key: str, generations: Collection[str]) -> None:
        """Drop the files of a key that has a snapshot of ours now, which is durable.

        One that cannot be dropped does no harm: ours wins, and the next save tries again.
        """
        for name in self._names.get(key, ()):
            self._unsynced.add(key)
            try:
                self.drop(name, generations)
            except OSError:
                return
        self._names.pop(key, None)

    def settle(self, key: str) -> None:
        """Make the removal of a key's superseded files durable. Otherwise they could come back once its snapshot is deleted.

        :raises OSError: if that fails.
        """
        if key in self._unsynced:
            self._files.sync_directory()
            self._unsynced.discard(key)

    def forget(self, key: str) -> None:
        """Forget the files of a key, which are gone."""
        self._names.pop(key, None)
        stem = picoclaw.stem_of(key)
        if stem in self._damaged and self._files.stat(self._damaged[stem][0]) is None:
            del self._damaged[stem]


def _modified(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, timezone.utc)
