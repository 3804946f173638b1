"""`commit_together`: several sessions in one commit, all of it or nothing, in RAM and in the store."""

from __future__ import annotations

import inspect
import os
import signal
import threading
from itertools import chain

import pytest

from session_manager import (
    AsyncSessionManager,
    CannotCommitTogetherError,
    ConflictError,
    InvalidMessageError,
    Message,
    ReadOnlyError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    Version,
    Write,
)
from session_manager.manager.events import Saved
from session_manager.manager.together import MOST
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sharded import ShardedStore, shard_of
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.wrapped import WrappedStore
from session_manager.testing import FaultyStore
from tests.support.counted import calls
from tests.support.processes import start

HI = {"role": "user", "content": "hi"}
EVENT = [
    Write("chat", [HI], items={"turns": 1}),
    Write("app", items={"users": b"\0"}),
    Write("user", items={"name": "Ada"}),
]


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "chats.db")
    yield store
    store.close()


def stored(store):
    found = {}
    for key in sorted(store.keys()):
        session = store.load(key)
        found[key] = ([one.content for one in session.messages], dict(session.metadata))
    return found


def shown(m):
    """What is in RAM."""
    return {key: (len(m.get_history(key)), m.get_state(key)) for key in m}


def test_all_of_it_is_durable_when_it_returns(store):
    events = []
    with SessionManager(store, on_event=events.append) as m:
        chat, app, user = m.commit_together(EVENT)
        assert [(one.key, one.revision) for one in (chat, app, user)] == [("chat", 1), ("app", 1), ("user", 1)]
        assert chat.messages[0].position == 0
        assert m.health().dirty == ()
        assert sorted(one.key for one in events if isinstance(one, Saved)) == ["app", "chat", "user"]
        m.commit_together([Write("chat", [HI, HI]), Write("app", removed=["users"])])
        assert [m.get(key).revision for key in ("chat", "app", "user")] == [2, 2, 1]
        m.commit_together([Write("chat"), Write("app", removed=["nothing"])])
        assert m.get("chat").revision == 2
    assert stored(store) == {
        "app": ([], {}),
        "chat": (["hi"] * 3, {"turns": 1}),
        "user": ([], {"name": "Ada"}),
    }


def test_as_many_sessions_as_it_says(store):
    """Their locks do not use up the interpreter's stack, and too many are refused at the call."""
    writes = [Write(f"chat:{number}", items={"n": number}) for number in range(MOST + 1)]
    with SessionManager(store) as m:
        with pytest.raises(ValueError, match=f"writes must be {MOST:,} at most"):
            m.commit_together(writes)
        assert len(m) == 0
        assert len(m.commit_together(writes[:-1])) == MOST
        assert len(m) == MOST


def test_in_ram_only_it_works_as_well():
    with SessionManager() as m:
        m.commit_together(EVENT)
        assert m.get_state("app") == {"users": b"\0"}
        before = shown(m)
        with pytest.raises(ConflictError):
            m.commit_together([Write("chat", [HI]), Write("app", [HI], expected=Version("another", 1))])
        assert shown(m) == before
        assert m.commit_together([Write("chat", [HI], expected=m.get("chat").version)])[0].messages[-1].position == 1


def test_bad_input_is_refused_before_anything_changes(store):
    with SessionManager(store) as m:
        for writes, error, told in (
            ([Write("a", [HI]), Write("b", [{1}])], InvalidMessageError, "must be"),
            ([Write("a", [HI]), Write("b", items={"x": {1}})], InvalidMessageError, "set is not JSON"),
            ([Write("a", [HI]), Write("b", [HI], if_absent=True)], InvalidMessageError, "ref: is missing"),
            ([Write("a", [HI]), Write("a")], ValueError, "two have one key"),
            ([Write("a", [HI]), ("b", [HI])], TypeError, "writes must be Write values"),
            (Write("a"), TypeError, "several Writes"),
            ([Write("a", HI)], TypeError, "several messages"),
            ([Write("a", [HI], items=["x"])], TypeError, "items must be a mapping"),
            ([Write("a", removed="abc")], TypeError, "removed"),
            ([Write("a", expected=3)], TypeError, "expected must be a Version"),
            ([Write("a", if_absent=1)], TypeError, "if_absent must be"),
        ):
            with pytest.raises(error, match=told):
                m.commit_together(writes)
        assert list(m) == []
        assert m.commit_together([]) == []
        assert "secret" not in repr(Write("a", [{"role": "user", "content": "secret"}], items={"a": "secret"}))
    with SessionManager(store, read_only=True) as m, pytest.raises(ReadOnlyError):
        m.commit_together(EVENT)


