"""What a store on a server does beyond the contract: its URL, its schema, its settings, connections that die, the fence."""

from __future__ import annotations

import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from datetime import timedelta, timezone
from types import SimpleNamespace

import attrs
import pytest

from session_manager import (
    ClosedError,
    ConflictError,
    CorruptSessionError,
    ForkedError,
    InvalidStorageError,
    Lease,
    ReadOnlyError,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    StorageError,
    UnsupportedFormatError,
    open_store,
)
from session_manager.model.changes import Append, Clear, Edit, Truncate
from session_manager.model.times import utc_now
from session_manager.stores.contract import MAX_TOKENS, Commit
from session_manager.stores.sharded import ShardedStore, shard_of
from tests.support.postgres import Place, needs_driver
from tests.support.small_sessions import AT, message, session_of
from tests.support.sqlite_saves import commit_of, write, write_new
from tests.support.strategies import facts

psycopg = needs_driver()

from session_manager.stores.postgres import PostgresStore, handle  # noqa: E402 - it needs the driver
from session_manager.stores.postgres.connecting import split_schema  # noqa: E402 - it needs the driver
from session_manager.stores.postgres.handle import Handle  # noqa: E402 - it needs the driver

SECRET = "hunter2-hunter2"


@pytest.fixture
def store(place):
    with closing(place.open()) as one:
        yield one


def texts(*some):
    return Append(at=AT, messages=tuple(message(text) for text in some))


def with_password(url, **changed):
    told = {**psycopg.conninfo.conninfo_to_dict(url), "password": SECRET, **changed}
    return f"postgresql://{told['user']}:{told['password']}@{told['host']}:{told['port']}/{told['dbname']}"


# Its URL


def test_a_url_opens_it_whole(place, monkeypatch):
    """The schema of its own is that of the URL's default, so the test creates it in a database of its own."""
    name = f"db_{place.schema}"
    place.run(f"CREATE DATABASE {name}")
    url = f"{with_password(place.url, dbname=name)}?application_name=bot&connect_timeout=5"
    try:
        with SessionManager(url) as m:
            m.add_message("telegram:42", "user", "hi")
        with SessionManager(url.replace("postgresql:", "postgres:")) as m:
            assert [one.content for one in m.get_history("telegram:42")] == ["hi"]
            assert SECRET not in repr(m) + m.health().store
            assert name in m.health().store
            with pytest.raises(ReadOnlyError), closing(open_store(url, read_only=True)) as beside:
                beside.write(Commit(attrs.evolve(session_of("a"), key="k", revision=1), (), None, token="t"))
    finally:
        place.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    "change",
    [{"port": "1"}, {"dbname": "nowhere"}, {"host": "no.such.host.invalid"}, {"user": "nobody_at_all"}],
    ids=["port", "database", "host", "user"],
)
def test_no_error_shows_a_password(place, change):
    with pytest.raises(StorageError) as raised:
        open_store(with_password(place.url, **change))
    shown = [repr(raised.value), str(raised.value), repr(raised.value.__cause__), str(raised.value.__context__)]
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:pw@{SECRET}@h/d",
        f"postgresql://u:{SECRET}@h:not-a-port{SECRET}/d",
        f"postgresql://h/d?{SECRET}={SECRET}",
        f"postgresql+psycopg://u:{SECRET}@h/d",
        f"POSTGRESQL://u:{SECRET}@h/d",
        f"mysql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}%@h/d",
        f"postgresql://u:{SECRET}@h/d?pool_size={SECRET}",
    ],
)
def test_an_invalid_url_is_refused_and_not_shown(url):
    with pytest.raises(InvalidStorageError) as raised:
        open_store(url)
    assert SECRET not in repr(raised.value) + str(raised.value) + repr(raised.value.__context__)


def test_a_connection_string_ends_without_a_line_break():
    """The database ``chats\\n`` does not exist, said the server, in two lines."""
    with pytest.raises(InvalidStorageError, match="a line break at its end"):
        PostgresStore("postgresql://h/chats\n")


