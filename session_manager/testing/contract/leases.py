"""Leases: turns of several managers take them one after another, and a write knows whether its own was taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import attrs
import pytest

from session_manager.errors import ConflictError, LeaseLostError
from session_manager.model.changes import Truncate
from session_manager.model.fence import Fence
from session_manager.stores.contract import Commit, Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none
from session_manager.testing.contract.chats import KEY, Chat
from session_manager.testing.contract.races import race

__all__ = ["LeaseContract"]

_DEADLINE = 10.0
#: Longer than any test, and so short that it has run out before anyone looks.
_LONG, _SHORT = 600.0, 1e-6
_ROUNDS = 25


def _taken(store: Store, owner: str = "one", seconds: float = _LONG, key: str = KEY) -> Fence:
    """Take a lease as soon as it can be had."""
    end = time.monotonic() + _DEADLINE
    while (fence := store.take_lease(key, owner, seconds)) is None:
        assert time.monotonic() < end, "a lease that has run out cannot be taken"
        time.sleep(0.001)
    assert fence.owner == owner
    return fence


def _under(fence: Fence, commit: Commit) -> Commit:
    return attrs.evolve(commit, fence=fence)


class LeaseContract(ContractBase):
    """`Store.take_lease`, `Store.renew_leases`, `Store.release_lease`, and writes with a `Commit.fence`."""

    @pytest.fixture
    def two(self, storage: Storage) -> tuple[Store, Store]:
        """Return the stores of two managers."""
        if not storage.store.leases:
            pytest.skip("leases is False: it keeps no leases")
        return storage.store, storage.open_beside() if self.durable else storage.store

    # Taking

    def test_a_lease_is_taken_by_one_owner_until_it_is_released(self, two: tuple[Store, Store]) -> None:
        one, other = two
        fence = _taken(one)
        assert other.take_lease(KEY, "other", _LONG) is None
        _taken(other, "other", key="another session")
        one.release_lease(KEY, fence)
        assert _taken(other, "other").number > fence.number
        assert one.take_lease(KEY, "one", _LONG) is None

    def test_an_owner_takes_its_own_lease_again(self, two: tuple[Store, Store]) -> None:
        """Its turn before has ended, and the release was lost."""
        numbers = [_taken(two[0]).number for _ in range(3)]
        assert numbers == sorted(set(numbers))

    def test_a_lease_that_has_run_out_is_taken(self, two: tuple[Store, Store]) -> None:
        one, other = two
        fence = _taken(one, seconds=_SHORT)
        assert _taken(other, "other").number > fence.number

    def test_a_lease_is_there_when_the_store_is_opened_again(self, storage: Storage, two: tuple[Store, Store]) -> None:
        _taken(two[0])
        assert storage.reopen().take_lease(KEY, "other", _LONG) is None

    def test_of_owners_that_take_a_lease_at_once_one_gets_it(self, two: tuple[Store, Store]) -> None:
        stores, owners = two * 2, [f"{number}" for number in range(4)]
        with ThreadPoolExecutor(4) as threads:
            for turn in range(_ROUNDS):
                key = f"chat:{turn % 3}"
                calls = [partial(one.take_lease, key, who, _LONG) for one, who in zip(stores, owners, strict=True)]
                found: list[Fence | None] = []
                race(threads, [partial(_noted, call, found) for call in calls])
                fences = [fence for fence in found if fence is not None]
                assert len(fences) == 1
                stores[0].release_lease(key, fences[0])

    # Renewing, releasing

    def test_a_lease_that_is_renewed_does_not_run_out(self, two: tuple[Store, Store]) -> None:
        one, other = two
        fence = _taken(one, seconds=_SHORT)
        one.renew_leases({KEY: fence, "another": _taken(one, key="another")}, _LONG)
        assert other.take_lease(KEY, "other", _LONG) is None
        one.renew_leases({}, _LONG)

    def test_a_lease_that_was_taken_is_neither_renewed_nor_released(self, two: tuple[Store, Store]) -> None:
        one, other = two
        fence = _taken(one, seconds=_SHORT)
        _taken(other, "other")
        one.renew_leases({KEY: fence}, _LONG)
        one.release_lease(KEY, fence)
        assert one.take_lease(KEY, "one", _LONG) is None

    def test_a_lease_that_was_released_is_not_renewed(self, two: tuple[Store, Store]) -> None:
        """The thread that renews leases may be a moment late."""
        one, other = two
        fence = _taken(one)
        one.release_lease(KEY, fence)
        one.renew_leases({KEY: fence}, _LONG)
        _taken(other, "other")

    # Writing

    @pytest.mark.parametrize("is_there", [True, False], ids=["a session that is there", "a new session"])
    def test_a_write_under_a_lease_lands_and_releases_it(self, two: tuple[Store, Store], *, is_there: bool) -> None:
        one, other = two
        chat = Chat()
        if is_there:
            chat.add("before").write(one)
        commit = chat.add("a").commit()
        one.write(_under(_taken(one), commit))
        check_holds(one, chat.written(commit))
        chat.did(Truncate(at=chat.tick(), start=1))
        commit = chat.add("b").commit()
        other.write(_under(_taken(other, "other"), commit))
        check_holds(one, chat.written(commit))
        _taken(one)

    def test_writes_under_leases_may_come_together(self, two: tuple[Store, Store]) -> None:
        one, other = two
        chats = [Chat(f"chat:{number}").add("a") for number in range(3)]
        fences = [_taken(one, key=chat.key) for chat in chats]
        one.release_lease(chats[1].key, fences[1])
        _taken(other, "other", key=chats[1].key)
        commits = [_under(fence, chat.commit()) for fence, chat in zip(fences, chats, strict=True)]
        errors = one.write_many(commits)
        assert [type(error) for error in errors] == [type(None), LeaseLostError, type(None)]
        check_holds(one, chats[0].written(commits[0]))
        check_holds_none(one, chats[1].key)
        assert other.take_lease(chats[0].key, "other", _LONG) is not None
        assert one.take_lease(chats[1].key, "one", _LONG) is None

    def test_a_lease_that_has_run_out_is_not_lost(self, two: tuple[Store, Store]) -> None:
        chat = Chat().add("a")
        commit = chat.commit()
        fence = _taken(two[0], seconds=_SHORT)
        time.sleep(0.002)
        two[0].write(_under(fence, commit))
        check_holds(two[0], chat.written(commit))

    def test_an_owner_that_takes_its_lease_once_more_does_not_lose_it(self, two: tuple[Store, Store]) -> None:
        """A request for a lease that was given up, and asked for again, arrives late."""
        one, other = two
        chat = Chat().add("a")
        fence = _taken(one, seconds=_SHORT)
        late = _taken(one, seconds=_SHORT)
        one.renew_leases({KEY: fence}, _LONG)
        assert other.take_lease(KEY, "other", _LONG) is None
        commit = chat.commit()
        one.write(_under(fence, commit))
        check_holds(one, chat.written(commit))
        one.release_lease(KEY, late)
        _taken(other, "other", _SHORT)
        _taken(one)
        with pytest.raises(LeaseLostError):
            one.write(_under(late, chat.add("b").commit()))

    @pytest.mark.parametrize("is_there", [True, False], ids=["a session that is there", "a new session"])
    @pytest.mark.parametrize("is_over", [True, False], ids=["by a turn that is over", "by a turn that is open"])
    def test_a_lease_that_was_taken_is_lost(self, two: tuple[Store, Store], *, is_there: bool, is_over: bool) -> None:
        one, other = two
        chat = Chat()
        if is_there:
            chat.add("before").write(one)
        before = chat.session
        fence = _taken(one, seconds=_SHORT)
        taken = _taken(other, "other")
        if is_over:
            other.release_lease(KEY, taken)
        refused = [chat.add("late").commit("late"), chat.did(Truncate(at=chat.tick(), start=1)).commit("late, too")]
        for commit in refused:
            with pytest.raises(LeaseLostError):
                one.write(_under(fence, commit))
            if is_there:
                check_holds(one, before)
            else:
                check_holds_none(one, KEY)
            assert one.landed(_under(fence, commit)) is False
        assert (one.take_lease(KEY, "one", _LONG) is None) is not is_over

    def test_a_write_without_a_fence_does_not_look_at_leases(self, two: tuple[Store, Store]) -> None:
        one, other = two
        fence = _taken(other, "other")
        chat = Chat().add("plain")
        check_holds(one, chat.write(one))
        commit = chat.add("of the turn").commit()
        other.write(_under(fence, commit))
        check_holds(one, chat.written(commit))

    def test_a_write_that_is_refused_does_not_release_its_lease(self, two: tuple[Store, Store]) -> None:
        one, other = two
        chat, rival = Chat().add("a"), Chat().add("b")
        rival.write(other)
        with pytest.raises(ConflictError) as caught:
            one.write(_under(_taken(one), chat.commit()))
        assert not isinstance(caught.value, LeaseLostError)
        assert other.take_lease(KEY, "other", _LONG) is None

    def test_of_a_write_and_a_taking_one_comes_first(self, two: tuple[Store, Store]) -> None:
        """A turn that has the lease would not see a write that came between."""
        one, other = two
        chat = Chat().add("0")
        chat.write(one)
        with ThreadPoolExecutor(2) as threads:
            for turn in range(_ROUNDS):
                fence = _taken(one, f"one {turn}", _SHORT)
                before = chat.entry
                commit = chat.add(f"{turn}").commit(f"{turn}")
                seen: list[int] = []
                calls: list[Callable[[], object]] = [
                    partial(one.write, _under(fence, commit)),
                    partial(_turn, other, turn, seen),
                ]
                won = race(threads, calls if turn % 2 else calls[::-1])  # the last one to come begins first
                if all(won):
                    chat.written(commit)
                else:
                    chat.entry = before
                assert seen == [chat.session.end], "a turn has the lease, and a write came behind what it saw"
                check_holds(one, chat.session)


def _turn(store: Store, turn: int, seen: list[int]) -> None:
    """Begin a turn: take the lease, and look at the session."""
    _taken(store, f"other {turn}", _SHORT)
    session = store.load(KEY)
    seen.append(0 if session is None else session.end)


def _noted(call: Callable[[], Fence | None], found: list[Fence | None]) -> bool:
    found.append(call())
    return True
