"""A channel's value as bytes: whole, or what it has more than the value before it.

A list, such as a graph's messages, is kept as its elements. A new version of it names the version that it is based on, how
many elements it has in common with that one, and the elements behind those. So a step that adds a message stores one message.
Elements are compared as bytes. A list of numbers is kept whole, for each element costs more than it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from session_manager.model.message import Message
from session_manager.model.packed import pack_bytes, unpack_bytes

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["Parts", "Typed", "Version", "decoded", "held", "in_common", "kept", "parts"]

#: A value as LangGraph's serializers write it: the name of its form, and its bytes.
Typed: TypeAlias = tuple[str, bytes]
#: The version of a channel, in LangGraph's terms.
Version: TypeAlias = str | int | float
#: The elements of a list.
Parts: TypeAlias = Sequence[Typed]

_NUMBERS = (int, float, complex, type(None))


def parts(value: object, serde: SerializerProtocol) -> Parts | None:
    """Return the elements of a list, each as bytes; `None` for a value that is kept whole."""
    if type(value) is not list or any(isinstance(element, _NUMBERS) for element in value):
        return None
    return [serde.dumps_typed(element) for element in value]


def in_common(one: Parts, other: Parts) -> int:
    """Return how many elements at the start of two lists are the same."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def decoded(elements: Parts, serde: SerializerProtocol) -> list[Any]:
    """Return a list, of its elements as bytes."""
    loads: Callable[[Typed], Any] = serde.loads_typed
    return [loads(element) for element in elements]


def kept(pieces: Sequence[Typed]) -> dict[str, Any]:
    """Return what an item holds: what a serializer has made, one behind the other, and the form and size of each."""
    data = b"".join([piece for _, piece in pieces])
    held: dict[str, Any] = pack_bytes({"data": data})
    return {"pieces": [[form, len(piece)] for form, piece in pieces], **held}


def held(item: Message) -> list[Typed]:
    """Return what a serializer has made, of the item that holds it."""
    kept = unpack_bytes(item.to_dict())
    data: bytes = kept["data"]
    found: list[Typed] = []
    start = 0
    for form, size in kept["pieces"]:
        found.append((form, data[start : start + size]))
        start += size
    return found
