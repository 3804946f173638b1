"""Images in messages."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Iterator

from benchmarks.harness import Case, Contestant, Figure, timed
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, url
from session_manager import SessionManager

__all__ = ["images"]

_KEY = "telegram:45"
#: Bytes of an image: a photo as Telegram sends it.
_IMAGE = 150_000
_TURNS = 20


def images(place: Place) -> Iterator[Case]:
    """Add turns to a chat that holds an image of 150 KB, against one that names an image kept beside it."""
    data = "data:image/jpeg;base64," + base64.b64encode(random.Random(1).randbytes(_IMAGE)).decode()  # noqa: S311 - no secret
    named = f"kept:{_KEY}/{'0' * 64}"
    for scheme in SCHEMES:
        contestants: dict[str, Contestant] = {
            "inside": lambda s=scheme: _turns(place, s, data),
            "beside": lambda s=scheme: _turns(place, s, named),
        }
        what = f"a turn, {scheme}"
        yield Case(what, contestants, [Figure(what, "inside", "beside")], place.rounds(5))
        written: dict[str, Contestant] = {
            "inside": lambda s=scheme: _bytes(place, s, data),
            "beside": lambda s=scheme: _bytes(place, s, named),
        }
        what = f"bytes written by a turn, {scheme}"
        yield Case(what, written, [Figure(what, "inside", "beside", unit="bytes")], 1, warm_up=False)


def _turns(place: Place, scheme: str, image: str) -> list[float]:
    """Return how long each turn takes after the one with the image."""
    with place.directory() as path, SessionManager(url(scheme, path)) as manager:
        _begin(manager, image)
        return [timed(lambda n=number: _turn(manager, n)) for number in range(_TURNS)]


def _bytes(place: Place, scheme: str, image: str) -> list[float]:
    """Return how many bytes the process hands to the system for each of these turns."""
    with place.directory() as path, SessionManager(url(scheme, path)) as manager:
        _begin(manager, image)
        before = _handed_over()
        for number in range(_TURNS):
            _turn(manager, number)
        return [(_handed_over() - before) / _TURNS]


def _begin(manager: SessionManager, image: str) -> None:
    with manager.turn(_KEY) as turn:
        turn.add({"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]})
        turn.add_message("assistant", "A cat.")


def _turn(manager: SessionManager, number: int) -> None:
    with manager.turn(_KEY) as turn:
        turn.add_message("user", f"And what else? {number}")
        turn.add_message("assistant", "A sofa.")


def _handed_over() -> int:
    """Return ``wchar`` of this process (https://man7.org/linux/man-pages/man5/proc_pid_io.5.html)."""
    with open(os.path.join("/proc", "self", "io")) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("wchar:"))
