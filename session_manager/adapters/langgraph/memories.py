"""Memories of LangGraph's store as metadata of sessions: one session for each namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from langgraph.store.base import Item, ListNamespacesOp, MatchCondition, SearchItem, SearchOp

from session_manager.model.key import join_key, quote_part, split_key, unquote_part
from session_manager.model.packed import unpack_bytes

__all__ = ["Namespace", "found", "item_of", "key_of", "namespace_of", "namespaces", "stored"]

#: The labels of a namespace.
Namespace: TypeAlias = tuple[str, ...]


def key_of(prefix: str, namespace: Iterable[str]) -> str:
    """Return the key of a namespace's session."""
    return join_key(prefix, *(quote_part(label) for label in namespace))


def namespace_of(key: str) -> Namespace:
    """Return the namespace of a session's key."""
    return tuple(unquote_part(label) for label in split_key(key)[1:])


def stored(value: Mapping[str, Any], created: str, updated: str) -> dict[str, Any]:
    """Return a memory as the metadata has it."""
    return {"value": value, "created_at": created, "updated_at": updated}


def item_of(namespace: Namespace, key: str, metadata: Mapping[str, Any]) -> Item | None:
    """Return a memory of a namespace; `None` if it is not there."""
    held = metadata.get(key)
    return None if held is None else Item(namespace=namespace, key=key, **_parts(held))


def found(namespace: Namespace, metadata: Mapping[str, Any], op: SearchOp) -> list[SearchItem]:
    """Return the memories of a namespace that a search asks for."""
    items = [SearchItem(namespace=namespace, key=key, **_parts(held)) for key, held in metadata.items()]
    return [item for item in items if _fits(item.value, op.filter)]


def _parts(held: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "value": unpack_bytes(held["value"]),
        "created_at": datetime.fromisoformat(held["created_at"]),
        "updated_at": datetime.fromisoformat(held["updated_at"]),
    }


# Which memories and namespaces are asked for


def _fits(value: Mapping[str, Any], filter: Mapping[str, Any] | None) -> bool:
    """Say whether a memory has the values that a filter names."""
    return all(_compares(value.get(field), wanted) for field, wanted in (filter or {}).items())


def _compares(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        if any(name.startswith("$") for name in wanted):
            return all(_operator(name)(value, operand) for name, operand in wanted.items())
        return isinstance(value, Mapping) and all(_compares(value.get(name), one) for name, one in wanted.items())
    if isinstance(wanted, list | tuple):
        same_length = isinstance(value, list | tuple) and len(value) == len(wanted)
        return same_length and all(_compares(one, other) for one, other in zip(value, wanted, strict=True))
    return bool(value == wanted)


def _operator(name: str) -> Callable[[Any, Any], bool]:
    found = _OPERATORS.get(name)
    if found is None:
        raise ValueError(f"unsupported operator in a filter: {name[:40]!a}")
    return found


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, operand: bool(value == operand),
    "$ne": lambda value, operand: bool(value != operand),
    "$gt": lambda value, operand: value is not None and float(value) > float(operand),
    "$gte": lambda value, operand: value is not None and float(value) >= float(operand),
    "$lt": lambda value, operand: value is not None and float(value) < float(operand),
    "$lte": lambda value, operand: value is not None and float(value) <= float(operand),
}


def namespaces(there: Iterable[Namespace], op: ListNamespacesOp) -> list[Namespace]:
    """Return a page of the namespaces that an operation asks for."""
    conditions = op.match_conditions or ()
    matching = (one for one in there if all(_matches(condition, one) for condition in conditions))
    cut = sorted({one if op.max_depth is None else one[: op.max_depth] for one in matching})
    return cut[op.offset : op.offset + op.limit]


def _matches(condition: MatchCondition, namespace: Namespace) -> bool:
    path = tuple(condition.path)
    if len(namespace) < len(path):
        return False
    if condition.match_type not in ("prefix", "suffix"):
        raise ValueError(f"unsupported match type: {str(condition.match_type)[:40]!a}")
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))
