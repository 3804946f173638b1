"""Several stores as one: each session lives in the one that its key is hashed to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from hashlib import blake2b
from itertools import chain

import attrs

from session_manager.arguments import check_callable, check_type
from session_manager.errors import CannotCommitTogetherError, InvalidStorageError, SaveFailedError, StorageError
from session_manager.history.search import SearchHit, merged
from session_manager.model.fence import Fence
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.stores.contract import Commit, Finding, SessionInfo, Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.order import Order, in_order
from session_manager.stores.salvaged import Salvaged
from session_manager.stores.shards import Shards

__all__ = ["ShardedStore", "shard_of"]


def shard_of(key: str, names: Collection[str]) -> str:
    """Return the shard of a session: the name whose hash with the key is the highest.

    When a shard is added, only sessions that belong to it move; when one is removed, only its own do (rendezvous hashing: Thaler and
    Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998). The hash is BLAKE2b of the key, keyed by that of the name.

    :param names: the names of the shards, in any order.
    """
    data = key.encode("utf-8", "surrogatepass")
    return max(names, key=lambda name: (blake2b(data, digest_size=16, key=_seed(name)).digest(), name))


@cache
def _seed(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=32).digest()


class ShardedStore(Store):
    """Keeps sessions in several stores. A shard that cannot be reached harms its own sessions, and calls about all of them.

    Lists, searches and `sizes` ask every shard, and merge what they say. They raise if one of them does: a list without some
    sessions would look like one in which they were deleted.

    Let either all shards be `shared`, or none. If one of them is not, a manager compares no session with its shard when it reads, and
    learns of other writers from the conflict of its next save.

    To add a shard, stop the programs, and `copy` from the old `ShardedStore` into the new one; then `delete` what moved from its old
    shard. A name stays with its store for ever, for the sessions are found by it. Every program needs the same names: with others, it looks for
    some sessions elsewhere, finds none, and begins them anew.

    A program that starts while a shard is down needs a function that opens the shard, instead of a store: one that raises `StorageError`
    is called again when a session of the shard is asked for. A store that it opens later must be of the kind of the others.

    :param shards: the stores by their names, at least one, or functions that open them; `close` closes them.
    :raises TypeError: if they are something else.
    :raises InvalidStorageError: if there is none, or a name is empty or has a ``/`` in it.
    :raises StorageError: if none can be opened.

    >>> from session_manager import SessionManager
    >>> from session_manager.stores.memory import MemoryStore
    >>> store = ShardedStore({"a": MemoryStore(), "b": MemoryStore()})
    >>> with SessionManager(store) as m, m.turn("telegram:42") as turn:
    ...     _ = turn.add_message("user", "hi")
    >>> store.shard("telegram:42").load("telegram:42")
    <Session 'telegram:42': 1 messages, summary of 0 characters, revision 1>
    """

    def __init__(self, shards: Mapping[str, Store | Callable[[], Store]]) -> None:
        check_type(shards, (Mapping,), "shards must be stores by their names, such as a dict")
        for name, store in shards.items():
            check_type(name, (str,), "the name of a shard must be a str")
            if not isinstance(store, Store):
                check_callable(store, "a shard that is no Store")
            if not name or "/" in name:
                raise InvalidStorageError(
                    name, "is no name of a shard: it must not be empty, and must not have a / in it"
                )
        if not shards:
            raise InvalidStorageError("", "needs a shard at least")
        #: The stores by their names. To ask for one that could not be opened tries again.
        self.shards: Mapping[str, Store] = (opened := Shards(shards))
        self._shards = opened
        self.shared = self._shards.says("shared")
        self.tokenless = self._shards.says("tokenless")
        self.indexed = self._shards.says("indexed")
        self.ordered = self._shards.says("ordered")
        self.archives = self._shards.says("archives")
        self.windowed = self._shards.says("windowed")
        self.leases = self._shards.says("leases")
        self.together = self._shards.says("together")

    def shard(self, key: str) -> Store:
        """Return the store in which a session lives, whether or not it is there."""
        return self.shards[shard_of(key, self.shards)]

    def _to_write(self, key: str) -> Store:
        """Return the store in which a session lives, for a call that changes it.

        :raises SaveFailedError: if it cannot be opened.
        """
        try:
            return self.shard(key)
        except StorageError as error:
            raise SaveFailedError(key, error.reason) from error

    # One session

    def load(self, key: str) -> Session | None:
        return self.shard(key).load(key)

    def newer(self, known: Session) -> Session | None:
        return self.shard(known.key).newer(known)

    def write(self, commit: Commit) -> None:
        self._to_write(commit.session.key).write(commit)

    def landed(self, commit: Commit) -> bool | None:
        return self._to_write(commit.session.key).landed(commit)

    def delete(self, key: str, expected: Version | None = None) -> bool:
        return self._to_write(key).delete(key, expected)

    def version(self, key: str) -> Version | None:
        return self.shard(key).version(key)

    def release(self, key: str) -> None:
        self.shard(key).release(key)

    def describe(self, key: str) -> SessionInfo | None:
        return self.shard(key).describe(key)

    def window(
        self, key: str, *, limit: int | None = None, before: int | None = None, after: int | None = None
    ) -> list[Message] | None:
        return self.shard(key).window(key, limit=limit, before=before, after=after)

    def has_archive(self, key: str) -> bool:
        return self.shard(key).has_archive(key)

    def archive(self, key: str) -> Iterator[Message]:
        return self.shard(key).archive(key)

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        here, there = self._to_write(key), self._to_write(new_key)
        if here is there:
            here.rename(key, new_key, expected)
        else:
            super().rename(key, new_key, expected)

    def compact(self, key: str) -> None:
        self.shard(key).compact(key)

    def verify(self, key: str) -> list[Finding]:
        return self.shard(key).verify(key)

    def salvage(self, key: str) -> Salvaged | None:
        return self.shard(key).salvage(key)

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:
        key = salvaged.session.key
        return self._named(key, self._to_write(key).put_salvaged(salvaged))

    def accept_edits(self, key: str) -> list[str]:
        return self._named(key, self._to_write(key).accept_edits(key))

    def take_lease(self, key: str, owner: str, seconds: float) -> Fence | None:
        return self.shard(key).take_lease(key, owner, seconds)

    def release_lease(self, key: str, fence: Fence) -> None:
        self.shard(key).release_lease(key, fence)

    # Several sessions

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        errors: list[Exception | None] = [None] * len(commits)
        for numbers in self._by_shard([commit.session.key for commit in commits]).values():
            mine = [commits[number] for number in numbers]
            try:
                store = self._to_write(mine[0].session.key)
            except SaveFailedError as failed:
                found: list[Exception | None] = [SaveFailedError(one.session.key, failed.reason) for one in mine]
            else:
                found = store.write_many(mine)
            for number, error in zip(numbers, found, strict=True):
                errors[number] = error
        return errors

    def to_compact(self, keys: Sequence[str]) -> list[str]:
        by_shard = self._by_shard(keys).items()
        found = [self.shards[name].to_compact([keys[number] for number in numbers]) for name, numbers in by_shard]
        return list(chain.from_iterable(found))

    def renew_leases(self, held: Mapping[str, Fence], seconds: float) -> None:
        keys, error = list(held), None
        for name, numbers in self._by_shard(keys).items():
            try:
                self.shards[name].renew_leases({keys[number]: held[keys[number]] for number in numbers}, seconds)
            except StorageError as failed:  # the other shards' leases are renewed all the same
                error = failed
        if error is not None:
            raise error

    def write_together(self, commits: Sequence[Commit]) -> None:
        """Make commits durable, all or none: of sessions that live in one shard.

        :raises CannotCommitTogetherError: if they live in several; nothing has changed.
        """
        names = sorted(self._by_shard([commit.session.key for commit in commits]))
        if len(names) > 1:
            raise CannotCommitTogetherError(repr(self), f"they live in the shards {', '.join(names)}")
        if names:
            self._to_write(commits[0].session.key).write_together(commits)

    def erase(self, keys: Sequence[str], tell: Callable[[str], object] = str) -> Erasure:
        done = [
            (name, self.shards[name].erase([keys[number] for number in numbers], tell))
            for name, numbers in self._by_shard(keys).items()
        ]
        return Erasure(
            sessions=tuple(chain.from_iterable(one.sessions for _, one in done)),
            quarantined=tuple(_named(name, kept) for name, one in done for kept in one.quarantined),
            files=tuple(chain.from_iterable(one.files for _, one in done)),
            finished=tuple(chain.from_iterable(one.finished for _, one in done)),
            waits=tuple(f"{name}: {reason}" for name, one in done for reason in one.waits),
        )

    def copies_of(self, keys: Sequence[str]) -> list[Finding]:
        return [one for store in self.shards.values() for one in store.copies_of(keys)]

    def _by_shard(self, keys: Sequence[str]) -> dict[str, list[int]]:
        """Return the numbers of some keys, by their shards."""
        found: dict[str, list[int]] = {}
        for number, key in enumerate(keys):
            found.setdefault(shard_of(key, self.shards), []).append(number)
        return found

    # All sessions

    def keys(self, prefix: str = "") -> Iterator[str]:
        return chain.from_iterable([store.keys(prefix) for store in self.shards.values()])

    def infos(
        self,
        prefix: str = "",
        *,
        after: SessionInfo | None = None,
        limit: int | None = None,
        order: Order = "recent",
    ) -> list[SessionInfo]:
        pages = [store.infos(prefix, after=after, limit=limit, order=order) for store in self.shards.values()]
        return in_order(chain.from_iterable(pages), order, after, limit)

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        if key is not None:
            return self.shard(key).search(text, key=key, prefix=prefix, limit=limit, skip=skip)
        found = [store.search(text, prefix=prefix, limit=limit, skip=skip) for store in self.shards.values()]
        return merged(chain.from_iterable(found), limit)

    def may_score(self, key: str, text: str, least: float) -> bool:
        return self.shard(key).may_score(key, text, least)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return dict(chain.from_iterable(store.sizes(prefix).items() for store in self.shards.values()))

    def total_bytes(self) -> int | None:
        found = [store.total_bytes() for store in self.shards.values()]
        return None if None in found else sum(one or 0 for one in found)

    # Quarantine, under names such as "a/7-12"

    def quarantined(self) -> list[Quarantined]:
        found = [_named(name, one) for name, store in self.shards.items() for one in store.quarantined()]
        return sorted(found, key=lambda one: one.moved)

    def quarantined_of(self, key: str) -> list[Quarantined]:
        name = shard_of(key, self.shards)
        return [_named(name, one) for one in self.shards[name].quarantined_of(key)]

    def count_quarantined(self) -> int:
        return sum(store.count_quarantined() for store in self._shards.opened().values())

    def read_quarantined(self, name: str) -> bytes | None:
        shard, _, rest = name.partition("/")
        return self.shards[shard].read_quarantined(rest) if shard in self.shards else None

    def purge_quarantined(self, name: str) -> bool:
        shard, _, rest = name.partition("/")
        return shard in self.shards and self.shards[shard].purge_quarantined(rest)

    def _named(self, key: str, names: Sequence[str]) -> list[str]:
        return [f"{shard_of(key, self.shards)}/{name}" for name in names]

    # The stores

    def now(self) -> datetime | None:
        return next(iter(self.shards.values())).now()

    def repairs(self) -> list[Finding]:
        return [one for store in self._shards.opened().values() for one in store.repairs()]

    def strays(self) -> list[Finding]:
        return [one for store in self.shards.values() for one in store.strays()]

    def attach(self, manager: object) -> None:
        with ExitStack() as stack:
            self._shards.note(manager)
            stack.callback(self._shards.forget, manager)
            for store in self._shards.opened().values():
                store.attach(manager)
                stack.callback(store.detach, manager)
            stack.pop_all()

    def detach(self, manager: object) -> None:
        self._shards.forget(manager)
        for store in self._shards.opened().values():
            store.detach(manager)

    def close(self) -> None:
        self._shards.close()

    def __repr__(self) -> str:
        opened = self._shards.opened()
        told = (f"{name}: {opened[name]!r}" if name in opened else f"{name}: not open" for name in self.shards)
        return f"<ShardedStore of {', '.join(told)}>"


def _named(name: str, kept: Quarantined) -> Quarantined:
    """Return what is in quarantine of a shard under the name that it has here."""
    return attrs.evolve(kept, name=f"{name}/{kept.name}")
