"""Whole messages and fields among damaged bytes.

A message is an object that begins with a mark, such as ``{"position":``. The mark cannot occur inside of a text, whose quotes are escaped.
An object that does not parse is passed over, and the search goes on at the next mark. So one damaged byte costs one message, wherever it is.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs
import msgspec

from session_manager.codec.changes import NewMessage
from session_manager.codec.json import DecodeError, decode_json, decoder_of
from session_manager.codec.lines import decode_messages, message_of
from session_manager.model.message import Message

__all__ = ["Fragment", "converted", "fields_in", "messages_in", "new_messages_in"]

T = TypeVar("T")

#: Finds the end of an object. Numbers are not converted: a huge one would raise.
_parse = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_decode_new = decoder_of(NewMessage)


@attrs.frozen(eq=False, repr=False)
class Fragment(Generic[T]):
    """A whole message, and its bytes from `start` to before `stop`."""

    start: int
    stop: int
    value: T


def messages_in(data: bytes, start: int, stop: int) -> list[Fragment[Message]]:
    """Return the whole messages between two places, as snapshots and the first lines of logs have them."""
    return list(_fragments(data, start, stop, '{"position":', _message))


def new_messages_in(data: bytes, start: int, stop: int) -> list[Fragment[Message]]:
    """Return the whole messages between two places, as records of logs have them: without positions."""
    return list(_fragments(data, start, stop, '{"created_at":', _new_message))


def _fragments(data: bytes, start: int, stop: int, mark: str, decode: Callable[[bytes], T]) -> Iterator[Fragment[T]]:
    text = data[start:stop].decode("latin-1")  # a character a byte, so that places agree
    place = text.find(mark)
    while place >= 0:
        following = place + 1
        try:
            _, end = _parse(text, place)
            found = Fragment(start + place, start + end, decode(data[start + place : start + end]))
        except (ValueError, RecursionError, DecodeError):
            pass
        else:
            following = end
            yield found
        place = text.find(mark, following)


def _message(data: bytes) -> Message:
    return decode_messages(b"[\n" + data + b"\n]")[0]


def _new_message(data: bytes) -> Message:
    new: NewMessage = _decode_new(data)
    return message_of(new)


def fields_in(data: bytes, names: Sequence[str]) -> dict[str, object]:
    """Return the fields of a damaged object that still parse.

    :param data: the object, as far as it is there.
    :param names: its fields, in the order in which they are written. The last one only ends the one before it.
    """
    found: dict[str, object] = {}
    place = 0
    for name, following in itertools.pairwise(names):
        begin = data.find(b'"%b":' % name.encode(), place)
        if begin < 0:
            continue
        begin += len(name) + 3
        for end in re.finditer(rb',\s?"%b":' % following.encode(), data[begin:]):
            try:
                found[name] = decode_json(data[begin : begin + end.start()])
            except DecodeError:
                continue
            place = begin + end.start()
            break
    return found


def converted(value: object, kind: type[T], default: T) -> T:
    """Return a field as a value of a type; a default, if it is none."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError):
        return default
