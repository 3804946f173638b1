"""Which items of a thread go when checkpoints are removed: those, their writes, and the values that no other checkpoint needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from session_manager.adapters.langgraph.checkpoints import metadata_of, versions_of
from session_manager.adapters.langgraph.thread import Name, Thread, ValueName
from session_manager.model.message import Message

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["beyond", "of_runs", "unneeded"]

#: The metadata by which LangGraph tells which channels are rebuilt from earlier checkpoints (`DeltaChannel`).
_COUNTERS = "counters_since_delta_snapshot"


def of_runs(thread: Thread, run_ids: Iterable[str]) -> set[Name]:
    """Return the checkpoints that some runs have made."""
    runs = set(run_ids)
    found = ((name, thread.checkpoint(name)) for name in thread.names())
    return {name for name, item in found if item is not None and item.metadata["run"] in runs}


def beyond(thread: Thread, keep: int, serde: SerializerProtocol) -> set[Name]:
    """Return the checkpoints of each namespace but the newest.

    An older one stays if a channel of a newer one is rebuilt from it (LangGraph's ``DeltaChannel``).

    :param keep: how many of each namespace stay, from 0.
    """
    by_ns: dict[str, list[Name]] = {}
    for name in thread.names():
        by_ns.setdefault(name.ns, []).append(name)
    kept = {name for names in by_ns.values() for name in names[:keep]}
    for name in list(kept):
        kept.update(_rebuilt_from(thread, name, serde))
    return set(thread.names()).difference(kept)


def _rebuilt_from(thread: Thread, name: Name, serde: SerializerProtocol) -> Iterator[Name]:
    """Yield the checkpoints before one from which its channels are rebuilt: back to the value of each such channel."""
    item = thread.checkpoint(name)
    assert item is not None
    metadata: Any = metadata_of(item, serde)
    missing = set(metadata.get(_COUNTERS) or ()).difference(_values(thread, item, serde))
    while missing and item.metadata["parent"] is not None:
        name = Name(name.ns, item.metadata["parent"])
        item = thread.checkpoint(name)
        if item is None:
            return
        yield name
        missing.difference_update(_values(thread, item, serde))


def unneeded(thread: Thread, gone: set[Name], serde: SerializerProtocol) -> list[int]:
    """Return the positions of all items that go with some checkpoints.

    Writes that follow a checkpoint that is not there yet stay.
    """
    needed: set[int | None] = set()
    for name in thread.names():
        item = thread.checkpoint(name)
        if item is not None and name not in gone:
            for value in _values(thread, item, serde).values():
                _reach(thread, value, needed)
    values = [item for item in thread.values() if item.position not in needed] if gone else []
    rest = [item for name in gone for item in (*thread.writes(name), thread.checkpoint(name)) if item is not None]
    return sorted(item.position for item in (*values, *rest) if item.position is not None)


def _values(thread: Thread, checkpoint: Message, serde: SerializerProtocol) -> dict[str, Message]:
    """Return the values of a checkpoint, by channel."""
    ns = checkpoint.metadata["ns"]
    found = {
        channel: thread.value(ValueName(ns, channel, version), checkpoint)
        for channel, version in versions_of(checkpoint, serde).items()
    }
    return {channel: value for channel, value in found.items() if value is not None}


def _reach(thread: Thread, value: Message, needed: set[int | None]) -> None:
    """Note a value, and all that it is based on."""
    item: Message | None = value
    while item is not None and item.position not in needed:
        needed.add(item.position)
        item = thread.base(item)