@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_a_storage_that_cannot_says_so_and_changes_nothing(tmp_path, kind):
    with SessionManager(f"{kind}:{tmp_path}") as m:
        with pytest.raises(
            CannotCommitTogetherError, match=r"cannot commit several sessions together: .*; SQLite and Post"
        ):
            m.commit_together(EVENT)
        assert list(m) == []
        m.commit_together(EVENT[:1])
        assert m.health().dirty == ()
    with SessionManager(f"{kind}:{tmp_path}") as m:
        assert shown(m) == {"chat": (1, {"turns": 1})}


def test_shards_can_if_the_sessions_live_in_one():
    keys = [f"k{number}" for number in range(20)]
    one, another = ([key for key in keys if shard_of(key, "ab") == name][:2] for name in "ab")
    with SessionManager(ShardedStore({"a": MemoryStore(), "b": MemoryStore()})) as m:
        m.add(one[0], HI)
        with pytest.raises(CannotCommitTogetherError, match="they live in the shards a, b"):
            m.commit_together([Write(one[0], [HI]), Write(another[0], [HI])])
        assert shown(m) == {one[0]: (1, {})}
        m.commit_together([Write(key, [HI]) for key in one])
        assert [len(m.get_history(key)) for key in one] == [2, 1]


def test_what_others_have_left_unsaved_is_saved_too(store):
    with SessionManager(store) as m:
        m.add("chat", HI)
        m.set_summary("chat", "so far")
        m.commit_together(EVENT)
        assert m.health().dirty == ()
        assert m.get("chat").revision == 1
        assert len(store.load("chat").messages) == 2


@pytest.mark.parametrize("at", range(3))
def test_a_conflict_of_one_is_rebased_and_all_is_tried_again(store, at):
    """Every kind of meeting: another writer adds, edits the state, or deletes between the look and the write."""
    keys = ("chat", "app", "user")

    class Meeting(FaultyStore):
        due = ()

        def write_together(self, commits):
            if self.due:
                meet, *self.due = self.due
                meet(keys[at])
            super().write_together(commits)

    with SessionManager(meeting := Meeting(store)) as m, SessionManager(store) as other:
        m.commit_together(EVENT)
        meeting.due = [
            other.delete,
            lambda key: other.commit_together([Write(key, [HI])]),
            lambda key: other.put_state(key, {"other": 1}),
        ]
        m.commit_together([Write(key, [HI], items={"mine": key}) for key in keys])
        assert meeting.due == []
        found = stored(store)
        assert all(found[key][1]["mine"] == key for key in keys)
        assert found[keys[at]][1]["other"] == 1
        assert len(found[keys[at]][0]) == 2
        assert {key: store.load(key).revision for key in keys} == {key: m.get(key).revision for key in keys}


def test_an_expected_version_is_looked_at_again_after_a_conflict(store):
    class Meeting(FaultyStore):
        due = True

        def write_together(self, commits):
            if self.due:
                self.due = False
                other.put_state("app", {"other": 1})
            super().write_together(commits)

    with SessionManager(Meeting(store)) as m, SessionManager(store) as other:
        other.commit_together(EVENT)
        before = m.get("app").version
        with pytest.raises(ConflictError) as raised:
            m.commit_together([Write("chat", [HI]), Write("app", [HI], expected=before), Write("new", [HI])])
        assert raised.value.key == "app"
        assert stored(store).keys() == {"app", "chat", "user"}
        assert len(m.get_history("chat")) == 1
        assert "new" not in m
        assert m.health().dirty == ()
        m.commit_together(
            [Write("chat", [HI]), Write("app", expected=m.get("app").version), Write("new", expected=None)]
        )
        with pytest.raises(ConflictError, match="there is such a session"):
            m.commit_together([Write("chat", [HI]), Write("new", expected=None)])
        m.add("app", HI)
        with pytest.raises(ConflictError, match="changes that are not saved"):
            m.commit_together([Write("app", [HI], expected=store.load("app").version)])


