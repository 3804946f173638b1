"""The other libraries. Each is imported by its own contender only; a peer that is not there is named as missing."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.peers.contender import Contender, role

__all__ = [
    "LangChainFile",
    "LangChainFileSynced",
    "LangChainSQL",
    "LangGraph",
    "Nanobot",
    "NanobotSynced",
    "OpenAI",
    "Strands",
    "StrandsSynced",
]

_KEY = "session"


class OpenAI(Contender):
    """OpenAI Agents SDK, `SQLiteSession`."""

    package = "openai-agents"
    writes = "a row in SQLite; WAL, synchronous as SQLite was built: FULL"

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        from agents import SQLiteSession

        self._open = lambda: SQLiteSession(_KEY, os.path.join(path, "agents.db"))
        self._loop = asyncio.new_event_loop()
        self._session = self._open()
        items = [{"role": role(number), "content": text} for number, text in enumerate(texts)]
        self._count = len(items)
        self._run(self._session.add_items(items))

    def add(self, text: str) -> None:
        self._run(self._session.add_items([{"role": role(self._count), "content": text}]))
        self._count += 1

    def read(self) -> int:
        self._session.close()
        self._session = self._open()
        return len(self._run(self._session.get_items()))

    def close(self) -> None:
        self._session.close()
        self._run(self._loop.shutdown_default_executor())
        self._loop.close()

    def _run(self, call: Any) -> Any:
        return self._loop.run_until_complete(call)


class LangChainFile(Contender):
    """LangChain, `FileChatMessageHistory`."""

    package = "langchain-community"
    durable = False
    whole_file = True
    writes = "reads the file, and writes it anew in its place; no sync, not atomic"

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        from langchain_community.chat_message_histories import FileChatMessageHistory
        from langchain_core.messages import messages_to_dict

        self._path = os.path.join(path, "history.json")
        self._open = lambda: FileChatMessageHistory(self._path)
        messages = [_langchain(number, text) for number, text in enumerate(texts)]
        self._count = len(messages)
        # What its `add_message` would have left; so many calls of it would take the square of the time.
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump(messages_to_dict(messages), file)
        self._history = self._open()

    def add(self, text: str) -> None:
        self._history.add_message(_langchain(self._count, text))
        self._count += 1

    def read(self) -> int:
        self._history = self._open()
        return len(self._history.messages)


class LangChainFileSynced(LangChainFile):
    """The same, and the file is synced from outside."""

    durable = True
    writes = "the same, and then the file is synced by the benchmark"

    def add(self, text: str) -> None:
        super().add(text)
        self.sync(self._path)


class LangChainSQL(Contender):
    """LangChain, `SQLChatMessageHistory` on SQLite."""

    package = "langchain-community"
    writes = "a row in SQLite, by SQLAlchemy; rollback journal, synchronous=FULL"

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        url = f"sqlite:///{os.path.join(path, 'history.db')}"
        self._open = lambda: SQLChatMessageHistory(_KEY, connection=url)
        self._history = self._open()
        messages = [_langchain(number, text) for number, text in enumerate(texts)]
        self._count = len(messages)
        self._history.add_messages(messages)

    def add(self, text: str) -> None:
        self._history.add_message(_langchain(self._count, text))
        self._count += 1

    def read(self) -> int:
        self._history.engine.dispose()
        self._history = self._open()
        return len(self._history.messages)

    def close(self) -> None:
        self._history.engine.dispose()


class Strands(Contender):
    """Strands Agents, `FileSessionManager`: `create_message`, without the agent's state, which an agent writes as well."""

    package = "strands-agents"
    durable = False
    writes = "a file a message, renamed into place; no sync"

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        from strands.session.file_session_manager import FileSessionManager
        from strands.types.session import SessionAgent, SessionMessage

        self._open = lambda: FileSessionManager(_KEY, storage_dir=path)
        self._message = SessionMessage.from_message
        self._manager = self._open()
        self._manager.create_agent(_KEY, SessionAgent("agent", {}, {}))
        self._count = 0
        for text in texts:
            self._create(text)

    def add(self, text: str) -> None:
        self._create(text)

    def read(self) -> int:
        self._manager = self._open()
        return len(self._manager.list_messages(_KEY, "agent"))

    def _create(self, text: str) -> None:
        message = {"role": role(self._count), "content": [{"text": text}]}
        self._manager.create_message(_KEY, "agent", self._message(message, self._count))
        self._count += 1


