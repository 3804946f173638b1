"""Connections that are cut, and requests that arrive late: at each message that a call sends."""

from __future__ import annotations

from contextlib import closing, suppress
from itertools import count

import attrs
import pytest

from session_manager import ConflictError, SaveError, SaveFailedError, SaveOutcomeUnknownError, StorageError
from session_manager.model.changes import Append, Edit, Truncate
from session_manager.stores.contract import Commit
from tests.support.postgres import needs_driver
from tests.support.proxy import Proxy
from tests.support.small_sessions import AT, message, session_of
from tests.support.sqlite_saves import commit_of, write_new
from tests.support.strategies import facts

psycopg = needs_driver()

FAULTS = ["drop request", "drop answer", "late"]


@pytest.fixture
def direct(place):
    """The store without the proxy between; it does not wait long for locks of those whose request is held up."""
    with closing(place.open(connect=lambda: psycopg.connect(place.url, options="-c lock_timeout=300"))) as one:
        yield one


@pytest.fixture
def proxy(place):
    told = psycopg.conninfo.conninfo_to_dict(place.url)
    if told["host"] != "127.0.0.1":
        pytest.skip("the server is elsewhere")
    with closing(Proxy(int(told["port"]))) as one:
        yield one


@pytest.fixture
def store(place, proxy, direct):
    """The store behind the proxy, with one connection that is ready for use."""
    told = psycopg.conninfo.conninfo_to_dict(place.url)
    url = psycopg.conninfo.make_conninfo(**{**told, "port": str(proxy.port)})
    with closing(place.open(connect=lambda: psycopg.connect(url, connect_timeout=5))) as one:
        yield one


def append(before):
    return commit_of(before, Append(at=AT, messages=(message("new"),), turn="update"), token="new")


def change(before):
    return commit_of(before, Edit(at=AT, position=0, message=message("new")), Truncate(at=AT, start=1), token="new")


def create(key):
    return Commit(attrs.evolve(session_of("new"), key=key, revision=1), (), None, token="new")


#: What is written over a stored session; `None`: a new one.
WRITES = {"append": append, "change": change, "create": None}


def shown(session):
    return None if session is None else facts(session)


def stored(direct, key):
    return shown(direct.load(key))


def settled(direct, proxy, commit):
    """Return whether a write has landed. As long as its transaction is open, nobody can tell."""
    try:
        return direct.landed(commit)
    except SaveError:
        proxy.deliver()
        return direct.landed(commit)


@pytest.mark.parametrize("together", [False, True], ids=["write", "write_many"])
@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_that_is_cut_off_is_what_its_error_says(store, direct, proxy, fault, kind, together):
    """And what `landed` says stays so, whatever arrives later."""
    unknown = 0
    for passes in count():
        key = f"k{passes}"
        before = write_new(direct, key=key) if WRITES[kind] else None
        assert store.version(key) == (before.version if before else None)
        commit = WRITES[kind](before) if before else create(key)
        proxy.arm(fault, passes=passes)
        seen, error = proxy.count, None
        try:
            if together:
                error = store.write_many([commit])[0]
            else:
                store.write(commit)
        except StorageError as raised:
            error = raised
        proxy.arm("")
        landed = error is None
        if isinstance(error, SaveOutcomeUnknownError):
            unknown += 1
            landed = settled(direct, proxy, commit)
            assert landed is not None
            assert fault == "late" or landed is (fault == "drop answer")
        else:
            assert error is None or isinstance(error, SaveFailedError)
        expected = commit.session if landed else before
        assert stored(direct, key) == shown(expected)
        proxy.deliver()
        assert stored(direct, key) == shown(expected)
        assert direct.verify(key) == []
        if proxy.count == seen:
            break
    assert unknown == 1
    assert passes >= 1


