"""The test kit's state machine on each store."""

from __future__ import annotations

import os
import shutil
import tempfile

from hypothesis.stateful import invariant

from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import SessionMachine


class MemoryMachine(SessionMachine):
    """A store in RAM stands for a disk: it is given to each manager anew."""

    archive = True

    def __init__(self):
        super().__init__()
        self.disk = MemoryStore()

    def open_store(self):
        return self.disk


class DirectoryMachine(SessionMachine):
    """A store in a directory of its own, where no temporary file is left."""

    archive = True
    store: type

    def __init__(self):
        super().__init__()
        self.path = tempfile.mkdtemp()

    def open_store(self):
        return self.store(self.path)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.path)

    @invariant()
    def no_temporary_file_is_left(self):
        assert not [name for name in os.listdir(self.path) if name.startswith(".tmp")]


class SnapshotMachine(DirectoryMachine):
    store = SnapshotStore


class LogMachine(DirectoryMachine):
    store = LogStore


class SQLiteMachine(DirectoryMachine):
    def open_store(self):
        return SQLiteStore(os.path.join(self.path, "chats.db"))
