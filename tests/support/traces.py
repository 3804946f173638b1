"""Traces of a session: texts that are in all places that a session has, and the places where they are found in raw bytes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

from session_manager import SessionManager
from session_manager.stores.files.names import file_name

#: A text for each place. Each has a letter, `★`, that no other session has: so one trigram of the index is a trace as well.
PLACES = (
    "content",
    "argument",
    "name",
    "summary",
    "metadata",
    "archive",
    "reference",
    "edited",
    "quarantine",
    "killed",
)
TRACES = {place: f"Trace-of-{place}-É★{place[::-1]}" for place in PLACES}
#: Of a message that has a trace of every kind of message.
SAID = [
    {"role": "user", "content": TRACES["content"]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": TRACES["name"], "arguments": json.dumps({"q": TRACES["argument"]})},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "found"},
]


def forms(text):
    """Return the bytes that a text may have in a file: UTF-8, escaped JSON, JSON in JSON; also with case folded, in an index."""
    escaped = json.dumps(text)[1:-1]
    shapes = {text, text.casefold(), escaped, json.dumps(escaped)[1:-1]}
    return {shape.encode() for shape in shapes}


def bytes_of(path):
    """Return the raw bytes of every file under a path, hidden ones too."""
    return {str(one.relative_to(path)): one.read_bytes() for one in Path(path).rglob("*") if one.is_file()}


def traces_in(path):
    """Return which places are found in which files."""
    found = {}
    for name, data in bytes_of(path).items():
        for place, text in TRACES.items():
            if any(form in data for form in forms(text)):
                found.setdefault(place, set()).add(name)
        if "★".encode() in data or b"\\u2605" in data:
            found.setdefault("a letter", set()).add(name)
    return found


def talk(m, key, *, traced=True):
    """Give a session what a session may have, saved step by step; the text of each place only if it is traced."""
    texts = TRACES if traced else dict.fromkeys(TRACES, "nothing of that")
    m.add_message(key, "user", texts["archive"])
    m.add_message(key, "user", "filler " * 50)
    m.save(key)
    m.truncate_history(key, keep_last=1)
    m.save(key)
    for one in SAID if traced else [{"role": "user", "content": "hi"}] * 3:
        m.add(key, one)
        m.save(key)
    m.add_message(key, "user", texts["edited"], ref="first" if not traced else texts["reference"])
    m.set_summary(key, texts["summary"])
    m.update_metadata(key, {"note": texts["metadata"]})
    m.save(key)


def flip(url, key):
    """Damage a session that is stored."""
    kind, _, path = url.partition(":")
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE sessions SET checksum = checksum + 1 WHERE key = ?", (key,))
        return
    file = Path(path) / file_name(key, ".session.json" if kind == "snapshot" else ".session.jsonl")
    data = bytearray(file.read_bytes())
    data[-4] ^= 1  # in the last checksum
    file.write_bytes(bytes(data) + (data if kind == "log" else b""))


def storage(kind, place, key, *, others=("other", "telegram:1")):
    """Make a storage in which a session has left traces everywhere; return its URL.

    The session was damaged and deleted once, and begun again. A kill has left a temporary file of a later save.
    """
    Path(place).mkdir(parents=True, exist_ok=True)
    path = Path(place) / ("chats.db" if kind == "sqlite" else "chats")
    url = f"{kind}:{path}"
    with SessionManager(url, archive=True) as m:
        m.add_message(key, "user", TRACES["quarantine"])
    flip(url, key)
    with SessionManager(url, archive=True) as m:
        m.delete(key)
        for other in others:
            talk(m, other, traced=False)
        talk(m, key)
        assert m.search(TRACES["content"][-6:])  # now it is in the index
        if kind == "sqlite":
            m.save_all()
            for end in ("", "-wal"):  # as a kill leaves them
                shutil.copyfile(f"{path}{end}", f"{place}/kept{end}")
    if kind == "sqlite":
        for end in ("", "-wal"):
            os.replace(f"{place}/kept{end}", f"{path}{end}")
        Path(f"{path}-shm").unlink(missing_ok=True)
    return url


def leave_temporary(url, key):
    """Leave what a kill in the middle of a save leaves in a directory: a temporary file with a part of the session."""
    kind, _, path = url.partition(":")
    if kind == "sqlite":
        return
    file = Path(path) / file_name(key, ".session.json" if kind == "snapshot" else ".session.jsonl")
    data = file.read_bytes().replace(TRACES["content"].encode(), TRACES["killed"].encode())
    for number, end in enumerate((len(data), len(data) - 9)):
        (Path(path) / f".tmp-{number:016x}").write_bytes(data[:end])
