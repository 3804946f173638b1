"""What an import has done, by file."""

from __future__ import annotations

import attrs

from session_manager.as_dict import AsDict

__all__ = ["ImportReport", "ImportedFile", "Skipped"]


@attrs.frozen(kw_only=True)
class Skipped(AsDict):
    """Something that was not imported."""

    #: Why, without any of the text.
    reason: str
    #: Where in the file, from 1: a line, or the number of a row or element; `None`: the whole file.
    line: int | None = None
    #: The session's key; `None` if it is not known.
    key: str | None = None


@attrs.frozen(kw_only=True)
class ImportedFile(AsDict):
    """What became of one file."""

    #: Its path below the source.
    name: str
    #: Its format (`FORMATS`); `None`: none that is known, or it cannot be read, and nothing of it was imported.
    format: str | None
    #: How many sessions were written.
    sessions: int = 0
    #: How many messages were written, archived ones too.
    messages: int = 0
    #: How many sessions were there already, with all messages of the file: an earlier import has written them.
    present: int = 0
    #: What was not imported, and why.
    skipped: tuple[Skipped, ...] = ()


@attrs.frozen(kw_only=True)
class ImportReport(AsDict):
    """The outcome of an import."""

    #: The files of the source, by their names, but for those that only belong to another one.
    files: tuple[ImportedFile, ...] = ()

    @property
    def sessions(self) -> int:
        """How many sessions were written."""
        return sum(file.sessions for file in self.files)

    @property
    def messages(self) -> int:
        """How many messages were written, archived ones too."""
        return sum(file.messages for file in self.files)

    @property
    def present(self) -> int:
        """How many sessions were there already, from an earlier import."""
        return sum(file.present for file in self.files)

    @property
    def skipped(self) -> int:
        """How many things were not imported."""
        return sum(len(file.skipped) for file in self.files)

    @property
    def ok(self) -> bool:
        """Whether everything was imported, now or earlier, but for files of no known format."""
        return not self.skipped
