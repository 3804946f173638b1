"""Bounded RAM: the estimate is true, the bound is kept, and nobody can tell that a session was away."""

from __future__ import annotations

import gc
import json
import logging
import operator
import random
import threading
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message, SaveFailedError, Session, SessionManager, open_store
from session_manager.codec.lines import encode_message
from session_manager.manager.cache.entry import Entry
from session_manager.manager.cache.eviction import Budget, measure, weight
from session_manager.model import utc_now
from session_manager.stores.contract import Commit
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.snapshot.format import Lines, decode, encode
from session_manager.stores.snapshot.line_cache import LineCache
from tests.support.laws import examples
from tests.support.strategies import messages, nasty_text
from tests.support.threads import run

DEADLINE = 60


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Lines of the log that pytest keeps would count as memory of the manager."""
    caplog.set_level(logging.WARNING, "session_manager")


def texts(m, key):
    return [message.content for message in m.get_history(key)]


def resident(m):
    return list(m._residents.entries())


def budget(m):
    return m._residents._budget


# The estimate

SHAPES = {
    "short": lambda n: {"role": "user", "content": f"hi {n}"},
    "empty": lambda n: {"role": "user", "content": ""},
    "1 KB": lambda n: {"role": "user", "content": f"{n}" + "x" * 1000},
    "latin": lambda n: {"role": "user", "content": f"{n}" + "é" * 500},
    "CJK": lambda n: {"role": "user", "content": f"{n}" + "漢" * 500},
    "emoji": lambda n: {"role": "user", "content": f"{n}" + "\U0001f600" * 500},
    "parts": lambda n: {
        "role": "user",
        "content": [{"type": "text", "text": f"look {n}"}, {"type": "image_url", "image_url": {"url": f"https://{n}"}}],
    },
    "a call": lambda n: {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": f"call_{n}", "type": "function", "function": {"name": "now", "arguments": f"[{n}]"}}],
    },
    "integers": lambda n: {"role": "user", "content": "", "v": [n * 1000 + i for i in range(300, 400)]},
    "floats": lambda n: {"role": "user", "content": "", "v": [n + i / 7 for i in range(500)]},
    "names": lambda n: {"role": "user", "content": "", "d": {f"name_{n}_{i}": f"v{n}{i}" for i in range(50)}},
    "flags": lambda n: {"role": "user", "content": "", "d": {f"name_{n}_{i}": True for i in range(50)}},
}


def traced(make):
    """Return how many bytes the result of a function takes, and the result."""
    gc.collect()
    tracemalloc.start()
    try:
        result = make()
        gc.collect()
        return tracemalloc.get_traced_memory()[0], result
    finally:
        tracemalloc.stop()


def session_of(make, count):
    m = SessionManager(MemoryStore())
    m.add("k", *[make(number) for number in range(count)])
    m.save("k")
    return m.get("k")


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_is_within_a_factor_of_2_for_a_loaded_session(shape):
    session = session_of(SHAPES[shape], 200)
    data = b"".join(encode(session, Lines().appended(session.messages, session.end)))
    used, (loaded, _) = traced(lambda: decode(data, ""))
    assert used / 2 < measure(loaded) < used * 2


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_is_within_a_factor_of_2_for_appended_messages(shape):
    m = SessionManager(MemoryStore(), max_resident_bytes=10**9)
    m.get_or_create("k")

    def append():
        for number in range(200):
            m.add("k", SHAPES[shape](number))
        m.save("k")

    used, _ = traced(append)
    assert used / 2 < budget(m).size < used * 2


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_estimate_is_within_a_factor_of_2_for_many_small_sessions(count, size):
    store = MemoryStore()
    m = SessionManager(store)
    for number in range(size.of(100, 300, 300)):
        m.get_or_create(f"k:{number}")
        m.add(f"k:{number}", *[{"role": "user", "content": f"hi {number} {i}"} for i in range(count)])
    m.save_all()
    files = {}
    for key in m:
        session = m.get(key)
        files[key] = b"".join(encode(session, Lines().appended(session.messages, session.end)))

    class Decoding(MemoryStore):
        def load(self, key):
            return decode(files[key], "")[0]

    again = SessionManager(Decoding(), max_resident_bytes=10**9)
    used, _ = traced(lambda: [again.get(key) and None for key in files])
    assert used / 2 < budget(again).size < used * 2


#: Of about 1 KB of UTF-8, as a channel or a model gives it. A single character beyond U+FFFF makes CPython take 4 bytes for
#: each one of its text, and makes the factor 4: that is the text alone.
TEXTS = {
    "ASCII": "x" * 1000,
    "latin": "é" * 500,
    "CJK": "漢" * 340,
    "a quotation mark": "x" * 997 + "\N{RIGHT SINGLE QUOTATION MARK}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize(
    "storage",
    [
        "memory:",
        *(pytest.param(url, marks=pytest.mark.long) for url in ("snapshot:{}", "log:{}", "sqlite:{}/chats.db")),
    ],
)
def test_a_resident_message_takes_at_most_3_times_its_json(tmp_path, storage, text, size):
    """The UTF-8 of every text that was not ASCII stayed in it from when it was first encoded, as long as it was in RAM."""
    url = storage.format(tmp_path)

    def opened():
        return SessionManager(SnapshotStore(tmp_path, cache_bytes=0) if url.startswith("snapshot:") else url)

    def added():
        m = opened()
        for number in range(size.of(60, 200, 200)):
            m.add("k", json.loads(json.dumps({"role": "user", "content": f"{number}{text}"})))
            if number % 50 == 49:
                m.save("k")
        return m

    def read():
        m = opened()
        m.get("k")
        return m

    opened()._residents.let_go()  # what a first one imports does not count
    for make in [added] if storage == "memory:" else [added, read]:
        used, m = traced(make)
        lines = sum(len(encode_message(message)) for message in m.get_history("k"))
        assert lines / 2 < used < 3 * lines
        m.close()
        m._residents.store.close()


@pytest.mark.parametrize("storage", ["snapshot:{}", "log:{}", "sqlite:{}/chats.db"])
def test_of_an_evicted_session_nothing_is_left_but_its_key(tmp_path, storage, size):
    """A log was remembered with the session's metadata, and a snapshot with what its file was known by."""
    url, keys = storage.format(tmp_path), [f"k:{number}" for number in range(size.of(300, 500, 500))]
    with SessionManager(url) as m:
        for key in keys:
            m.add_message(key, "user", "x" * 100)
            m.update_metadata(key, {"note": "x" * 1000})
        m.save_all()
    with SessionManager(url, max_resident_bytes=1) as m:
        assert sorted(m) == sorted(keys)
        texts(m, keys[0])
        used, _ = traced(lambda: [m.get(key) and None for key in keys] and None)
        assert len(resident(m)) == 1
        assert used < 100 * len(keys)


