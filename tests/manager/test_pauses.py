"""Pauses after conflicts, and deletions that name what they have seen."""

from __future__ import annotations

import pytest

from session_manager import ConflictError, SessionManager
from session_manager.manager import pauses
from session_manager.stores.memory import MemoryStore


@pytest.fixture
def slept(monkeypatch):
    found = []
    monkeypatch.setattr(pauses.time, "sleep", found.append)
    return found


def test_the_first_conflicts_cost_no_pause_and_later_ones_grow(slept):
    for attempt in range(3):
        pauses.pause(attempt)
    assert slept == []
    for _ in range(200):
        for attempt in range(3, 60):
            pauses.pause(attempt)
    assert 0.045 < max(slept) <= 0.05
    assert max(slept[::57]) <= 0.001
    assert len({round(one, 6) for one in slept}) > 1_000


class Busy(MemoryStore):
    """Another process writes before each of the first writes."""

    def __init__(self, times):
        super().__init__()
        self.times = times

    def write(self, commit):
        if self.times and commit.base is not None:
            self.times -= 1
            raise ConflictError(commit.session.key, commit.base, None)
        super().write(commit)


def test_a_save_pauses_after_the_third_conflict(slept):
    store = Busy(0)
    with SessionManager(store) as m:
        m.add_message("k", "user", "one")
        m.save("k")
        for times, pauses_of_it in ((3, 0), (6, 3)):
            store.times = times
            slept.clear()
            m.add_message("k", "user", "two")
            m.save("k")
            assert len(slept) == pauses_of_it


class Watched(MemoryStore):
    """Notes which version each deletion names; another process writes before the first ones."""

    def __init__(self):
        super().__init__()
        self.named = []
        self.before = []

    def delete(self, key, expected=None):
        self.named.append(expected)
        if self.before:
            self.before.pop()()
        return super().delete(key, expected)


def test_a_deletion_names_the_version_that_it_has_seen():
    """A request that arrives late, without a version, would delete the session that was begun after it."""
    store = Watched()
    with SessionManager(store) as m, SessionManager(store) as other:
        m.add_message("k", "user", "one")
        m.save("k")

        def write():
            other.add_message("k", "user", "theirs")
            other.save("k")

        store.before = [write]
        assert m.delete("k") is True
        assert [version.revision for version in store.named] == [1, 2]
        assert store.load("k") is None
        assert m.delete("k") is False
        assert len(store.named) == 2
        m.add_message("k", "user", "unsaved")
        assert m.delete("k") is True
        assert m.get("k") is None
