"""Importing other programs' sessions."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TextIO

import msgspec

from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, url

__all__ = ["importing"]

_SESSIONS, _MESSAGES = 1_000, 100
_LENGTH = 200
#: How many times fewer sessions the small source has, whose RAM is compared with that of the large one.
_TIMES = 10
_TARGET = Target(10, of="value")
_RAM = Target(1.2)
#: Sources, and the storages that each is imported into.
_PAIRS = (("openai", SCHEMES), ("zeroclaw", ("sqlite",)), ("chatgpt", ("sqlite",)), ("claude-code", ("sqlite",)))
_PEAK = """
import re, sys
from session_manager.importers import import_sessions
assert import_sessions(sys.argv[1], sys.argv[2]).ok
# Not `ru_maxrss`, which counts what the process was forked from as well.
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024)
"""


def importing(place: Place) -> Iterator[Case]:
    """Import 100,000 messages, against decoding and writing their bytes; and the peak of RAM, of ten times as many."""
    keys = place.keys(_SESSIONS)
    count = place.count(_MESSAGES)
    for kind, schemes in _PAIRS:
        with place.directory() as path:
            source = os.path.join(path, "source")
            _SOURCES[kind](source, keys, count)
            for scheme in schemes:
                what = f"{kind} into {scheme}: {len(keys) * count:,} messages"
                contestants: dict[str, Contestant] = {
                    "import": lambda s=scheme, p=path: _import(s, p),
                    "bare": lambda p=path: _bare(p),
                }
                yield Case(what, contestants, [Figure(what, "import", "bare", _TARGET)], place.rounds(3))
            small = os.path.join(path, "small")
            _SOURCES[kind](small, keys[: max(1, len(keys) // _TIMES)], count)
            what = f"{kind}: RAM at its peak, of {_TIMES} times as many"
            peaks: dict[str, Contestant] = {
                "large": lambda p=path: _peak(place, p, "source"),
                "small": lambda p=path: _peak(place, p, "small"),
            }
            yield Case(what, peaks, [Figure(what, "large", "small", _RAM, unit="bytes")], 1, warm_up=False)


def _import(scheme: str, path: str) -> list[float]:
    from session_manager import importers  # noqa: PLC0415 - an earlier commit may have none

    target = os.path.join(path, "target")
    os.mkdir(target)
    try:
        return [timed(lambda: importers.import_sessions(os.path.join(path, "source"), url(scheme, target)))]
    finally:
        shutil.rmtree(target)
        os.sync()


def _bare(path: str) -> list[float]:
    """Decode all lines, and write all bytes to one file that is synced."""
    source, target = os.path.join(path, "source"), os.path.join(path, "bare")
    try:
        return [timed(lambda: _copied(source, target))]
    finally:
        os.unlink(target)
        os.sync()


def _copied(source: str, target: str) -> None:
    with open(target, "wb") as copy:
        for name in sorted(os.listdir(source)):
            with open(os.path.join(source, name), "rb") as file:
                for line in file:
                    msgspec.json.decode(line)
                    copy.write(line)
        copy.flush()
        os.fsync(copy.fileno())


def _peak(place: Place, path: str, source: str) -> list[float]:
    target = os.path.join(path, "target")
    os.mkdir(target)
    try:
        return [float(place.python(_PEAK, os.path.join(path, source), url("sqlite", target)))]
    finally:
        shutil.rmtree(target)
        os.sync()


def _messages(count: int) -> Iterator[tuple[int, str, str]]:
    source = texts(_LENGTH)
    return ((index, "assistant" if index % 2 else "user", next(source)) for index in range(count))


def _openai(directory: str, keys: list[str], count: int) -> None:
    os.mkdir(directory)
    with open(os.path.join(directory, "chats.jsonl"), "w") as file:
        for _ in keys:
            _write(file, {"messages": [{"role": role, "content": text} for _, role, text in _messages(count)]})


def _zeroclaw(directory: str, keys: list[str], count: int) -> None:
    os.mkdir(directory)
    for key in keys:
        with open(os.path.join(directory, f"{key}.jsonl"), "w") as file:
            for _, role, text in _messages(count):
                _write(file, {"role": role, "content": text})


def _chatgpt(directory: str, keys: list[str], count: int) -> None:
    """Write a conversation on each line, so that the bare decoder reads them one by one as well."""
    os.mkdir(directory)
    with open(os.path.join(directory, "conversations.jsonl"), "w") as file:
        for key in keys:
            mapping = {
                f"{index}": {
                    "id": f"{index}",
                    "parent": f"{index - 1}" if index else None,
                    "children": [],
                    "message": {
                        "author": {"role": role, "name": None, "metadata": {}},
                        "create_time": 1.7e9 + index,
                        "content": {"content_type": "text", "parts": [text]},
                        "weight": 1.0,
                        "metadata": {"model_slug": "gpt"},
                        "recipient": "all",
                    },
                }
                for index, role, text in _messages(count)
            }
            told = {"title": key, "create_time": 1.7e9, "mapping": mapping, "current_node": f"{count - 1}", "id": key}
            _write(file, told)


def _claude_code(directory: str, keys: list[str], count: int) -> None:
    os.mkdir(directory)
    shared = {"isSidechain": False, "cwd": "/home", "version": "2", "timestamp": "2026-01-02T03:04:05.123Z"}
    for key in keys:
        with open(os.path.join(directory, f"{key}.jsonl"), "w") as file:
            for index, role, text in _messages(count):
                message = {"role": role, "content": [{"type": "text", "text": text}]}
                about = {"uuid": f"{index}", "parentUuid": f"{index - 1}" if index else None, "sessionId": key}
                _write(file, {**shared, **about, "type": role, "message": message})


def _write(file: TextIO, value: object) -> None:
    file.write(f"{json.dumps(value)}\n")


_SOURCES: dict[str, Callable[[str, list[str], int], None]] = {
    "openai": _openai,
    "zeroclaw": _zeroclaw,
    "chatgpt": _chatgpt,
    "claude-code": _claude_code,
}
