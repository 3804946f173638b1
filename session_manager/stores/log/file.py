"""The log file of one session, as the store remembers it: its facts when it was last read or written, and its status.

A log store remembers nothing else of a session. The docstring of `LogFile` has the statuses and their transitions.
"""

from __future__ import annotations

from typing import Literal

import attrs
import msgspec

from session_manager.model.json_value import JsonObject
from session_manager.model.session import Session, Version
from session_manager.stores.contract import Commit
from session_manager.stores.files.atomic import Signature

__all__ = ["APPENDABLE", "BELIEVED", "WHOLE", "Facts", "LogFile", "Status"]

#: A file is not compacted before it has so many bytes.
_COMPACT_FROM = 64 * 1024

Status = Literal["unread", "clean", "torn", "spent", "suspect", "doubtful"]

#: The last record of a file of these statuses is true of the whole file.
WHOLE: frozenset[Status] = frozenset(("unread", "clean"))
#: A save appends to a file of these statuses. It writes the session whole otherwise.
APPENDABLE: frozenset[Status] = WHOLE | {"torn"}
#: The content of a file of these statuses survives a power cut.
BELIEVED: frozenset[Status] = APPENDABLE | {"spent"}


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What a file was when it was last read or written."""

    signature: Signature
    version: Version | None
    #: Tells the content from any other content of the same version.
    fingerprint: int
    #: The session's metadata, and what `session_manager.stores.log.format.encode_metadata` made of it.
    metadata: JsonObject
    encoded_metadata: tuple[bytes, bytes]
    #: Where a torn record begins; `None` if there is none.
    torn: int | None = None
    #: How many of the session's positions had no message when the file was written whole. Messages of all others were written to it.
    skipped: int = 0
    #: How many bytes of the records are not messages; `None` until that is measured.
    overhead: int | None = None

    def __repr__(self) -> str:
        return f"<facts of {self.signature[2]} bytes>"

    def is_of(self, other: Facts | None) -> bool:
        """Say whether the content is that of other facts."""
        return other is not None and (self.version, self.fingerprint) == (other.version, other.fingerprint)


@attrs.define(eq=False, repr=False)
class LogFile:
    """A session's file: the facts, and one status.

    ========  ===================================================  ============================  =========================
    status    the file                                             a load                        a save
    ========  ===================================================  ============================  =========================
    unread    is there or not; nothing is known                    reads it                      reads it first
    clean     is as the facts say, whole and durable               reads it                      appends
    torn      is clean, but for a torn record at its end           leaves the record out         cuts it off, and appends
    spent     is durable; it must not be appended to, since a      reads it                      writes the session whole
              sync of it failed, or a backup has a link to it
    suspect   was being written: its end may go with the power     writes whole what it reads    writes the session whole
    doubtful  holds `commit`, or not, after a power cut            writes the commit whole       writes the session whole
    ========  ===================================================  ============================  =========================

    A file is synced before its first reading if the last process was killed (`session_manager.stores.log.clean_shutdown`).

    Each method is a step. The store never takes a step from a status that its row does not name:

    ============  ============================================  ==========================================
    step          from                                          to
    ============  ============================================  ==========================================
    looked at     unread, clean, torn                           torn; clean or unread if the end is whole
    looked at     spent, suspect, doubtful                      the same
    read          unread, clean, torn                           clean, torn; unread if there is no file
    read          spent, suspect, doubtful                      the same
    distrust      unread                                        suspect
    appending     clean                                         suspect
    appended      suspect                                       clean; unread if nobody knows the facts
    cutting       torn                                          spent
    cut           spent                                         clean
    cut back      suspect                                       spent
    link found    clean, torn                                   spent
    replacing     unread, clean, torn, spent, suspect           suspect
    replacing     doubtful                                      doubtful
    undone        suspect, doubtful                             the one before `replacing`
    replaced      suspect, doubtful                             clean; unread if the content was not known
    doubt         clean, suspect, doubtful                      doubtful
    gone          any                                           unread
    ============  ============================================  ==========================================

    A step before a system call expects the worst, because an interrupt of that call leaves the file in this status.

    A file with something to remember puts itself into the table of its store. One call at a time uses it; only `release` may
    come at any moment.

    :param key: the session.
    :param name: the name of the file.
    :param table: the files of the store, by key.
    """

    key: str
    name: str
    _table: dict[str, LogFile]
    status: Status = "unread"
    #: The facts. Before they are believed, their signature is compared with that of the file on the disk.
    facts: Facts | None = None
    #: The write that may or may not survive a power cut; there is one exactly if the status is doubtful.
    commit: Commit | None = None
    #: How many bytes the file must have before compaction is tried again, after one has failed.
    patience: int = 0

    def looked_at(self, *, torn: bool) -> None:
        """Note whether the file ends with a torn record. The caller may note the facts as well."""
        if torn and self.status in WHOLE:
            self._enter("torn")
        elif not torn and self.status == "torn":
            self._enter("unread" if self.facts is None else "clean")

    def read(self, facts: Facts | None) -> None:
        """Note the facts of the file, which was just read; `None` if there is no file."""
        self.facts = facts
        if self.status not in APPENDABLE:
            self._enter(self.status)
        elif facts is None:
            self._enter("unread")
        else:
            self._enter("clean" if facts.torn is None else "torn")

    def distrust(self) -> None:
        """Note that the sync before the first reading failed."""
        self._enter("suspect")

    def appending(self) -> None:
        """Note that a record is about to be written."""
        self.status = "suspect"
        self._table[self.key] = self

    def appended(self, facts: Facts | None) -> None:
        """Note that a record is durable.

        :param facts: of the file with it; `None` if the system does not tell.
        """
        self.facts = facts
        if facts is not None:
            self.status = "clean"
        else:
            self._enter("unread")

    def cutting(self) -> None:
        """Note that a torn record is about to be cut off."""
        self._enter("spent")

    def cut(self, facts: Facts) -> None:
        """Note that the file ends with its last whole record, durably."""
        self.facts = facts
        self._enter("clean")

    def cut_back(self) -> None:
        """Note that a failed append is cut off, durably."""
        self._enter("spent")

    def link_found(self) -> None:
        """Note that the file has a second name."""
        self._enter("spent")

    def replacing(self) -> tuple[Status, Facts | None]:
        """Note that the file is about to be replaced; return the arguments of `undone`."""
        before = self.status, self.facts
        self._enter("doubtful" if self.status == "doubtful" else "suspect")
        self.facts = None
        return before

    def undone(self, status: Status, facts: Facts | None) -> None:
        """Note that the file was not replaced: it is what it was."""
        self.facts = facts
        self._enter(status)

    def replaced(self, facts: Facts | None) -> None:
        """Note that the session was written whole, durably.

        :param facts: of the new file; of an older one, or `None`, if the next write must notice that it has not seen this content.
        """
        self.facts, self.commit, self.patience = facts, None, 0
        self._enter("clean" if facts is not None else "unread")

    def doubt(self, commit: Commit) -> None:
        """Note that a power cut may take a write back, or bring it back."""
        self.commit = commit
        self._enter("doubtful")

    def gone(self) -> None:
        """Note that the session was deleted: there is nothing to remember."""
        self.facts, self.commit, self.patience = None, None, 0
        self._enter("unread")

    def release(self) -> None:
        """Forget the facts, which are read again when a call needs them. A status that holds more than the facts stays."""
        if self.status in WHOLE:
            self._table.pop(self.key, None)
            if self.status not in WHOLE:  # another thread has begun a write meanwhile
                self._table[self.key] = self

    def _enter(self, status: Status) -> None:
        self.status = status
        if status != "unread":
            self._table[self.key] = self
        else:
            self._table.pop(self.key, None)

    # How much of it is dead

    def is_wasteful(self, facts: Facts, session: Session) -> bool:
        """Say whether more than half of the file looks dead, or was never measured.

        Two counters decide: messages written to the file, all taken for equally long, and messages alive. The session itself
        counts as one message. The overhead is dead.

        :param facts: of the file.
        :param session: what it holds then.
        """
        size = facts.signature[2]
        if size <= _COMPACT_FROM or size <= self.patience:
            return False
        if facts.overhead is None:
            return True
        written, alive = session.end - facts.skipped + 1, len(session.messages) + 1
        return 2 * (size - facts.overhead) * alive < size * written

    def measured(self, session: Session, whole: int) -> None:
        """Note how much of the file is alive: at least half.

        :param whole: how many bytes the session's first line would be.
        """
        facts = self.facts
        assert facts is not None
        size = facts.signature[2]
        # An eighth is forgiven: otherwise a file that stays half dead would be measured at each save.
        overhead = size - whole - size // 8
        skipped = session.end - len(session.messages)
        self.facts = msgspec.structs.replace(facts, overhead=overhead, skipped=skipped)
