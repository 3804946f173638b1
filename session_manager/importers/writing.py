"""Imported sessions become sessions of a store: new ones, replaced ones, or ones that get more messages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import attrs

from session_manager.codec.json import encode_json
from session_manager.errors import (
    ConflictError,
    CorruptSessionError,
    InvalidKeyError,
    SaveOutcomeUnknownError,
    SessionExistsError,
    UnsupportedFormatError,
)
from session_manager.importers.reading import ImportedSession
from session_manager.importers.report import Skipped
from session_manager.model.archive import dropped
from session_manager.model.changes import Append, Change, Clear, SetSummary, Truncate, UpdateMetadata, fold
from session_manager.model.ids import cleared, random_id
from session_manager.model.json_value import JsonObject
from session_manager.model.key import check_key
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.model.view import View
from session_manager.stores.contract import Commit, Store

__all__ = ["MARK", "OnConflict", "Origin", "Outcome", "Writer", "digest_of", "session_of"]

#: What becomes of a session that the storage has already.
OnConflict = Literal["skip", "replace", "append", "fail"]

#: The field of a session's metadata that says where it was imported from.
MARK = "imported"

#: How often a session is looked at again after another program has written to it meanwhile.
_TRIES = 10


@attrs.frozen
class Origin:
    """Where a session comes from."""

    #: The name of the format.
    format: str
    #: The path of the file below the source.
    file: str
    #: The SHA-256 of each of its files, by their names, in hex, if they are adopted.
    adopted: Mapping[str, str] | None = None


@attrs.frozen(kw_only=True)
class Outcome:
    """What has become of a session."""

    #: Whether it was written.
    is_written: bool = False
    #: Whether an earlier import has written it.
    is_present: bool = False
    #: How many messages were written, archived ones too.
    messages: int = 0
    #: What was left out of it, or why all of it was.
    skipped: tuple[Skipped, ...] = ()


@attrs.frozen
class _Plan:
    """What is to be written, and what it means."""

    outcome: Outcome
    commit: Commit | None = None


class Writer:
    """Writes imported sessions to a store.

    :param store: the store, which nobody else has.
    :param is_dry: only look at the store.
    """

    def __init__(self, store: Store, on_conflict: OnConflict, *, is_dry: bool) -> None:
        self._store = store
        self._on_conflict = on_conflict
        self._is_dry = is_dry
        self._seen: set[str] = set()

    def write(self, sessions: Sequence[tuple[ImportedSession, Origin]]) -> list[Outcome]:
        """Write sessions, each whole and durable; return what has become of each.

        :raises SessionExistsError: if one is there, and that is not to happen. None of these was written then.
        :raises SaveError: if one could not be written. Others of these may have been.
        """
        plans = [self._new_key(one, origin) or self._plan(one, origin) for one, origin in sessions]
        wanted = [index for index, plan in enumerate(plans) if plan.commit is not None]
        commits = [plan.commit for plan in plans if plan.commit is not None]
        if not self._is_dry:
            for index, commit, error in zip(wanted, commits, self._store.write_many(commits), strict=True):
                if error is not None:
                    plans[index] = self._again(*sessions[index], commit, error) or plans[index]
        return [plan.outcome for plan in plans]

    def _new_key(self, one: ImportedSession, origin: Origin) -> _Plan | None:
        """Note a key; return why its session cannot be written, if it cannot."""
        try:
            check_key(one.key)
        except InvalidKeyError as error:
            return _left(one, f"its key {error.reason}", key=None)
        if one.key in self._seen:
            return _left(one, f"another session of the source has the same key ({origin.format})")
        self._seen.add(one.key)
        return None

    def _again(self, one: ImportedSession, origin: Origin, commit: Commit, error: Exception) -> _Plan | None:
        """Write a session once more, after an error; return what has become of it, `None`: it was written as planned."""
        for _ in range(_TRIES):
            if isinstance(error, SaveOutcomeUnknownError) and self._store.landed(commit):
                return None
            if not isinstance(error, ConflictError):
                break
            plan = self._plan(one, origin)
            if plan.commit is None:
                return plan
            commit = plan.commit
            failure = self._store.write_many([commit])[0]
            if failure is None:
                return plan
            error = failure
        raise error

    def _plan(self, one: ImportedSession, origin: Origin) -> _Plan:
        """Say what is to be done with a session, by what the store has.

        :raises SessionExistsError: if it is there, and that is not to happen.
        """
        try:
            there = self._store.load(one.key) if self._store.version(one.key) is not None else None
        except (CorruptSessionError, UnsupportedFormatError):
            return _left(one, "the session that is there cannot be read")
        if there is None:
            return self._created(one, origin)
        known = _imported_before(one, there)
        if known == len(one.archived) + len(one.messages):
            return _Plan(Outcome(is_present=True))
        if self._on_conflict == "fail":
            raise SessionExistsError(one.key)
        if self._on_conflict == "replace":
            return self._replaced(one, origin, there)
        if self._on_conflict == "append":
            return _appended(one, origin, there, known)
        return _left(
            one, "another session of this key is there" if known is None else "it has grown since it was imported"
        )

    def _created(self, one: ImportedSession, origin: Origin) -> _Plan:
        session, pairs = session_of(one, origin)
        outcome, pairs = self._archived(one, pairs)
        session = session._with(_archived=len(pairs))
        return _Plan(outcome, Commit(session, (), None, archived=pairs, token=random_id()))

    def _replaced(self, one: ImportedSession, origin: Origin, there: Session) -> _Plan:
        new, pairs = session_of(one, origin)
        outcome, pairs = self._archived(one, pairs)
        at = new.updated
        metadata = (
            new._metadata if one.exact is None else _marked(one, origin)
        )  # it gets another generation, by which it was known
        removed = tuple(name for name in there._metadata if name not in metadata)
        changes: list[Change] = [
            Clear(at=at, generation=cleared(random_id())),
            Append(at=at, messages=tuple(message for _, message in pairs)),
            Truncate(at=at, start=there.end + len(pairs)),
            Append(at=at, messages=tuple(new.messages)),
            SetSummary(at=at, text=new.summary),
            UpdateMetadata(at=at, items=metadata, removed=removed, expires_after=new.expires_after),
        ]
        return _Plan(outcome, _commit(there, changes))

    def _archived(
        self, one: ImportedSession, pairs: tuple[tuple[int, Message], ...]
    ) -> tuple[Outcome, tuple[tuple[int, Message], ...]]:
        """Return what a session's writing means, and what goes to its archive: nothing, if the store has none."""
        if pairs and not self._store.archives:
            reason = f"{len(pairs):,} messages that were dropped from the history: the storage keeps no archive"
            skipped = Skipped(reason=reason, line=one.line, key=one.key)
            return Outcome(is_written=True, messages=len(one.messages), skipped=(skipped,)), ()
        return Outcome(is_written=True, messages=len(one.messages) + len(pairs)), pairs