class StrandsSynced(Strands):
    """The same, and the file and its directory are synced from outside."""

    durable = True
    writes = "the same, and then the file and its directory are synced by the benchmark"

    def add(self, text: str) -> None:
        super().add(text)
        file = self._manager._get_message_path(_KEY, "agent", self._count - 1)
        self.sync(file, os.path.dirname(file))


class LangGraph(Contender):
    """LangGraph, `SqliteSaver`: one checkpoint of the channel `messages` for each message."""

    package = "langgraph-checkpoint-sqlite"
    writes = (
        "all of the conversation as a new row in SQLite (the old rows stay); WAL, synchronous as SQLite was built: FULL"
    )

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        from langgraph.checkpoint.base import empty_checkpoint
        from langgraph.checkpoint.sqlite import SqliteSaver

        self._path = os.path.join(path, "checkpoints.db")
        self._saver_of, self._checkpoint = SqliteSaver, empty_checkpoint
        self._config: Any = {"configurable": {"thread_id": _KEY, "checkpoint_ns": ""}}
        self._messages = [_langchain(number, text) for number, text in enumerate(texts)]
        self._saver = self._open()
        self._put()

    def add(self, text: str) -> None:
        self._messages.append(_langchain(len(self._messages), text))
        self._put()

    def read(self) -> int:
        self._saver.conn.close()
        self._saver = self._open()
        found = self._saver.get_tuple({"configurable": {"thread_id": _KEY, "checkpoint_ns": ""}})
        return len(found.checkpoint["channel_values"]["messages"])

    def close(self) -> None:
        self._saver.conn.close()

    def _open(self) -> Any:
        return self._saver_of(sqlite3.connect(self._path, check_same_thread=False))

    def _put(self) -> None:
        version = str(len(self._messages))
        checkpoint = self._checkpoint()
        checkpoint["channel_values"] = {"messages": self._messages}
        checkpoint["channel_versions"] = {"messages": version}
        metadata: Any = {"source": "loop", "step": len(self._messages), "parents": {}}
        self._config = self._saver.put(self._config, checkpoint, metadata, {"messages": version})


class Nanobot(Contender):
    """Nanobot, `SessionManager` as it saves by default."""

    package = "nanobot-ai"
    durable = False
    whole_file = True
    writes = "a new file, renamed over the old one; no sync"
    #: What is given to its `save`.
    fsync = False

    def __init__(self, path: str, texts: Iterable[str]) -> None:
        from nanobot.session.manager import SessionManager

        workspace, root = Path(path, "workspace"), Path(path, "sessions")
        self._open = lambda: SessionManager(workspace, sessions_root=root)
        self._manager = self._open()
        self._session = self._manager.get_or_create(_KEY)
        for text in texts:
            self._append(text)
        self._manager.save(self._session, fsync=True)

    def add(self, text: str) -> None:
        self._append(text)
        self._manager.save(self._session, fsync=self.fsync)

    def read(self) -> int:
        self._manager = self._open()
        self._session = self._manager.get_or_create(_KEY)
        return len(self._session.messages)

    def _append(self, text: str) -> None:
        self._session.add_message(role(len(self._session.messages)), text)


class NanobotSynced(Nanobot):
    """The same with ``save(fsync=True)``."""

    durable = True
    writes = "a new file, synced, renamed over the old one, and the directory synced"
    fsync = True


def _langchain(number: int, text: str) -> Any:
    from langchain_core.messages import AIMessage, HumanMessage

    return (AIMessage if number % 2 else HumanMessage)(text)
