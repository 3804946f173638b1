"""``if_absent=True``: a message is stored once by its ref, in whatever calls, turns, threads and processes."""

from __future__ import annotations

import inspect
import threading
from itertools import chain, count

import pytest

from session_manager import CorruptSessionError, InvalidMessageError, Item, Message, SessionManager, open_store
from session_manager.stores.memory import MemoryStore
from session_manager.testing import Clock
from tests.support.processes import start

KEY = "telegram:42"


@pytest.fixture(params=["snapshot:{}", "log:{}", "sqlite:{}.db"], ids=lambda url: url.partition(":")[0])
def url(request, tmp_path):
    return request.param.format(tmp_path / "chats")


def said(ref, text=None):
    return Message("user", text or ref, ref=ref)


def refs(m, key=KEY):
    return [one.ref for one in m.get_history(key)]


def test_one_that_is_there_is_returned_and_not_added():
    with SessionManager() as m:
        first = m.add_message(KEY, "user", "first", ref="a", if_absent=True)
        again = m.add_message(KEY, "user", "again", ref="a", if_absent=True)
        assert again is not None
        assert (again.content, again.position) == (first.content, first.position) == ("first", 0)
        found = m.add(KEY, said("b"), said("a"), Item({"vote": 1}, ref="c"), said("b"), if_absent=True)
        assert [(one.ref, one.position) for one in found] == [("b", 1), ("a", 0), ("c", 2), ("b", 1)]
        assert refs(m) == ["a", "b", "c"]
        before = m.get(KEY)
        m.add(KEY, said("a"), if_absent=True)
        assert m.get(KEY) is before


def test_a_message_needs_a_ref():
    with SessionManager() as m:
        with pytest.raises(InvalidMessageError, match=r"^ref: is missing"):
            m.add_message(KEY, "user", "hi", if_absent=True)
        with pytest.raises(InvalidMessageError, match=r"^messages\[1\].ref: is missing"):
            m.add(KEY, said("a"), {"role": "user", "content": "hi"}, if_absent=True)
        with m.turn(KEY) as turn, pytest.raises(InvalidMessageError, match=r"^ref: is missing"):
            turn.add_message("user", "hi", if_absent=True)
        with pytest.raises(TypeError, match="if_absent must be True or False"):
            m.add(KEY, said("a"), if_absent="yes")
        assert KEY not in m


def test_in_a_long_history_old_refs_are_found():
    with SessionManager() as m:
        m.add(KEY, *(said(f"r{number}") for number in range(1000)))
        m.add(KEY, said("r0"), said("r500"), said("r999"), said("new"), if_absent=True)
        assert refs(m)[-2:] == ["r999", "new"]


@pytest.mark.parametrize("drop", ["saved", "unsaved", "in RAM only"])
def test_archived_ones_count_as_there(url, drop):
    with SessionManager("memory:" if drop == "in RAM only" else url, archive=True) as m:
        m.add(KEY, said("a"), said("b"), said("c"))
        if drop == "saved":
            m.save(KEY)
        m.truncate_history(KEY, 1)
        if drop == "saved":
            m.save(KEY)
        found = m.add(KEY, said("a", "again"), said("d"), said("c"), if_absent=True)
        assert [(one.content, one.position) for one in found] == [("a", 0), ("d", 3), ("c", 2)]
        assert refs(m) == ["c", "d"]
        assert [one.ref for one in m.get_archive(KEY)] == ["a", "b"]
        m.clear(KEY)
        m.add(KEY, said("a"), if_absent=True)  # the archive went with it
        assert refs(m) == ["a"]


def test_removed_ones_and_dropped_ones_without_an_archive_are_absent(url):
    with SessionManager(url) as m:
        m.add(KEY, said("a"), said("b"))
        m.remove_last(KEY)
        m.truncate_history(KEY, 0)
        m.add(KEY, said("a"), said("b"), if_absent=True)
        assert refs(m) == ["a", "b"]


def test_an_archive_that_is_there_counts_without_archive_true(url):
    with SessionManager(url, archive=True) as m:
        m.add(KEY, said("a"))
        m.truncate_history(KEY, 0)
    with SessionManager(url) as m:
        m.add(KEY, said("a"), said("b"), if_absent=True)
        assert refs(m) == ["b"]


