"""Sessions of other programs, recognized by the names of files and their first bytes. Nothing is read further.

`session_manager.importers` reads them. A format is recognized by what no other file has: a wrong guess would refuse a
directory of somebody's notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import attrs

from session_manager.codec.json import DecodeError, decode_json

__all__ = [
    "FORMATS",
    "HEAD",
    "META",
    "MIGRATED",
    "TABLES",
    "Head",
    "Recognizer",
    "format_of",
    "format_of_tables",
    "metas_in",
    "owner_of",
]

#: How many bytes of a file are looked at.
HEAD = 65_536

#: How the name of a file ends that was taken over, by picoclaw itself or by `adopt`. It is nobody's session any more.
MIGRATED = ".migrated"

#: How the name of a file with the metadata of a session of picoclaw's ends.
META = ".meta.json"

#: How the names of files end that only belong to another one, and how that one's name ends instead.
_PARTS = {META: ".jsonl", ".trim_breadcrumb": ".jsonl", "-wal": "", "-shm": "", "-journal": ""}

_LINES = (".jsonl", ".ndjson")
_SQLITE = b"SQLite format 3\0"
_MOST = 50
#: A string, also one that is cut off at the end; or what gives the structure; or any other value.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}:,]|[^\s\[\]{}:,"]+', re.DOTALL)
_OPENING, _CLOSING, _MARKS = (b"{", b"["), (b"}", b"]"), (b":", b"}", b"]")
_TABLE = re.compile(rb"CREATE\s+(?:VIRTUAL\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?[\"'`\[]?(\w+)", re.IGNORECASE)


@attrs.frozen
class Head:
    """The start of a file."""

    #: Its name, without directories.
    name: str
    #: The first JSON objects in it: its lines, or the elements of its array, or itself. Of one that does not end here, the
    #: fields that begin here: a list or an object stands for itself by an empty one.
    objects: tuple[Mapping[str, Any], ...]
    #: Whether its text is a JSON array.
    is_array: bool = False
    #: The names of its tables, as far as they are told here, if it is a SQLite database.
    tables: frozenset[str] = frozenset()
    #: Whether it is a SQLite database.
    is_database: bool = False
    #: The names of files with metadata of sessions in its directory (`metas_in`).
    metas: frozenset[str] = frozenset()

    @classmethod
    def of(cls, name: str, data: bytes, metas: frozenset[str] = frozenset()) -> Head:
        """Return the start of a file.

        :param name: its name, without directories.
        :param data: its first bytes, up to `HEAD`.
        :param metas: the names of files with metadata of sessions in its directory.
        """
        if data.startswith(_SQLITE):
            tables = frozenset(table.decode() for table in _TABLE.findall(data))
            return cls(name, (), tables=tables, is_database=True)
        text = data.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
        if text[:1] not in (b"{", b"[") and not name.endswith(_LINES):  # of lines, the first one may be damaged
            return cls(name, (), metas=metas)
        is_array = text.startswith(b"[")
        return cls(name, _objects(name, text, is_array=is_array), is_array=is_array, metas=metas)

    @property
    def first(self) -> Mapping[str, Any]:
        """The first object; an empty one if there is none."""
        return self.objects[0] if self.objects else {}


#: Says whether the start of a file is one of a format.
Recognizer = Callable[[Head], bool]


def _is_export(head: Head) -> bool:
    """Our own exports in JSON: the tag, and a key beside it."""
    return "session_manager" in head.first and "key" in head.first


def _is_picoclaw_json(head: Head) -> bool:
    """Sessions of picoclaw's in one file: an object with ``key`` and ``messages``, and no ``format``, as ours has."""
    first = head.first
    is_named = head.name.endswith(".json") and not head.name.endswith(META)
    return is_named and not head.is_array and {"key", "messages"} <= first.keys() and "format" not in first


def _is_picoclaw_jsonl(head: Head) -> bool:
    """Sessions of picoclaw's in two files: messages in lines, in a directory with ``.meta.json``; or a file of that name.

    A file with its own ``.meta.json`` may be empty, or be damaged from its start.
    """
    first = head.first
    if head.name.endswith(META):
        return {"key", "skip", "count"} <= first.keys()
    if not head.objects:
        return head.name.endswith(".jsonl") and head.name.removesuffix(".jsonl") + META in head.metas
    is_message = isinstance(first.get("role"), str) and "type" not in first
    return head.name.endswith(".jsonl") and bool(head.metas) and is_message


