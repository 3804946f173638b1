"""Reading a session that is not in RAM."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from benchmarks.harness import Case, Contestant, Figure, Target, timed
from benchmarks.material import texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, bare_reader, build, url
from session_manager import SessionManager

__all__ = ["cold"]

_SIZES = (1_000, 10_000)
_ROUNDS = {10_000: 20}
_TARGETS = {1_000: Target(1.8)}
_KEY = "session"


def cold(place: Place) -> Iterator[Case]:
    """Read 1,000 and 10,000 messages that are not in RAM, against reading and decoding them to bare dicts."""
    for scheme in SCHEMES:
        for messages in sorted({place.count(size) for size in _SIZES}):
            with place.directory() as path:
                build(scheme, path, [_KEY], messages, texts())
                figure = Figure(f"{scheme}: {messages:,} messages", "get_history", "bare dicts", _TARGETS.get(messages))
                contestants: dict[str, Contestant] = {
                    "get_history": lambda s=scheme, p=path: [_read(s, p)],
                    "bare dicts": lambda s=scheme, p=path: [_read_bare(s, p)],
                }
                yield Case(figure.name, contestants, [figure], place.rounds(_ROUNDS.get(messages, 100)))


def _read(scheme: str, path: str) -> float:
    with SessionManager(url(scheme, path)) as manager:
        return timed(lambda: manager.get_history(_KEY))


def _read_bare(scheme: str, path: str) -> float:
    decode = msgspec.json.Decoder().decode
    with bare_reader(scheme, path) as lines:
        return timed(lambda: [decode(line) for line in lines(_KEY)])
