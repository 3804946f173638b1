"""The test kit's state machine drives a manager on each store; `tests/laws/test_agreement.py` drives all of them at once."""

from __future__ import annotations

from hypothesis import settings

from session_manager import SessionManager
from tests.support.machines import LogMachine, MemoryMachine, SnapshotMachine, SQLiteMachine


class EvictingMachine(SnapshotMachine):
    """What is saved is soon forgotten, and read again; nothing is archived."""

    archive = False

    def open(self):
        return SessionManager(self.open_store(), clock=self.clock, random_id=self.random_id, max_resident_bytes=4000)


some = settings(max_examples=max(settings().max_examples // 6, 3), stateful_step_count=40)

TestMemory = MemoryMachine.TestCase
TestMemory.settings = some
TestSnapshot = SnapshotMachine.TestCase
TestSnapshot.settings = some
TestLog = LogMachine.TestCase
TestLog.settings = some
TestSQLite = SQLiteMachine.TestCase
TestSQLite.settings = some
TestEvicting = EvictingMachine.TestCase
TestEvicting.settings = some