def test_the_lines_of_many_short_sessions_are_within_their_budget():
    """Only the lines' own bytes were counted: of short sessions that was a third."""
    cache, limit = LineCache(200_000), 200_000
    session = session_of(SHAPES["short"], 1)

    def fill():
        for number in range(2000):
            commit = Commit(session._with(key=f"k:{number}"), (), None)
            cache.keep(commit.session.key, commit.session.version, cache.lines(commit))

    used, _ = traced(fill)
    assert limit / 2 < used < limit * 1.25


def test_messages_share_their_usual_names_and_roles():
    """Each message that was parsed by itself had names and a role of its own: a fifth of a short message."""
    m = SessionManager()
    m.add("k", *[json.loads(json.dumps({"role": "user", "content": f"{n}", "a": {"b": n}})) for n in range(2)])
    one, two = (message._object for message in m.get_history("k"))
    for first, second in [(one, two), (one["a"], two["a"])]:
        assert all(map(operator.is_, first, second))
    assert one["role"] is two["role"]


def test_a_summary_and_metadata_count():
    m = SessionManager(MemoryStore(), max_resident_bytes=10**9)
    m.get_or_create("k")
    before = budget(m).size
    m.set_summary("k", "x" * 10_000)
    assert budget(m).size - before == 10_000
    m.update_metadata("k", {"note": "x" * 10_000})
    assert 20_000 < budget(m).size - before < 21_000
    m.set_summary("k", "")
    m.update_metadata("k", {}, ["note"])
    assert budget(m).size == before
    m.close()


