"""The contract of a store, clause by clause: inherit `StoreContract`, and each of its tests runs on your store."""

from __future__ import annotations

from session_manager.testing.contract.archives import ArchiveContract
from session_manager.testing.contract.base import OpenStore
from session_manager.testing.contract.deletes import DeleteContract
from session_manager.testing.contract.erasures import EraseContract
from session_manager.testing.contract.going_back import GoingBackContract
from session_manager.testing.contract.keys import KeyContract
from session_manager.testing.contract.leases import LeaseContract
from session_manager.testing.contract.life import LifeContract
from session_manager.testing.contract.listings import ListingContract
from session_manager.testing.contract.races import RaceContract
from session_manager.testing.contract.refreshes import RefreshContract
from session_manager.testing.contract.renames import RenameContract
from session_manager.testing.contract.searches import SearchContract
from session_manager.testing.contract.together import TogetherContract
from session_manager.testing.contract.windows import WindowContract
from session_manager.testing.contract.writes import WriteContract

__all__ = ["OpenStore", "StoreContract"]


class StoreContract(
    WriteContract,
    TogetherContract,
    KeyContract,
    ListingContract,
    DeleteContract,
    RaceContract,
    GoingBackContract,
    LeaseContract,
    EraseContract,
    RefreshContract,
    RenameContract,
    ArchiveContract,
    SearchContract,
    WindowContract,
    LifeContract,
):
    """The tests of `session_manager.stores.contract.Store`, for pytest: a store that passes them keeps its contract.

    Inherit from it in a class whose name starts with ``Test``, and override the fixture ``open_store``: it returns a
    callable that opens the storage, the same one each time that it is called, and a new one in each test.
    The tests close what they open, and open a storage again only when it is closed (unless the store is
    `Store.shared`). ::

        class TestMyStore(StoreContract):
            @pytest.fixture
            def open_store(self, tmp_path):
                return lambda: MyStore(tmp_path / "chats")

    What a store cannot have is said by flags; the tests of it are then skipped, and say which flag it was.

    You may also override the fixture ``damage``. It returns a callable that is given a key, and damages what the closed
    storage holds of that session, so that it cannot be read. Without it the tests of damage are skipped.
    """

    #: Whether what it keeps is there after it was closed and opened again.
    durable = True
    #: Whether calls after `close` raise `ClosedError`.
    refuses_when_closed = True
    #: Whether `landed` tells writes apart by their tokens. A store of one process that writes the session once more does not.
    tokens = True
    #: Three keys of sessions that a store that is `Store.together` can write together; of a store with shards, of one shard.
    together_keys = ("chat:a", "chat:b", "chat:c")