@pytest.mark.parametrize("given", ["?schema={}", "?application_name=bot&schema={}&connect_timeout=5"])
def test_a_url_may_name_the_schema(place, given):
    """Without it no command and no operation could reach the sessions of a store with a schema of its own."""
    url = place.url + given.format(place.schema)
    with closing(place.open()) as store:
        write_new(store)
    with closing(open_store(url, read_only=True)) as store:
        assert list(store.keys()) == ["k"]
        assert store.server.endswith(f"schema {place.schema}")
    with SessionManager.shared(url) as m:
        assert "k" in m
    with closing(PostgresStore(url, schema=place.schema)) as store:
        assert list(store.keys()) == ["k"]
    with pytest.raises(ValueError, match="another one"):
        PostgresStore(url, schema="session_manager")


@pytest.mark.parametrize("schema", ["", "A", "a-b", "a%22b", "1a"])
def test_a_url_with_a_schema_of_another_kind_is_refused(place, schema):
    with pytest.raises(InvalidStorageError, match="needs a schema"):
        open_store(f"{place.url}?schema={schema}")


def test_a_question_mark_in_a_password_begins_no_parameters():
    url = f"postgresql://u:{SECRET}?schema=x@h/d"
    assert split_schema(url) == (url, None)


@pytest.mark.parametrize("schema", ["", "A", "a-b", 'a"b', "1a", "a" * 64, "a;drop"])
def test_the_name_of_a_schema_is_a_plain_one(place, schema):
    place.schema = schema
    try:
        with pytest.raises(ValueError, match="schema must be"):
            place.open()
    finally:
        place.schema = "none_such"


def test_the_bounds_of_the_network_are_those_of_the_url_or_some_seconds(place):
    with closing(place.open()) as store:
        store.version("k")
        told = store._connections._idle[-1].connection.info.get_parameters()
    assert (told["tcp_user_timeout"], told["keepalives_idle"], told["connect_timeout"]) == ("30000", "15", "10")
    place.url = psycopg.conninfo.make_conninfo(place.url, tcp_user_timeout=7000, connect_timeout=3)
    with closing(place.open()) as store:
        told = store._connections._idle[-1].connection.info.get_parameters()
    assert (told["tcp_user_timeout"], told["keepalives_idle"], told["connect_timeout"]) == ("7000", "15", "3")


@pytest.mark.parametrize(
    ("options", "bounds"),
    [
        ({}, ("30000", "15", "5", "3")),
        ({"tcp_user_timeout": 7000, "keepalives_idle": 4}, ("7000", "4", "5", "3")),
        ({"tcp_user_timeout": 0}, ("0", "15", "5", "3")),
        ({"options": "-c tcp_user_timeout=6000 -c tcp_keepalives_idle=600"}, ("6000", "15", "5", "3")),
    ],
    ids=["by default", "of the URL", "none", "of the server"],
)
@pytest.mark.parametrize("how", ["url", "connect"])
def test_the_server_gives_a_client_up_as_the_client_does_it(place, options, bounds, how):
    """It kept the locks of a machine that had vanished in the middle of a request for two hours."""
    place.url = psycopg.conninfo.make_conninfo(place.url, **options)
    chosen = {} if how == "url" else {"connect": lambda: psycopg.connect(place.url)}
    names = ("tcp_user_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    for timeout in (None, 30.0):
        with closing(place.open(statement_timeout=timeout, **chosen)) as store, store._connections.use() as used:
            assert tuple(used.run(f"SHOW {name}").fetchone()[0] for name in names) == bounds


# Its schema


def test_stores_that_open_a_new_schema_at_once_create_it_once(place):
    start = threading.Barrier(6)

    def opened(number):
        start.wait()
        with closing(place.open()) as one:
            write_new(one, key=f"k{number}")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(opened, range(6)))
    with closing(place.open()) as one:
        assert sorted(one.keys()) == [f"k{number}" for number in range(6)]


def test_a_schema_of_a_newer_version_is_refused(place, store):
    place.run("UPDATE {s}.meta SET format = 99")
    with pytest.raises(UnsupportedFormatError):
        place.open()


def test_a_role_that_may_not_create_a_schema_is_told_what_it_needs(place):
    role, name = f"role_{place.schema}", f"db_{place.schema}"
    place.run(f"CREATE DATABASE {name}")
    place.run(f"CREATE ROLE {role}")
    try:
        url = psycopg.conninfo.make_conninfo(place.url, dbname=name, options=f"-c role={role}")
        with pytest.raises(
            StorageError, match=f"the role needs CREATE in the database, or a schema {place.schema} of its own"
        ):
            PostgresStore(url, schema=place.schema)
        with psycopg.connect(psycopg.conninfo.make_conninfo(place.url, dbname=name)) as owner:
            owner.execute(f"CREATE SCHEMA {place.schema} AUTHORIZATION {role}")
        PostgresStore(url, schema=place.schema).close()
    finally:
        place.run(f"DROP DATABASE {name} WITH (FORCE)")
        place.run(f"DROP ROLE {role}")