def _is_openai(head: Head) -> bool:
    """OpenAI's chat completions and its files for fine-tuning: objects with ``messages``, and no other program's fields."""
    return "key" not in head.first and any(_is_list_of(one.get("messages"), "role") for one in head.objects)


def _is_sharegpt(head: Head) -> bool:
    """ShareGPT's data sets: objects with ``conversations``."""
    return "messages" not in head.first and any(
        _is_list_of(one.get("conversations"), "from", "role") for one in head.objects
    )


def _is_list_of(value: Any, *fields: str) -> bool:
    """Say whether a value is a list with an object that has one of these fields, or an empty list.

    A list of texts, such as the greetings of a bot, is nobody's session.
    """
    return isinstance(value, list) and (
        not value or any(isinstance(one, dict) and any(field in one for field in fields) for one in value)
    )


def _is_chatgpt(head: Head) -> bool:
    """ChatGPT's export: conversations with a ``mapping`` of messages."""
    first = head.first
    return isinstance(first.get("mapping"), dict) and {"title", "create_time"} <= first.keys()


def _is_claude_code(head: Head) -> bool:
    """Claude Code's transcripts: lines that hang under each other, or nothing but titles of such lines."""
    is_line = any({"type", "uuid", "sessionId"} <= one.keys() and "parentUuid" in one for one in head.objects)
    return _is_lines(head) and (is_line or all({"summary", "leafUuid"} <= one.keys() for one in head.objects))


def _is_codex(head: Head) -> bool:
    """Codex's rollouts: lines with a payload, or a first line that early versions wrote."""
    early = {"id", "timestamp", "instructions"} <= head.first.keys() and "type" not in head.first
    is_line = any({"timestamp", "payload"} <= one.keys() and one.get("type") in _CODEX for one in head.objects)
    return _is_lines(head) and (is_line or early)


def _is_langchain(head: Head) -> bool:
    """LangChain's file: an array of messages, each in ``data`` beside its type."""
    first = head.first
    kind = first.get("type")
    is_kind = isinstance(kind, str) and kind.removesuffix("MessageChunk").lower() in _LANGCHAIN
    return head.is_array and is_kind and first.keys() == {"type", "data"} and isinstance(first["data"], dict)


def _is_nanobot(head: Head) -> bool:
    """nanobot: a line of metadata. Any line may be damaged, so the provider's state is as good."""
    return _is_lines(head) and any(one.get("_type") in ("metadata", "provider_state") for one in head.objects)


def _is_motosan(head: Head) -> bool:
    """motosan: a line about the session, entries, or messages whose roles or calls are spelled as no other program does."""
    if not _is_lines(head):
        return False
    if any("session_id" in one and "agent_loop_version" in one for one in head.objects):
        return True
    return all(map(_is_motosan_line, head.objects)) and any(map(_is_motosan_own, head.objects))


def _is_motosan_line(one: Mapping[str, Any]) -> bool:
    if one.get("type") == "custom":
        return "kind" in one and "payload" in one
    role = one.get("role")
    return isinstance(role, str) and role.lower() in _ROLES and one.keys() <= _MOTOSAN


def _is_motosan_own(one: Mapping[str, Any]) -> bool:
    """Say whether no other program has such a line."""
    calls = one.get("tool_calls")
    is_call = isinstance(calls, list) and any(isinstance(call, dict) and call.keys() <= _CALL for call in calls)
    return one.get("type") == "custom" or one.get("role") not in _ROLES or "meta" in one or is_call


def _is_zeroclaw(head: Head) -> bool:
    """zeroclaw: nothing but a role and a text on each line."""
    return _is_lines(head) and all(
        one.keys() == {"role", "content"} and one["role"] in _ROLES and isinstance(one["content"], str)
        for one in head.objects
    )


def _is_lines(head: Head) -> bool:
    return bool(head.objects) and head.name.endswith(_LINES) and not head.is_array


