"""Archives without a session: garbage that a deletion left, or an archive whose session is missing.

**A deletion** renames the session's file to a mark (`session_manager.stores.files.kinds.deletion_mark`); the session is gone
then. It removes the archive, and last the mark. **A creation** that archives makes an empty mark, then the archive, then the
session, and removes the mark. So an archive with a mark and without a session is garbage, which the next writer removes when
it opens the directory. An archive without either is **alone**: its session was moved aside, or lost. It is reported, and kept.
A new session of its key moves it to quarantine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from session_manager.stores.archive.format import SUFFIX
from session_manager.stores.contract import Finding
from session_manager.stores.files.kinds import deletion_mark, marked_archive
from session_manager.stores.files.names import key_of
from session_manager.stores.files.session_directory import SessionDirectory

__all__ = ["ArchiveMarks"]


class ArchiveMarks:
    """The marks of archives in a directory.

    :param directory: open, for writing or read-only.
    :param suffix: how the names of sessions' files end.
    """

    def __init__(self, directory: SessionDirectory, suffix: str) -> None:
        self._directory = directory
        self._files = directory.files
        self._suffix = suffix
        #: Archives whose marks may be there.
        self.marked = set(filter(None, map(marked_archive, directory.other_names)))

    def session_of(self, name: str) -> str:
        """Return the name of the session's file beside an archive."""
        return name.removesuffix(SUFFIX) + self._suffix

    def is_listed(self, name: str) -> bool:
        """Say whether an archive's session was there when the directory was listed."""
        return self.session_of(name) in self._directory.names

    def is_marked(self, name: str) -> bool:
        """Say whether an archive has a mark.

        :raises OSError: if that cannot be looked at.
        """
        return self._files.stat(deletion_mark(name)) is not None

    def put(self, name: str) -> None:
        """Mark an archive that is about to be made, durably.

        :raises OSError: if it cannot be marked.
        """
        self.marked.add(name)
        with contextlib.suppress(FileExistsError):
            self._files.close(self._files.open_new(deletion_mark(name)))
        self._files.sync_directory()

    def to_be(self, name: str) -> str:
        """Return the mark that a session's file is about to become."""
        self.marked.add(name)
        return deletion_mark(name)

    def remove(self, name: str) -> None:
        """Remove a mark, if it is there; sync the directory afterwards.

        :raises OSError: if it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError):
            self._files.unlink(deletion_mark(name))
        self.marked.discard(name)

    def alone(self, names: Iterable[str]) -> list[Finding]:
        """Return which of some archives are alone, also while deletions and creations are under way."""
        return [self.finding(name) for name in sorted(names) if self._is_alone(name)]

    def _is_alone(self, name: str) -> bool:
        session = self.session_of(name)
        try:
            absent = all(self._files.stat(one) is None for one in (session, deletion_mark(name), session))
            return absent and self._files.stat(name) is not None
        except OSError:
            return False  # reading the session says why

    def finding(self, name: str) -> Finding:
        """Return the finding for an archive that is alone."""
        reason = "is an archive without its session: put the session back, or delete it by its key"
        return Finding(key_of(name, SUFFIX), self._directory.path_of(name), None, reason)
