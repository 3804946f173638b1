"""A connection that is in use: statements, with the name of the schema put in, and transactions of one round trip."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import attrs
import psycopg
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import tuple_row

__all__ = ["Cursor", "Handle", "Statement"]

Cursor = psycopg.Cursor[tuple[Any, ...]]
#: A statement, and its values.
Statement = tuple[str, Sequence[Any]]

_TIMEOUTS = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
_SET_TIMEOUTS = "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)"
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@lru_cache(maxsize=1024)
def _named(text: str, schema: str) -> bytes:
    """Return a statement with the name of the schema, which is a plain identifier."""
    return text.replace("{s}", f'"{schema}"').encode()


def _look_at(socket: int) -> Callable[[], bool]:
    """Return a function that says whether there is something to read on a socket."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return lambda: bool(poll.poll(0))
    return lambda: bool(select.select([socket], [], [], 0)[0])  # Windows has no `poll`


def _cursor_of(connection: psycopg.Connection[tuple[Any, ...]]) -> Cursor:
    """Return a cursor whose rows are tuples, in the binary format. A connection that a caller opened may have others by default."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    cursor.format = Format.BINARY
    return cursor


@attrs.frozen(eq=False, repr=False)
class Handle:
    """A connection that one thread uses. It is in autocommit mode.

    :param connection: the driver's.
    :param schema: the name of the schema, a plain identifier.
    :param prepared: whether statements that are repeated may be prepared.
    """

    connection: psycopg.Connection[tuple[Any, ...]]
    schema: str
    prepared: bool
    #: That of `row`. A new one for each statement costs as much as what is bound.
    _cursor: Cursor = attrs.field(init=False)
    _is_readable: Callable[[], bool] = attrs.field(init=False)

    @_cursor.default
    def _new_cursor(self) -> Cursor:
        return _cursor_of(self.connection)

    @_is_readable.default
    def _new_look(self) -> Callable[[], bool]:
        return _look_at(self.connection.fileno())

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read: on an idle connection, its server has ended it, or the network has."""
        return self._is_readable()

    def row(self, text: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        """Run a statement that is often repeated; return its first row, or `None`. Not in a pipeline.

        :param text: ``{s}`` stands for the schema.
        :raises psycopg.Error: the driver's errors.
        """
        prepare = None if self.prepared else False
        return self._cursor.execute(_named(text, self.schema), values, prepare=prepare).fetchone()

    def run(self, text: str, values: Sequence[Any] = (), *, prepare: bool | None = None) -> Cursor:
        """Run a statement.

        :param text: ``{s}`` stands for the schema.
        :param prepare: whether to prepare it; `None`: if it is repeated.
        :raises psycopg.Error: the driver's errors.
        """
        prepare = prepare if self.prepared else False
        return _cursor_of(self.connection).execute(_named(text, self.schema), values, prepare=prepare)

    def run_many(self, text: str, values: Sequence[Sequence[Any]]) -> None:
        """Run a statement with many sets of values, in few round trips."""
        with _cursor_of(self.connection) as cursor:
            cursor.executemany(_named(text, self.schema), values)

    def iterate(self, text: str, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows of a statement, a part of them in RAM at once, in a transaction that is open."""
        with psycopg.ServerCursor(self.connection, "rows", row_factory=tuple_row) as cursor:
            cursor.itersize = 500
            cursor.execute(_named(text, self.schema), values, binary=True)
            yield from cursor

    def pipeline(self) -> AbstractContextManager[object]:
        """Send what is run in the block without waiting for answers, which are there at its end."""
        return self.connection.pipeline() if psycopg.Pipeline.is_supported() else nullcontext()

    def together(self, *statements: Statement, begin: str = "BEGIN") -> list[Cursor]:
        """Run statements in one round trip, in a transaction of their own, unless one is open; return a cursor for each."""
        is_open = self.connection.info.transaction_status != TransactionStatus.IDLE
        with self.pipeline():
            if not is_open:
                self.run(begin, prepare=False)
            cursors = [self.run(text, values) for text, values in statements]
            if not is_open:
                self.run("COMMIT", prepare=False)
        return cursors

    def in_turn(self, statements: Sequence[Statement]) -> list[Cursor]:
        """Run statements one after the other in a transaction that is open, in one round trip; return a cursor for each.

        One alone is no pipeline. Behind that, the server would wait for the next request without a timeout.
        """
        with self.pipeline() if len(statements) > 1 else nullcontext():
            return [self.run(text, values) for text, values in statements]

    def snapshot(self, *statements: Statement) -> list[Cursor]:
        """Run statements that read, all of one moment, in one round trip; return a cursor for each.

        In a transaction that is open, its locks are what keeps the rows as they are.
        """
        return self.together(*statements, begin=_SNAPSHOT)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read in the block what was there at one moment."""
        self.run(_SNAPSHOT, prepare=False)
        yield
        self.run("COMMIT", prepare=False)

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let statements in the block run as long as their tables need; locks are waited for as long as a statement may run otherwise.

        Not through a pooler, where no setting is made.
        """
        if not self.prepared:
            yield
            return
        before = self.run(_TIMEOUTS, prepare=False).fetchone() or ("0", "0")
        self.run(_SET_TIMEOUTS, ("0", before[0]), prepare=False)
        try:
            yield
        finally:
            if self.connection.info.transaction_status == TransactionStatus.IDLE:
                self.run(_SET_TIMEOUTS, before, prepare=False)
            else:
                self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the block; undo after an error."""
        with self.connection.transaction():
            yield