_ROLES = ("system", "user", "assistant", "tool")
_LANGCHAIN = ("human", "ai", "system", "tool", "function", "chat", "generic", "remove")
_CODEX = ("session_meta", "response_item", "compacted", "turn_context", "event_msg")
_MOTOSAN = frozenset(("type", "id", "role", "content", "tool_call_id", "tool_calls", "meta"))
_CALL = frozenset(("id", "name", "args"))

#: The formats and what recognizes them: the first one that fits counts.
FORMATS: dict[str, Recognizer] = {
    "session_manager": _is_export,
    "picoclaw-json": _is_picoclaw_json,
    "picoclaw-jsonl": _is_picoclaw_jsonl,
    "openai": _is_openai,
    "sharegpt": _is_sharegpt,
    "chatgpt": _is_chatgpt,
    "claude-code": _is_claude_code,
    "codex": _is_codex,
    "langchain": _is_langchain,
    "nanobot": _is_nanobot,
    "motosan": _is_motosan,
    "zeroclaw": _is_zeroclaw,
}

#: The tables that a database of a format has, by the format.
TABLES: dict[str, frozenset[str]] = {
    "zeroclaw-db": frozenset(("sessions", "session_metadata", "sessions_fts")),
    "openai-agents": frozenset(("agent_sessions", "agent_messages")),
    "llm": frozenset(("_llm_migrations", "conversations", "responses")),
}


def format_of(name: str, data: bytes, metas: frozenset[str] = frozenset()) -> str | None:
    """Return the format of a file; `None` if it is none that is known, or was taken over already.

    :param name: its name, without directories.
    :param data: its first bytes, up to `HEAD`.
    :param metas: the names of files with metadata of sessions in its directory (`metas_in`).
    """
    if name.endswith(MIGRATED):
        return None
    head = Head.of(name, data, metas)
    if head.is_database:
        return format_of_tables(head.tables)
    return next((one for one, fits in FORMATS.items() if fits(head)), None)


def metas_in(names: Iterable[str]) -> frozenset[str]:
    """Return the names of files that hold metadata of a session of picoclaw's, whose messages are in another file.

    Those that were taken over count as well: they tell whose the files around them are.
    """
    return frozenset(name for name in names if name.endswith((META, META + MIGRATED)))


def owner_of(name: str, names: Container[str]) -> str | None:
    """Return the file that another one only belongs to; `None` if it is a file of its own.

    :param name: the name of the other one, without directories.
    :param names: those in its directory.
    """
    for ending, owner in _PARTS.items():
        whole = name.removesuffix(ending) + owner
        if name.endswith(ending) and whole in names:
            return whole
    return None


def format_of_tables(tables: Iterable[str]) -> str | None:
    """Return the format of a database with these tables; `None` if it is none that is known."""
    there = frozenset(tables)
    return next((one for one, wanted in TABLES.items() if wanted <= there), None)


def _objects(name: str, text: bytes, *, is_array: bool) -> tuple[Mapping[str, Any], ...]:
    if not is_array:
        lines = [_decoded(line) for line in text.split(b"\n")[:_MOST]]
        found = tuple(line for line in lines if isinstance(line, dict))
        if found and (name.endswith(_LINES) or isinstance(lines[0], dict)):
            return found
    elif isinstance(whole := _decoded(text), list):
        return tuple(one for one in whole[:_MOST] if isinstance(one, dict))
    cut = _cut_object(text)
    return () if cut is None else (cut,)


def _decoded(text: bytes) -> Any:
    try:
        return decode_json(text)
    except DecodeError:
        return None


def _cut_object(text: bytes) -> Mapping[str, Any] | None:
    """Return the fields of the first object in a JSON text that may be cut off; `None` if none begins in it."""
    found: dict[str, Any] = {}
    begin = text.find(b"{")
    if begin < 0 or text[:begin].strip(b" \t\r\n[,"):
        return None
    depth, name = 0, None
    for match in _TOKEN.finditer(text, begin):
        token = match.group()
        if depth == 1 and token == b",":
            name = None
        elif depth == 1 and name is None:
            name = _decoded(token)
        elif depth == 1 and isinstance(name, str) and token not in _MARKS:
            found[name] = {b"{": {}, b"[": []}.get(token) if token in _OPENING else _decoded(token)
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth == 0:
            break
    return found
