"""Checkpoints as items of a thread's session, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_metadata,
    writes_sort_key,
)

from session_manager.adapters.langgraph.thread import Name, Thread, ValueName
from session_manager.adapters.langgraph.values import beyond, held, is_parted, kept
from session_manager.errors import CorruptSessionError
from session_manager.model.message import Item, Message

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["config_of", "metadata_of", "step", "task_writes", "to_tuple", "versions_of"]


def config_of(thread_id: str, name: Name) -> RunnableConfig:
    """Return the config that names a checkpoint."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": name.ns, "checkpoint_id": name.id}}


# On the way in


def step(
    thread: Thread,
    ns: str,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
    serde: SerializerProtocol,
) -> list[Item]:
    """Return the items of a new checkpoint: the values that it brings, and itself."""
    parent = config["configurable"].get("checkpoint_id")
    bare: dict[str, Any] = dict(checkpoint)
    values, versions = bare.pop("channel_values"), checkpoint["channel_versions"]
    before = None if parent is None else thread.checkpoint(Name(ns, parent))
    items = [
        _value(thread, ValueName(ns, channel, version), values[channel], serde)
        for channel, version in {**versions, **new_versions}.items()
        if channel in values and (channel in new_versions or not _is_there(thread, ns, channel, version, before))
    ]
    complete = get_checkpoint_metadata(config, metadata)
    about = {"kind": "checkpoint", "ns": ns, "id": checkpoint["id"], "parent": parent, "run": complete.get("run_id")}
    return [*items, Item(kept([serde.dumps_typed(bare), serde.dumps_typed(complete)]), metadata=about)]


def _is_there(thread: Thread, ns: str, channel: str, version: Any, before: Message | None) -> bool:
    """Say whether the checkpoint before has this version of a channel."""
    return before is not None and thread.value(ValueName(ns, channel, version), before) is not None


def _value(thread: Thread, name: ValueName, value: Any, serde: SerializerProtocol) -> Item:
    """Return the item of a value: of a list, what it has more than the checkpoint before."""
    about: dict[str, Any] = {"kind": "value", **name._asdict()}
    if not is_parted(value):
        return Item(kept([serde.dumps_typed(value)]), metadata=about)
    base = thread.newest(name.ns, name.channel)
    if base is not None and ("keep" not in base.metadata or not thread.is_whole(base)):
        base = None
    keep, more = beyond(value, [] if base is None else thread.digests(base), serde)
    while base is not None and keep <= base.metadata["keep"]:
        base = thread.base(base)  # it has all of them, too
    about["keep"] = keep
    if base is not None:
        about["base"] = base.position
    return Item(kept(more), metadata=about)


def task_writes(
    thread: Thread,
    name: Name,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
    serde: SerializerProtocol,
) -> list[Item]:
    """Return the item of what a task has written after a checkpoint; none, if all of it is there already.

    A task that runs again keeps the writes that it had made. Errors, interrupts and the like take the place of earlier ones.
    """
    indexed = [(WRITES_IDX_MAP.get(channel, index), channel, value) for index, (channel, value) in enumerate(writes)]
    there = {
        index for item in thread.writes(name) if item.metadata["task"] == task_id for index in item.metadata["indices"]
    }
    new = [(index, channel, value) for index, channel, value in indexed if index < 0 or index not in there]
    if not new:
        return []
    places = {"indices": [index for index, _, _ in new], "channels": [channel for _, channel, _ in new]}
    about = {"kind": "writes", **name._asdict(), "task": task_id, "path": task_path, **places}
    return [Item(kept([serde.dumps_typed(value) for _, _, value in new]), metadata=about)]


# On the way out


def metadata_of(checkpoint: Message, serde: SerializerProtocol) -> CheckpointMetadata:
    """Return the metadata of a checkpoint, of its item."""
    metadata: CheckpointMetadata = serde.loads_typed(held(checkpoint)[1])
    return metadata


def versions_of(checkpoint: Message, serde: SerializerProtocol) -> ChannelVersions:
    """Return the versions of a checkpoint's channels, of its item."""
    versions: ChannelVersions = serde.loads_typed(held(checkpoint)[0])["channel_versions"]
    return versions


def to_tuple(thread: Thread, thread_id: str, name: Name, serde: SerializerProtocol) -> CheckpointTuple | None:
    """Return a checkpoint with its values and writes; `None` if it is not there."""
    item = thread.checkpoint(name)
    if item is None:
        return None
    bare: dict[str, Any] = serde.loads_typed(held(item)[0])
    parent = item.metadata["parent"]
    checkpoint: Any = {**bare, "channel_values": _values(thread, name.ns, bare["channel_versions"], item, serde)}
    return CheckpointTuple(
        config_of(thread_id, name),
        checkpoint,
        metadata_of(item, serde),
        None if parent is None else config_of(thread_id, Name(name.ns, parent)),
        _pending(thread.writes(name), serde),
    )


def _values(
    thread: Thread, ns: str, versions: ChannelVersions, checkpoint: Message, serde: SerializerProtocol
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for channel, version in versions.items():
        item = thread.value(ValueName(ns, channel, version), checkpoint)
        if item is not None:
            if not thread.is_whole(item):
                reason = "what this value is based on was removed"
                raise CorruptSessionError(thread.key, f"position {item.position}", None, reason)
            values[channel] = _loaded(thread, item, serde)
    return values


def _loaded(thread: Thread, value: Message, serde: SerializerProtocol) -> Any:
    if "keep" not in value.metadata:
        return serde.loads_typed(held(value)[0])
    return [serde.loads_typed(piece) for item, count in thread.pieces(value) for piece in held(item)[:count]]


def _pending(items: list[Message], serde: SerializerProtocol) -> list[PendingWrite]:
    """Return what tasks have written, in the order in which LangGraph applies it."""
    found: dict[tuple[str, str, int], PendingWrite] = {}
    for item in items:
        about = item.metadata
        for index, channel, piece in zip(about["indices"], about["channels"], held(item), strict=True):
            place = writes_sort_key(about["path"], about["task"], index)
            if index < 0 or place not in found:
                found[place] = about["task"], channel, serde.loads_typed(piece)
    return [found[place] for place in sorted(found)]
