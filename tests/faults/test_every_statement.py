"""An error at every statement of the public calls that write to SQLite, in turn, and what is left of it.

It is to a database what `tests.faults.test_every_call` is to files. The n-th statement fails, n = 1, 2, …, until the call comes
through: before or after the fact, once or from then on.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from functools import partial

import pytest

from session_manager import SessionExistsError, SessionManager, StorageError
from session_manager.stores.sqlite import SQLiteStore
from tests.faults.calls import CALLS, KEY, SITUATIONS
from tests.faults.injection import in_another_thread, shown
from tests.faults.promises import ids
from tests.support.faulty_files import open_descriptors
from tests.support.threads import alive

NAMES = ("save", "save_all", "turn", "summarize", "fork", "delete", "compact", "reload", "put_state", "commit_together")
MOST = 80
SEEN = (KEY, "new")


class Statements(sqlite3.Connection):
    """Fails the n-th statement of all connections."""

    countdown = 0
    error: BaseException | None = None
    sticky = after = False

    def execute(self, statement, *parameters):
        Statements.countdown -= 1
        fails = Statements.countdown == 0 or (Statements.sticky and Statements.countdown < 0)
        if Statements.error is None or not fails or statement == "ROLLBACK":
            return super().execute(statement, *parameters)
        if Statements.after:
            super().execute(statement, *parameters)
        raise Statements.error

    @classmethod
    def fail(cls, number, error, *, sticky=False, after=False):
        cls.countdown, cls.error, cls.sticky, cls.after = number, error, sticky, after


@pytest.fixture(autouse=True)
def healed():
    yield
    Statements.fail(0, None)


FAULTS = {
    "once": (sqlite3.OperationalError("disk I/O error"), {}),
    "from then on": (sqlite3.OperationalError("database or disk is full"), {"sticky": True}),
    "after the fact": (sqlite3.OperationalError("disk I/O error"), {"after": True}),
    "MemoryError": (MemoryError(), {}),
    "KeyboardInterrupt after it": (KeyboardInterrupt(), {"after": True}),
}
SOME = ("once", "after the fact", "KeyboardInterrupt after it")


def opened(path):
    store = SQLiteStore(path, connect=partial(sqlite3.connect, factory=Statements))
    return SessionManager(store, random_id=ids(1), archive=True), store


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_fails_at_any_statement_leaves_old_or_new(name, tmp_path, size):
    """The same call works once the fault is gone."""
    situation = SITUATIONS["cold" if name in ("delete", "compact") else "truncated"]
    for how in size.of(SOME[1:2], SOME, FAULTS):
        count = next(number for number in range(1, MOST) if not inject(tmp_path, name, situation, how, number))
        assert count > 1


def inject(tmp_path, name, situation, how, number):
    """Make a call whose n-th statement fails, and check what is left; return whether it was reached."""
    path = tmp_path / f"{how} {number}.db"
    descriptors = open_descriptors()
    m, store = opened(path)
    with closing(store):
        for text in "abcd":
            m.add_message(KEY, "user", text)
        m.save_all()
        situation(m)
        before = {key: content(m, key) for key in SEEN}
        threads = alive()
        error, options = FAULTS[how]
        Statements.fail(number, error, **options)
        raised = None
        try:
            CALLS[name](m)
        except (StorageError, MemoryError, KeyboardInterrupt) as failure:
            raised = failure
        struck = Statements.countdown <= 0
        Statements.fail(0, None)
        assert isinstance(raised, (type(None), StorageError)) or raised is error
        assert alive() <= threads
        after_failure = {key: content(m, key) for key in SEEN}

        def again():
            with suppress(SessionExistsError):
                CALLS[name](m)
            m.save_all()

        if name == "commit_together":
            assert len({any("together" in texts for texts in after_failure[key][0]) for key in SEEN}) == 1
        in_another_thread(again)
        after = {key: content(m, key) for key in SEEN}
        for key in SEEN:
            assert after_failure[key] in (before[key], after[key]) or name in ("turn", "summarize"), key
        m.add_message(KEY, "user", "later")
        m.save_all()
        assert m.health().dirty == ()
        assert m.verify() == []
        last = {key: shown(m, key) for key in SEEN}
        m.close()
    m, store = opened(path)
    with closing(store):
        assert {key: shown(m, key) for key in SEEN} == last
        m.close()
    assert open_descriptors() <= descriptors
    return struck


def content(m, key):
    """Return the texts of a session and its archive, and its summary."""
    texts = [[one.content for one in some] for some in (m.get_history(key), m.get_archive(key))]
    return texts, m.get_summary(key)
