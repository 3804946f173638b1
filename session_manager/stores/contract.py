"""The contract of a store. Read this docstring, then `session_manager.stores.memory`."""

from __future__ import annotations

import abc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from session_manager.errors import (
    CannotCommitTogetherError,
    ConflictError,
    CorruptSessionError,
    ForkedError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    SessionManagerError,
    StorageError,
    StoreInUseError,
    UnsupportedFormatError,
    raise_alone,
)
from session_manager.history.search import SearchHit, best
from session_manager.model.fence import Fence
from session_manager.model.message import Message
from session_manager.model.session import Session, Version, agree
from session_manager.model.window import window
from session_manager.resource import Resource
from session_manager.stores.commits import MAX_TOKENS, Commit, compared, token_digest
from session_manager.stores.descriptions import Finding, Quarantined, SessionInfo
from session_manager.stores.order import Order, page

if TYPE_CHECKING:
    from session_manager.stores.erasure import Erasure
    from session_manager.stores.salvaged import Salvaged

__all__ = ["MAX_TOKENS", "Commit", "Finding", "SessionInfo", "Store", "missing", "token_digest"]

_log = logging.getLogger("session_manager")

T = TypeVar("T")

#: Held while a store is given to a manager, or taken back. Re-entrant, since a finalizer may do so in the middle of a call.
_attaching = threading.RLock()


def _after_in_child() -> None:
    """Begin with a free lock in a forked child: a thread that the child does not have may hold the parent's."""
    global _attaching  # noqa: PLW0603 - the child has a lock of its own
    _attaching = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)