# The sum


@st.composite
def calls(draw):
    """A call, by name, and what it is about."""
    name = draw(
        st.sampled_from(["add", "add", "edit", "last", "remove", "replace", "truncate", "clear", "summary", "metadata"])
        | st.sampled_from(["save", "reload", "delete", "fork", "evict"])
    )
    return name, draw(st.sampled_from("abc")), draw(st.lists(messages(), max_size=3)), draw(nasty_text())


def do(m, name, key, new, text):
    match name:
        case "add":
            m.add(key, *new)
        case "edit" if new:
            m.update_message(key, m.get(key).start if key in m else 0, new[0])
        case "last" if new:
            m.update_last(key, new[0])
        case "remove":
            m.remove_last(key)
        case "replace":
            m.set_history(key, new * 2)
        case "truncate":
            m.truncate_history(key, len(new))
        case "clear":
            m.clear(key)
        case "summary":
            m.set_summary(key, text)
        case "metadata":
            m.update_metadata(key, {"note": text})
        case "save":
            m.save(key)
        case "reload":
            m.reload(key)
        case "delete":
            m.delete(key)
        case "fork" if key in m and "copy" not in m:
            m.fork(key, "copy")


@examples(10)
@given(st.lists(calls(), max_size=12), st.sampled_from([1, 3000, 10**9]))
def test_the_sum_is_that_of_the_sessions_after_any_calls(steps, limit):
    """Only appended messages were weighed: not edited ones, nor those that came in the place of as many."""
    m = SessionManager(MemoryStore(), max_resident_bytes=limit)
    for step in steps:
        do(m, *step)
        kept = budget(m)
        assert kept.size == sum(kept._sizes.values())
        assert set(kept._sizes) == set(resident(m))
        assert kept._sizes == {key: measure(entry.session) for key, entry in m._residents.entries().items()}
    m.close(save=False)


def test_a_message_that_grows_in_its_place_counts():
    m = SessionManager(MemoryStore(), max_resident_bytes=10**9)
    m.add_message("k", "assistant", "")
    before = budget(m).size
    m.update_last("k", {"role": "assistant", "content": "x" * 10**6})
    assert budget(m).size == before + 10**6
    m.close()


@examples(7)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400)), max_size=6))
def test_truncations_keep_the_sum_positive_and_near(steps):
    m = SessionManager(MemoryStore(), max_resident_bytes=10**9)
    for added, kept in steps:
        m.add("k", *[{"role": "user", "content": "x" * 100}] * added)
        m.truncate_history("k", kept)
        right = measure(m.get("k"))
        assert right * 0.9 <= budget(m).size <= right * 1.1
    m.close()


def test_what_an_append_costs_does_not_grow_with_the_session():
    m = SessionManager(MemoryStore(), max_resident_bytes=10**9)
    m.add("k", *[{"role": "user", "content": "x"}] * 5000)

    def cost():
        before = time.perf_counter()
        for _ in range(100):
            m.add_message("k", "user", "x")
        return time.perf_counter() - before

    assert min(cost() for _ in range(5)) < 100 * 0.0005
    m.close()


# The bound


def filled(store, count, *, limit, size=1000):
    """A manager that has saved some sessions, one after another."""
    m = SessionManager(store, max_resident_bytes=limit)
    for number in range(count):
        m.add_message(f"k:{number}", "user", "x" * size)
        m.save(f"k:{number}")
    return m


def test_the_bound_is_kept_within_one_session_and_all_comes_back_equal(tmp_path):
    limit = 30_000
    m = filled(tmp_path / "chats", 100, limit=limit)
    assert budget(m).size <= limit
    one = measure(m.get("k:0"))
    assert limit - 2 * one < budget(m).size <= limit
    assert m.health().resident == len(resident(m)) == budget(m).size // one
    for number in range(100):
        assert texts(m, f"k:{number}") == ["x" * 1000]
        assert budget(m).size <= limit
    assert len(m) == 100
    m.close()


