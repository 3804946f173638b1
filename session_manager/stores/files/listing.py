"""What a look at a directory has found: the names of the sessions' files, and the others."""

from __future__ import annotations

__all__ = ["Listing"]


class Listing:
    """The names in a directory.

    It makes the set of the sessions' files when somebody asks for it. To open 100,000 sessions and read one needs no set.

    :param names: all names.
    :param suffix: how the names of sessions' files end. Hidden files are none.
    """

    def __init__(self, names: list[str], suffix: str) -> None:
        self._names = names
        #: The names that are no sessions' files'.
        self.others = [name for name in names if not name.endswith(suffix) or name[0] == "."]
        self.has_sessions = len(self.others) < len(names)
        self._made: dict[str, set[str]] = {}

    @property
    def sessions(self) -> set[str]:
        """The names of the sessions' files; the writer adds and removes some. Each thread gets the same set."""
        made = self._made
        if not made:
            made.setdefault("", set(self._names).difference(self.others))
            self._names = []  # a thread that makes a set of this one gets the first one
        return made[""]

    def may_have(self, name: str) -> bool:
        """Say whether a session's file may be there. Without the set it is as quick to look for the file."""
        return not self._made or name in self.sessions