class Store(Resource, abc.ABC):
    """Where sessions live.

    **Durability.** When `write` and `delete` return, their effect survives a crash and a power cut, as far as the
    store can provide that (`MemoryStore` cannot). Each is atomic: a reader sees the old session or the
    new one. When they raise, nothing has changed, except after `SaveOutcomeUnknownError`.

    **Concurrency.** Calls for different keys may run at once, from any threads. One manager never runs two calls
    for the same key at once; `keys`, and `version` of a store that is shared, may run beside anything. A store that is
    shared may have several managers, whose calls run beside each other. Any other has one manager at a time:
    a manager calls `attach` first, which refuses a second one. Call such a store yourself only while it has no manager.

    **Conflicts.** A session has a `Version`: the generation that it got when it was created, and
    the count of its durable states. A write names the version that it is based on, and does nothing but raise
    `ConflictError` if the store holds another one. A store that is `shared` compares and writes in one step: of several writers
    on one base, and of several that create one session, exactly one wins. Of a write and a deletion of one version, too.

    **Going back.** A server that fails over to a standby that was behind, or a file that is restored, shows an older state, and
    another writer may go on from there to a version that was acknowledged before, with other content. So a store that is `shared`
    keeps the tokens of a session's last writes. It compares the token of the last one wherever it compares versions: in
    `newer`, in the version that `version` returns, and in each write, deletion and renaming of a version.

    **Errors** are this library's, never a driver's, which is the ``__cause__``. `CorruptSessionError` and
    `UnsupportedFormatError` mean an unreadable session, which is never overwritten. `StorageError` means an unreadable
    storage; `SaveFailedError` and `SaveOutcomeUnknownError` mean one that cannot be written.

    **Sharing.** A store to which other processes, or several managers, may write while it is open says so by `shared`. A
    manager that keeps a session in RAM then asks `version` before it shows the session. The attributes are fixed once it is open.

    **Archives.** A store that says so by `archives` keeps `Commit.archived` beside the session, in the same atomic step: after
    a write, a conflict, a failure or a crash each message is in the session or in the archive, as that version has it. The
    archive of a session belongs to its generation: `Commit.spared` says what a write leaves of what is there, and a deletion
    takes all of it. A commit that archives nothing leaves the archive alone. `verify` reports an archive with fewer messages than
    the session says were archived; a store that does not keep that number with the session cannot tell.

    **Leases.** A store that says so by `leases` keeps a lease for each session, which one turn at a time holds, in however many processes.
    A lease is a lock that runs out, not a lock of the session: only writes that name its fence look at it. It runs out by the
    storage's own clock. A clock that jumps, in either direction, may let a lease run out early, and a lease that ran out may be taken.
    It is lost only then: `write` compares the fence in its own atomic step, and the answer of `take_lease` comes after each write that it
    was too late to refuse. Leases need not survive a crash of the storage: a lease that is not there was not taken.

    Keys are checked by the caller (`session_manager.model.key.check_key`).
    """

    #: Whether other processes and several managers may write to it while it is open.
    shared: bool = False
    #: Whether it never looks at `Commit.token`: its manager then makes none. A store that is `shared` needs them.
    tokenless: bool = False
    #: Whether `search` answers for all sessions at once from an index, beside any other call.
    indexed: bool = False
    #: Whether `infos` answers from an index, beside any other call.
    ordered: bool = False
    #: Whether it keeps what truncation and summaries drop, so that a manager may be opened with ``archive=True``.
    archives: bool = False
    #: Whether `window` reads no more than it returns, so that a manager need not load a session to show a page of it.
    windowed: bool = False
    #: Whether `write_together` makes commits of several sessions durable together, or none.
    together: bool = False
    #: Whether `compact` of one session reclaims what all of them waste.
    compacts_all: bool = False
    #: Whether it keeps leases, so that turns of several processes may wait for each other.
    leases: bool = False
    #: The manager that has the store, and its process.
    _holder: tuple[weakref.ref[object], int] | None = None

    @abc.abstractmethod
    def load(self, key: str) -> Session | None:
        """Return a session as it was last written, with its revision; `None` if there is none.

        :raises CorruptSessionError: if it is damaged.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it cannot be read.
        """

    @abc.abstractmethod
    def write(self, commit: Commit) -> None:
        """Make a commit durable.

        A commit with a `Commit.fence` releases that lease.

        :raises LeaseLostError: if another owner took the lease of the session behind `Commit.fence`; nothing has changed.
        :raises ConflictError: if the store does not hold `Commit.base`, or `landed` has said that this write did not
            happen; nothing has changed. So does a shared store that holds a state at `Commit.base` that another write made.
        :raises CorruptSessionError: if what it holds is damaged; nothing has changed.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: ask `landed` before the next write of this session.
        """

    @abc.abstractmethod
    def landed(self, commit: Commit) -> bool | None:
        """Settle a write whose outcome was unknown: whether it is durable now.

        A store of one process may write the whole session once more to find out. A write that is still on its way, such as a
        request to a server, is stopped by the answer: after `False` the store refuses it, whenever it arrives.

        :returns: `True`: it is durable. `False`: it did not happen, and never will. `None`: that cannot be told any more.
        :raises SaveError: it is still unknown.
        """

    @abc.abstractmethod
    def delete(self, key: str, expected: Version | None = None) -> bool:
        """Delete a session, durably; a damaged one is moved to quarantine, if there is one.

        :param expected: delete only this version of it. A manager always names the version that it has seen in a store that is
            `shared`, so that a deletion that arrives late cannot hit the session begun after it.
        :returns: whether there was one (and, with `expected`, whether it was that version).
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: it may be gone, or there as before, or come back after a power cut: delete it again.
        """

    @abc.abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Iterate over the keys that start with `prefix`, damaged sessions' too, in no order.

        It is compared character by character: ``"telegram:1"`` is also a prefix of ``"telegram:10"``
        (`session_manager.model.key.key_prefix` makes one of whole parts).
        """

    @abc.abstractmethod
    def version(self, key: str) -> Version | None:
        """Return the version that the store holds, cheaply; `None` if there is none.

        :raises StorageError: as `load` does.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the storage; idempotent. Other calls then fail."""

    def attach(self, manager: object) -> None:
        """Give the store to a manager, until `detach`, or until the manager is collected.

        A store that is `shared` takes any number of managers. A wrapper passes the call on to the store that it wraps.

        :param manager: any object that lives for as long as the store is used.
        :raises StoreInUseError: if another manager has the store, and it is not shared.
        :raises ForkedError: if a manager of the parent process has it.
        """
        if self.shared:
            return
        with _attaching:
            if self._holder is not None:
                there, pid = self._holder
                holder = there()
                if holder is not None and holder is not manager:
                    raise StoreInUseError(repr(self)) if pid == os.getpid() else ForkedError
            self._holder = weakref.ref(manager), os.getpid()

    def detach(self, manager: object) -> None:
        """Take the store back from a manager; nothing happens if that does not have it. A wrapper passes the call on."""
        with _attaching:
            if self._holder is not None and self._holder[0]() is manager:
                self._holder = None

    def release(self, key: str) -> None:
        """Note that the session is not in RAM any more: forget data that only a write of it needs, until it is loaded again.

        May be called beside any call, of the same key too. It must not wait. By default it does nothing.
        """

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Make commits of different sessions durable; return the error of each, or `None`, in their order.

        A store may have a more efficient implementation.
        """
        return [self._attempt(commit) for commit in commits]

    def _attempt(self, commit: Commit) -> Exception | None:
        try:
            self.write(commit)
        except SessionManagerError as error:
            return error
        return None

    def write_together(self, commits: Sequence[Commit]) -> None:
        """Make commits of different sessions durable: all of them, or none. A reader sees none of them before all are there.

        A store that does so says it by `together`. By default one commit is written as by `write`, and more are refused.
        If the outcome is unknown, `landed` gives the same answer for each of the commits: after `False` for one of them, the store
        refuses all of them, whenever they arrive.

        :raises CannotCommitTogetherError: if it cannot, or not for these sessions; nothing has changed.
        :raises ConflictError: as `write` does, with the key of a session whose base is not there; no session has changed.
        :raises CorruptSessionError: if what it holds of one of them is damaged; no session has changed.
        :raises SaveFailedError: no session has changed.
        :raises SaveOutcomeUnknownError: ask `landed` before the next write of each of these sessions.
        """
        if len(commits) > 1:
            raise CannotCommitTogetherError(repr(self), "it writes one session after the other")
        for commit in commits:
            self.write(commit)

    def newer(self, known: Session) -> Session | None:
        """Return a session as it is now, by a picture of it that this store has given, or was given by a write.

        By default it asks for the version, and loads the whole session if that is another one. Override it to read no more than what
        is new.

        A store that is `shared` must override it. Only the tokens of the last writes, which such a store keeps, tell whether what it
        holds goes on from the picture. `session_manager.stores.commits.compared` says so by them, as in
        `session_manager.stores.memory.MemoryStore`. The default knows no tokens but the last one: it notices another write of the
        same version, and takes a later state of another past for another writer's work.

        :param known: the picture; at revision 0 it stands for a session that was not there.
        :returns: `known` itself if the store holds that version, by that write; `None` if there is no such session (any more).
            A shared store marks a session, by `Session._parted`, if it can tell that the picture is none of the states that led
            to it. Otherwise that cannot be told from another writer's work. If it can tell that there never was such a session,
            for it knows of no deletion, it gives `session_manager.stores.commits.never_stored`: it went back to before the session's creation.
        :raises StorageError: as `load` does.
        """
        return known if agree(self.version(known.key), known.version) else compared(known, self.load(known.key))

    def describe(self, key: str) -> SessionInfo | None:
        """Describe a session; `None` if there is none. A store may do so without reading its messages.

        :raises StorageError: as `load` does.
        """
        session = self.load(key)
        return None if session is None else SessionInfo.of(session)

    def window(
        self, key: str, *, limit: int | None = None, before: int | None = None, after: int | None = None
    ) -> list[Message] | None:
        """Return some messages of a session as it was last written, by position; `None` if there is no such session.

        By default it loads the session. A store that reads no more than it returns says so by `windowed`. It need not notice
        damage elsewhere in the session.

        :param limit: how many at most, from 0: the first ones if `after` is given, else the newest.
        :param before: only messages at lower positions; any int.
        :param after: only messages at higher positions; any int.
        :raises StorageError: as `load` does.
        """
        session = self.load(key)
        return None if session is None else window(session, limit=limit, before=before, after=after)

    def infos(
        self,
        prefix: str = "",
        *,
        after: SessionInfo | None = None,
        limit: int | None = None,
        order: Order = "recent",
    ) -> list[SessionInfo]:
        """Describe sessions, a page of them in order (`session_manager.stores.order`); damaged ones with their error.

        The default describes every session whose key starts so. Unless the store is `ordered`, a caller with several threads
        asks for one key at a time, by `describe`.

        :param prefix: what the keys start with, as for `keys`.
        :param after: the last one of the page before, of which only the key and the times count. The page begins behind the
            place that they give, whether or not that session is still there.
        :param limit: how many at most; `None`: all.
        :raises StorageError: if the storage cannot be read.
        """
        return page(self.keys(prefix), partial(_described, self), order, after, limit)

    def has_archive(self, key: str) -> bool:  # noqa: ARG002 - it cannot tell
        """Say whether a session may have an archive: cheaply, and beside any other call."""
        return self.archives

    def archive(self, key: str) -> Iterator[Message]:  # noqa: ARG002 - it keeps none
        """Iterate over the archived messages of a session, by position, as they were; none if there is no such session.

        :raises CorruptSessionError: if the archive is damaged; the session may be readable all the same.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it cannot be read.
        """
        return iter(())

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        """Return the stored messages that contain a text, best first, as `session_manager.history.search.best` has it; archived ones, too.

        A damaged session, or archive, is left out, and named in the log. Unless the store is `indexed`, a caller with several
        threads asks for one key at a time.

        :param text: not empty; every character of it stands for itself.
        :param key: only this session's.
        :param prefix: only those of sessions whose keys start with this text, as for `keys`.
        :param limit: how many at most.
        :param skip: keys of sessions that are left out.
        :raises CorruptSessionError: if the session `key`, or its archive, is damaged.
        :raises StorageError: if it cannot be read.
        """
        if key is not None:
            session = None if key in skip else self.load(key)
            found = () if session is None else chain(session.messages, self.archive(key))
            return best(text, ((key, one) for one in found), limit)
        return best(text, self._stored(key for key in self.keys(prefix) if key not in skip), limit)

    def may_score(self, key: str, text: str, least: float) -> bool:  # noqa: ARG002 - it cannot tell
        """Say whether a session may have a hit of at least a score, by a look that costs less than its search. By default it may.

        A search of many sessions looks at each once it has enough hits of that score. A damaged session may have one: its search tells.
        A store around another one says so of all sessions if it changes messages, or searches in another way.

        :param text, least: the text, not empty, and the score, more than 0.
        """
        return True

    def _stored(self, keys: Iterable[str]) -> Iterator[tuple[str, Message]]:
        for key in keys:
            for read in (partial(_messages, self), self.archive):
                found: Iterable[Message] = ()
                try:
                    found = read(key)
                except (CorruptSessionError, UnsupportedFormatError) as error:
                    _log.warning("left out of a search: %s", error)
                for message in found:
                    yield key, message

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        """Give a session and its archive another key, durably. All else stays: generation, revision, refs, positions, times.

        After a crash, the session is there under one of the keys, or under both. A store that can finish such a rename does so
        when it is opened the next time. By default the session is written under the new key first, and then deleted under the old
        one; nothing finishes that. A call for the same keys does, if both hold the version `expected`.

        :param expected: the version that the session has.
        :raises ConflictError: if the store does not hold it; nothing has changed.
        :raises SessionExistsError: if there is a session `new_key`, damaged or not; nothing has changed.
        :raises CorruptSessionError: if the session or its archive is damaged; nothing has changed.
        :raises SaveFailedError: nothing has changed.
        :raises SaveOutcomeUnknownError: it may be there under both keys: rename it again.
        """
        session = self.load(key)
        if session is None or not agree(session.version, expected):
            raise ConflictError(key, expected, None if session is None else session.version)
        if new_key == key:
            raise SessionExistsError(new_key)
        if not self._is_copied(new_key, expected):
            archived = tuple((one.position or 0, one) for one in self.archive(key))
            count = max(session._archived, len(archived))
            try:
                self.write(Commit(session._with(key=new_key, _archived=count), (), None, archived=archived))
            except ConflictError:
                raise_alone(SessionExistsError(new_key))
        try:
            is_gone = self.delete(key, expected)
        except SaveFailedError as error:
            raise SaveOutcomeUnknownError(key, f"it is there as {new_key[:80]!a}, too: {error.reason}") from error
        if not is_gone:
            self.delete(new_key, expected)
            raise ConflictError(key, expected, self.version(key))

    def _is_copied(self, new_key: str, expected: Version) -> bool:
        """Say whether a rename that was cut short has written the session under its new key.

        :raises SessionExistsError: if there is another one.
        """
        try:
            there = self.version(new_key)
            if there == expected:
                return self.load(new_key) is not None
        except (CorruptSessionError, UnsupportedFormatError):
            raise_alone(SessionExistsError(new_key))
        if there is not None:
            raise SessionExistsError(new_key)
        return False

    def sizes(self, prefix: str = "") -> dict[str, int]:  # noqa: ARG002 - it cannot tell
        """Return how many bytes each session takes, its archive too, by key; a session is missing of which the store cannot tell.

        :param prefix: what the keys start with, as for `keys`.
        :raises StorageError: if the storage cannot be read.
        """
        return {}

    def total_bytes(self) -> int | None:
        """Return how many bytes the whole storage takes, with all that is in it beside sessions; `None` if it cannot tell.

        :raises StorageError: if the storage cannot be read.
        """
        return None

    def to_compact(self, keys: Sequence[str]) -> list[str]:
        """Return which of some sessions to `compact` to reclaim what all of these waste: by default one, if the store `compacts_all`."""
        return list(keys[:1] if self.compacts_all else keys)

    def compact(self, key: str) -> None:
        """Reclaim the space that a session's file wastes; a store that wastes none does nothing."""

    def verify(self, key: str) -> list[Finding]:
        """Check a session as far as possible; return the flaws, without raising for damage."""
        return self._checked(key, self.load)

    def _checked(self, key: str, load: Callable[[str], Session | None]) -> list[Finding]:
        """Check a session as `verify` does.

        :param load: loads it. A store that remembers what it loads gives a function that does not.
        """
        found = _read(key, load)
        session = found if isinstance(found, Session) else None
        archive = _read(key, lambda one: list(self.archive(one)))
        findings = [one for one in (found, archive) if isinstance(one, Finding)]
        if session is not None and isinstance(archive, list):
            if _overlap(session, archive):
                findings.append(Finding(key, repr(self), None, "a message is in the session and in its archive"))
            reason = missing(session._archived, len(archive))
            if (
                reason and _read(key, self.version) == session.version
            ):  # beside a writer, the two may have been read apart
                findings.append(Finding(key, repr(self), None, reason))
        return findings

    def salvage(self, key: str) -> Salvaged | None:
        """Return all of a session, and of its archive, that is whole; `None` if there is no such session. Only read.

        By default it is all or nothing.

        :raises CorruptSessionError: if it is damaged, and nothing of it can be told.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises StorageError: if it cannot be read.
        """
        session = self.load(key)
        if session is None:
            return None
        from session_manager.stores.salvaged import Salvaged  # noqa: PLC0415 - most programs salvage nothing

        return Salvaged(session=session, archive=[(session.revision, one) for one in self.archive(key)])

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:  # noqa: ARG002 - nothing of it is damaged
        """Write what `salvage` has returned in the place of a damaged session. The damaged bytes go to quarantine first.

        After a crash the session is the damaged one or the new one. By default, nothing is ever damaged.

        :returns: the names of what is in quarantine now (`quarantined`).
        :raises ConflictError: if the session has changed since; nothing has.
        :raises SaveFailedError: the session is as it was.
        :raises SaveOutcomeUnknownError: salvage it again.
        """
        return []

    def accept_edits(self, key: str) -> list[str]:
        """Sign a session, and its archive, as they are now, after a person has edited them. Their checksums do not count.

        The edited bytes are copied to quarantine as they are, and the session is written at its next revision.
        By default nothing has a checksum.

        :returns: the names of what is in quarantine now (`quarantined`).
        :raises CorruptSessionError: if what is there is no session. Nothing has changed.
        :raises UnsupportedFormatError: if a newer version wrote it.
        :raises ConflictError, SaveFailedError, SaveOutcomeUnknownError: as `put_salvaged` does.
        """
        self.load(key)
        return []

    def quarantined(self) -> list[Quarantined]:
        """Describe the damaged bytes in quarantine, the oldest first. By default there is no quarantine.

        :raises StorageError: if it cannot be read.
        """
        return []

    def count_quarantined(self) -> int:
        """Return how many things are in quarantine, from RAM: `SessionManager.health` asks while the storage may be out of reach.

        What another process has moved there may not count.
        """
        return len(self.quarantined())

    def read_quarantined(self, name: str) -> bytes | None:  # noqa: ARG002 - there is no quarantine
        """Return damaged bytes by their name in quarantine; `None` if there is none of that name.

        :raises StorageError: if they cannot be read.
        """
        return None

    def purge_quarantined(self, name: str) -> bool:  # noqa: ARG002 - there is no quarantine
        """Remove damaged bytes from quarantine, durably; return whether they were there.

        :raises SaveFailedError: if they cannot be removed, or may come back after a power cut.
        """
        return False

    def quarantined_of(self, key: str) -> list[Quarantined]:
        """Describe the damaged bytes of one session in quarantine, the oldest first. The session need not be there any more.

        :raises StorageError: if the quarantine cannot be read.
        """
        return [one for one in self.quarantined() if one.key == key]

    def erase(self, keys: Sequence[str], tell: Callable[[str], object] = str) -> Erasure:
        """Delete sessions, and leave no byte of their texts in the storage: not in archives, quarantine, temporary files or an index.

        Durable when it returns. A crash leaves a session whole, or gone. What else of it is left then is removed at the next
        opening or by the next call, and `strays` says so until then. By default the sessions are deleted, and what is in
        quarantine of them is purged.

        :param keys: of sessions, each once. Those that are not there, or damaged, may have something in quarantine.
        :param tell: called with each key when its session is gone. If it raises, the call is cut short as by a crash.
        :returns: what was removed; `Erasure.waits` says what of the texts is still there.
        :raises SaveFailedError, SaveOutcomeUnknownError: erase them again.
        :raises StorageError: if the storage cannot be read.
        """
        deleted: list[str] = []
        purged: list[Quarantined] = []
        for key in keys:
            if self.delete(key):
                deleted.append(key)
            purged += [one for one in self.quarantined_of(key) if self.purge_quarantined(one.name)]
            tell(key)
        from session_manager.stores.erasure import Erasure  # noqa: PLC0415 - most programs erase nothing

        return Erasure(sessions=tuple(deleted), quarantined=tuple(purged))

    def copies_of(self, keys: Sequence[str]) -> list[Finding]:  # noqa: ARG002 - there are no files
        """Return the files in the storage that hold texts of sessions, and that `erase` leaves: another program has put them there.

        It only reads. By default there are none.

        :raises StorageError: if the storage cannot be read.
        """
        return []

    def take_lease(self, key: str, owner: str, seconds: float) -> Fence | None:  # noqa: ARG002 - it keeps none
        """Take the lease of a session, which need not be there, unless another owner has it. Never wait for it.

        A lease that is not renewed in time may be taken by anyone. An owner takes its own lease again at any time: its turn before has ended.
        It loses nothing by that, for a request that it has given up may arrive late.
        Taken at once by several owners, one gets it.

        :param owner: the random id of a manager.
        :param seconds: how long the lease is held, unless it is renewed; more than 0.
        :returns: a fence whose number is higher than that of each lease of the session before; `None` if another owner has it.
        :raises StorageError: if it cannot be told whether the lease was taken: take it again. By default, always.
        """
        raise StorageError(repr(self), "keeps no leases")

    def renew_leases(self, held: Mapping[str, Fence], seconds: float) -> None:  # noqa: ARG002 - it keeps none
        """Hold leases for some seconds more, from now on. A lease that was released, or taken by another owner, stays as it is.

        A lease that is not there, because the storage crashed, is there again.

        :param held: the fences by the keys of the sessions.
        :raises StorageError: if they cannot be renewed; some may be. By default, if there are any.
        """
        if held:
            raise StorageError(repr(self), "keeps no leases")

    def release_lease(self, key: str, fence: Fence) -> None:  # noqa: ARG002 - it keeps none
        """Let others take a lease at once. A lease that was released, or taken by another owner, stays as it is.

        :raises StorageError: if it cannot be released; it runs out. By default, always.
        """
        raise StorageError(repr(self), "keeps no leases")

    def now(self) -> datetime | None:
        """Return the time of the storage's own clock, aware, UTC; `None`, by default, if it has none.

        Sessions expire by it, since the clocks of machines that share a storage differ.

        :raises StorageError: if it cannot be read.
        """
        return None

    def repairs(self) -> list[Finding]:
        """Return the unfinished writes found since the opening: they were mended, left out (torn records), or kept."""
        return []

    def strays(self) -> list[Finding]:
        """Return the files that look like a session's, but belong to none, and those with sessions of other programs."""
        return []


def missing(archived: int, count: int) -> str:
    """Say how many messages an archive lacks; ``""`` if it lacks none.

    :param archived: how many the session says were archived.
    :param count: how many there are.
    """
    return f"of {archived:,} archived messages, {archived - count:,} are missing" if count < archived else ""


def _overlap(session: Session, archive: list[Message]) -> bool:
    return any(one.position is not None and session.at(one.position) is not None for one in archive)


def _described(store: Store, key: str) -> SessionInfo | None:
    try:
        return store.describe(key)
    except StorageError as error:
        return SessionInfo(key=key, error=error)


def _messages(store: Store, key: str) -> Iterable[Message]:
    session = store.load(key)
    return () if session is None else session.messages


def _read(key: str, read: Callable[[str], T]) -> T | Finding:
    try:
        return read(key)
    except (CorruptSessionError, UnsupportedFormatError, StorageError) as error:
        offset = error.offset if isinstance(error, CorruptSessionError) else None
        return Finding(key, error.path, offset, error.reason)