def test_the_bound_is_about_what_the_process_takes():
    class Decoding(MemoryStore):
        def load(self, key):
            session = super().load(key)
            if session is None:
                return None
            return decode(b"".join(encode(session, Lines().appended(session.messages, session.end))), "")[0]

    store = Decoding()
    filled(store, 200, limit=10**9, size=10_000)
    m = SessionManager(store, max_resident_bytes=500_000)
    used, _ = traced(lambda: [len(texts(m, f"k:{number}")) for number in range(200)])
    assert used < 600_000
    assert m.health().resident < 60


def test_those_used_least_recently_go_first():
    m = SessionManager(MemoryStore())
    m.get_or_create("x")
    m.save("x")
    one = measure(m.get("x"))
    m = SessionManager(MemoryStore(), max_resident_bytes=3 * one)
    for key in "abc":
        m.get_or_create(key)
        m.save(key)
    m.get("a")
    m.get_or_create("d")
    assert resident(m) == ["a", "c", "d"]
    m.save("d")
    m.get_summary("c")
    m.get_or_create("e")
    assert resident(m) == ["c", "d", "e"]
    m.close()


class Own(MemoryStore):
    """A store of one manager."""

    shared = False


def test_looking_at_all_is_no_use_of_each():
    """Listing, and a save in the background, made the order that of the keys."""
    m = SessionManager(MemoryStore())
    m.get_or_create("x")
    m.save("x")
    one = measure(m.get("x"))
    m = SessionManager(Own(), max_resident_bytes=3 * one)
    for key in "cba":
        m.get_or_create(key)
    m.get("c")
    m.save_all()
    m.list_sessions()
    m.search("x")
    m.health()
    assert "b" in m
    m.verify()
    m.get_or_create("d")
    assert sorted(resident(m)) == ["a", "c", "d"]
    m.close()


def test_dirty_sessions_stay_until_they_are_saved_and_then_go():
    m = SessionManager(MemoryStore(), max_resident_bytes=5000)
    for number in range(300):
        m.add_message(f"k:{number}", "user", "x")
    assert m.health().resident == 300
    assert m.save_all() == 300
    assert budget(m).size <= 5000
    assert m.health().resident <= 2
    for number in range(300):
        assert texts(m, f"k:{number}") == ["x"]
    m.close()


def test_a_session_whose_save_fails_stays():
    class Broken(MemoryStore):
        broken = True

        def write(self, commit):
            if self.broken and commit.session.key == "bad":
                raise SaveFailedError("bad", "broken")
            super().write(commit)

    store = Broken()
    m = SessionManager(store, max_resident_bytes=1)
    m.add_message("bad", "user", "x")
    with pytest.raises(SaveFailedError):
        m.save("bad")
    for number in range(100):
        m.add_message(f"k:{number}", "user", "x")
        m.save(f"k:{number}")
    assert sorted(resident(m)) == ["bad", "k:99"]
    assert list(m.health().failures) == ["bad"]
    store.broken = False
    m.save("bad")
    assert m.health().ok
    assert resident(m) == ["bad"]
    m.close()


def test_a_bound_smaller_than_a_session_works(tmp_path):
    with SessionManager(tmp_path / "chats", max_resident_bytes=1) as m:
        for number in range(20):
            for key in ("a", "b"):
                m.add_message(key, "user", str(number))
                m.set_summary(key, str(number))
                if number % 2:
                    m.save(key)
        m.save_all()
        assert m.health().resident == 1
        for key in ("a", "b"):
            assert texts(m, key) == [str(number) for number in range(20)]
            assert m.get_summary(key) == "19"
        m.fork("a", "c")
        assert texts(m, "c") == texts(m, "a")


def test_a_session_that_is_being_saved_is_not_evicted():
    class Slow(MemoryStore):
        def write(self, commit):
            if commit.session.key == "slow":
                writing.set()
                assert go_on.wait(DEADLINE)
            super().write(commit)

    writing, go_on = threading.Event(), threading.Event()
    m = SessionManager(Slow(), max_resident_bytes=1)
    m.add_message("slow", "user", "x")
    saver = threading.Thread(target=m.save, args=("slow",))
    saver.start()
    assert writing.wait(DEADLINE)
    m.add_message("other", "user", "x")
    m.save("other")
    assert texts(m, "slow") == ["x"]
    m.add_message("slow", "user", "y")
    go_on.set()
    saver.join(DEADLINE)
    assert sorted(resident(m)) == ["other", "slow"] or resident(m) == ["slow"]
    m.close()


