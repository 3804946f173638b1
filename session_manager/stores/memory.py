"""A store in RAM: the contract in its simplest form. Nothing survives the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import attrs

from session_manager.errors import ConflictError, LeaseLostError, SessionExistsError
from session_manager.model.archive import archived
from session_manager.model.fence import Fence
from session_manager.model.message import Message
from session_manager.model.session import Session, Version, agree
from session_manager.stores.commits import MAX_TOKENS, Commit, compared, never_stored
from session_manager.stores.contract import Store

__all__ = ["MemoryStore", "Stored"]


@attrs.frozen
class Stored:
    """The unit that is written in one step: a session, its archive, and its last writes."""

    session: Session
    archive: Sequence[Message] = ()
    #: The tokens of its last writes.
    tokens: tuple[str, ...] = ()
    #: Their revisions, and the digests of their tokens.
    writes: tuple[tuple[int, bytes], ...] = ()


@attrs.frozen
class _Lease:
    """A lease, held or not."""

    fence: Fence
    #: The first number that its owner has had since another one had the lease.
    first: int
    #: Until when it is held, by `time.monotonic`.
    until: float

    @property
    def is_held(self) -> bool:
        return time.monotonic() < self.until


class MemoryStore(Store):
    """Keeps sessions in a dict. For tests, and as the specification of a store in code.

    Each call is atomic, because it changes the dict in one step. Writes of several threads wait for each other.
    """

    shared = True
    archives = True
    windowed = True
    leases = True
    together = True

    def __init__(self) -> None:
        self._sessions: dict[str, Stored] = {}
        self._writing = threading.RLock()
        #: The tokens of sessions that were deleted.
        self._tokens: dict[str, tuple[str, ...]] = {}
        #: The tokens of writes that were said not to have landed: they must not land any more.
        self._voided: set[str] = set()
        #: The last lease of each session.
        self._leases: dict[str, _Lease] = {}

    def load(self, key: str) -> Session | None:
        stored = self._sessions.get(key)
        return None if stored is None else stored.session

    def newer(self, known: Session) -> Session | None:
        if agree(self.version(known.key), known.version):
            return known
        stored, session = self._sessions.get(known.key), self.load(known.key)
        if session is None and known.revision and not self._tokens.get(known.key):
            return never_stored(known)
        return session if stored is None else compared(known, session, stored.writes)

    def has_archive(self, key: str) -> bool:
        stored = self._sessions.get(key)
        return stored is not None and bool(stored.archive)

    def archive(self, key: str) -> Iterator[Message]:
        stored = self._sessions.get(key)
        return iter(() if stored is None else stored.archive)

    def write(self, commit: Commit) -> None:
        with self._writing:
            stored = self._after(commit)
            commit.doubt.exists = True
            self._sessions[commit.session.key] = stored
            self._release(commit)

    def write_together(self, commits: Sequence[Commit]) -> None:
        with self._writing:
            self._sessions = self._with(commits)
            for commit in commits:
                self._release(commit)

    def _release(self, commit: Commit) -> None:
        if commit.fence is not None:
            self.release_lease(commit.session.key, commit.fence)

    def _with(self, commits: Sequence[Commit]) -> dict[str, Stored]:
        """Return the sessions after some commits."""
        sessions = self._sessions | {commit.session.key: self._after(commit) for commit in commits}
        for commit in commits:
            commit.doubt.exists = True
        return sessions

    def _after(self, commit: Commit) -> Stored:
        """Return what a commit makes of a session.

        :raises LeaseLostError: if its lease was taken.
        :raises ConflictError: if its base is not there, or it was said not to have landed.
        """
        key = commit.session.key
        stored = self._sessions.get(key)
        if commit.fence is not None and self._is_taken(key, commit.fence):
            raise LeaseLostError(key)
        if not agree(self.version(key), commit.base) or commit.token in self._voided:
            raise ConflictError(key, commit.base, self.version(key))
        archive = () if stored is None else stored.archive
        if commit.archived or commit.spared is not None:
            archive = archived(archive, commit.changes, commit.archived)
        tokens = (*self._tokens_of(key), commit.token)[-MAX_TOKENS:]
        session = commit.session
        writes = (*(() if stored is None else stored.writes), (session.revision, session._token))[-MAX_TOKENS:]
        return Stored(session, archive, tokens, writes)

    def _tokens_of(self, key: str) -> tuple[str, ...]:
        stored = self._sessions.get(key)
        return self._tokens.get(key, ()) if stored is None else stored.tokens

    def landed(self, commit: Commit) -> bool | None:
        with self._writing:
            tokens = self._tokens_of(commit.session.key)
            if commit.token in tokens:
                return True
            landed = (
                commit.unknown_token(len(tokens), self.version(commit.session.key)) if commit.doubt.exists else False
            )
            if landed is False and commit.token:
                self._voided.add(commit.token)
            return landed

    def delete(self, key: str, expected: Version | None = None) -> bool:
        with self._writing:
            if key not in self._sessions or (expected is not None and not agree(self.version(key), expected)):
                return False
            self._tokens[key] = self._tokens_of(key)
            del self._sessions[key]
            return True

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        with self._writing:
            if not agree(self.version(key), expected):
                raise ConflictError(key, expected, self.version(key))
            if new_key in self._sessions:
                raise SessionExistsError(new_key)
            stored, tokens = self._sessions[key], self._tokens_of(key)
            renamed = stored.session._with(key=new_key)
            inherited = (*self._tokens_of(new_key), *tokens)[-MAX_TOKENS:]
            sessions = {**self._sessions, new_key: attrs.evolve(stored, session=renamed, tokens=inherited)}
            del sessions[key]
            self._tokens[key] = tokens
            self._sessions = sessions

    def take_lease(self, key: str, owner: str, seconds: float) -> Fence | None:
        with self._writing:
            last = self._leases.get(key)
            if last is not None and last.is_held and last.fence.owner != owner:
                return None
            fence = Fence(owner, 1 if last is None else last.fence.number + 1)
            first = last.first if last is not None and last.fence.owner == owner else fence.number
            self._leases[key] = _Lease(fence, first, time.monotonic() + seconds)
            return fence

    def renew_leases(self, held: Mapping[str, Fence], seconds: float) -> None:
        for key, fence in held.items():
            self._renew(key, fence, seconds)

    def _renew(self, key: str, fence: Fence, seconds: float) -> None:
        with self._writing:
            last = self._leases.get(key)
            if last is not None and not self._is_taken(key, fence) and last.until:
                self._leases[key] = attrs.evolve(last, until=time.monotonic() + seconds)

    def release_lease(self, key: str, fence: Fence) -> None:
        with self._writing:
            last = self._leases.get(key)
            if last is not None and last.fence == fence:
                self._leases[key] = attrs.evolve(last, until=0.0)

    def _is_taken(self, key: str, fence: Fence) -> bool:
        """Say whether another owner took a lease behind this one."""
        last = self._leases.get(key)
        return last is not None and (last.fence.owner != fence.owner or last.first > fence.number)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter([key for key in list(self._sessions) if key.startswith(prefix)])

    def version(self, key: str) -> Version | None:
        stored = self._sessions.get(key)
        return None if stored is None else stored.session.version

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._sessions)}>"
