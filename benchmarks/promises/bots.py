"""The same bot, four times: each keeps its one chat in another memory, and uses it as that memory's documentation says."""

from __future__ import annotations

import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["BOTS", "Bot"]

KEY = "telegram:42"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}

#: What answers: it is given the messages that a provider would get, in OpenAI's form, and returns a text, or ``None`` to have the tool called.
Model = Callable[[list[dict[str, Any]]], "str | None"]


class Bot(ABC):
    """A bot with one chat.

    :param path: the directory of its storage.
    :param model: answers.
    :param tool: what the model may call.
    """

    #: The distribution to install; ``""``: none.
    package: ClassVar[str] = ""

    def __init__(self, path: str, model: Model, tool: Callable[[], str]) -> None:
        self.path, self.model, self.tool = path, model, tool
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Open the storage."""

    @abstractmethod
    def deliver(self, number: int, text: str) -> None:
        """Answer what a platform delivers."""

    @abstractmethod
    def stored(self) -> list[tuple[str, str]]:
        """Return the chat: roles and texts."""

    @abstractmethod
    def close(self) -> None:
        """Close the storage."""


class Ours(Bot):
    """session_manager, in a log; in SQLite if two processes write."""

    url = "log:chats"

    def open(self) -> None:
        from session_manager import SessionManager

        kind, _, name = self.url.partition(":")
        self.manager = SessionManager(f"{kind}:{os.path.join(self.path, name)}")

    def deliver(self, number: int, text: str) -> None:
        with self.manager.turn(KEY, ref=f"tg:{number}") as turn:
            if turn.done:
                return
            turn.add_message("user", text)
            while (answer := self.model(turn.get_context())) is None:
                turn.add({"role": "assistant", "content": None, "tool_calls": [CALL]})
                turn.add_message("tool", self.tool(), tool_call_id=CALL["id"])
            turn.add_message("assistant", answer)

    def stored(self) -> list[tuple[str, str]]:
        return [(str(one.role), str(one.content)) for one in self.manager.get_history(KEY)]

    def close(self) -> None:
        self.manager.close()


class OursShared(Ours):
    """session_manager, in SQLite."""

    url = "sqlite:chats.db"


class Agents(Bot):
    """The OpenAI Agents SDK: its runner, and its `SQLiteSession`."""

    package = "openai-agents"

    def open(self) -> None:
        from agents import Agent, ModelResponse, SQLiteSession, Usage, function_tool, set_tracing_disabled
        from agents.models.interface import Model as AgentsModel
        from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

        set_tracing_disabled(disabled=True)
        bot = self

        class Offline(AgentsModel):
            async def get_response(self, system_instructions: Any, input: Any, *_: Any, **__: Any) -> ModelResponse:
                answer = bot.model(input if isinstance(input, list) else [{"role": "user", "content": input}])
                output: Any = (
                    ResponseFunctionToolCall(call_id="call_1", name="look", arguments="{}", type="function_call")
                    if answer is None
                    else ResponseOutputMessage(
                        id="msg",
                        role="assistant",
                        status="completed",
                        type="message",
                        content=[ResponseOutputText(text=answer, type="output_text", annotations=[])],
                    )
                )
                return ModelResponse(output=[output], usage=Usage(), response_id=None)

            def stream_response(self, *_: Any, **__: Any) -> Any:
                raise NotImplementedError

        def look() -> str:
            """Look."""
            return bot.tool()

        self.session = SQLiteSession(KEY, os.path.join(self.path, "agents.db"))
        self.agent = Agent(name="bot", model=Offline(), tools=[function_tool(look)])

    def deliver(self, number: int, text: str) -> None:
        from agents import Runner

        Runner.run_sync(self.agent, text, session=self.session)

    def stored(self) -> list[tuple[str, str]]:
        import asyncio

        items: list[Any] = asyncio.run(self.session.get_items())
        return [(item.get("role", item.get("type")), _text(item.get("content", ""))) for item in items]

    def close(self) -> None:
        self.session.close()


class LangGraph(Bot):
    """LangGraph: a graph of a model and its tool, and the checkpoints of `SqliteSaver`."""

    package = "langgraph-checkpoint-sqlite"

    def open(self) -> None:
        from langchain_core.messages import AIMessage, ToolMessage, convert_to_openai_messages
        from langgraph.checkpoint.sqlite import SqliteSaver
        from langgraph.graph import END, START, MessagesState, StateGraph

        def model(state: Any) -> Any:
            answer = self.model(convert_to_openai_messages(state["messages"]))
            call = [{"id": "call_1", "name": "look", "args": {}}]
            message = AIMessage("", tool_calls=call) if answer is None else AIMessage(answer)
            return {"messages": [message]}

        def tool(_: Any) -> Any:
            return {"messages": [ToolMessage(self.tool(), tool_call_id="call_1")]}

        graph = StateGraph(MessagesState)
        graph.add_node("model", model)
        graph.add_node("tool", tool)
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", lambda state: "tool" if state["messages"][-1].tool_calls else END)
        graph.add_edge("tool", "model")
        self._saver = SqliteSaver.from_conn_string(os.path.join(self.path, "graph.db"))
        self.graph = graph.compile(checkpointer=self._saver.__enter__())
        self.config: Any = {"configurable": {"thread_id": KEY}}

    def deliver(self, number: int, text: str) -> None:
        self.graph.invoke({"messages": [{"role": "user", "content": text}]}, self.config)

    def stored(self) -> list[tuple[str, str]]:
        messages = self.graph.get_state(self.config).values.get("messages", [])
        roles = {"human": "user", "ai": "assistant"}
        return [(roles.get(one.type, one.type), one.content) for one in messages]

    def close(self) -> None:
        self._saver.__exit__(None, None, None)


class Plain(Bot):
    """The 25 lines of `sqlite3` that everybody writes first."""

    def open(self) -> None:
        self.database = sqlite3.connect(os.path.join(self.path, "plain.db"), check_same_thread=False)
        self.database.execute("CREATE TABLE IF NOT EXISTS message (key TEXT, object TEXT)")

    def _add(self, message: dict[str, Any]) -> None:
        with self.database:
            self.database.execute("INSERT INTO message VALUES (?, ?)", (KEY, json.dumps(message)))

    def _messages(self) -> list[dict[str, Any]]:
        rows = self.database.execute("SELECT object FROM message WHERE key = ? ORDER BY rowid", (KEY,))
        return [json.loads(row[0]) for row in rows]

    def deliver(self, number: int, text: str) -> None:
        self._add({"role": "user", "content": text})
        while (answer := self.model(self._messages())) is None:
            self._add({"role": "assistant", "content": None, "tool_calls": [CALL]})
            self._add({"role": "tool", "content": self.tool(), "tool_call_id": "call_1"})
        self._add({"role": "assistant", "content": answer})

    def stored(self) -> list[tuple[str, str]]:
        return [(one["role"], str(one["content"])) for one in self._messages()]

    def close(self) -> None:
        self.database.close()


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


BOTS: dict[str, type[Bot]] = {
    "session_manager": Ours,
    "OpenAI Agents SQLiteSession": Agents,
    "LangGraph SqliteSaver": LangGraph,
    "plain sqlite3": Plain,
}
