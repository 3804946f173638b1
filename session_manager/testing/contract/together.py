"""Several sessions in one write: all of them, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from session_manager.errors import (
    CannotCommitTogetherError,
    ConflictError,
    CorruptSessionError,
    SaveOutcomeUnknownError,
)
from session_manager.stores.contract import Commit, Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_holds_none
from session_manager.testing.contract.chats import Chat
from session_manager.testing.faults import FaultyStore

__all__ = ["TogetherContract"]

_ROUNDS = 20


def _wins(store: Store, commits: Sequence[Commit], start: threading.Barrier) -> bool:
    """Write commits together, at the same time as another writer; say whether there was no conflict."""
    start.wait()
    try:
        store.write_together(commits)
    except ConflictError:
        return False
    return True


class TogetherContract(ContractBase):
    """What a store that says `Store.together` does with several commits; and that all others refuse them."""

    together_keys: Sequence[str] = ("chat:a", "chat:b", "chat:c")

    @pytest.fixture
    def chats(self, storage: Storage) -> list[Chat]:
        """Return chats that can be written together: the first two are there, and have something to write, as the third has."""
        if not storage.store.together:
            pytest.skip("together is False: it writes one session after the other")
        chats = [Chat(key, f"generation-{number}") for number, key in enumerate(self.together_keys)]
        for chat in chats[:2]:
            chat.add("before").write(storage.store)
        for chat in chats:
            chat.add("together", "and more")
        return chats

    def _check_nothing_changed(self, store: Store, chats: Sequence[Chat]) -> None:
        for chat in chats:
            if chat.entry.durable.revision:
                check_holds(store, chat.entry.durable)
            else:
                check_holds_none(store, chat.key)

    def test_commits_that_are_written_together_are_all_there(self, storage: Storage, chats: list[Chat]) -> None:
        commits = [chat.commit() for chat in chats]
        storage.store.write_together(commits)
        written = [chat.written(commit) for chat, commit in zip(chats, commits, strict=True)]
        for store in storage.now_and_reopened():
            for session in written:
                check_holds(store, session)
        assert [storage.store.landed(commit) for commit in commits] == [True] * 3
        for chat in chats:
            check_holds(storage.store, chat.add("after").write(storage.store))

    def test_no_commit_and_one_commit_are_taken(self, store: Store) -> None:
        store.write_together([])
        chat = Chat().add("alone")
        commit = chat.commit()
        store.write_together([commit])
        check_holds(store, chat.written(commit))

    @pytest.mark.parametrize("refused", [0, 1, 2])
    def test_if_one_is_refused_none_is_there(self, storage: Storage, chats: list[Chat], refused: int) -> None:
        rival = Chat(chats[refused].key, "of-a-rival")
        if refused < 2:
            rival.entry = chats[refused].entry.not_landed()
        rival.add("of a rival")
        commits = [chat.commit() for chat in chats]
        won = rival.commit("of-a-rival")
        storage.store.write(won)
        with pytest.raises(ConflictError) as raised:
            storage.store.write_together(commits)
        assert raised.value.key == chats[refused].key
        for store in storage.now_and_reopened():
            check_holds(store, rival.written(won))
            self._check_nothing_changed(store, [chat for chat in chats if chat is not chats[refused]])
        others = [commit for number, commit in enumerate(commits) if number != refused]
        storage.store.write_together(others)
        for commit in others:
            check_holds(storage.store, commit.session)

    def test_if_one_is_damaged_none_is_there(
        self, storage: Storage, chats: list[Chat], damage: Callable[[str], None]
    ) -> None:
        if not self.durable:
            pytest.skip("durable is False")
        storage.store.close()
        damage(chats[0].key)
        store = storage.reopen()
        with pytest.raises(CorruptSessionError):
            store.write_together([chat.commit() for chat in reversed(chats)])
        self._check_nothing_changed(store, [chats[2]])
        assert store.version(chats[1].key) == chats[1].entry.durable.version

    @pytest.mark.parametrize("asked", [0, 1, 2])
    def test_what_is_said_not_to_have_landed_lands_in_no_session(
        self, storage: Storage, chats: list[Chat], asked: int
    ) -> None:
        """One answer stops all of them, and the answer for the others is the same."""
        faulty = FaultyStore(storage.store)
        faulty.late_next(0.05)
        commits = [chat.commit() for chat in chats]
        with pytest.raises(SaveOutcomeUnknownError):
            faulty.write_together(commits)
        landed = storage.store.landed(commits[asked])
        assert landed is not None
        outcomes = faulty.settle_late()
        if landed:
            for chat, commit in zip(chats, commits, strict=True):
                check_holds(storage.store, chat.written(commit))
        else:
            assert [type(one) for one in outcomes] == [ConflictError]
            self._check_nothing_changed(storage.store, chats)
        assert {storage.store.landed(commit) for commit in commits} == {landed}

    def test_of_groups_on_the_same_bases_exactly_one_wins(self, storage: Storage, chats: list[Chat]) -> None:
        """Each writer names the sessions in another order. Nobody waits for ever, and nobody wins a part."""
        if not storage.store.shared:
            pytest.skip("shared is False: one manager writes, one call after the other")
        beside = storage.open_beside() if self.durable else storage.store
        with ThreadPoolExecutor(2) as threads:
            for turn in range(_ROUNDS):
                rivals: list[list[Chat]] = [[], []]
                for chat in chats:
                    for number in range(2):
                        rival = Chat(chat.key, f"of-{number}")
                        rival.entry = chat.entry if turn else chat.entry.not_landed()
                        rivals[number].append(rival.add(f"{turn} of {number}"))
                commits = [[one.commit(f"{turn}-{number}") for one in rivals[number]] for number in range(2)]
                start = threading.Barrier(2)

                groups = [commits[0], commits[1][::-1]]
                won = list(threads.map(_wins, [storage.store, beside], groups, [start] * 2))
                assert won.count(True) == 1
                chats = rivals[won.index(True)]
                for chat, commit in zip(chats, commits[won.index(True)], strict=True):
                    check_holds(beside, chat.written(commit))

    def test_a_reader_never_sees_a_part(self, storage: Storage, chats: list[Chat]) -> None:
        """It asks for the first session first. So the second one must be as new, whichever is written first."""
        if not storage.store.shared:
            pytest.skip("shared is False: one manager writes, one call after the other")
        beside = storage.open_beside() if self.durable else storage.store
        done, found = threading.Event(), []

        def read() -> None:
            while not done.is_set():
                versions = [beside.version(chat.key) for chat in (*chats[:2], chats[0])]
                found.append([0 if version is None else version.revision for version in versions])

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(_ROUNDS):
                commits = [chat.add("more").commit() for chat in chats[:2]]
                storage.store.write_together(commits)
                for chat, commit in zip(chats, commits, strict=False):
                    chat.written(commit)
        finally:
            done.set()
            reader.join()
        assert all(first <= second <= last for first, second, last in found)

    def test_a_store_that_cannot_refuses_and_writes_nothing(self, store: Store) -> None:
        if store.together:
            pytest.skip("together is True")
        chats = [Chat(key, f"generation-{number}").add("x") for number, key in enumerate(self.together_keys)]
        with pytest.raises(CannotCommitTogetherError):
            store.write_together([chat.commit() for chat in chats])
        self._check_nothing_changed(store, chats)
