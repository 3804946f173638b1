"""Moving sessions from one store to another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing

import attrs

from session_manager.arguments import Progress, check_progress, check_type
from session_manager.as_dict import AsDict
from session_manager.errors import ConflictError, CorruptSessionError, UnsupportedFormatError
from session_manager.model.json_value import same
from session_manager.model.message import Message
from session_manager.model.session import Session
from session_manager.stores.contract import Commit, Store
from session_manager.stores.urls import open_store
from session_manager.values import Value

__all__ = ["CopyReport", "copy"]


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CopyReport(Value, AsDict):
    """The outcome of a copy, by the keys of the source's sessions."""

    #: Sessions that were written, and read back from the target: they are equal to the source's.
    copied: tuple[str, ...] = ()
    #: Sessions that the target already had, equal to the source's.
    present: tuple[str, ...] = ()
    #: Sessions of which the target has another version or content. They were left alone.
    different: tuple[str, ...] = ()
    #: Sessions that cannot be read in one of the two stores, each with its error. They were left alone.
    damaged: dict[str, Exception] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the target has every session of the source, equal in everything."""
        return not self.different and not self.damaged


def copy(
    source: Store | str | os.PathLike[str],
    target: Store | str | os.PathLike[str],
    *,
    prefix: str = "",
    progress: Progress | None = None,
) -> CopyReport:
    """Copy the sessions of a store to another: messages, positions, refs, summary, metadata, times, revision and archive.

    The copy holds one session at a time in RAM, makes it durable, and compares it with the source before it begins the next.
    So you can call `copy` again after an interruption, and it goes on where it stopped.
    The source is only read. Other sessions of the target stay. A session of which the target has another version is reported and
    left alone. So is a session with an archive, if the target keeps no archives.

    Let no other program write to the source meanwhile: a save during the copy may be missing in the target.

    :param source: a store; or its URL or path, which is opened read-only.
    :param target: a store; or its URL or path.
    :param prefix: only sessions whose keys start with this text; ``"telegram:1"`` also means ``"telegram:10"``, `key_prefix`
        whole parts.
    :param progress: called after each session, with how many are done, how many there are, and the session's key.
    :returns: the outcome for each session.
    :raises TypeError: if `prefix` is no text, or `progress` cannot be called.
    :raises StoreInUseError: if a manager has one of the two, and that store is not `shared`.
    :raises InvalidStorageError, StorageError: if one of the two cannot be opened, read or written. Copied sessions stay.
    """
    check_type(prefix, (str,), "prefix must be a str")
    check_progress(progress)
    with ExitStack() as stack:
        here = source if isinstance(source, Store) else stack.enter_context(closing(open_store(source, read_only=True)))
        there = target if isinstance(target, Store) else stack.enter_context(closing(open_store(target)))
        for store in {here, there}:
            store.attach(stack)
            stack.callback(store.detach, stack)
        return _copy_all(here, there, prefix, progress)


def _copy_all(here: Store, there: Store, prefix: str, progress: Progress | None) -> CopyReport:
    outcomes: dict[str, list[str]] = {"copied": [], "present": [], "different": []}
    damaged: dict[str, Exception] = {}
    keys = sorted(here.keys(prefix))
    for number, key in enumerate(keys, 1):
        try:
            outcome = _copy(here, there, key)
        except (CorruptSessionError, UnsupportedFormatError) as error:
            damaged[key] = error.with_traceback(None)  # which would keep the session in RAM
        else:
            if outcome is not None:
                outcomes[outcome].append(key)
        if progress is not None:
            progress(number, len(keys), key)
    return CopyReport(**{outcome: tuple(keys) for outcome, keys in outcomes.items()}, damaged=damaged)


def _copy(source: Store, target: Store, key: str) -> str | None:
    """Copy a session; `None` if it was deleted meanwhile."""
    session = source.load(key)
    if session is None:
        return None
    archive = list(source.archive(key))
    session = session._with(_archived=max(session._archived, len(archive)))
    there = target.load(key)
    if there is not None:
        return "present" if _agree(session, there) and _same_archive(archive, target, key) else "different"
    try:
        target.write(Commit(session, (), None, archived=tuple((one.position or 0, one) for one in archive)))
    except ConflictError:
        return "different"
    there = target.load(key)
    agree = there is not None and _agree(session, there) and _same_archive(archive, target, key)
    return "copied" if agree else "different"


_STATE = ("key", "generation", "revision", "created", "updated", "start", "end", "refs", "summary", "expires_after")
_PLACE = ("position", "created_at", "ref", "turn")


def _agree(one: Session, other: Session) -> bool:
    """Say whether two sessions are the same in everything."""
    return (
        all(getattr(one, field) == getattr(other, field) for field in _STATE)
        and same(dict(one._metadata), dict(other._metadata))
        and _same_messages(one.messages, other.messages)
    )


def _same_archive(archive: list[Message], target: Store, key: str) -> bool:
    return _same_messages(archive, list(target.archive(key)))


def _same_messages(some: Sequence[Message], others: Sequence[Message]) -> bool:
    return len(some) == len(others) and all(map(_same_message, some, others))


def _same_message(one: Message, other: Message) -> bool:
    return (
        one == other
        and all(getattr(one, field) == getattr(other, field) for field in _PLACE)
        and same(dict(one._metadata), dict(other._metadata))
    )
