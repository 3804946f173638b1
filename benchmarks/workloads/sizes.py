"""How many bytes of RAM and of disk things take."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator

from benchmarks.harness import Case, Figure, Target
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, build, url
from session_manager import SessionManager

__all__ = ["sizes"]

_SESSIONS = 101
_MESSAGES = 100
_BUDGET = 4 * 1024 * 1024
_EVICTED = 10_000
#: What a small machine holds.
_CHATS = 30_000
_RESIDENT = {1000: Target(3), 100: Target(3.2)}
#: An evicted session is nothing but its key: what a session is that was never read.
_KEY_ONLY = Target(1.05)
_CACHE = Target(1)


def sizes(place: Place) -> Iterator[Case]:
    """Bytes of RAM of a resident message, an evicted session and the caches, and of disk of a message, against its JSON."""
    keys = place.keys(_SESSIONS)
    for length, target in _RESIDENT.items():
        what = f"RAM of a message of {length:,}"
        count = place.count(10_000)
        added = lambda n=count, c=length: _weigh(place, "added", n, c)  # noqa: E731 - a step
        yield _case(f"{what}, added", added, lambda c=length: _json(c), target)
        for scheme in SCHEMES:
            with place.directory() as path:
                build(scheme, path, keys, _MESSAGES, texts(length))
                read = lambda s=scheme, p=path: _weigh(place, "read", url(s, p), 10_000)  # noqa: E731 - a step
                yield _case(f"{what}, {scheme}", read, lambda c=length: _json(c), target)
                yield _case(
                    f"disk of a message of {length:,}, {scheme}",
                    lambda p=path: _disk(p) / len(keys) / _MESSAGES,
                    lambda c=length: _json(c),
                )
    for scheme in SCHEMES:
        yield from _evicted(place, scheme)
    yield _chats(place)
    with place.directory() as path:
        step = lambda: _weigh(place, "cache", os.path.join(path, "chats"), _BUDGET)  # noqa: E731 - a step
        yield _case("RAM of the cache of lines", step, lambda: _BUDGET, _CACHE)


def _evicted(place: Place, scheme: str) -> Iterator[Case]:
    keys = place.keys(_EVICTED)
    with place.directory() as path:
        build(scheme, path, keys, 1, texts())
        what = f"RAM of a session, {scheme}"
        contestants = {
            name: lambda name=name: [_weigh(place, name, url(scheme, path))] for name in ("evicted", "unread", "keys")
        }
        figures = [
            Figure(f"{what}, evicted", "evicted", "unread", _KEY_ONLY, unit="bytes"),
            Figure(f"{what}, not read", "unread", "keys", unit="bytes"),
        ]
        yield Case(what, contestants, figures, 1, warm_up=False)


def _chats(place: Place) -> Case:
    """Weigh whole processes with many chats of 200 messages of 100 characters: a manager, lists of dicts, and OpenAI's session."""
    count = place.rounds(len(place.keys(_CHATS)))
    kinds = ["manager", "dicts", *(["openai"] if importlib.util.find_spec("agents") else [])]
    contestants = {kind: lambda kind=kind: [_weigh(place, "chats", kind, count)] for kind in kinds}
    contestants["JSON"] = lambda: [_json(100)]
    what = f"RAM of a process with {count:,} chats, a message"
    figures = [
        Figure(what, "manager", "dicts", unit="bytes"),
        Figure(f"{what}, to its JSON", "manager", "JSON", unit="bytes"),
        *(Figure(f"{what}, of OpenAI's session", kind, "JSON", unit="bytes") for kind in kinds if kind == "openai"),
    ]
    return Case(what, contestants, figures, 1, warm_up=False)


def _case(name: str, subject: Callable[[], float], floor: Callable[[], float], target: Target | None = None) -> Case:
    contestants = {"subject": lambda: [subject()], "floor": lambda: [floor()]}
    return Case(name, contestants, [Figure(name, "subject", "floor", target, unit="bytes")], 1, warm_up=False)


def _weigh(place: Place, *arguments: str | int) -> float:
    code = "import sys; from benchmarks.weigh import main; main(*sys.argv[1:])"
    return float(place.python(code, *map(str, arguments)))


def _json(length: int) -> float:
    """Return how many bytes the JSON of a message is, without anything that is ours."""
    source, count = texts(length), 1000
    with SessionManager() as manager:
        total = 0
        for _ in range(count):
            message = manager.add_message("session", "user", next(source))
            total += len(json.dumps(message.to_dict(), ensure_ascii=False, separators=(",", ":")).encode())
    return total / count


def _disk(path: str) -> int:
    return sum(os.stat(os.path.join(where, name)).st_size for where, _, names in os.walk(path) for name in names)
