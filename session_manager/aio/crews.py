"""Worker threads that all async managers share that are shared for one storage."""

from __future__ import annotations

import os
import threading
from weakref import WeakSet, WeakValueDictionary

from session_manager.aio.workers import THREADS, Workers
from session_manager.errors import ForkedError
from session_manager.resource import Resource

__all__ = ["Crew"]


class Crew(Resource):
    """The workers of a storage's shared async managers, which end with the last of these.

    :param place: what tells the storage from all others.
    :param workers: the workers.
    """

    def __init__(self, place: str, workers: Workers) -> None:
        self._place = place
        self.workers = workers
        self._users: WeakSet[object] = WeakSet()
        self._pid = os.getpid()

    @classmethod
    def joined(cls, place: str, user: object, threads: int | None) -> Crew:
        """Return the crew of a storage, and count a user of it.

        :param place: what tells the storage from all others.
        :param threads: how many write at once; `None`: as many as the first user asked for, else `THREADS`.
        :raises ValueError: if the crew has another number of threads.
        """
        with _lock:
            crew = _crews.get(place)
            if crew is None:
                crew = _crews[place] = cls(place, Workers(THREADS if threads is None else threads))
            elif threads not in (None, crew.workers.count):
                raise ValueError(
                    f"threads must be {crew.workers.count}, as the first user in this process gave it, not {threads}"
                )
            crew._users.add(user)
            return crew

    def check_process(self) -> None:
        """Raise `ForkedError` in a child, which does not have the threads."""
        if os.getpid() != self._pid:
            raise ForkedError

    def leave(self, user: object) -> None:
        """Count a user no more; the last one waits for the end of the threads. Idempotent."""
        with _lock:
            self._users.discard(user)
            if self._users:
                return
            if _crews.get(self._place) is self:
                del _crews[self._place]
        self.workers.stop(wait=True)


#: Held while a crew is joined or left.
_lock = threading.Lock()
_crews: WeakValueDictionary[str, Crew] = WeakValueDictionary()


def _after_in_child() -> None:
    """Begin without crews in a forked child, which has none of their threads."""
    global _lock, _crews  # noqa: PLW0603 - the child has its own
    _lock, _crews = threading.Lock(), WeakValueDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