def session_of(one: ImportedSession, origin: Origin) -> tuple[Session, tuple[tuple[int, Message], ...]]:
    """Return an imported session as a new one of ours, at its first revision, and its archive.

    Positions begin at 0 with the archived messages. The metadata say where it comes from.
    """
    if one.exact is not None:
        return one.exact, tuple((message.position or 0, message) for message in one.archived)
    count = len(one.archived)
    messages = [message._placed(count + index, None) for index, message in enumerate(one.messages)]
    archived = tuple((index, message._placed(index, None)) for index, message in enumerate(one.archived))
    created, updated = _times(one)
    session = Session(
        key=one.key,
        generation=random_id(),
        created=created,
        updated=updated,
        messages=View(messages),
        summary=one.summary,
        metadata=_marked(one, origin),
        end=count + len(messages),
        revision=1,
    )
    return session, archived


def _times(one: ImportedSession) -> tuple[datetime, datetime]:
    """Return when a session was created and last changed; what the file does not say is told by its messages."""
    times = [message.created_at for message in (*one.archived, *one.messages)]
    created = one.created or (min(times) if times else one.updated)
    updated = one.updated or (max(times) if times else created)
    if created is None or updated is None:
        raise ValueError("a reader gives a time to a session without messages")
    return created, updated


def digest_of(messages: Sequence[Message]) -> str:
    """Return the SHA-256 of the objects of messages, a line each, in hex."""
    digested = hashlib.sha256()
    for message in messages:
        digested.update(encode_json(message._object) + b"\n")
    return digested.hexdigest()


