"""Turns on PostgreSQL, beside the bare statements that write as many rows; and many sessions on it."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import fill, texts
from benchmarks.place import Place
from benchmarks.server import NoServerError, serving
from session_manager import SessionInfo, SessionManager

__all__ = ["postgres"]

_SIZES = (10, 100, 1_000, 10_000)
_SESSIONS = 100_000
_PAGE = 100
_SHARED, _EXCLUSIVE, _FLAT = Target(2.8), Target(1.9), Target(1.1)
_PROCESSOR = Target(450e-6, of="value")
_ALTERNATING, _OPENING, _LISTING = (Target(one, of="value") for one in (0.010, 0.020, 0.005))

_TABLE = """
    CREATE TABLE floor (session bigint, position bigint, line bytea NOT NULL, checksum bigint NOT NULL, PRIMARY KEY (session, position))
"""
_INSERT = "INSERT INTO floor VALUES (1, %s, %b, 0), (1, %s, %b, 0)"


def postgres(place: Place) -> Iterator[Case]:
    """Write a turn of two messages of 1 KB to PostgreSQL, against INSERT and COMMIT; alternate, open and list there."""
    try:
        with serving(place.path) as server:
            with server.database("benchmark_turns") as url:
                yield from _turns(place, url)
            with server.database("benchmark_many") as url:
                yield from _many(place, url)
    except NoServerError as error:
        print(f"no figures of PostgreSQL: {error}", file=sys.stderr)


class _Rows:
    """A table without anything around it, to which rows of the same size are added by a connection of psycopg.

    :param autocommit: one statement and one round trip; otherwise `INSERT` and `COMMIT` are two.
    """

    def __init__(self, url: str, *, autocommit: bool, first: int) -> None:
        import psycopg  # noqa: PLC0415 - most workloads need no server

        self._connection = psycopg.connect(url, autocommit=autocommit)
        self._positions = itertools.count(first, 2)
        self._texts = texts()
        if not first:
            self._connection.execute(_TABLE)
            self._connection.commit()

    def insert(self) -> None:
        """Add two rows, durably."""
        position = next(self._positions)
        lines = [f'{{"position":{position},"message":{{"role":"user","content":"{next(self._texts)}"}}}}' for _ in "ab"]
        self._connection.execute(_INSERT, (position, lines[0].encode(), position + 1, lines[1].encode()))
        self._connection.commit()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class _Chat:
    """A session of a manager, to which turns are added."""

    def __init__(self, manager: SessionManager, key: str, count: int = 0) -> None:
        self._manager = manager
        self._key = key
        self._refs = itertools.count()
        self._texts = texts()
        fill(manager, key, count, self._texts)
        manager.save(key)

    def turn(self) -> None:
        """Add a turn of two messages, durably."""
        with self._manager.turn(self._key, f"{id(self)}-{next(self._refs)}") as turn:
            turn.add({"role": "user", "content": next(self._texts)})
            turn.add({"role": "assistant", "content": next(self._texts)})


def _twice(step: Callable[[], object]) -> Contestant:
    """Measure a step that follows one of its own kind, so that it does not pay for what others left in the caches."""

    def measured() -> list[float]:
        step()
        return [timed(step)]

    return measured


def _processor(step: Callable[[], object]) -> Contestant:
    """Measure the processor's time that this thread takes for a step, without that of the server."""

    def measured() -> list[float]:
        step()
        began = time.thread_time()
        step()
        return [time.thread_time() - began]

    return measured


def _open(url: str, *, exclusive: bool) -> Any:
    from session_manager.stores.postgres import PostgresStore  # noqa: PLC0415 - most workloads need no server

    return PostgresStore(url, schema="exclusive" if exclusive else "shared", exclusive=exclusive)


