"""LangGraph's savers beside each other: an agent of LangChain that calls a tool in each turn.

::

    pip install -e '.[langgraph]' langchain langgraph-checkpoint-sqlite
    python -m benchmarks.checkpoints            # 200 turns
    python -m benchmarks.checkpoints 50 --text 4000

Each saver runs in a process of its own. Printed are the largest memory of the process, what of it the turns took, the processor time of
the last turns, and the bytes of the storage.
"""

from __future__ import annotations

import argparse
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from time import process_time
from typing import TYPE_CHECKING, Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

#: How many turns at the end are timed.
_TIMED = 20


class Scripted(BaseChatModel):
    """Calls a tool, and then answers."""

    text: str

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        """Return a model that may call these tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            answer = AIMessage(f"{len(messages)} {self.text}")
        else:
            call = {"name": "look_up", "args": {"what": f"thing {len(messages)}"}, "id": f"call_{len(messages)}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def _ours(kind: str, **options: Any) -> Callable[[str], BaseCheckpointSaver[Any]]:
    def opened(directory: str) -> BaseCheckpointSaver[Any]:  # earlier versions do not have the adapter
        return import_module("session_manager.adapters.langgraph").LangGraphSaver(
            f"{kind}:{directory}/chats", **options
        )

    return opened


def _sqlite_saver(directory: str) -> BaseCheckpointSaver[Any]:
    from langgraph.checkpoint.sqlite import SqliteSaver

    return SqliteSaver(sqlite3.connect(f"{directory}/chats.db", check_same_thread=False))


SAVERS: dict[str, Callable[[str], BaseCheckpointSaver[Any]]] = {
    "SqliteSaver": _sqlite_saver,
    "LangGraphSaver log:": _ours("log"),
    "LangGraphSaver log: keep=10": _ours("log", keep=10),
    "LangGraphSaver sqlite:": _ours("sqlite"),
    "LangGraphSaver sqlite: keep=10": _ours("sqlite", keep=10),
}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(name: str, turns: int, length: int) -> None:
    """Run the turns with one saver, and print a row of the table."""
    text = "x" * length

    @tool
    def look_up(what: str) -> str:
        """Look something up."""
        return f"{what} {text}"

    with tempfile.TemporaryDirectory() as directory:
        saver = SAVERS[name](directory)
        before = _peak()
        agent: Any = create_agent(Scripted(text=text), [look_up], checkpointer=saver)
        times = []
        for number in range(turns):
            began = process_time()
            agent.invoke({"messages": [("user", f"{number} {text}")]}, {"configurable": {"thread_id": "42"}})
            times.append(process_time() - began)
        peak = _peak()
        size = sum(
            os.path.getsize(os.path.join(where, file)) for where, _, files in os.walk(directory) for file in files
        )
        last = sorted(times[-_TIMED:])[len(times[-_TIMED:]) // 2]
        print(f"| {name} | {peak:.0f} | {peak - before:.0f} | {last * 1000:.0f} | {size / 1e6:.1f} |", flush=True)


def main() -> None:
    """Run each saver in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints", description=__doc__.partition("\n")[0])
    parser.add_argument("turns", nargs="?", type=int, default=200)
    parser.add_argument("--text", type=int, default=1000, help="the characters of each message (1000)")
    parser.add_argument("--saver", choices=SAVERS, help="only this one, in this process")
    given = parser.parse_args()
    if given.saver:
        run(given.saver, given.turns, given.text)
        return
    print(
        "| | MB in all | MB for the turns | ms of CPU a turn, at the end | MB on the disk |\n|---|---|---|---|---|",
        flush=True,
    )
    for name in SAVERS:
        command = ["-m", "benchmarks.checkpoints", str(given.turns), "--text", str(given.text), "--saver", name]
        subprocess.run([sys.executable, *command], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
