"""The formats that can be imported, and the module that reads each."""

from __future__ import annotations

import importlib
from typing import Any

from session_manager.errors import StorageError
from session_manager.importers.reading import Reader, SourceFile
from session_manager.stores.files.recognition import HEAD, format_of, format_of_tables

__all__ = ["FORMATS", "format_of_file", "reader_of"]

#: The formats, by the names that `import_sessions` takes, and what each is.
FORMATS: dict[str, str] = {
    "session_manager": "our own exports in JSON",
    "picoclaw-json": "picoclaw: a JSON file for each session",
    "picoclaw-jsonl": "picoclaw: messages in JSONL, and a .meta.json for each session",
    "chatgpt": "ChatGPT: conversations.json of an export",
    "claude-code": "Claude Code: transcripts",
    "codex": "Codex: rollouts",
    "langchain": "LangChain: FileChatMessageHistory",
    "llm": "simonw/llm: logs.db",
    "motosan": "motosan-agent-loop: JSONL",
    "nanobot": "nanobot: JSONL",
    "openai": "OpenAI: JSON or JSONL with messages",
    "openai-agents": "OpenAI Agents SDK: SQLite",
    "sharegpt": "ShareGPT: JSON or JSONL with conversations",
    "zeroclaw": "zeroclaw: JSONL",
    "zeroclaw-db": "zeroclaw: sessions.db",
}

_READERS = {
    "session_manager": "session_json",
    "picoclaw-json": "picoclaw_json",
    "picoclaw-jsonl": "picoclaw_jsonl",
    "chatgpt": "chatgpt",
    "claude-code": "claude_code",
    "codex": "codex",
    "langchain": "langchain",
    "llm": "llm",
    "motosan": "motosan",
    "nanobot": "nanobot",
    "openai": "openai_messages",
    "openai-agents": "openai_agents",
    "sharegpt": "sharegpt",
    "zeroclaw": "zeroclaw",
    "zeroclaw-db": "zeroclaw_db",
}


def reader_of(format: str) -> Reader:
    """Return the reader of a format.

    :raises TypeError: if it is no string.
    :raises ValueError: if there is none of that name; the error names those there are.
    """
    if not isinstance(format, str):
        raise TypeError(f"format must be a str, not {type(format).__name__}")
    name = _READERS.get(format)
    if name is None:
        raise ValueError(f"format must be one of {', '.join(_READERS)}, not {format!r}")
    module: Any = importlib.import_module(f"session_manager.importers.{name}")
    reader: Reader = module.read
    return reader


def format_of_file(file: SourceFile) -> str | None:
    """Return the format of a file, by its name and content; `None` if it is none that is known.

    :raises StorageError: if it cannot be read.
    """
    start = next(file.pieces(), b"")[:HEAD]
    known = format_of(file.name.rpartition("/")[2], start, file.metas)
    if known is None and start.startswith(b"SQLite format 3\0"):
        try:
            rows = file.database().rows("SELECT name FROM sqlite_master WHERE type = 'table'")
            return format_of_tables(str(row["name"]) for row in rows)
        except StorageError:
            return None
    return known
