"""Several stores as one: where a session lives, what a shard that is down harms, and how shards are added."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import (
    ClosedError,
    InvalidStorageError,
    SaveFailedError,
    SessionManager,
    StorageError,
    StoreInUseError,
    UnsupportedFormatError,
)
from session_manager.operations import compact
from session_manager.stores import copy
from session_manager.stores.contract import Commit
from session_manager.stores.files.names import file_name
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.sharded import ShardedStore, shard_of
from session_manager.stores.shards import Shards
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.wrapped import WrappedStore
from session_manager.testing.strategies import keys
from tests.support.small_sessions import session_of

NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=6)


@given(keys(), NAMES, st.text("abcdefgh", min_size=1, max_size=3))
def test_a_new_shard_takes_only_its_own_sessions(key, names, new):
    before, after = shard_of(key, names), shard_of(key, [*names, new])
    assert after in (before, new)
    assert shard_of(key, sorted(names)) == shard_of(key, sorted(names, reverse=True))


def test_sessions_are_spread_evenly():
    found = Counter(shard_of(f"telegram:{number}", ["a", "b", "c", "d"]) for number in range(20_000))
    assert min(found.values()) > 4_700
    assert max(found.values()) < 5_300


def test_where_a_session_lives_stays_so_in_later_versions():
    """The figures are the rule: sessions are found by them."""
    found = [shard_of(key, ["eu-1", "eu-2", "us-1"]) for key in ("telegram:42", "slack:C01", "里斯本", "a", "tg:7:1")]
    assert found == ["eu-1", "us-1", "eu-1", "us-1", "eu-1"]


class Down(WrappedStore):
    """A server that cannot be reached."""

    down = False

    def load(self, key):
        self._look()
        return super().load(key)

    def write_many(self, commits):
        self._look()
        return super().write_many(commits)

    def write(self, commit):
        self._look()
        super().write(commit)

    def keys(self, prefix=""):
        self._look()
        return super().keys(prefix)

    def infos(self, prefix="", **options):
        self._look()
        return super().infos(prefix, **options)

    def search(self, text, **options):
        self._look()
        return super().search(text, **options)

    def newer(self, known):
        self._look()
        return super().newer(known)

    def _look(self):
        if self.down:
            raise StorageError("server", "cannot be reached")


@pytest.fixture
def shards():
    return {name: Down(MemoryStore()) for name in "abc"}


def fill(store, count=60):
    with SessionManager(store) as m:
        for number in range(count):
            with m.turn(f"chat:{number}") as turn:
                turn.add_message("user", f"number {number} of many")


def test_a_shard_that_is_down_harms_its_own_sessions_alone(shards):
    store = ShardedStore(shards)
    fill(store)
    shards["b"].down = True
    with SessionManager(store) as m:
        harmed = 0
        for number in range(60):
            key = f"chat:{number}"
            if shard_of(key, "abc") == "b":
                harmed += 1
                with pytest.raises(StorageError), m.turn(key) as turn:
                    turn.add_message("user", "more")
            else:
                with m.turn(key) as turn:
                    turn.add_message("user", "more")
                assert len(m.get_history(key)) == 2
        assert 5 < harmed < 40
        for call in (lambda: list(m), lambda: m.list_sessions(), lambda: m.search("number")):
            with pytest.raises(StorageError, match="cannot be reached"):
                call()
        shards["b"].down = False
        assert len(m) == 60


@pytest.mark.parametrize("order", ["recent", "key"])
def test_lists_and_searches_merge_the_pages_of_all_shards(shards, order):
    fill(ShardedStore(shards))
    alone = MemoryStore()
    copy(ShardedStore(shards), alone)
    store = ShardedStore(shards)
    pages, after = [], None
    while page := store.infos("chat:", after=after, limit=7, order=order):
        pages.append(page)
        after = page[-1]
    assert [one.key for page in pages for one in page] == [one.key for one in alone.infos("chat:", order=order)]
    assert [len(page) for page in pages] == [7] * 8 + [4]
    assert store.search("many", limit=9) == alone.search("many", limit=9)
    assert store.search("many", prefix="chat:1", limit=5) == alone.search("many", prefix="chat:1", limit=5)


def test_many_writes_keep_their_order_and_their_errors(shards):
    store = ShardedStore(shards)
    fill(store, 9)
    with SessionManager(store) as m:
        for number in range(20):
            m.add_message(f"chat:{number}", "user", "more")
        assert m.save_all() == 20
        m.verify()


def test_a_session_is_renamed_into_another_shard_with_its_archive(shards):
    store = ShardedStore(shards)
    with SessionManager(store, archive=True) as m:
        old = "chat:1"
        new = next(f"chat:{n}" for n in range(2, 99) if shard_of(f"chat:{n}", "abc") != shard_of(old, "abc"))
        m.add(old, *({"role": "user", "content": f"{n}"} for n in range(5)))
        m.save(old)
        m.truncate_history(old, 2)
        m.rename(old, new)
        assert [one.content for one in m.get_history(new)] == ["3", "4"]
        assert [one.content for one in m.get_archive(new)] == ["0", "1", "2"]
        assert old not in m


def test_shards_are_added_by_copy(tmp_path):
    before = ShardedStore({name: LogStore(tmp_path / name) for name in ("a", "b")})
    fill(before, 40)
    keys = sorted(before.keys(""))
    after = ShardedStore({**before.shards, "c": LogStore(tmp_path / "c")})
    report = copy(before, after)
    assert report.ok
    moved = [key for key in keys if shard_of(key, ["a", "b", "c"]) == "c"]
    assert list(report.copied) == moved
    assert 5 < len(moved) < 35
    for key in report.copied:
        assert before.shard(key).delete(key)
    assert sorted(after.keys("")) == keys
    assert sorted(after.shards["c"].keys()) == moved
    with SessionManager(after) as m:
        assert [len(m.get_history(key)) for key in keys] == [1] * 40
        assert m.verify() == []
    after.close()


def test_quarantine_has_names_of_its_shard(tmp_path):
    store = ShardedStore({name: LogStore(tmp_path / name) for name in "ab"})
    fill(store, 6)
    key = "chat:3"
    name = shard_of(key, "ab")
    store.close()
    (tmp_path / name / file_name(key, ".session.jsonl")).write_bytes(b"damaged")
    store = ShardedStore({one: LogStore(tmp_path / one) for one in "ab"})
    assert store.delete(key)
    (kept,) = store.quarantined()
    assert kept.name.startswith(f"{name}/")
    assert store.quarantined_of(key) == [kept]
    assert store.read_quarantined(kept.name) == b"damaged"
    assert store.read_quarantined("nowhere/x") is None
    assert store.purge_quarantined(kept.name) is True
    assert store.count_quarantined() == 0
    store.close()


class Server:
    """What a function opens: nothing, as long as the server is down."""

    def __init__(self, make=MemoryStore):
        self.is_down, self.make, self.opened, self.asked = True, make, [], 0

    def __call__(self):
        self.asked += 1
        if self.is_down:
            raise StorageError("server", "cannot be reached")
        self.opened.append(self.make())
        return self.opened[-1]


def test_a_worker_starts_while_a_shard_is_down(caplog):
    """Only a store that was open could be a shard: so no worker could start until the last server was up again."""
    server = Server()
    store = ShardedStore({"a": MemoryStore(), "b": server, "c": MemoryStore})
    with SessionManager(store) as m:
        there, away = (next(f"k{i}" for i in range(99) if shard_of(f"k{i}", "abc") == name) for name in "cb")
        with m.turn(there) as turn:
            turn.add_message("user", "hi")
        for call in (
            lambda: m.get_history(away),
            lambda: m.turn(away).__enter__(),
            m.list_sessions,
            lambda: m.search("hi"),
        ):
            with pytest.raises(StorageError, match="cannot be reached"):
                call()
        assert m.health().ok
        assert "b: not open" in m.health().store
        assert "tried again" in caplog.text
        server.is_down = False
        with m.turn(away) as turn:
            turn.add_message("user", "hi")
        assert [info.key for info in m.list_sessions()] == [away, there]
        assert len(server.opened) == 1
    store.close()


def test_a_write_to_a_shard_that_cannot_be_opened_has_failed():
    """Nothing was sent, so it is no unknown outcome; and the others of many are written."""
    server = Server()
    store = ShardedStore({"a": MemoryStore(), "b": server})
    commits = [Commit(session_of("hi")._with(key=f"k{number}"), (), None, token=f"t{number}") for number in range(20)]
    away = [one for one in commits if shard_of(one.session.key, "ab") == "b"]
    errors = store.write_many(commits)
    assert [commit in away for commit in commits] == [isinstance(error, SaveFailedError) for error in errors]
    key = away[0].session.key
    for call in (
        lambda: store.write(away[0]),
        lambda: store.landed(away[0]),
        lambda: store.write_together(away[:1]),
        lambda: store.delete(key),
        lambda: store.rename(key, "other", away[0].session.version),
    ):
        with pytest.raises(SaveFailedError, match="cannot be reached"):
            call()
    server.is_down = False
    assert store.write_many(away) == [None] * len(away)


class Counted:
    """A lock that counts the threads that have asked for it."""

    def __init__(self):
        self.lock, self.asked, self.is_full = threading.Lock(), itertools.count(1), threading.Event()

    def __enter__(self):
        if next(self.asked) == 4:
            self.is_full.set()
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


def test_threads_that_wait_for_a_shard_share_its_failure():
    """A server that does not answer costs ten seconds: one thread asks, and the others do not ask again one by one."""
    server, may_answer = Server(), threading.Event()
    may_answer.set()

    def opens():
        assert may_answer.wait(10)
        return server()

    shards = Shards({"a": MemoryStore(), "b": opens})
    may_answer.clear()
    lock = shards._late["b"].lock = Counted()
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(shards.__getitem__, "b") for _ in range(4)]
        assert lock.is_full.wait(10)
        may_answer.set()
        for one in answers:
            with pytest.raises(StorageError, match="cannot be reached"):
                one.result(10)
    assert server.asked == 2


def test_a_shard_that_opens_later_is_of_the_kind_of_the_others(tmp_path):
    server = Server(lambda: LogStore(tmp_path / "b"))
    store = ShardedStore({"a": SQLiteStore(tmp_path / "a.db"), "b": server})
    server.is_down = False
    with pytest.raises(StorageError, match="differs from the other shards"):
        store.shards["b"]
    LogStore(tmp_path / "b").close()
    store.close()


def test_a_manager_holds_the_shards_that_open_later(tmp_path):
    server = Server(lambda: LogStore(tmp_path / "b"))
    store = ShardedStore({"a": LogStore(tmp_path / "a"), "b": server})
    m = SessionManager(store)
    server.is_down = False
    with pytest.raises(StoreInUseError):
        SessionManager(store.shards["b"])
    m.close()
    SessionManager(store.shards["b"]).close()
    store.close()
    LogStore(tmp_path / "b").close()
    with pytest.raises(ClosedError):
        store.shards["b"].load("k")


def test_a_shard_that_opens_too_late_is_closed(tmp_path):
    """While the `ShardedStore` is closed, or of which another manager has what the others' manager needs."""
    server = Server(lambda: LogStore(tmp_path / "b"))
    store = ShardedStore({"a": LogStore(tmp_path / "a"), "b": server})

    class Held(LogStore):
        def attach(self, manager):
            raise StoreInUseError(repr(self))

    server.is_down, server.make = False, lambda: Held(tmp_path / "b")
    with SessionManager(store), pytest.raises(StoreInUseError):
        store.shards["b"]
    LogStore(tmp_path / "b").close()

    def closing():
        store.close()
        return LogStore(tmp_path / "b")

    server.make = closing
    with pytest.raises(ClosedError):
        store.shards["b"]
    LogStore(tmp_path / "b").close()


