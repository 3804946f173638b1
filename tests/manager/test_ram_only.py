"""Managers in RAM only: no session is dirty, and nothing is ever written."""

from __future__ import annotations

import pytest

from session_manager import SessionManager
from session_manager.manager.cache.nothing import Nothing
from tests.faults.calls import CALLS, KEY, LONG, OLD


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_no_call_writes(name, archive):
    """A write would raise an error of its own."""
    with SessionManager(archive=archive) as m:
        for key in (KEY, LONG, OLD):
            m.add(key, *[{"role": "user", "content": f"{number}"} for number in range(5)])
            m.set_summary(key, "before")
        CALLS[name](m)
        if name not in ("close", "__enter__", "__exit__"):
            assert m.health().dirty == ()
            assert m.save_all() == 0


class TestNothing:
    """What holds of a store that holds nothing."""

    @pytest.fixture
    def store(self):
        return Nothing()

    def test_it_holds_none(self, store):
        assert (store.load(KEY), store.version(KEY), store.describe(KEY), store.window(KEY)) == (None,) * 4
        assert (list(store.keys()), store.infos(), list(store.archive(KEY)), store.search("a")) == ([], [], [], [])
        assert (store.verify(KEY), store.strays(), store.repairs(), store.has_archive(KEY)) == ([], [], [], False)
        assert store.delete(KEY) is False
        assert repr(store) == "memory:"