def _turns(place: Place, url: str) -> Iterator[Case]:
    sizes = sorted({place.count(size) for size in _SIZES})
    first, last = sizes[0], sizes[-1]
    with ExitStack() as stack:
        bare = stack.enter_context(closing(_Rows(url, autocommit=False, first=0)))
        single = stack.enter_context(closing(_Rows(url, autocommit=True, first=1_000_000_000)))
        managers = [_manager(stack, url, exclusive=exclusive) for exclusive in (False, True)]
        chats = {
            (name, size): _Chat(manager, f"chat-{size}", size)
            for name, manager in zip(("shared", "exclusive"), managers, strict=True)
            for size in sizes
        }
        contestants = {"insert, commit": _twice(bare.insert), "one statement": _twice(single.insert)}
        contestants |= {f"{name}, {size:,}": _twice(chat.turn) for (name, size), chat in chats.items()}
        figures = [
            Figure(f"{name}, {size:,} messages", f"{name}, {size:,}", "insert, commit", target)
            for name, target in (("shared", _SHARED), ("exclusive", _EXCLUSIVE))
            for size in sizes
        ]
        figures += [
            Figure(f"{name}, {last:,} against {first:,}", f"{name}, {last:,}", f"{name}, {first:,}", _FLAT)
            for name in ("shared", "exclusive")
            if last > first
        ]
        figures += [
            Figure(f"{name}, against one statement", f"{name}, {first:,}", "one statement")
            for name in ("shared", "exclusive")
        ]
        yield Case("a turn", contestants, figures, place.rounds(300))
        contestants = {"insert, commit": _processor(bare.insert)}
        contestants |= {name: _processor(chats[name, first].turn) for name in ("shared", "exclusive")}
        figures = [
            Figure(f"{name}, the client's processor", name, "insert, commit", _PROCESSOR)
            for name in ("shared", "exclusive")
        ]
        yield Case("processor", contestants, figures, place.rounds(300))
        yield _alternating(place, stack, url, chats["shared", last], f"chat-{last}", bare)


def _manager(stack: ExitStack, url: str, *, exclusive: bool) -> SessionManager:
    store = stack.enter_context(closing(_open(url, exclusive=exclusive)))
    return stack.enter_context(SessionManager(store))


def _alternating(place: Place, stack: ExitStack, url: str, one: _Chat, key: str, bare: _Rows) -> Case:
    """Let two machines take turns in a session: each reads what the other one has added."""
    other = _Chat(_manager(stack, url, exclusive=False), key)
    contestants: dict[str, Contestant] = {
        "two machines": lambda: [timed(one.turn), timed(other.turn)],
        "insert, commit": _twice(bare.insert),
    }
    figure = Figure("two machines alternate in the longest", "two machines", "insert, commit", _ALTERNATING)
    return Case("two machines", contestants, [figure], place.rounds(100))


def _many(place: Place, url: str) -> Iterator[Case]:
    keys = place.keys(_SESSIONS)
    with ExitStack() as stack:
        manager = _manager(stack, url, exclusive=False)
        for start in range(0, len(keys), 1000):
            for key in keys[start : start + 1000]:
                fill(manager, key, 2, texts())
            manager.save_all()
        _settle(url)
        yield _opening(place, url, len(keys))
        yield _listing(place, stack, url, manager, keys)


def _pages(manager: SessionManager, after: SessionInfo | None) -> Contestant:
    return lambda: [timed(lambda: manager.list_sessions(limit=_PAGE, after=after))]


def _settle(url: str) -> None:
    """Let the server do what it puts off, as it has done some time after sessions came in."""
    import psycopg  # noqa: PLC0415 - most workloads need no server

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _opening(place: Place, url: str, count: int) -> Case:
    import psycopg  # noqa: PLC0415 - most workloads need no server

    def opened() -> list[float]:
        with ExitStack() as stack:
            return [timed(lambda: _manager(stack, url, exclusive=False))]

    def connected() -> list[float]:
        found: list[Any] = []
        seconds = timed(lambda: found.append(psycopg.connect(url)))
        found[0].close()
        return [seconds]

    figure = Figure(f"open {count:,} sessions", "open", "connect", _OPENING)
    return Case("open", {"open": opened, "connect": connected}, [figure], place.rounds(30))


def _listing(place: Place, stack: ExitStack, url: str, manager: SessionManager, keys: Sequence[str]) -> Case:
    import psycopg  # noqa: PLC0415 - most workloads need no server

    connection = stack.enter_context(psycopg.connect(url, autocommit=True))
    middle: list[SessionInfo] = manager.list_sessions(limit=max(len(keys) // 2, 1))[-1:]
    select = "SELECT key, state FROM shared.sessions ORDER BY place, key LIMIT %s"
    size = min(_PAGE, len(keys))
    figures = [
        Figure(f"a page of {size:,} of {len(keys):,}", "page", "select", _LISTING),
        Figure("one from the middle", "in the middle", "select", _LISTING),
        Figure("the first one, with all sessions in RAM", "all in RAM", "select"),
    ]
    other = _manager(stack, url, exclusive=False)
    contestants: dict[str, Contestant] = {
        "page": _pages(other, None),
        "in the middle": _pages(other, middle[0]),
        "all in RAM": _pages(manager, None),
        "select": lambda: [timed(lambda: connection.execute(select, (_PAGE,)).fetchall())],
    }
    return Case("a page", contestants, figures, place.rounds(50))
