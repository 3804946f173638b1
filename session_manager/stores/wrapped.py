"""A store around another one, to be subclassed: for metrics, faults, or a cache."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

from session_manager.arguments import check_type
from session_manager.history.search import SearchHit
from session_manager.model.fence import Fence
from session_manager.model.message import Message
from session_manager.model.session import Session, Version
from session_manager.stores.contract import Commit, Finding, SessionInfo, Store
from session_manager.stores.descriptions import Quarantined
from session_manager.stores.erasure import Erasure
from session_manager.stores.order import Order
from session_manager.stores.salvaged import Salvaged

__all__ = ["WrappedStore"]


class WrappedStore(Store):
    """Forwards every call to the store that it wraps. A subclass overrides the calls that it is about.

    :param store: any store, which `close` closes.
    :raises TypeError: if it is no `Store`.

    >>> from session_manager import SessionManager
    >>> from session_manager.stores.memory import MemoryStore
    >>> class Counting(WrappedStore):
    ...     writes = 0
    ...     def write(self, commit):
    ...         self.writes += 1
    ...         super().write(commit)
    >>> store = Counting(MemoryStore())
    >>> with SessionManager(store) as m, m.turn("telegram:42") as turn:
    ...     _ = turn.add_message("user", "hi")
    >>> store.writes
    1
    """

    def __init__(self, store: Store) -> None:
        check_type(store, (Store,), "store must be a Store")
        #: The store that is wrapped.
        self.store = store
        self.shared = store.shared
        self.tokenless = store.tokenless
        self.indexed = store.indexed
        self.ordered = store.ordered
        self.archives = store.archives
        self.windowed = store.windowed
        self.together = store.together
        self.compacts_all = store.compacts_all
        self.leases = store.leases

    def write(self, commit: Commit) -> None:
        self.store.write(commit)

    def write_many(self, commits: Sequence[Commit]) -> list[Exception | None]:
        """Call the wrapped store: its `write_many`, not `write` of this one."""
        return self.store.write_many(commits)

    def write_together(self, commits: Sequence[Commit]) -> None:
        """Call the wrapped store: its `write_together`, not `write` of this one."""
        self.store.write_together(commits)

    def load(self, key: str) -> Session | None:
        return self.store.load(key)

    def newer(self, known: Session) -> Session | None:
        return self.store.newer(known)

    def attach(self, manager: object) -> None:
        self.store.attach(manager)

    def detach(self, manager: object) -> None:
        self.store.detach(manager)

    def release(self, key: str) -> None:
        self.store.release(key)

    def landed(self, commit: Commit) -> bool | None:
        return self.store.landed(commit)

    def delete(self, key: str, expected: Version | None = None) -> bool:
        return self.store.delete(key, expected)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self.store.keys(prefix)

    def version(self, key: str) -> Version | None:
        return self.store.version(key)

    def describe(self, key: str) -> SessionInfo | None:
        return self.store.describe(key)

    def window(
        self, key: str, *, limit: int | None = None, before: int | None = None, after: int | None = None
    ) -> list[Message] | None:
        return self.store.window(key, limit=limit, before=before, after=after)

    def infos(
        self,
        prefix: str = "",
        *,
        after: SessionInfo | None = None,
        limit: int | None = None,
        order: Order = "recent",
    ) -> list[SessionInfo]:
        return self.store.infos(prefix, after=after, limit=limit, order=order)

    def has_archive(self, key: str) -> bool:
        return self.store.has_archive(key)

    def archive(self, key: str) -> Iterator[Message]:
        return self.store.archive(key)

    def search(
        self, text: str, *, key: str | None = None, prefix: str = "", limit: int = 20, skip: Collection[str] = ()
    ) -> list[SearchHit]:
        return self.store.search(text, key=key, prefix=prefix, limit=limit, skip=skip)

    def may_score(self, key: str, text: str, least: float) -> bool:
        return self.store.may_score(key, text, least)

    def rename(self, key: str, new_key: str, expected: Version) -> None:
        self.store.rename(key, new_key, expected)

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self.store.sizes(prefix)

    def total_bytes(self) -> int | None:
        return self.store.total_bytes()

    def to_compact(self, keys: Sequence[str]) -> list[str]:
        return self.store.to_compact(keys)

    def compact(self, key: str) -> None:
        self.store.compact(key)

    def verify(self, key: str) -> list[Finding]:
        return self.store.verify(key)

    def salvage(self, key: str) -> Salvaged | None:
        return self.store.salvage(key)

    def put_salvaged(self, salvaged: Salvaged) -> list[str]:
        return self.store.put_salvaged(salvaged)

    def accept_edits(self, key: str) -> list[str]:
        return self.store.accept_edits(key)

    def quarantined(self) -> list[Quarantined]:
        return self.store.quarantined()

    def count_quarantined(self) -> int:
        return self.store.count_quarantined()

    def read_quarantined(self, name: str) -> bytes | None:
        return self.store.read_quarantined(name)

    def purge_quarantined(self, name: str) -> bool:
        return self.store.purge_quarantined(name)

    def quarantined_of(self, key: str) -> list[Quarantined]:
        return self.store.quarantined_of(key)

    def erase(self, keys: Sequence[str], tell: Callable[[str], object] = str) -> Erasure:
        return self.store.erase(keys, tell)

    def copies_of(self, keys: Sequence[str]) -> list[Finding]:
        return self.store.copies_of(keys)

    def take_lease(self, key: str, owner: str, seconds: float) -> Fence | None:
        return self.store.take_lease(key, owner, seconds)

    def renew_leases(self, held: Mapping[str, Fence], seconds: float) -> None:
        self.store.renew_leases(held, seconds)

    def release_lease(self, key: str, fence: Fence) -> None:
        self.store.release_lease(key, fence)

    def now(self) -> datetime | None:
        return self.store.now()

    def repairs(self) -> list[Finding]:
        return self.store.repairs()

    def strays(self) -> list[Finding]:
        return self.store.strays()

    def close(self) -> None:
        self.store.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.store!r}>"