def test_one_archived_between_the_look_and_the_change_counts(monkeypatch):
    """The archive is read without a lock. Another thread may add and archive the message meanwhile."""
    with SessionManager(MemoryStore(), archive=True) as m:
        m.add(KEY, said("old"))
        m.truncate_history(KEY, 0)
        real, due = m._absentees.resolving, [True]

        def looked(key, append):
            found = real(key, append)
            if due and due.pop():
                m.add(KEY, said("a"))
                m.truncate_history(KEY, 0)
                m.save(KEY)
            return found

        monkeypatch.setattr(type(m._absentees), "resolving", lambda _, key, append: looked(key, append))
        assert m.add(KEY, said("a", "again"), if_absent=True)[0].content == "a"
        assert refs(m) == []
        due.append(True)
        with m.turn(KEY) as turn:
            turn.add(said("a", "again"), said("b"), if_absent=True)
        assert refs(m) == ["b"]


def test_a_damaged_archive_raises_and_adds_nothing(tmp_path):
    with SessionManager(f"log:{tmp_path}", archive=True) as m:
        m.add(KEY, said("a"), said("b"))
        m.truncate_history(KEY, 1)
        m.save(KEY)
        (archive,) = tmp_path.glob("*archive*")
        archive.write_bytes(b"x" + archive.read_bytes()[1:])
        with pytest.raises(CorruptSessionError):
            m.add(KEY, said("a"), if_absent=True)
        assert refs(m) == ["b"]
        m.add(KEY, said("b"), if_absent=True)  # it is in the history: no need to look


def test_of_two_writers_the_first_to_save_stores_it():
    store = MemoryStore()
    with SessionManager(store) as one, SessionManager(store) as other:
        one.add(KEY, said("a", "of one"), said("b"), if_absent=True)
        other.add(KEY, said("a", "of the other"), said("c"), if_absent=True)
        other.save(KEY)
        one.save(KEY)
        assert refs(one) == refs(other) == ["a", "c", "b"]
        assert other.get_message(KEY, "a").content == "of the other"


def test_of_two_writers_one_archives_it_before_the_other_saves():
    store = MemoryStore()
    with SessionManager(store, archive=True) as one, SessionManager(store, archive=True) as other:
        one.add(KEY, said("a", "of one"), said("b"), if_absent=True)
        other.add(KEY, said("a", "of the other"), if_absent=True)
        other.truncate_history(KEY, 0)
        other.save(KEY)
        one.save(KEY)
        assert refs(one) == ["b"]
        assert [two.content for two in one.get_archive(KEY)] == ["of the other"]


def test_a_turn_adds_what_is_not_there_when_it_ends(url):
    with SessionManager(url, archive=True) as m:
        m.add(KEY, said("a"), said("b"))
        m.truncate_history(KEY, 1)
        with m.turn(KEY, "update-1") as turn:
            turn.add(said("a"), said("c"), if_absent=True)
            turn.add_message("user", "c again", ref="c", if_absent=True)
            turn.add_message("assistant", "an answer")
            m.add(KEY, said("c", "meanwhile"))
        assert turn.applied
        assert [one.content for one in m.get_history(KEY)] == ["b", "meanwhile", "an answer"]
        with m.turn(KEY) as turn:
            turn.set_summary("more than adding")
            turn.add(said("a"), said("b"), said("d"), if_absent=True)
        assert refs(m)[-1] == "d"
        assert m.get(KEY).summary == "more than adding"
        with m.turn(KEY) as turn:
            turn.add(said("a"), said("d"), if_absent=True)
        assert not turn.applied
        with m.turn("new") as turn:
            turn.add(said("a"), if_absent=True)
        assert refs(m, "new") == ["a"]


def test_a_turn_may_add_again_what_it_takes_away():
    """An answer that is made anew has the ref of the old one, which is gone when the turn ends."""
    with SessionManager(MemoryStore()) as m:
        m.add(KEY, said("old"))
        with m.turn(KEY, "t1") as turn:
            turn.add(said("a"), said("b"))
        with m.turn(KEY, replacing="t1") as turn:
            turn.add(said("a", "new"), said("old", "new"), said("c"), if_absent=True)
        assert [one.content for one in m.get_history(KEY)] == ["old", "new", "c"]
        with m.turn(KEY) as turn:
            turn.remove("c")
            turn.add(said("c", "again"), if_absent=True)
        assert [one.content for one in m.get_history(KEY)] == ["old", "new", "again"]