def test_many_dirty_sessions_do_not_make_a_call_dear():
    """Each change copied the keys of all that are resident."""
    at = utc_now()
    entry = Entry.of(Session(key="k", generation="9f", created=at, updated=at))
    costs = {}
    for count in (100, 100_000):
        full = Budget(1)
        for number in range(count):
            full.put(f"k:{number}", None, entry, None, 1)
        timings = []
        for _ in range(50):
            before = time.perf_counter()
            assert len(list(full.oldest())) < 50
            timings.append(time.perf_counter() - before)
        costs[count] = min(timings)
    assert costs[100_000] < 10 * costs[100]


# Nobody can tell


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("limit", [1, 20_000])
def test_threads_under_a_tiny_bound_never_see_an_older_state(limit, size):
    """Each thread reads and writes many of 200 sessions."""
    m = SessionManager(MemoryStore(), max_resident_bytes=limit)
    keys = [f"k:{number}" for number in range(200)]

    def worker(who):
        mine = keys[who::4]
        model = {key: [] for key in mine}
        chance = random.Random(who)

        def work():
            for number in range(size.of(150, 500, 5000)):
                key = chance.choice(mine)
                m.add_message(key, "user", str(number))
                model[key].append(str(number))
                if chance.random() < 0.8:
                    m.save(key)
                other = chance.choice(mine)
                assert texts(m, other) == model[other]
                seen = texts(m, chance.choice(keys))
                assert seen == sorted(seen, key=int)
            for key in mine:
                assert texts(m, key) == model[key]

        return work

    run(*[worker(who) for who in range(4)])
    m.save_all()
    kept = budget(m)
    assert kept.size == sum(kept._sizes.values()) == sum(measure(e.session) for e in m._residents.entries().values())
    assert kept.size <= max(limit, 5000)
    m.close()


class Shared(MemoryStore):
    shared = True


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_two_managers_under_a_tiny_bound_see_each_others_messages(tmp_path, kind, size):
    """A session evicted while somebody asked whether it was stale was a KeyError, or missing."""
    rounds = size.of(24, 120, 600)
    store = Shared() if kind == "memory" else open_store(f"sqlite:{tmp_path / 'chats'}")
    first, second = (SessionManager(store, max_resident_bytes=1) for _ in range(2))
    for key in "abc":
        first.add_message(key, "user", "start")
        first.save(key)

    def write(m, who):
        def work():
            for number in range(rounds):
                key = "abc"[number % 3]
                m.add_message(key, "user", f"{who}{number}")
                m.save(key)

        return work

    def read(m):
        def work():
            counts = dict.fromkeys("abc", 1)
            for number in range(2 * rounds):
                key = "abc"[number % 3]
                count = len(texts(m, key))
                assert count >= counts[key]
                counts[key] = count
                assert [info.key for info in sorted(m.list_sessions(), key=lambda info: info.key)] == list("abc")
                assert {hit.key for hit in m.search("start")} == set("abc")
                assert key in m

        return work

    run(write(first, "one"), write(second, "two"), read(first), read(second), read(first))
    for m in (first, second):
        m.save_all()
        for number, key in enumerate("abc"):
            found = texts(m, key)
            for who in ("one", "two"):
                assert [text for text in found if text.startswith(who)] == [
                    f"{who}{n}" for n in range(number, rounds, 3)
                ]
    store.close()


@pytest.mark.usefixtures("switching_often")
def test_no_session_is_missing_from_a_listing_while_others_are_evicted():
    """One that was evicted between two looks at it was left out."""
    m = filled(MemoryStore(), 20, limit=8000)
    stop = threading.Event()

    def churn():
        number = 0
        while not stop.is_set():
            number += 1
            time.sleep(0)
            m.get(f"k:{number % 20}")

    def look():
        try:
            for _ in range(60):
                assert len(m.list_sessions()) == len(m) == 20
                assert len(m.search("x", limit=50)) == 20
                assert all(f"k:{number}" in m for number in range(20))
        finally:
            stop.set()

    run(churn, churn, look)
    m.close()