@pytest.mark.parametrize("table", ["sessions", "meta"])
def test_tables_of_something_else_are_left_alone(place, table):
    """A table ``meta`` of another program was read, and had no such column."""
    place.run("CREATE SCHEMA {s}")
    place.run(f"CREATE TABLE {{s}}.{table} (x int)")
    with pytest.raises(InvalidStorageError, match="something else"):
        place.open()


def test_read_only_creates_nothing(place):
    with pytest.raises(StorageError, match="read-only"):
        place.open(read_only=True)
    assert place.run("SELECT to_regnamespace(%s)::text", place.schema) == [(None,)]


def test_a_read_only_store_reads_and_writes_nothing(place, store):
    before = write_new(store)
    with closing(place.open(read_only=True)) as beside:
        assert facts(beside.load("k")) == facts(before)
        assert [hit.key for hit in beside.search("one")] == ["k"]
        for call in (
            lambda: beside.write(commit_of(before, texts("x"))),
            lambda: beside.write_many([]),
            lambda: beside.delete("k"),
            lambda: beside.rename("k", "l", before.version),
            lambda: beside.compact("k"),
            lambda: beside.landed(commit_of(before, texts("x"))),
            lambda: beside.accept_edits("k"),
            lambda: beside.purge_quarantined("1-1"),
        ):
            with pytest.raises(ReadOnlyError):
                call()


# Durability


def test_a_server_that_may_lose_commits_is_refused_unless_asked_for(place):
    def lax():
        return psycopg.connect(place.url, options="-c synchronous_commit=off", autocommit=True)

    with pytest.raises(StorageError, match="may lose saved sessions: synchronous_commit=off"):
        place.open(connect=lax)
    with closing(place.open(connect=lax, durable=False)) as one, SessionManager(one) as m:
        assert "may lose saved sessions: synchronous_commit=off" in m.health().store
    with closing(place.open()) as one:
        assert "lose" not in repr(one)


@pytest.mark.parametrize("schema", ["there", "new"])
def test_a_server_that_takes_no_writes_is_refused_unless_it_is_only_read(place, schema):
    """The first save failed, after hours perhaps; a new schema could not be created."""
    if schema == "there":
        place.open().close()
    url = psycopg.conninfo.make_conninfo(place.url, options="-c default_transaction_read_only=on")
    with pytest.raises(StorageError, match="takes no writes: default_transaction_read_only is on"):
        PostgresStore(url, schema=place.schema)
    if schema == "there":
        with closing(PostgresStore(url, schema=place.schema, read_only=True)) as store:
            assert list(store.keys()) == []


# Connections


def processes(place):
    return place.run("SELECT pid FROM pg_stat_activity WHERE application_name = %s", place.schema)


@pytest.mark.parametrize("has_poll", [True, False], ids=["poll", "select"])
def test_a_connection_that_died_while_it_was_idle_costs_no_save(place, monkeypatch, has_poll):
    """A server that restarts, or a failover, ends all idle connections: each of them cost one failed save. Windows has no `poll`."""
    if not has_poll:
        monkeypatch.setattr(handle, "select", SimpleNamespace(select=select.select))
    with closing(place.open(connect=lambda: psycopg.connect(place.url, application_name=place.schema))) as store:
        before = write_new(store)
        for _ in range(3):
            ended = processes(place)
            assert ended
            place.run(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s",
                place.schema,
            )
            before = write(store, before, texts("x"))
            assert not set(ended) & set(processes(place))
        assert store.version("k") == before.version


