"""What of a save is Python: in RAM without its syncs, around its syncs on the disk, and after the last of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.floors import PAUSE, BareDatabase, BareLog, bare_replace, compute
from benchmarks.harness import Case, Figure, Target, timed
from benchmarks.material import Chat, texts
from benchmarks.place import Place
from benchmarks.storages import SCHEMES, path_of, timed_store, unsynced_store
from session_manager import SessionManager

__all__ = ["own"]

_MESSAGES = 10
_KEY = "chat"
#: How many bytes the record of a message of 1 KB has.
_RECORD = 1_450
_HOT = {"snapshot": Target(63e-6, of="value"), "log": Target(24e-6, of="value"), "sqlite": Target(72e-6, of="value")}
_BEHIND = {"log": Target(50e-6, of="value")}
_AFTER = {"log": Target(11e-6, of="value")}
_TURN = Target(57e-6, of="value")


def own(place: Place) -> Iterator[Case]:
    """Save one new message of 1 KB: what of it is Python's, hot and without syncs, behind a sync, and after the sync."""
    for scheme in SCHEMES:
        with place.directory(in_ram=True) as path:
            store = unsynced_store(scheme, os.path.join(path, "chats"))
            with SessionManager(store) as manager:
                with _bare(scheme, path) as bare:
                    yield _hot(place, scheme, manager, bare)
                if scheme == "log":
                    yield _turn(place, manager)
            store.close()
    for scheme in ("snapshot", "log"):
        with place.directory() as path:
            yield from _around(place, scheme, path)


def _hot(place: Place, scheme: str, manager: SessionManager, bare: Callable[[], float]) -> Case:
    chat = Chat(manager, _KEY, _MESSAGES)
    chat.save()

    def save() -> list[float]:
        if len(manager.get_history(_KEY)) > _MESSAGES + 2:
            manager.truncate_history(_KEY, _MESSAGES)
            chat.save()
        return [chat.save()]

    figure = Figure(f"{scheme}: a save, hot", "save", "system calls", _HOT[scheme], statistic="least")
    return Case(figure.name, {"save": save, "system calls": lambda: [bare()]}, [figure], place.rounds(1_000))


def _turn(place: Place, manager: SessionManager) -> Case:
    source = texts()

    def write(text: str, answer: str) -> None:
        with manager.turn("turns") as turn:
            turn.add_message("user", text)
            turn.add_message("assistant", answer)

    def step() -> list[float]:
        text, answer = next(source), next(source)
        return [timed(lambda: write(text, answer))]

    def add() -> list[float]:
        text = next(source)
        return [timed(lambda: manager.add_message("added", "user", text))]

    figure = Figure("log: a turn of two messages, hot", "turn", "add_message", _TURN, statistic="least")
    return Case(figure.name, {"turn": step, "add_message": add}, [figure], place.rounds(1_000))


def _around(place: Place, scheme: str, path: str) -> Iterator[Case]:
    """Measure a save on the disk without the time in which its syncs wait, and the part of it after the last sync."""
    store, files = timed_store(scheme, os.path.join(path, "chats"))
    with SessionManager(store) as manager:
        chat = Chat(manager, _KEY, _MESSAGES)

        def save() -> tuple[float, float]:
            chat.save()
            files.waited = 0.0
            seconds = chat.save()
            return seconds - files.waited, time.perf_counter() - files.ended

        with _bare(scheme, path, syncs=True) as bare:
            floor: Callable[[], list[float]] = lambda: [_paused(bare)]  # noqa: E731 - a step
            figures = [
                Figure(f"{scheme}: a save, behind its syncs", "own", "written and synced", _BEHIND.get(scheme)),
                Figure(f"{scheme}: a save, after its last sync", "after", "written and synced", _AFTER.get(scheme)),
            ]
            contestants = {
                "own": lambda: [save()[0]],
                "after": lambda: [save()[1]],
                "written and synced": floor,
            }
            yield Case(f"{scheme}: around the syncs", contestants, figures, place.rounds(300))
    store.close()


def _paused(step: Callable[[], float]) -> float:
    compute(PAUSE)
    return step()


@contextmanager
def _bare(scheme: str, path: str, *, syncs: bool = False) -> Iterator[Callable[[], float]]:
    """Give what measures writing as many bytes as the last save did, by bare system calls or statements."""

    def written() -> bytes:
        with open(path_of(scheme, path, _KEY), "rb") as file:
            return file.read()

    if scheme == "sqlite":
        database = BareDatabase(os.path.join(path, "floor.db"), syncs=syncs)
        yield database.insert
        database.close()
    elif scheme == "log":
        log = BareLog(os.path.join(path, "floor"))
        yield partial(log.append, b"x" * _RECORD, syncs=syncs)
        log.close()
    else:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

        def replaced() -> float:
            data = [written()]
            return timed(lambda: bare_replace(directory, "floor", data, syncs=syncs))

        yield replaced
        os.close(directory)