@pytest.mark.parametrize("moment", ["version", "load"])
@pytest.mark.parametrize("saved_elsewhere", [True, False])
def test_a_session_evicted_while_the_store_is_asked_is_read_again(moment, saved_elsewhere):
    """It was a KeyError, or no session at all."""

    class Evicting(Shared):
        def version(self, key):
            evict("version")
            return super().version(key)

        def load(self, key):
            session = super().load(key)
            evict("load")
            return session

    def evict(now):
        if now == moment and armed:
            with m._residents.lock.checked:
                m._residents._drop("k")

    armed = []
    store = Evicting()
    m, other = SessionManager(store, max_resident_bytes=10**6), SessionManager(store)
    m.add_message("k", "user", "one")
    m.save("k")
    if saved_elsewhere:
        other.add_message("k", "user", "two")
        other.save("k")
    armed.append(True)
    assert texts(m, "k") == ["one", "two"][: 1 + saved_elsewhere]
    assert "k" in m
    assert [info.count for info in m.list_sessions()] == [1 + saved_elsewhere]
    assert m.get_or_create("k").version == store.version("k")


def test_a_bound_beside_a_writer(tmp_path):
    with SessionManager(tmp_path / "chats") as writer:
        for number in range(30):
            writer.add_message(f"k:{number}", "user", "x" * 1000)
        writer.save_all()
        with SessionManager(str(tmp_path / "chats"), read_only=True, max_resident_bytes=5000) as reader:
            for number in range(30):
                assert len(texts(reader, f"k:{number}")) == 1
                assert budget(reader).size <= 5000
            writer.add_message("k:29", "user", "y")
            writer.save("k:29")
            assert texts(reader, "k:29")[1:] == ["y"]


# Bad values


@pytest.mark.parametrize("limit", [0, -1])
def test_a_bound_is_1_or_more(tmp_path, limit):
    with pytest.raises(ValueError, match="max_resident_bytes"):
        SessionManager(tmp_path / "chats", max_resident_bytes=limit)
    assert not (tmp_path / "chats").exists()


@pytest.mark.parametrize("limit", ["1", 1.5, True])
def test_a_bound_is_an_int(tmp_path, limit):
    with pytest.raises(TypeError, match="max_resident_bytes"):
        SessionManager(tmp_path / "chats", max_resident_bytes=limit)
    assert not (tmp_path / "chats").exists()


def test_a_bound_needs_a_storage():
    for storage in (["memory:"], []):
        with pytest.raises(ValueError, match="storage"):
            SessionManager(*storage, max_resident_bytes=10**6)
    for storage in (None, ""):
        with pytest.raises(ValueError, match="storage"), pytest.warns(UserWarning, match="nothing is saved"):
            SessionManager(storage, max_resident_bytes=10**6)


def test_a_message_weighs_more_with_metadata_and_a_longer_text():
    one = weight(Message("user", "x"))
    assert weight(Message("user", "x" * 101)) == one + 100
    assert weight(Message("user", "x", metadata={"note": "x" * 1000})) > one + 1000


def test_a_directory_under_a_bound_keeps_every_message_of_threads(tmp_path):
    store = SnapshotStore(tmp_path / "chats", cache_bytes=1)
    m = SessionManager(store, max_resident_bytes=1)

    def worker(who):
        def work():
            for number in range(30):
                for key in ("shared", f"own:{who}"):
                    m.add_message(key, "user", f"{who}.{number}")
                    m.save(key)

        return work

    run(*[worker(who) for who in range(4)])
    m.close()
    with SessionManager(store) as again:
        for key in again:
            found = texts(again, key)
            for who in {text.split(".")[0] for text in found}:
                assert [text for text in found if text.startswith(f"{who}.")] == [f"{who}.{n}" for n in range(30)]
        assert len(texts(again, "shared")) == 120
    store.close()