def test_a_writer_that_stands_still_before_its_commit_gives_up_its_locks(place, monkeypatch):
    """Behind a pipeline, with which the writes of a truncation ended, the server waited without a timeout."""
    run = Handle.run

    def stand_still(used, text, *others, **options):
        if text == "COMMIT":
            wait_until(lambda: processes(place) == [])
        return run(used, text, *others, **options)

    named = {"connect": lambda: psycopg.connect(place.url, application_name=place.schema)}
    with closing(place.open(statement_timeout=0.2, **named)) as store:
        before = write_new(store)
        commit = commit_of(before, Truncate(at=AT, start=1), token="still")
        monkeypatch.setattr(Handle, "run", stand_still)
        with pytest.raises(SaveOutcomeUnknownError):
            store.write(commit)
        monkeypatch.undo()
        assert store.landed(commit) is False
        assert facts(store.load("k")) == facts(before)


def test_no_more_connections_are_kept_than_needed(place):
    with closing(place.open(connect=lambda: psycopg.connect(place.url, application_name=place.schema))) as store:
        with ThreadPoolExecutor(20) as threads:
            list(threads.map(lambda number: write_new(store, key=f"k{number}"), range(200)))
        wait_until(lambda: 1 <= len(processes(place)) <= 8)
    wait_until(lambda: processes(place) == [])


def test_a_pool_of_the_caller_is_used_and_stays_open(place):
    from psycopg_pool import ConnectionPool

    with ConnectionPool(place.url, min_size=1, max_size=2, open=True) as pool:
        with closing(place.open(pool=pool)) as store:
            before = write_new(store)
            with ThreadPoolExecutor(6) as threads:
                list(threads.map(lambda number: write_new(store, key=f"k{number}"), range(60)))
            write(store, before, Truncate(at=AT, start=1))
            assert len(list(store.keys())) == 61
        with pool.connection() as connection:
            assert connection.autocommit is False
            assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)


@pytest.mark.parametrize("options", [{"row_factory": "dict_row"}, {"cursor_factory": "ClientCursor"}])
def test_connections_of_the_caller_may_have_rows_and_cursors_of_their_own(place, options):
    """A team's pool often gives rows as dicts: the store failed with a `TypeError` when it was opened."""
    from psycopg import rows

    chosen = {name: getattr(rows, value, None) or getattr(psycopg, value) for name, value in options.items()}
    with closing(place.open(connect=lambda: psycopg.connect(place.url, **chosen))) as store:
        with SessionManager(store, lease=Lease(), archive=True) as m:
            for number in range(3):
                with m.turn("k", ref=f"{number}") as turn:
                    turn.add_message("user", f"hi {number}")
                    turn.truncate(1)
            assert [hit.key for hit in m.search("hi")] == ["k"] * 3
            m.rename("k", "j")
            assert [info.key for info in m.list_sessions()] == ["j"]
        session, archive = store.load("j"), list(store.archive("j"))
        assert [one.content for one in (*archive, *session.messages)] == ["hi 0", "hi 1", "hi 2"]


def test_what_gives_no_connections_is_refused_by_its_name(place):
    """It was a `StorageError` with the name of a `TypeError` or an `AttributeError`."""
    from psycopg_pool import AsyncConnectionPool

    for options, reason in (
        ({"connect": lambda: SimpleNamespace(close=lambda: None)}, "connect must return a psycopg.Connection"),
        ({"pool": object()}, "pool.connection must be callable"),
        ({"pool": SimpleNamespace(connection=lambda: closing(SimpleNamespace(close=int)))}, "pool must lend a psycopg"),
        ({"pool": AsyncConnectionPool(place.url, open=False)}, "pool must lend a psycopg.Connection"),
    ):
        with pytest.raises(TypeError, match=reason):
            place.open(**options)


def test_a_function_of_the_caller_may_fail_in_a_way_of_its_own(place):
    """Such as one that fetches a password: nothing was sent, so no outcome is unknown, and its text may be a secret."""
    fails = threading.Event()

    class Lender:
        """A pool, or a function that connects."""

        def connection(self):
            return closing(self())

        def __call__(self):
            if fails.is_set():
                raise OSError(f"no answer for {SECRET}")
            return psycopg.connect(place.url)

    for options in ({"connect": Lender()}, {"pool": Lender()}):
        fails.clear()
        with closing(place.open(**options)) as store:
            before = write_new(store, key=next(iter(options)))
            for used in store._connections._idle:
                used.connection.close()
            store._connections._idle.clear()
            fails.set()
            with pytest.raises(SaveFailedError, match="no connection: OSError") as raised:
                write(store, before, texts("x"))
            assert SECRET not in str(raised.value)
            with pytest.raises(StorageError, match="no connection: OSError"):
                store.load(before.key)


