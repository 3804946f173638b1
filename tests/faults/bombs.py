"""Files that are small to write and large to read, and a process that reads them: ``python -m tests.faults.bombs KIND MEGABYTES``.

It prints what became of each, in how many seconds of the processor, and how much memory it took at most.
"""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
import zlib
from contextlib import closing
from pathlib import Path

from session_manager import SessionManager, SessionManagerError
from session_manager.stores.files.names import file_name
from session_manager.stores.sqlite import SQLiteStore
from tests.faults.mutations import resealed_archive, resealed_log, resealed_snapshot

__all__ = ["KEY", "NAMES", "bombs"]

KEY = "telegram:42"
NAMES = {
    "snapshot": file_name(KEY, ".session.json"),
    "log": file_name(KEY, ".session.jsonl"),
    "archive": file_name(KEY, ".archive.jsonl"),
    "sqlite": "chats.db",
}

_STATE = b'"generation":"9f","revision":1,"created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05Z",'
_STATE += b'"last_message_at":null,"start":0,"end":1'
_LINE = b'{"position":0,"created_at":"2026-01-02T03:04:05Z","message":{"role":"user","content":%b}}'


def snapshot_of(content: bytes) -> bytes:
    head = (
        b'{"format":"session_manager/1","key":"telegram:42",%b,"refs":[],"summary":"","metadata":{},"count":1,' % _STATE
    )
    head += b'"header_crc32":"00000000","messages":[\n'
    return resealed_snapshot(head + _LINE % content + b'\n],"crc32":"00000000"}\n')


def log_of(content: bytes) -> bytes:
    head = (
        b'{"format":"session_manager-log/1","key":"telegram:42","refs":[],"summary":"","metadata":{},"messages":[%b],\t'
    )
    state = b'"state":{%b,"count":1,"has_summary":false,"metadata":{}},"state_crc32":"00000000","crc32":"00000000"}\n'
    return resealed_log(head % (_LINE % content) + state % _STATE)


def archive_of(content: bytes) -> bytes:
    head = b'{"format":"session_manager-archive/1","key":"telegram:42","crc32":"00000000"}\n'
    line = b'{"number":0,"generation":"9f","revision":1,%b,"crc32":"00000000"}\n' % (_LINE % content)[1:-1]
    return resealed_archive(head + line, KEY)


FILES = {"snapshot": snapshot_of, "log": log_of, "archive": archive_of}


def bombs(size: int) -> dict[str, bytes]:
    """Return values, or what is none, of about so many bytes."""
    return {
        "brackets": b"[" * size,
        "objects": b'{"a":' * (size // 5),
        "lists in lists": b"[" * (size // 2) + b"]" * (size // 2),
        "201 levels": b"[" * 201 + b"]" * 201,
        "empty lists": b"[" + b"[]," * (size // 3) + b"0]",
        "numbers": b"[" + b"1," * (size // 2) + b"0]",
        "a huge integer": b"9" * size,
        "a huge fraction": b"0." + b"9" * size,
        "a huge exponent": b"1e" + b"9" * size,
        "a field twice, and again": b"{" + b'"a":[],' * (size // 7) + b'"a":0}',
        "fields": b"{" + b",".join(b'"%d":0' % number for number in range(size // 11)) + b"}",
        "NaN": b"[" + b"NaN," * (size // 4) + b"0]",
        "infinity": b"-Infinity",
        "NULs": bytes(size),
        "no UTF-8": b'"' + b"\xff" * size + b'"',
        "half of a pair": b'"' + b"\\ud800" * (size // 6) + b'"',
        "line feeds": b"\n" * size,
        "quotes": b'"' * size,
        "backslashes": b'"' + b"\\" * size + b'"',
        "a text": b'"' + b"x" * size + b'"',
    }


def written(directory: Path, kind: str, data: bytes) -> str:
    """Put a file of a kind into a new directory; return the URL of the storage."""
    directory.mkdir(mode=0o700)
    if kind == "archive":
        (directory / NAMES["log"]).write_bytes(log_of(b'"good"'))
    (directory / NAMES[kind]).write_bytes(data)
    return f"{'log' if kind in ('log', 'archive') else 'snapshot'}:{directory}"


def database(path: Path, line: bytes) -> str:
    """Put a text into a row of a message, with its right checksum; return the URL."""
    path.parent.mkdir(mode=0o700)
    with closing(SQLiteStore(path)) as store, SessionManager(store) as m:
        m.add_message(KEY, "user", "good")
    with closing(sqlite3.connect(path)) as connection, connection:
        checksum = zlib.crc32(line, zlib.crc32(KEY.encode()))
        connection.execute("UPDATE messages SET line = CAST(? AS TEXT), checksum = ?", (line, checksum))
    return f"sqlite:{path}"


def read(url: str) -> str:
    """Read a storage in every way."""
    outcomes = set()
    with SessionManager(url) as m:
        for call in (
            m.list_sessions,
            lambda: m.get(KEY),
            lambda: m.get_archive(KEY),
            m.verify,
            lambda: m.search("good"),
        ):
            try:
                call()
                outcomes.add("value")
            except SessionManagerError as error:
                outcomes.add(type(error).__name__)
    return " ".join(sorted(outcomes))


def peak() -> int:
    """Return how many bytes this process has had at most. (What `getrusage` tells begins with those of the parent.)"""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(kind: str, size: int) -> None:
    results = {}
    before = peak()
    with tempfile.TemporaryDirectory() as base:
        for name, data in bombs(size).items():
            contents = (
                {"sealed": FILES[kind](data), "bare": data} if kind in FILES else {"row": data, "line": _LINE % data}
            )
            for how, content in contents.items():
                place = Path(base) / "chats"
                url = database(place / NAMES[kind], content) if kind == "sqlite" else written(place, kind, content)
                start = time.process_time()
                outcome = read(url)
                results[f"{name}, {how}"] = (outcome, time.process_time() - start)
                shutil.rmtree(place)
    print(json.dumps({"results": results, "bytes": peak() - before}))


if __name__ == "__main__":
    main(sys.argv[1], int(float(sys.argv[2]) * 1_000_000))