def test_without_any_shard_there_is_no_store(tmp_path):
    with pytest.raises(StorageError, match="cannot be reached"):
        ShardedStore({"a": Server(), "b": Server()})

    def newer():
        raise UnsupportedFormatError("b", "9", "2")

    with pytest.raises(UnsupportedFormatError):
        ShardedStore({"a": lambda: LogStore(tmp_path / "a"), "b": newer})
    LogStore(tmp_path / "a").close()


def test_each_database_is_compacted_once(tmp_path):
    """Each was written anew once for each of its sessions."""
    compacted = []

    class Noting(SQLiteStore):
        def compact(self, key):
            compacted.append(self)
            super().compact(key)

    store = ShardedStore({name: Noting(tmp_path / f"{name}.db") for name in "ab"})
    fill(store, 20)
    seen = []
    report = compact(store, progress=lambda *one: seen.append(one[:2]))
    assert (report.sessions, seen) == (20, [(1, 20), (20, 20)])
    assert sorted(map(id, compacted)) == sorted(map(id, store.shards.values()))
    store.close()


@pytest.mark.parametrize("shards", [{}, {"": MemoryStore()}, {"a/b": MemoryStore()}])
def test_names_that_cannot_be_are_refused(shards):
    with pytest.raises(InvalidStorageError):
        ShardedStore(shards)


def test_only_stores_are_shards():
    for wrong in ([MemoryStore()], {"a": "memory:"}, {1: MemoryStore()}):
        with pytest.raises(TypeError):
            ShardedStore(wrong)


@pytest.mark.parametrize("with_tokens", [False, True])
def test_writes_have_tokens_if_one_shard_looks_at_them(tmp_path, with_tokens):
    """A shard that keeps tokens would take two writes without one for the same write."""
    last = MemoryStore() if with_tokens else LogStore(tmp_path / "other")
    store = ShardedStore({"one": LogStore(tmp_path / "one"), "other": last})
    assert store.tokenless is not with_tokens
    store.close()