def test_a_manager_goes_on_when_its_server_is_there_again(place):
    """Until then turns and reads raise, and what was added stays in RAM."""
    is_away = threading.Event()

    def connect():
        return psycopg.connect(place.url, **({"port": 1} if is_away.is_set() else {}))

    with closing(place.open(connect=connect)) as store, SessionManager(store) as m:
        m.add_message("k", "user", "before")
        m.save("k")
        store._connections._idle.pop().connection.close()
        is_away.set()
        for call in (m.get_history, m.get_context, m.undo):
            with pytest.raises(StorageError, match="refused"):
                call("k")
        with pytest.raises(StorageError, match="refused"), m.turn("k") as turn:
            turn.add_message("user", "lost")
        with pytest.raises(StorageError, match="refused"):
            SessionManager("postgresql://127.0.0.1:1/chats")
        m.add_message("k", "user", "meanwhile")
        with pytest.raises(SaveFailedError, match="refused"):
            m.save("k")
        is_away.clear()
        assert m.save_all() == 1
        assert [message.content for message in m.get_history("k")] == ["before", "meanwhile"]


def test_health_does_not_ask_the_server(place):
    """It is asked while the server is down, and in event loops."""
    is_down = threading.Event()

    def connect():
        if is_down.is_set():
            raise psycopg.OperationalError("the server is down")
        return psycopg.connect(place.url, application_name=place.schema)

    with closing(place.open(connect=connect)) as store:
        with SessionManager(store) as m:
            for key in "ab":
                m.add_message(key, "user", "hi")
            m.save_all()
            place.run("UPDATE {s}.sessions SET state = 'x'")
            m.delete("a")
            is_down.set()
            ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s"
            place.run(ended, place.schema)
            m.add_message("b", "user", "hi")
            with pytest.raises(SaveFailedError):
                m.save("b")
            told = m.health()
            assert (told.quarantined, set(told.failures), told.ok) == (1, {"b"}, False)
            m.close(save=False)
        is_down.clear()
        with closing(place.open()) as other:
            assert other.count_quarantined() == 1
        assert store.purge_quarantined(store.quarantined()[0].name)
        assert store.count_quarantined() == 0


def test_a_statement_that_takes_too_long_is_ended(place):
    """A lock that somebody forgot to let go holds a save up for so long, and it has not happened then."""
    with closing(place.open(statement_timeout=1)) as store:  # it also bounds how long this process may stand still
        before = write_new(store)
        with psycopg.connect(place.url) as other:
            other.execute(f"SELECT 1 FROM {place.schema}.sessions FOR UPDATE")
            for change in (texts("x"), Truncate(at=AT, start=1)):
                with pytest.raises(SaveFailedError, match="statement timeout"):
                    write(store, before, change)
        write(store, before, texts("x"))


def test_what_takes_long_in_a_large_schema_is_not_ended(place):
    """`VACUUM` of many messages takes minutes: so `compact` and `erase` could never end. A lock is waited for as long as ever."""
    with closing(place.open()) as store:
        write(store, write_new(store), texts(*[os.urandom(900).hex() for _ in range(8)]))
    slow = "-c vacuum_cost_limit=1 -c vacuum_cost_delay=50"
    with closing(place.open(statement_timeout=0.15, connect=lambda: psycopg.connect(place.url, options=slow))) as store:
        began = time.monotonic()
        store.compact("k")
        assert time.monotonic() - began > 0.3
        with store._connections.use() as used:
            shown = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
            with suppress(ZeroDivisionError), used.unhurried():
                assert used.run(shown).fetchone() == ("0", "150ms")
                raise ZeroDivisionError
            assert used.run(shown).fetchone() == ("150ms", "0")
        with psycopg.connect(place.url) as other:
            other.execute(f"LOCK TABLE {place.schema}.messages")
            for call in (lambda: store.compact("k"), store.sizes, store.strays):
                with pytest.raises(StorageError, match="lock timeout"):
                    call()
        assert store.sizes()["k"] > 0
        assert store.strays() == []


def test_a_child_process_may_not_use_it(store):
    write_new(store)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            try:
                store.load("k")
            except ForkedError:
                os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.load("k") is not None
    with suppress(ClosedError):
        store.close()


# Commits


