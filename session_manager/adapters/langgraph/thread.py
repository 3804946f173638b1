"""What the session of a LangGraph thread holds, found by name.

A thread is one session. So each step is one commit, and a thread is deleted or copied as a whole. Its items are

``value``
    The value of a channel in one version, once, for all checkpoints that have it (`session_manager.adapters.langgraph.values`).
``checkpoint``
    One checkpoint of a namespace, without the values of its channels. The values that it brings come right before it.
``writes``
    What one task has written after a checkpoint.

The metadata of an item says what it is. The item itself holds bytes that LangGraph's serializer has made.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from session_manager.adapters.langgraph.values import Version, digest, held
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = ["Name", "Thread", "Threads", "ValueName"]

#: How many threads are remembered. One that is forgotten is looked through again.
_REMEMBERED = 16


class Name(NamedTuple):
    """A checkpoint: its namespace in the thread, and its id."""

    ns: str
    id: str


class ValueName(NamedTuple):
    """A version of a channel, in a namespace of the thread."""

    ns: str
    channel: str
    version: Version


class Thread:
    """The items of one thread, by their names. Any thread of Python may call any method."""

    def __init__(self, key: str, generation: str) -> None:
        self.key = key
        self._generation = generation
        self._lock = threading.Lock()
        self._count = 0
        self._last: Message | None = None
        self._checkpoints: dict[Name, Message] = {}
        self._writes: dict[Name, list[Message]] = {}
        #: Two writers may give one version two values. So a name may have several items.
        self._values: dict[ValueName, list[Message]] = {}
        self._by_position: dict[int, Message] = {}
        #: Of each list: the position of its base, and how many elements it has of that. Reading metadata costs more.
        self._links: dict[int, tuple[int | None, int]] = {}
        self._newest: dict[tuple[str, str], Message] = {}
        #: The digests of the list that was asked for last, by its namespace and channel, with the position of its item.
        self._digests: dict[tuple[str, str], tuple[int, list[bytes]]] = {}

    def read(self, session: Session) -> bool:
        """Note what a session has more than the picture before; `False` if it is not a continuation of that picture."""
        messages = session.messages
        with self._lock:
            count = self._count
            if session.generation != self._generation or len(messages) < count:
                return False
            if count and (messages[count - 1].position, messages[count - 1]) != (_position(self._last), self._last):
                return False
            for index in range(count, len(messages)):
                self._note(messages[index])
            if messages:
                self._count, self._last = len(messages), messages[-1]
        return True

    def _note(self, item: Message) -> None:
        about = item.metadata
        kind = about.get("kind")
        if kind == "checkpoint":
            self._checkpoints[Name(about["ns"], about["id"])] = item
        elif kind == "writes":
            self._writes.setdefault(Name(about["ns"], about["id"]), []).append(item)
        elif kind == "value":
            self._values.setdefault(ValueName(about["ns"], about["channel"], about["version"]), []).append(item)
            self._by_position[_position(item)] = item
            if "keep" in about:
                self._links[_position(item)] = about.get("base"), about["keep"]
            self._newest[about["ns"], about["channel"]] = item

    def names(self, ns: str | None = None) -> list[Name]:
        """Return the names of the checkpoints, the newest first.

        :param ns: only those of this namespace.
        """
        with self._lock:
            there = list(self._checkpoints)
        found = [name for name in there if ns is None or name.ns == ns]
        return sorted(found, key=lambda name: (name.id, name.ns), reverse=True)

    def latest(self, ns: str) -> Name | None:
        """Return the newest checkpoint of a namespace."""
        return next(iter(self.names(ns)), None)

    def checkpoint(self, name: Name) -> Message | None:
        """Return the item of a checkpoint."""
        with self._lock:
            return self._checkpoints.get(name)

    def writes(self, name: Name) -> list[Message]:
        """Return the items of what tasks have written after a checkpoint, the oldest first."""
        with self._lock:
            return list(self._writes.get(name, ()))

    def values(self) -> list[Message]:
        """Return the items of all values, the oldest first."""
        with self._lock:
            return list(self._by_position.values())

    def value(self, name: ValueName, checkpoint: Message) -> Message | None:
        """Return the item of a value, as a checkpoint has it."""
        before = _position(checkpoint)
        with self._lock:
            items = self._values.get(name, ())
            return next((item for item in reversed(items) if _position(item) < before), None)

    def newest(self, ns: str, channel: str) -> Message | None:
        """Return the value that a channel was given last."""
        with self._lock:
            return self._newest.get((ns, channel))

    def has(self, position: int | None) -> bool:
        """Say whether a value is at a position; `True` without one."""
        with self._lock:
            return position is None or position in self._by_position

    def base(self, value: Message) -> Message | None:
        """Return the value that another one is based on; `None` if there is none, or it is gone."""
        base, _ = self._links.get(_position(value), (None, 0))
        return None if base is None else self._by_position.get(base)

    def is_whole(self, value: Message) -> bool:
        """Say whether all that a value is based on is there.

        A process that dies right after another one removed the base may leave a value without its base.
        """
        position: int | None = _position(value)
        while position is not None and position in self._by_position:
            position, _ = self._links.get(position, (None, 0))
        return position is None

    def pieces(self, value: Message) -> list[tuple[Message, int | None]]:
        """Return the items that a list is made of, the oldest first, with how many elements of each are in it; `None`: all."""
        return self._walk(value, None)[0]

    def digests(self, value: Message) -> list[bytes]:
        """Return a digest of each element of a list."""
        about = value.metadata
        place = about["ns"], about["channel"]
        with self._lock:
            position, known = self._digests.get(place, (None, []))
        pieces, wanted = self._walk(value, position)
        digests = known[:wanted] if wanted else []
        for item, count in pieces:
            digests += [digest(piece) for piece in held(item)[:count]]
        with self._lock:
            self._digests[place] = _position(value), digests
        return digests

    def _walk(self, value: Message, stop: int | None) -> tuple[list[tuple[Message, int | None]], int]:
        """Go from a list to what it is based on, and so on, until all of its elements are found.

        :param stop: the position of the list at which to stop.
        :returns: the items before that, the oldest first, and how many elements of that list are wanted.
        """
        found: list[tuple[Message, int | None]] = []
        wanted: int | None = None
        item: Message | None = value
        while item is not None and wanted != 0 and _position(item) != stop:
            _, keep = self._links[_position(item)]
            if wanted is None or wanted > keep:
                found.append((item, None if wanted is None else wanted - keep))
                wanted = keep
            item = self.base(item)
        is_stopped = item is not None and _position(item) == stop
        if is_stopped and wanted is None:
            wanted = value.metadata["keep"] + len(value.to_dict()["pieces"])
        return found[::-1], wanted or 0 if is_stopped else 0


class Threads:
    """The threads that were looked through last, by key. Any thread of Python may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: OrderedDict[str, Thread] = OrderedDict()

    def of(self, session: Session | None) -> Thread:
        """Return what a session holds: as it is in this picture, or as it has become since."""
        if session is None:
            return Thread("", "")
        with self._lock:
            thread = self._threads.get(session.key)
        if thread is None or not thread.read(session):
            thread = Thread(session.key, session.generation)
            thread.read(session)
        with self._lock:
            self._threads[session.key] = thread
            self._threads.move_to_end(session.key)
            while len(self._threads) > _REMEMBERED:
                self._threads.popitem(last=False)
        return thread


def _position(item: Message | None) -> int:
    assert item is not None
    assert item.position is not None
    return item.position