def test_a_turn_adds_what_others_have_removed_since_it_looked():
    """It was there in what the turn has seen, and is not there now."""
    with SessionManager(MemoryStore()) as m:
        m.add(KEY, said("a"), said("b"))
        with m.turn(KEY) as turn:
            turn.set_summary("it looks")
            m.remove_message(KEY, "a")
            turn.add(said("a", "again"), said("b", "again"), said("c"), if_absent=True)
        assert [one.content for one in m.get_history(KEY)] == ["b", "again", "c"]


def test_a_turn_tells_its_own_messages_apart():
    with SessionManager() as m:
        with m.turn(KEY) as turn:
            turn.add_message("user", "plain", ref="a")
            turn.add(said("a", "again"), if_absent=True)
            turn.add(said("b"), if_absent=True)
            with pytest.raises(InvalidMessageError, match=r"^ref: is that of a message that this turn adds"):
                turn.add(said("b", "plain"))
        assert [one.content for one in m.get_history(KEY)] == ["plain", "b"]


def test_files_have_the_same_bytes_as_without_it(tmp_path):
    written = []
    for options in ({}, {"if_absent": True}):
        path = tmp_path / str(bool(options))
        with SessionManager(f"log:{path}", clock=Clock(), random_id=map(str, count()).__next__) as m:
            m.add(KEY, *(Message("user", "x", ref=ref, created_at=Clock()()) for ref in "ab"), **options)
            m.save(KEY)
            m.add(KEY, Message("user", "x", ref="c", created_at=Clock()()), **options)
        written.append([one.read_bytes() for one in path.glob("*.jsonl")])
    assert written[0] == written[1] != []


WORKER = """
    import sys
    from session_manager import Message, SessionManager
    url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with SessionManager(url, archive=True) as m:
        print("open", flush=True)
        sys.stdin.readline()
        for number in range(count):
            m.add("k", Message("user", name, ref=f"r{number}"), if_absent=True)
            m.save("k")
            with m.turn("k") as turn:
                turn.add(Message("user", name, ref=f"t{number}"), if_absent=True)
            if number % 5 == 4:
                m.truncate_history("k", 3)
                m.save("k")
"""


def test_of_several_processes_one_stores_each(tmp_path, size):
    """They add the same refs, and archive them under each other's hands."""
    url, times = f"sqlite:{tmp_path / 'chats.db'}", size.of(10, 200, 2000)
    workers = [start(inspect.cleandoc(WORKER), url, name, times) for name in ("one", "two")]
    for worker in workers:
        assert worker.stdout.readline() == "open\n"
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=600)
        assert worker.returncode == 0
    with SessionManager(url) as m:
        stored = sorted(one.ref for one in chain(m.get_archive("k"), m.get_history("k")))
    assert stored == sorted(f"{kind}{number}" for kind in "rt" for number in range(times))


def test_of_many_threads_one_stores_each(url):
    with SessionManager(url, archive=True) as m:
        go = threading.Barrier(4)

        def work():
            go.wait(30)
            for number in range(25):
                m.add(KEY, said(f"r{number}"), if_absent=True)
                if number % 10 == 9:
                    m.truncate_history(KEY, 2)
                    m.save(KEY)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        stored = sorted(one.ref for one in chain(m.get_archive(KEY), m.get_history(KEY)))
        assert stored == sorted(f"r{number}" for number in range(25))


def test_the_cost_does_not_grow_with_the_history():
    """The lock is held while the change is made: a walk through the history would hold everybody up."""
    walked = []

    with SessionManager(open_store("memory:")) as m:
        m.add(KEY, *(said(f"r{number}") for number in range(5000)))
        m.add(KEY, said("new"), if_absent=True)
        m.save(KEY)
        view = m.get(KEY).messages
        real = type(view).__iter__

        def counting(self):
            walked.append(len(self))
            return real(self)

        type(view).__iter__ = counting
        try:
            m.add(KEY, said("newer"), if_absent=True)
            m.add(KEY, said("r7"), if_absent=True)
        finally:
            type(view).__iter__ = real
        assert sum(walked) < 1000