def test_a_commit_that_appends_is_one_statement(place, store):
    """One round trip, and one flush; also what prunes. A creation is one round trip."""
    seen = []

    before = write_new(store)
    connection = store._connections._idle[-1].connection
    wait = connection.wait

    def traced(generator, *arguments):
        seen.append(generator)
        return wait(generator, *arguments)

    connection.wait = traced
    for number in range(MAX_TOKENS + 2):
        before = write(store, before, Append(at=AT, messages=(message("x"),), turn=f"update {number}"))
    assert len(seen) == MAX_TOKENS + 2
    assert facts(store.load("k")) == facts(before)
    assert place.run("SELECT count(*) <= %s FROM {s}.commits", 2 * MAX_TOKENS) == [(True,)]


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_turn_is_one_look_and_one_statement(place, exclusive):
    """On an exclusive store it is the statement alone."""
    seen = []
    with closing(place.open(exclusive=exclusive)) as store, SessionManager(store) as one:
        one.add_message("k", "user", "first")
        one.save("k")
        connection = store._connections._idle[-1].connection
        wait = connection.wait
        connection.wait = lambda generator, *rest: seen.append(generator) or wait(generator, *rest)
        with one.turn("k", "a") as turn:
            turn.add({"role": "user", "content": "?"}, {"role": "assistant", "content": "!"})
        assert len(seen) == (1 if exclusive else 2)


def test_refs_are_kept_however_many_there_were(place, store):
    before = write_new(store)
    for number in range(0, 400, 7):
        changes = [Append(at=AT, turn=f"update {number + one}") for one in range(7)]
        before = write(store, before, *changes)
        assert store.load("k").refs == before.refs
    before = write(store, before, Clear(at=AT, generation="another"), Append(at=AT, turn="new"))
    assert facts(store.load("k")) == facts(before)
    place.run("DELETE FROM {s}.commits WHERE revision = %s", before.revision)
    with pytest.raises(CorruptSessionError, match="refs"):
        store.load("k")
    assert [finding.reason for finding in store.verify("k")] == ["its refs are damaged"]


def test_rows_that_are_in_the_way_are_damage(place, store):
    before = write_new(store)
    place.run("INSERT INTO {s}.messages (session, position, checksum, line) VALUES (1, 2, 0, '')")
    with pytest.raises(CorruptSessionError, match="rows that its state does not tell of"):
        write(store, before, texts("x"))
    assert store.version("k") == before.version
    place.run("DELETE FROM {s}.messages WHERE position = 1")
    with pytest.raises(CorruptSessionError, match="missing, or too many"):
        write(store, before, Edit(at=AT, position=1, message=message("new")))
    assert store.version("k") == before.version


def test_a_manager_on_another_machine_reads_only_what_is_new(place, store, monkeypatch):
    before = write_new(store)
    asked = []
    with closing(place.open()) as other:
        known = other.load("k")
        after = write(store, before, texts("three"))
        run = Handle.run
        monkeypatch.setattr(Handle, "run", lambda *one, **options: asked.append(run(*one, **options)) or asked[-1])
        newer = other.newer(known)
        assert facts(newer) == facts(after)
        assert sum(one.rowcount for one in asked if one.rowcount > 0 and b"messages" in one._query.query) == 1
        edited = write(store, after, Edit(at=AT, position=0, message=message("other")))
        assert facts(other.newer(newer)) == facts(edited)


# The fence


def waiting(place):
    """Return the statements that wait for a lock in a schema."""
    asked = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, %s) > 0"
    return place.run(asked, f'"{place.schema}"')


def waiting_for_any(place):
    """Return how many wait for a lock, of a row or of a key, in the store's database."""
    asked = "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"
    return place.run(asked)[0][0]


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end


def test_what_was_said_not_to_have_landed_never_lands(store):
    before = write_new(store)
    late = commit_of(before, texts("late"), token="late")
    late.doubt.exists = True
    assert store.landed(late) is False
    with pytest.raises(ConflictError):
        store.write(late)
    assert store.write_many([late])[0].__class__ is ConflictError
    after = write(store, before, texts("x"))
    assert store.version("k") == after.version


def test_a_write_without_a_token_is_stopped_by_nothing(store):
    """All of these would be one: a copy that was asked about once could never be written again."""
    copied = Commit(attrs.evolve(session_of("copied"), key="k", revision=1), (), None)
    copied.doubt.exists = True
    assert store.landed(copied) is False
    store.write(copied)
    assert store.version("k") == copied.session.version