@pytest.mark.parametrize("fault", FAULTS)
def test_writes_together_that_are_cut_off_are_all_there_or_none(store, direct, proxy, fault):
    """At each message: three sessions, one that grows, one that is changed, one that is new. `landed` says the same for each."""
    unknown = 0
    for passes in count():
        keys = [f"{name}{passes}" for name in WRITES]
        befores = [
            write_new(direct, key=key) if make else None for key, make in zip(keys, WRITES.values(), strict=True)
        ]
        assert [store.version(key) for key in keys] == [one.version if one else None for one in befores]
        writes = zip(keys, befores, WRITES.values(), strict=True)
        commits = [make(before) if make else create(key) for key, before, make in writes]
        proxy.arm(fault, passes=passes)
        seen, error = proxy.count, None
        try:
            store.write_together(commits)
        except StorageError as raised:
            error = raised
        proxy.arm("")
        landed = error is None
        if isinstance(error, SaveOutcomeUnknownError):
            unknown += 1
            landed = settled(direct, proxy, commits[passes % 3])
            assert landed is not None
            assert fault == "late" or landed is (fault == "drop answer")
        else:
            assert error is None or isinstance(error, SaveFailedError)
        expected = [commit.session for commit in commits] if landed else befores
        assert [stored(direct, key) for key in keys] == [shown(one) for one in expected]
        proxy.deliver()
        assert [stored(direct, key) for key in keys] == [shown(one) for one in expected]
        assert unknown == 0 or {direct.landed(commit) for commit in commits} == {landed}
        if proxy.count == seen:
            break
    assert unknown == 1
    assert passes > 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_write_that_arrives_after_the_answer_is_refused(store, direct, proxy, fault):
    """It was stored twice: once when it was written again, and once when it arrived."""
    before = write_new(direct)
    store.version("k")
    commit = append(before)
    proxy.arm(fault)
    with pytest.raises(SaveOutcomeUnknownError):
        store.write(commit)
    landed = settled(direct, proxy, commit)
    assert landed is (fault == "drop answer")
    if not landed:
        again = attrs.evolve(commit, token="again")
        proxy.deliver()
        assert direct.version("k") == before.version
        store.write(again)
    assert [one.content for one in direct.load("k").messages] == ["one", "two", "new"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_deletion_that_is_cut_off_never_hits_the_chat_begun_after_it(store, direct, proxy, fault):
    for passes in count():
        before = write_new(direct)
        store.version("k")
        proxy.arm(fault, passes=passes)
        seen = proxy.count
        with suppress(SaveFailedError, SaveOutcomeUnknownError):
            store.delete("k", before.version)
        proxy.arm("")
        for _ in range(2):
            with suppress(SaveFailedError):
                direct.delete("k", before.version)
            proxy.deliver()
        assert direct.load("k") is None
        new = attrs.evolve(session_of("another"), key="k", generation="another", revision=1)
        direct.write(Commit(new, (), None, token=f"another {passes}"))
        proxy.deliver()
        assert facts(direct.load("k")) == facts(new)
        assert direct.delete("k", new.version)
        if proxy.count == seen:
            break
    assert passes > 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rename_that_is_cut_off_leaves_the_session_under_one_key(store, direct, proxy, fault):
    for passes in count():
        before = write_new(direct)
        store.version("k")
        proxy.arm(fault, passes=passes)
        seen, error = proxy.count, None
        try:
            store.rename("k", "l", before.version)
        except (SaveFailedError, SaveOutcomeUnknownError) as raised:
            error = raised
        proxy.arm("")
        proxy.deliver()
        there = [key for key in ("k", "l") if direct.load(key) is not None]
        assert len(there) == 1
        assert error is not None or there == ["l"]
        assert not isinstance(error, SaveFailedError) or there == ["k"]
        assert direct.delete(there[0])
        if proxy.count == seen:
            break
    assert passes > 2


@pytest.mark.parametrize("fault", FAULTS)
def test_a_read_that_is_cut_off_is_tried_again(store, direct, proxy, fault):
    before = write_new(direct)
    for call in (
        lambda: facts(store.load("k")) == facts(before),
        lambda: store.version("k") == before.version,
        lambda: store.window("k", limit=1)[0].content == "two",
        lambda: [one.key for one in store.infos()] == ["k"],
        lambda: [one.key for one in store.search("one")] == ["k"],
    ):
        assert call()
        proxy.arm(fault)
        seen = proxy.count
        assert call()
        assert proxy.count == seen + 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_question_that_is_cut_off_may_be_asked_again(store, direct, proxy, fault):
    for passes in count():
        before = write_new(direct, key=f"k{passes}")
        store.version("k")
        commit = append(before)
        commit.doubt.exists = True
        proxy.arm(fault, passes=passes)
        seen = proxy.count
        with suppress(SaveError):
            assert store.landed(commit) is False
        proxy.arm("")
        assert settled(direct, proxy, commit) is False
        proxy.deliver()
        with pytest.raises(ConflictError):
            direct.write(commit)
        if proxy.count == seen:
            break
    assert passes > 2
