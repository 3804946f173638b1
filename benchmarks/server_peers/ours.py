"""This library on a server, and the floor: what takes part beside the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.server_peers.conversation import Conversation
from session_manager import Message, SessionManager, Turn

__all__ = ["Exclusive", "ExclusiveRecent", "Floor", "Shared", "SharedRecent"]

_ROLES = ("user", "assistant")
_RECENT = 20


class Shared(Conversation):
    """`SessionManager` on a `PostgresStore`, as one of several workers."""

    does = "a turn with get_context() of all"
    exclusive = False
    recent: int | None = None

    def __init__(self, url: str, key: str) -> None:
        from session_manager.stores.postgres import PostgresStore

        self._key = key
        self._store = PostgresStore(url, exclusive=self.exclusive)
        self._manager = SessionManager(self._store)

    def begin(self, texts: Sequence[str]) -> None:
        self._manager.add(self._key, *[Message(_ROLES[number % 2], text) for number, text in enumerate(texts)])
        self._manager.save(self._key)

    def read(self) -> list[str]:
        return [message["content"] for message in self._manager.get_context(self._key, max_messages=self.recent)]

    def add(self, question: str, answer: str) -> None:
        with self._manager.turn(self._key) as turn:
            _add(turn, question, answer)

    def turn(self, question: str, answer: str) -> int:
        with self._manager.turn(self._key) as turn:
            found = len(turn.get_context(max_messages=self.recent))
            _add(turn, question, answer)
        return found

    def answer(self, question: str, ask: Callable[[int], str]) -> str:
        with self._manager.turn(self._key, ref=question) as turn:
            if not turn.done:
                _add(turn, question, ask(len(turn.get_context())))
        return str(turn.messages[-1].content)

    def close(self) -> None:
        self._manager.close()
        self._store.close()


class SharedRecent(Shared):
    """The same with a context of the last messages."""

    does = f"a turn with get_context() of the last {_RECENT}"
    recent = _RECENT


class Exclusive(Shared):
    """The same as the only writer: reads are of RAM."""

    exclusive = True


class ExclusiveRecent(Exclusive):
    """The same with a context of the last messages."""

    does = f"a turn with get_context() of the last {_RECENT}"
    recent = _RECENT


def _add(turn: Turn, question: str, answer: str) -> None:
    turn.add_message("user", question)
    turn.add_message("assistant", answer)


class Floor(Conversation):
    """The bare statements: the last rows are read, and two are inserted in one transaction."""

    does = "INSERT of two rows, and COMMIT"

    def __init__(self, url: str, key: str) -> None:
        import psycopg

        self._key = key
        self._connection = psycopg.connect(url)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS floor (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, line text)"
        )
        self._connection.commit()

    def begin(self, texts: Sequence[str]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany("INSERT INTO floor (key, line) VALUES (%s, %s)", [(self._key, text) for text in texts])
        self._connection.commit()

    def read(self) -> list[str]:
        rows = self._connection.execute("SELECT line FROM floor WHERE key = %s ORDER BY id", (self._key,)).fetchall()
        self._connection.commit()
        return [line for (line,) in rows]

    def add(self, question: str, answer: str) -> None:
        self._connection.execute(
            "INSERT INTO floor (key, line) VALUES (%s, %s), (%s, %s)", (self._key, question, self._key, answer)
        )
        self._connection.commit()

    def turn(self, question: str, answer: str) -> int:
        self.add(question, answer)
        return 0

    def close(self) -> None:
        self._connection.close()