@pytest.mark.parametrize("between", ["nothing", "another one came and went", "a rename there and back"])
def test_a_creation_that_was_said_not_to_have_landed_never_lands(store, between):
    late = Commit(attrs.evolve(session_of("late"), key="k", revision=1), (), None, token="late")
    late.doubt.exists = True
    assert store.landed(late) is False
    if between != "nothing":
        there = write_new(store)
        if between == "a rename there and back":
            store.rename("k", "l", there.version)
            with pytest.raises(ConflictError):
                store.write(late)
            store.rename("l", "k", there.version)
        assert store.delete("k", there.version)
    with pytest.raises(ConflictError):
        store.write(late)
    assert store.load("k") is None
    assert store.landed(late) is False


def test_a_voided_write_stays_void_when_its_session_is_renamed_back(store):
    before = write_new(store)
    late = commit_of(before, texts("late"), token="late")
    late.doubt.exists = True
    store.rename("k", "l", before.version)
    assert store.landed(late) is False
    store.rename("l", "k", before.version)
    with pytest.raises(ConflictError):
        store.write(late)
    assert store.version("k") == before.version


@pytest.mark.parametrize("kind", ["append", "create"])
def test_a_question_waits_for_the_write_that_is_under_way(place, store, kind):
    """A write that has not committed yet may land. A creation has no row yet that could be locked."""
    slow = Commit(attrs.evolve(session_of("slow"), key="k", revision=1), (), None, token="slow")
    if kind == "append":
        slow = commit_of(write_new(store), texts("slow"), token="slow")
    slow.doubt.exists = True
    there = slow.session.messages[-1].position
    with closing(place.open()) as other, psycopg.connect(place.url) as holder, ThreadPoolExecutor(2) as threads:
        # The row of the session is written, and that of the message waits for another one in its place.
        blocking = f"INSERT INTO {place.schema}.messages (session, position, checksum, line) VALUES (1, %s, 0, '')"
        holder.execute(blocking, (there,))
        writing = threads.submit(other.write, slow)
        wait_until(lambda: len(waiting(place)) == 1)
        asking = threads.submit(store.landed, slow)
        wait_until(lambda: asking.done() or waiting_for_any(place) == 2)
        holder.rollback()
        writing.result()
        assert asking.result() is True


# Search


def test_search_reads_what_was_committed_late(place, store):
    """Transactions do not end in the order in which they number their rows: a mark up to which all was read would miss some."""
    first = write_new(store, key="a")
    assert [hit.key for hit in store.search("one")] == ["a"]
    write_new(store, key="b")
    write(store, first, texts("one more"))
    assert sorted(hit.key for hit in store.search("one")) == ["a", "a", "b"]
    assert place.run("SELECT count(*) FROM {s}.messages WHERE grams IS NULL") == [(0,)]


def test_search_without_an_index_finds_the_same(place):
    with closing(place.open(search=False)) as store:
        write_new(store)
        assert store.indexed is False
        assert [hit.key for hit in store.search("one")] == ["k"]
        assert place.run("SELECT count(*) FROM {s}.messages WHERE grams IS NOT NULL") == [(0,)]
    with closing(place.open()) as store:
        assert [hit.key for hit in store.search("one")] == ["k"]


# Damage


def test_what_is_whole_of_a_damaged_session_is_salvaged(place, store):
    before = write(store, write_new(store), texts("three"))
    place.run("UPDATE {s}.messages SET checksum = checksum + 1 WHERE position = 1")
    found = store.salvage("k")
    assert [one.content for one in found.session.messages] == ["one", "three"]
    assert found.lost == 1
    names = store.put_salvaged(found)
    assert [one.content for one in store.load("k").messages] == ["one", "three"]
    assert store.load("k").revision == before.revision + 1
    assert store.verify("k") == store.strays() == []
    assert [one.name for one in store.quarantined()] == names
    assert b"three" in store.read_quarantined(names[0])
    assert store.purge_quarantined(names[0]) is True
    assert store.quarantined() == []


def test_edits_by_hand_are_accepted(place, store):
    before = write_new(store)
    place.run("UPDATE {s}.messages SET line = convert_to(replace(convert_from(line, 'UTF8'), 'one', 'ONE'), 'UTF8')")
    with pytest.raises(CorruptSessionError):
        store.load("k")
    store.accept_edits("k")
    assert [one.content for one in store.load("k").messages] == ["ONE", "two"]
    assert store.load("k").revision == before.revision + 1


