"""A storage that went back: it holds other writes than those that a caller was told to be durable."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from session_manager.errors import ConflictError
from session_manager.model.changes import SetSummary
from session_manager.model.session import Session
from session_manager.stores.contract import Store
from session_manager.testing.contract.base import ContractBase, Storage, check_holds, check_same
from session_manager.testing.contract.chats import KEY, Chat

__all__ = ["GoingBackContract"]


def _saying(text: str) -> Callable[[Chat], object]:
    return lambda chat: chat.add(text)


def _summing_up(text: str) -> Callable[[Chat], object]:
    """Return what changes the summary alone: no message, and no time of one, tells of it."""
    return lambda chat: chat.did(SetSummary(at=chat.tick(), text=text))


@attrs.frozen
class _Parted:
    """A chat of which one writer has seen a write that the storage has lost, and another one has gone on without it."""

    #: As the first writer has it.
    lost: Chat
    #: As it is stored.
    stored: Chat

    @property
    def picture(self) -> Session:
        return self.lost.entry.durable


def _parted(store: Store, call: Callable[[str], Callable[[Chat], object]], *, later: int) -> _Parted:
    """Write a chat to a storage that goes back, in which both writers make a call at the same moment.

    :param call: gives what a writer does.
    :param later: how often the second writer goes on.
    """
    if not store.shared:
        pytest.skip("shared is False: one manager writes")
    chat = Chat().add("before")
    chat.write(store)
    lost = Chat(_seconds=chat._seconds)
    lost.entry = chat.entry
    call("lost")(lost)
    lost.written(lost.commit("lost"))
    call("there")(chat)
    chat.write(store)
    for number in range(later):
        chat.did(SetSummary(at=chat.tick(), text=f"{number}"))
        chat.write(store)
    return _Parted(lost, chat)


_CALLS = pytest.mark.parametrize("call", [_saying, _summing_up], ids=["messages", "summaries"])


class GoingBackContract(ContractBase):
    """What a store that is `Store.shared` does where it holds another write than the caller knows, at the same version or later."""

    @_CALLS
    def test_a_write_over_something_else_at_its_base_is_a_conflict(
        self, storage: Storage, call: Callable[[str], Callable[[Chat], object]]
    ) -> None:
        """A server that failed over to an older state may have been gone on from there, to the same version."""
        one = _parted(storage.store, call, later=0)
        assert one.picture.version == one.stored.entry.durable.version
        with pytest.raises(ConflictError):
            storage.store.write(one.lost.add("next").commit("next"))
        check_holds(storage.store, one.stored.entry.durable)

    @_CALLS
    def test_something_else_at_the_version_of_a_picture_is_read(
        self, storage: Storage, call: Callable[[str], Callable[[Chat], object]]
    ) -> None:
        one = _parted(storage.store, call, later=0)
        for store in storage.now_and_reopened():
            found = store.newer(one.picture)
            check_same(found, one.stored.entry.durable)
            assert found is not None
            assert found._parted
            assert store.newer(found._with(_parted=False))._parted is False  # type: ignore[union-attr]

    @_CALLS
    def test_a_later_state_that_a_picture_did_not_lead_to_is_marked(
        self, storage: Storage, call: Callable[[str], Callable[[Chat], object]]
    ) -> None:
        """It has as many messages, and a later revision: it was taken for another writer's work."""
        one = _parted(storage.store, call, later=3)
        known = one.stored.entry.durable
        one.stored.add("last").write(storage.store)
        for store in storage.now_and_reopened():
            found = store.newer(one.picture)
            check_same(found, one.stored.entry.durable)
            assert found is not None
            assert found._parted
            later = store.newer(known)
            check_same(later, one.stored.entry.durable)
            assert later is not None
            assert not later._parted

    def test_a_version_that_another_write_made_is_neither_deleted_nor_renamed(self, storage: Storage) -> None:
        one = _parted(storage.store, _saying, later=0)
        version = one.picture.version
        assert version is not None
        assert storage.store.delete(KEY, version) is False
        with pytest.raises(ConflictError):
            storage.store.rename(KEY, "another", version)
        check_holds(storage.store, one.stored.entry.durable)
        assert storage.store.delete(KEY, storage.store.version(KEY))
