"""Races: of several writers of one session, in threads, one wins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from session_manager.errors import ConflictError
from session_manager.stores.contract import Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none, check_same
from session_manager.testing.contract.chats import KEY, Chat
from session_manager.testing.faults import FaultyStore

__all__ = ["RaceContract", "race"]

_WRITERS = 4
_ROUNDS = 25


def race(threads: ThreadPoolExecutor, calls: Sequence[Callable[[], object]]) -> list[bool]:
    """Make calls at the same time; return which of them won, and were not refused by a conflict."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> bool:
        start.wait()
        try:
            return call() is not False
        except ConflictError:
            return False

    return list(threads.map(run, calls))


class RaceContract(ContractBase):
    """What a store that is `Store.shared` does when several write at once; and late writes, of any store."""

    def _stores(self, storage: Storage) -> list[Store]:
        """Return the stores of the writers: the storage opened by each of them, if that can be."""
        if not storage.store.shared:
            pytest.skip("shared is False: one manager writes, one call after the other")
        if not self.durable:
            return [storage.store] * _WRITERS
        return [storage.store, *(storage.open_beside() for _ in range(_WRITERS - 1))]

    def test_of_writers_on_one_base_exactly_one_wins(self, storage: Storage) -> None:
        stores = self._stores(storage)
        chat = Chat().add("0")
        chat.write(storage.store)
        with ThreadPoolExecutor(_WRITERS) as threads:
            for turn in range(_ROUNDS):
                base = chat.entry
                rivals = []
                for number in range(_WRITERS):
                    rival = Chat()
                    rival.entry = base
                    rivals.append(rival.add(f"{turn} of {number}"))
                commits = [rival.commit(f"{turn}-{number}") for number, rival in enumerate(rivals)]
                won = race(threads, [partial(store.write, one) for store, one in zip(stores, commits, strict=True)])
                assert won.count(True) == 1
                chat = rivals[won.index(True)]
                chat.written(commits[won.index(True)])
                check_same(storage.store.load(KEY), chat.session)
        check_holds(storage.store, chat.session)

    def test_of_writers_that_create_one_session_exactly_one_wins(self, storage: Storage) -> None:
        stores = self._stores(storage)
        with ThreadPoolExecutor(_WRITERS) as threads:
            for turn in range(_ROUNDS):
                rivals = [Chat(f"chat:{turn}", f"of-{number}").add(f"{number}") for number in range(_WRITERS)]
                commits = [rival.commit() for rival in rivals]
                won = race(threads, [partial(store.write, one) for store, one in zip(stores, commits, strict=True)])
                assert won.count(True) == 1
                check_holds(storage.store, commits[won.index(True)].session)

    def test_of_a_write_and_a_deletion_exactly_one_wins(self, storage: Storage) -> None:
        stores = self._stores(storage)
        with ThreadPoolExecutor(_WRITERS) as threads:
            for turn in range(_ROUNDS):
                chat = Chat(f"chat:{turn}").add("0")
                version = chat.write(storage.store).version
                commit = chat.add("1").commit()
                calls: list[Callable[[], object]] = [
                    partial(stores[0].write, commit),
                    partial(stores[1].delete, chat.key, version),
                ]
                wrote, deleted = race(threads, calls)
                assert wrote is not deleted
                if wrote:
                    check_holds(storage.store, chat.written(commit))
                else:
                    check_holds_none(storage.store, chat.key)

    # Late writes

    @pytest.mark.parametrize("is_there", [True, False], ids=["of a session that is there", "of a new session"])
    def test_a_write_that_is_said_not_to_have_landed_never_lands(self, storage: Storage, *, is_there: bool) -> None:
        chat = Chat()
        if is_there:
            chat.add("before").write(storage.store)
        faulty = FaultyStore(storage.store)
        faulty.late_next(0.05)
        commit = chat.add("late").commit("late")
        assert faulty._attempt(commit) is not None
        landed = storage.store.landed(commit)
        assert landed is not None
        outcomes = faulty.settle_late()
        if landed:
            chat.written(commit)
        else:
            assert [type(one) for one in outcomes] == [ConflictError]
            if is_there:
                check_holds(storage.store, chat.entry.durable)
            else:
                check_holds_none(storage.store, chat.key)
        check_holds(storage.reopen(), chat.add("after").write(storage.store))