def test_rows_without_a_session_are_told(place, store):
    write_new(store)
    place.run("INSERT INTO {s}.messages (session, position, checksum, line) VALUES (99, 2, 0, '')")
    place.run(
        "INSERT INTO {s}.sessions (key, generation, revision, state, checksum, refs_checksum, edited, place) VALUES ('\\xff', 'g', 1, '', '', 0, 1, 0)"
    )
    assert [finding.reason for finding in store.strays()] == [
        "1 messages belong to no session",
        "a session whose key is no text",
    ]
    assert list(store.keys()) == ["k"]


def test_its_clock_is_the_servers(store):
    before, now, after = utc_now(), store.now(), utc_now()
    assert now.tzinfo is timezone.utc
    assert before - timedelta(seconds=5) < now < after + timedelta(seconds=5)


# A server that went back

TABLES = ("sessions", "commits", "messages")


def test_a_session_that_was_never_there_is_told_from_a_deleted_one(place, store):
    """A failover loses its rows, and leaves no tombstone. A tombstone that only stops a write tells of no deletion."""
    before = write_new(store)
    for table in TABLES:
        place.run(f"DELETE FROM {{s}}.{table}")
    voided = Commit(before, (), None, token="late")
    voided.doubt.exists = True
    for _ in "without a tombstone", "with one of a write that was stopped":
        found = store.newer(before)
        assert (found.revision, found._parted, found.generation) == (0, True, before.generation)
        assert store.landed(voided) is False
    write_new(store, before)
    store.delete("k")
    assert store.newer(before) is None


def test_a_turn_that_the_server_lost_is_written_again_once(place):
    """As after a failover: rows of before, and two machines that have seen more."""
    with (
        closing(place.open()) as store,
        closing(place.open()) as beside,
        SessionManager(store) as one,
        SessionManager(beside) as other,
    ):
        for text in "ab":
            one.add_message("k", "user", text)
            one.save("k")
            if text == "a":
                kept = {name: place.run(f"SELECT one::text FROM {{s}}.{name} AS one") for name in TABLES}
        assert [message.content for message in other.get_history("k")] == ["a", "b"]
        for name, rows in kept.items():
            place.run(f"DELETE FROM {{s}}.{name}")
            for (row,) in rows:
                place.run(f"INSERT INTO {{s}}.{name} OVERRIDING SYSTEM VALUE SELECT (%s::{{s}}.{name}).*", row)
        one.add_message("k", "user", "mine")
        other.add_message("k", "user", "theirs")
        assert one.save("k")
        assert other.save("k")
        assert [message.content for message in store.load("k").messages] == ["a", "b", "mine", "theirs"]
        assert one.health().went_back == ("k",)


def test_a_session_that_the_server_lost_and_that_is_deleted_stays_deleted(place, store):
    with SessionManager(store) as one, SessionManager(store) as other:
        one.add_message("k", "user", "a")
        one.save("k")
        assert len(other.get_history("k")) == 1
        for table in TABLES:
            place.run(f"DELETE FROM {{s}}.{table}")
        assert other.delete("k")
        assert one.get_history("k") == other.get_history("k") == []
        assert one.save_all() == 0
        assert store.load("k") is None


def test_a_session_that_moved_to_another_shard_has_not_gone_back(place):
    """The rename writes a copy without a token there; it was taken for a write of another past, and each save was a conflict."""
    places = {"one": place, "two": Place(place.url)}
    keys = {shard_of(f"k{number}", places): f"k{number}" for number in range(60)}
    with ExitStack() as stack:
        stack.callback(places["two"].remove)
        store = stack.enter_context(closing(ShardedStore({name: one.open() for name, one in places.items()})))
        one, other = (stack.enter_context(SessionManager(store)) for _ in range(2))
        one.add_message(keys["one"], "user", "a")
        key = one.rename(keys["one"], keys["two"]).key
        other.add_message(key, "user", "b")
        other.save(key)
        assert [message.content for message in one.get_history(key)] == ["a", "b"]
        assert one.health().went_back == ()
        one.add_message(key, "user", "c")
        assert one.save(key)
        assert [message.content for message in other.get_history(key)] == ["a", "b", "c"]