def _mark(one: ImportedSession, origin: Origin) -> dict[str, Any]:
    messages = [*one.archived, *one.messages]
    mark = {"format": origin.format, "file": origin.file, "messages": len(messages), "sha256": digest_of(messages)}
    return mark if origin.adopted is None else {**mark, "adopted": dict(origin.adopted)}


def _marked(one: ImportedSession, origin: Origin) -> JsonObject:
    """Return the metadata of a session, with its mark; a field of that name that it had is in the mark."""
    mark = _mark(one, origin)
    if MARK in one.metadata:
        mark["metadata"] = one.metadata[MARK]
    return JsonObject({**one.metadata, MARK: mark})


def _imported_before(one: ImportedSession, there: Session) -> int | None:
    """Return how many messages of a session an earlier import has written; `None` if it is another session."""
    messages = [*one.archived, *one.messages]
    if one.exact is not None and _is_state_of(one, there) and _has_all(there, one.exact):
        return len(messages)
    mark = there._metadata.get(MARK)
    if not isinstance(mark, dict):
        return None
    count = mark.get("messages")
    if type(count) is not int or not 0 <= count <= len(messages):
        return None
    return count if mark.get("sha256") == digest_of(messages[:count]) else None


def _is_state_of(one: ImportedSession, there: Session) -> bool:
    """Say whether a session of our own export and a stored one were the same session once."""
    return one.exact is not None and one.exact.generation == there.generation


def _has_all(there: Session, exact: Session) -> bool:
    """Say whether a stored session is this state of it, or a later one, and not one that has parted from it."""
    return there.revision >= exact.revision and there.end >= exact.end and _agree(there, exact.messages)


def _agree(there: Session, messages: Iterable[Message]) -> bool:
    """Say whether messages at the same position are the same ones, edited or not."""
    times = {message.position: message.created_at for message in there.messages}
    return all(times.get(message.position, message.created_at) == message.created_at for message in messages)


def _stored_before(one: ImportedSession, there: Session) -> int | None:
    """Return how many messages of a later state of a stored session the store has; `None` if the two have parted."""
    messages = [*one.archived, *one.messages]
    known = [message for message in messages if (message.position or 0) < there.end]
    return len(known) if _agree(there, known) and known == messages[: len(known)] else None


def _appended(one: ImportedSession, origin: Origin, there: Session, known: int | None) -> _Plan:
    """Add the messages that are not there, at the end."""
    if known is None and _is_state_of(one, there):
        known = _stored_before(one, there)
        if known == len(one.archived) + len(one.messages):
            return _Plan(Outcome(is_present=True))
    if known is None and (MARK in there._metadata or _is_state_of(one, there)):
        return _left(one, "it is no longer what was imported: messages were changed or removed in one of the two")
    new = [*one.archived, *one.messages][known:] if known is not None else list(one.messages)
    refs = {message.ref for message in there.messages}
    new = [message for message in new if message.ref is None or message.ref not in refs]
    mark = _mark(one, origin)
    at = max((message.created_at for message in new), default=there.updated)
    changes: list[Change] = [UpdateMetadata(at=at, items=JsonObject({MARK: mark}))]
    if new:
        changes.insert(0, Append(at=at, messages=tuple(new)))
    skipped: tuple[Skipped, ...] = ()
    if known is None and one.archived:
        reason = f"{len(one.archived):,} messages that were dropped from the history: the session was there"
        skipped = (Skipped(reason=reason, line=one.line, key=one.key),)
    return _Plan(Outcome(is_written=True, messages=len(new), skipped=skipped), _commit(there, changes))


def _commit(there: Session, changes: Sequence[Change]) -> Commit:
    """Return the commit of changes to a stored session."""
    pairs = dropped(there, changes)
    session = fold(there, changes)
    count = session._archived + len(pairs)
    return Commit(
        session._with(revision=there.revision + 1, _archived=count),
        tuple(changes),
        there.version,
        before=there,
        archived=pairs,
        token=random_id(),
    )


def _left(one: ImportedSession, reason: str, *, key: str | None = "") -> _Plan:
    return _Plan(Outcome(skipped=(Skipped(reason=reason, line=one.line, key=one.key if key == "" else key),)))