@pytest.mark.parametrize("error", [SaveFailedError("chat", "full"), OSError("full"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_in_any_session(store, error):
    with SessionManager(faulty := FaultyStore(store)) as m:
        m.commit_together(EVENT[:2])
        m.add("app", HI)
        before, kept = shown(m), stored(store)
        faulty.fail_next(error)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else SaveFailedError):
            m.commit_together([Write("chat", [HI]), Write("app", items={"a": 1}), Write("user", [HI])])
        assert shown(m) == before
        assert stored(store) == kept
        assert m.health().dirty == ("app",)
        m.save_all()
        assert stored(store).keys() == {"app", "chat"}


def test_a_lost_acknowledgement_is_settled_for_all(store):
    with SessionManager(faulty := FaultyStore(store)) as m:
        faulty.lose_ack_next()
        sessions = m.commit_together(EVENT)
        assert [one.revision for one in sessions] == [1, 1, 1]
        assert m.health().dirty == ()
        assert stored(store).keys() == {"app", "chat", "user"}


@pytest.mark.parametrize("lands", [True, False])
def test_an_earlier_write_whose_outcome_is_unknown_is_settled_first(store, lands):
    """It is there once, whether it had landed or not, and so is what is written together after it."""
    faulty = FaultyStore(store)
    with SessionManager(faulty) as m:
        m.commit_together(EVENT)
        m.add_message("chat", "user", "earlier")
        if lands:
            faulty.lose_ack_next()
        else:
            faulty.late_next(0)
        with pytest.raises(SaveOutcomeUnknownError):
            m.save("chat")
        asked = []
        store_landed, faulty.landed = faulty.landed, lambda commit: asked.append(commit) or store_landed(commit)
        m.commit_together([Write("chat", [HI]), Write("app", [HI])])
        assert len(asked) == 1
        faulty.settle_late()
    with SessionManager(store) as m:
        assert [one.content for one in m.get_history("chat")] == ["hi", "earlier", "hi"]
        assert len(m.get_history("app")) == 1


def test_what_is_held_up_never_lands_in_a_part(store):
    is_asked = threading.Event()

    class HeldUp(WrappedStore):
        """A write arrives after the question whether it has landed."""

        def write_together(self, commits):
            assert is_asked.wait(60)
            super().write_together(commits)

        def landed(self, commit):
            landed = super().landed(commit)
            is_asked.set()
            return landed

    with SessionManager(faulty := FaultyStore(HeldUp(store))) as m:
        faulty.late_next(0)
        with pytest.raises(SaveFailedError):
            m.commit_together(EVENT)
        assert [type(one) for one in faulty.settle_late()] == [ConflictError]
        assert stored(store) == shown(m) == {}


@pytest.mark.parametrize("lands", [True, False])
def test_an_unknown_outcome_is_settled_session_by_session(store, lands):
    """The server cannot be asked for a while. What did not happen is not written alone later."""

    class Silent(FaultyStore):
        is_silent = False

        def landed(self, commit):
            if self.is_silent:
                raise SaveOutcomeUnknownError(commit.session.key, "no answer")
            return super().landed(commit)

    with SessionManager(silent := Silent(store)) as m:
        m.add("chat", {"role": "user", "content": "of another call"})
        m.get_or_create("app")
        silent.is_silent = True
        if lands:
            silent.lose_ack_next()
        else:
            silent.fail_next(SaveOutcomeUnknownError("chat", "no answer"))
        with pytest.raises(SaveOutcomeUnknownError):
            m.commit_together(EVENT)
        assert m.health().dirty == ("app", "chat", "user")
        with pytest.raises(SaveFailedError):
            m.save_all()
        silent.is_silent = False
        m.save("user")
        if lands:
            m.save_all()
            assert stored(store)["chat"][0] == ["of another call", "hi"]
            assert stored(store)["app"][1] != {}
        else:
            assert "user" not in m
            m.save_all()
            assert stored(store) == {"app": ([], {}), "chat": (["of another call"], {})}
            m.commit_together(EVENT)
        assert stored(store)["chat"][1] == {"turns": 1}
        assert m.health().dirty == ()


def test_refs_that_are_there_are_left_out(store):
    with SessionManager(store, archive=True) as m, SessionManager(store, archive=True) as other:
        other.add("chat", Message("user", "a", ref="a"), Message("user", "b", ref="b"))
        other.truncate_history("chat", 1)
        other.save("chat")
        said = [Message("user", "again", ref=ref) for ref in "abc"]
        m.commit_together([Write("chat", said, if_absent=True), Write("app", said, if_absent=True)])
        assert [one.content for one in m.get_history("chat")] == ["b", "again"]
        assert len(m.get_history("app")) == 3


def test_threads_that_name_sessions_in_other_orders_do_not_block(store):
    keys, rounds, errors = ["a", "b", "c"], 15, []
    with SessionManager(store) as one, SessionManager(store) as other:
        go = threading.Barrier(4)

        def work(m, names):
            go.wait(30)
            try:
                for number in range(rounds):
                    m.commit_together([Write(key, [HI], items={"number": number}) for key in names])
                    m.save_all()
            except Exception as error:  # noqa: BLE001 - told by the test
                errors.append(error)

        orders = [(one, keys), (one, keys[::-1]), (other, keys[1:] + keys[:1]), (other, keys)]
        threads = [threading.Thread(target=work, args=order) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert errors == []
        assert [len(one.get_history(key)) for key in keys] == [4 * rounds] * 3


def test_sessions_that_leave_ram_in_the_middle_of_the_call_are_no_new_ones(tmp_path):
    """To load the second one evicts the first. It was taken for missing, and a hundred conflicts later the call failed."""
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}", max_resident_bytes=1) as m:
        for number in range(3):
            m.commit_together([Write(key, [HI], items={"n": number}) for key in "abc"])
        assert [(len(m.get_history(key)), m.get(key).revision) for key in "abc"] == [(3, 3)] * 3


@pytest.mark.parametrize("at", range(3))
def test_an_interrupt_in_ram_leaves_nothing_in_any_session(monkeypatch, at):
    """It comes between two sessions: the first ones were changed, and are put back."""
    with SessionManager() as m:
        m.commit_together(EVENT[:2])
        before, put, count = shown(m), m._residents.put, iter(range(100))

        def interrupted(*arguments):
            if next(count) == at:
                raise KeyboardInterrupt
            put(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(m._residents, "put", interrupted)
            with pytest.raises(KeyboardInterrupt):
                m.commit_together([Write("chat", [HI]), Write("app", items={"a": 1}), Write("user", [HI])])
        assert shown(m) == before


@pytest.mark.parametrize("call", ["together", "if absent", "state"])
def test_the_cost_does_not_grow_with_the_history(call):
    """No walk through the history, no copy of it, and no map of its refs that is made anew."""
    costs = []
    for length in (100, 5000):
        with SessionManager(MemoryStore()) as m:
            m.add("chat", *(Message("user", "x", ref=f"r{number}") for number in range(length)))
            m.save("chat")

            numbers = iter(range(100))

            def work(m=m, number=numbers):
                new = Message("user", "y", ref=f"new {next(number)}")
                if call == "state":
                    m.put_state("chat", {"n": next(number)})
                elif call == "if absent":
                    m.add("chat", new, if_absent=True)
                    m.save("chat")
                else:
                    m.commit_together([Write("chat", [new], if_absent=True, items={"n": new.ref}), Write("app", [HI])])

            work()
            work()
            items = m.get("chat").messages._items
            costs.append(calls(work))
            assert m.get("chat").messages._items is items
    assert costs[1] <= costs[0] + 5


@pytest.mark.anyio
async def test_the_async_call_does_the_same(tmp_path, size):
    async with AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        sessions = await m.commit_together(EVENT)
        assert [one.revision for one in sessions] == [1, 1, 1]
        assert await m.get_state("app") == {"users": b"\0"}
        with pytest.raises(TypeError, match="Write values"):
            await m.commit_together([3])
        assert await m.commit_together([]) == []
        many = size.of(MOST // 10, MOST, MOST)
        assert len(await m.commit_together([Write(f"chat:{number}") for number in range(many)])) == many


WORKER = """
    import sys
    from session_manager import SessionManager, Write
    with SessionManager(sys.argv[1]) as m:
        number = m.get_state("a").get("n", 0)
        while True:
            number += 1
            text = {"role": "user", "content": str(number)}
            m.commit_together([Write(key, [text], items={"n": number}) for key in ("a", "b", f"new {number}")])
            print(number, flush=True)
"""


def test_a_kill_leaves_all_sessions_at_one_commit(tmp_path, size):
    path = tmp_path / "chats.db"
    for kill in range(size.of(2, 40, 1000)):
        with start(inspect.cleandoc(WORKER), f"sqlite:{path}") as worker:
            for _ in range(kill % 5 + 2):
                told = int(worker.stdout.readline())
            os.kill(worker.pid, signal.SIGKILL)
            rest = [int(line) for line in worker.stdout.read().split()]
        told = rest[-1] if rest else told
        with SessionManager(f"sqlite:{path}") as m:
            number = m.get_state("a")["n"]
            assert number in (told, told + 1)
            assert m.get_state("b")["n"] == number
            assert [one.content for one in m.get_history("a")] == [one.content for one in m.get_history("b")]
            assert len(m) == 2 + number
            assert list(chain(*[m.get_history(f"new {number + 1}"), m.verify()])) == []
