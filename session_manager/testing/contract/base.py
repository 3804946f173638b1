"""What every test of the contract stands on: the flags, the storage under test, hypothesis within a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_manager.model.session import Session
from session_manager.stores.contract import SessionInfo, Store
from session_manager.testing.comparison import difference, value_difference

__all__ = ["ContractBase", "OpenStore", "Storage", "check_holds", "check_holds_none", "check_same", "for_all"]

#: Opens the storage under test; the same one, each time that it is called in one test.
OpenStore = Callable[[], Store]


class Storage:
    """The storage under test: opened, closed, opened again.

    :param open_store: opens it.
    :param durable: whether it keeps anything while it is closed.
    """

    def __init__(self, open_store: OpenStore, *, durable: bool) -> None:
        self.open_store = open_store
        self.durable = durable
        self._opened = [open_store()]

    @property
    def store(self) -> Store:
        """The store that is open."""
        return self._opened[0]

    def reopen(self) -> Store:
        """Close the store, open it again and return it. One that is not durable stays open."""
        if self.durable:
            self.store.close()
            self._opened[0] = self.open_store()
        return self.store

    def now_and_reopened(self) -> Iterator[Store]:
        """Iterate over the store as it is, and then as it is opened again."""
        yield self.store
        yield self.reopen()

    def open_beside(self) -> Store:
        """Open the storage once more while it is open."""
        self._opened.append(self.open_store())
        return self._opened[-1]

    def close(self) -> None:
        """Close whatever is open."""
        for store in self._opened:
            store.close()


class ContractBase:
    """The flags and fixtures of `StoreContract`."""

    durable: bool = True
    refuses_when_closed: bool = True
    tokens: bool = True

    @pytest.fixture
    def open_store(self) -> OpenStore:
        raise NotImplementedError("override the fixture open_store: return a callable that opens the storage")

    @pytest.fixture
    def damage(self) -> Callable[[str], None]:
        pytest.skip("the fixture damage is not overridden: it returns a callable that damages a stored session")

    @pytest.fixture
    def storage(self, open_store: OpenStore) -> Iterator[Storage]:
        storage = Storage(open_store, durable=self.durable)
        yield storage
        storage.close()

    @pytest.fixture
    def store(self, storage: Storage) -> Store:
        return storage.store


def for_all(check: Callable[..., None], *strategies: st.SearchStrategy[object], share: int = 2) -> None:
    """Call a check with many drawn values, inside of a test, which keeps its fixtures.

    :param share: the part of the profile's number of examples that is enough, for each one writes.
    """
    quiet = settings(
        deadline=None,
        max_examples=max(1, settings().max_examples // share),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    given(*strategies)(quiet(check))()


def check_same(found: Session | None, expected: Session | None) -> None:
    """Check that two sessions, or `None`, are the same in everything."""
    assert difference(found, expected) == ""


def check_holds(store: Store, session: Session) -> None:
    """Check that a store holds a session, whatever it is asked for it."""
    key = session.key
    check_same(store.load(key), session)
    assert store.version(key) == session.version
    info = store.describe(key)
    assert info == SessionInfo.of(session)
    assert value_difference("describe().metadata", dict(info._metadata), dict(session._metadata)) == ""
    assert list(store.keys(key)).count(key) == 1
    assert [one for one in store.infos(key) if one.key == key] == [info]


def check_holds_none(store: Store, key: str) -> None:
    """Check that a store does not hold a session, whatever it is asked for it."""
    assert store.load(key) is None
    assert store.version(key) is None
    assert store.describe(key) is None
    assert key not in list(store.keys())
    assert key not in [info.key for info in store.infos(key)]
    assert store.verify(key) == []
