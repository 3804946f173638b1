"""The other libraries on a server. Each is imported by its own conversation only; one that is not there is named as missing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from benchmarks.server_peers.conversation import Conversation

__all__ = ["ADK", "LangChain", "LangGraph", "OpenAI", "OpenAIRecent"]

_ROLES = ("user", "assistant")
_RECENT = 20


class _InLoop(Conversation):
    """One whose calls are those of asyncio: a loop of its own runs them."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        self._key = key
        self._loop = asyncio.new_event_loop()

    def turn(self, question: str, answer: str) -> int:
        return int(self._run(self._turn(question, answer)))

    async def _turn(self, question: str, answer: str) -> int:
        raise NotImplementedError

    async def _end(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._run(self._end())
        self._loop.close()

    def _run(self, call: Any) -> Any:
        return self._loop.run_until_complete(call)


class OpenAI(_InLoop):
    """OpenAI Agents SDK, `SQLAlchemySession`."""

    package = "openai-agents"
    does = "get_items, and add_items of two"
    recent: int | None = None

    def __init__(self, url: str, key: str) -> None:
        from agents.extensions.memory import SQLAlchemySession

        super().__init__(url, key)
        self._session = SQLAlchemySession.from_url(key, url=self._url, create_tables=True)

    def begin(self, texts: Sequence[str]) -> None:
        self._run(self._session.add_items(_items(texts)))

    def read(self) -> list[str]:
        return [str(item["content"]) for item in self._run(self._session.get_items(self.recent))]

    def add(self, question: str, answer: str) -> None:
        self._run(self._session.add_items(_items((question, answer))))

    async def _turn(self, question: str, answer: str) -> int:
        found = len(await self._session.get_items(self.recent))
        await self._session.add_items(_items((question, answer)))
        return found

    async def _end(self) -> None:
        await self._session.engine.dispose()


class OpenAIRecent(OpenAI):
    """The same with the last messages."""

    does = f"get_items(limit={_RECENT}), and add_items of two"
    recent = _RECENT


def _items(texts: Sequence[str]) -> Any:
    return [{"role": _ROLES[number % 2], "content": text} for number, text in enumerate(texts)]


class ADK(_InLoop):
    """Google ADK, `DatabaseSessionService`: an event for each message."""

    package = "google-adk"
    does = "get_session, and append_event twice"

    def __init__(self, url: str, key: str) -> None:
        from google.adk.events import Event
        from google.adk.sessions import DatabaseSessionService
        from google.genai import types

        super().__init__(url, key)
        self._names = {"app_name": "app", "user_id": "user", "session_id": key}
        self._service = DatabaseSessionService(db_url=self._url)
        self._event: Any = Event
        self._types: Any = types
        self._session: Any = None

    def begin(self, texts: Sequence[str]) -> None:
        self._run(self._begin(texts))

    def read(self) -> list[str]:
        self._session = self._run(self._found())
        return [event.content.parts[0].text for event in self._session.events]

    def add(self, question: str, answer: str) -> None:
        self._run(self._append(self._session, question, answer))

    async def _begin(self, texts: Sequence[str]) -> None:
        session = await self._found()
        if session is None:
            session = await self._service.create_session(**self._names)
        if not texts:
            return
        # What its `append_event` would leave, row by row: so many calls of it take minutes.
        schema = self._service._get_schema_classes()
        async with self._service.database_session_factory() as opened:
            for number, text in enumerate(texts):
                opened.add(schema.StorageEvent.from_event(session, self._of(number, text)))
            await opened.commit()

    async def _turn(self, question: str, answer: str) -> int:
        session = await self._found()
        count = len(session.events)
        await self._append(session, question, answer)
        return count

    async def _found(self) -> Any:
        return await self._service.get_session(**self._names)

    async def _append(self, session: Any, question: str, answer: str) -> None:
        for number, text in enumerate((question, answer)):
            await self._service.append_event(session, self._of(number, text))

    def _of(self, number: int, text: str) -> Any:
        content = self._types.Content(role=("user", "model")[number % 2], parts=[self._types.Part(text=text)])
        return self._event(author=("user", "agent")[number % 2], content=content, invocation_id=uuid.uuid4().hex)

    async def _end(self) -> None:
        await self._service.close()


class LangChain(Conversation):
    """LangChain Postgres, `PostgresChatMessageHistory`."""

    package = "langchain-postgres"
    does = "get_messages, and add_messages of two"

    def __init__(self, url: str, key: str) -> None:
        import psycopg
        from langchain_postgres import PostgresChatMessageHistory

        self._connection = psycopg.connect(url)
        PostgresChatMessageHistory.create_tables(self._connection, "messages")
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, key))
        self._history = PostgresChatMessageHistory("messages", name, sync_connection=self._connection)

    def begin(self, texts: Sequence[str]) -> None:
        self._history.add_messages(_messages(texts))

    def read(self) -> list[str]:
        return [str(message.content) for message in self._history.get_messages()]

    def add(self, question: str, answer: str) -> None:
        self._history.add_messages(_messages((question, answer)))

    def close(self) -> None:
        self._connection.close()


class LangGraph(Conversation):
    """LangGraph, `PostgresSaver`: one checkpoint of the channel `messages` for a turn."""

    package = "langgraph-checkpoint-postgres"
    does = "get_tuple, and put of one checkpoint"

    def __init__(self, url: str, key: str) -> None:
        from langgraph.checkpoint.base import empty_checkpoint
        from langgraph.checkpoint.postgres import PostgresSaver
        from psycopg import Connection
        from psycopg.rows import dict_row

        self._connection: Any = Connection.connect(url, autocommit=True, prepare_threshold=0, row_factory=dict_row)
        self._saver = PostgresSaver(self._connection)
        self._saver.setup()
        self._checkpoint = empty_checkpoint
        self._config: Any = {"configurable": {"thread_id": key, "checkpoint_ns": ""}}
        self._base: Any = self._config
        self._messages: list[Any] = []

    def begin(self, texts: Sequence[str]) -> None:
        self._base, self._messages = self._config, _messages(texts)
        self._put()

    def read(self) -> list[str]:
        found = self._saver.get_tuple(self._config)
        if found is None:
            self._base, self._messages = self._config, []
        else:
            self._base, self._messages = found.config, list(found.checkpoint["channel_values"]["messages"])
        return [str(message.content) for message in self._messages]

    def add(self, question: str, answer: str) -> None:
        self._messages += _messages((question, answer))
        self._put()

    def close(self) -> None:
        self._connection.close()

    def _put(self) -> None:
        count = len(self._messages)
        # As a graph makes it: the number goes up, and a random part tells two writers apart.
        version = f"{count:032}.{uuid.uuid4().hex}"
        checkpoint = self._checkpoint()
        checkpoint["channel_values"] = {"messages": self._messages}
        checkpoint["channel_versions"] = {"messages": version}
        metadata: Any = {"source": "loop", "step": count, "parents": {}}
        self._saver.put(self._base, checkpoint, metadata, {"messages": version})


def _messages(texts: Sequence[str]) -> list[Any]:
    from langchain_core.messages import AIMessage, HumanMessage

    return [(AIMessage if number % 2 else HumanMessage)(text) for number, text in enumerate(texts)]
