"""A channel's value as bytes: whole, or what it has more than the value before it.

A list, such as a graph's messages, is kept as its elements. A new version of it names the version that it is based on, how
many elements it has in common with that one, and the elements behind those. So a step that adds a message stores one message.
Elements are compared by digests of their bytes. A list of numbers is kept whole, for each element costs more than it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

from session_manager.model.message import Message
from session_manager.model.packed import pack_bytes, unpack_bytes

if TYPE_CHECKING:
    from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["Typed", "Version", "beyond", "digest", "held", "is_parted", "kept"]

#: A value as LangGraph's serializers write it: the name of its form, and its bytes.
Typed: TypeAlias = tuple[str, bytes]
#: The version of a channel, in LangGraph's terms.
Version: TypeAlias = str | int | float

_NUMBERS = (int, float, complex, type(None))


def is_parted(value: object) -> bool:
    """Say whether a value is kept as its elements."""
    return type(value) is list and not any(isinstance(element, _NUMBERS) for element in value)


def digest(piece: Typed) -> bytes:
    """Return what tells an element from all others."""
    form, data = piece
    return blake2b(data, digest_size=16, key=form.encode()[:64]).digest()


def beyond(value: list[Any], known: Sequence[bytes], serde: SerializerProtocol) -> tuple[int, list[Typed]]:
    """Return how many elements a list has in common with the start of another one, and those behind them as bytes.

    :param known: the digests of the other one's elements.
    """
    common = 0
    more: list[Typed] = []
    for element in value:
        piece = serde.dumps_typed(element)
        if not more and common < len(known) and digest(piece) == known[common]:
            common += 1
        else:
            more.append(piece)
    return common, more


def kept(pieces: Sequence[Typed]) -> dict[str, Any]:
    """Return what an item holds: what a serializer has made, one behind the other, and the form and size of each."""
    data = b"".join([piece for _, piece in pieces])
    held: dict[str, Any] = pack_bytes({"data": data})
    return {"pieces": [[form, len(piece)] for form, piece in pieces], **held}


def held(item: Message) -> list[Typed]:
    """Return what a serializer has made, of the item that holds it."""
    held = item.to_dict()
    data: bytes = unpack_bytes(held["data"])
    found: list[Typed] = []
    start = 0
    for form, size in held["pieces"]:
        found.append((form, data[start : start + size]))
        start += size
    return found
