"""Strict JSON bytes: encoding and decoding of any value, by msgspec, or by the standard library where msgspec refuses."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

import msgspec

from session_manager.errors import raise_alone

__all__ = ["DecodeError", "decode_json", "decoded", "decoder_of", "encode_json", "encode_large", "lent"]

T = TypeVar("T")
_TOO_DEEP = "is nested too deeply"
_encode_into = msgspec.json.Encoder().encode_into
_decode_any = msgspec.json.Decoder().decode


class DecodeError(Exception):
    """Invalid or damaged bytes.

    :param offset: where, in bytes from the start of the decoded data.
    :param reason: the reason, without any of the text.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason


def encode_json(value: Any) -> bytes:
    """Encode a checked JSON value, or a struct of them, in one line of UTF-8; in ASCII if there is a lone surrogate in it."""
    buffer = bytearray()
    try:
        _encode_into(value, buffer)  # without memory this raises; msgspec's `encode` ends the process
        return bytes(buffer)
    except UnicodeEncodeError:
        return _in_ascii(value)


def encode_large(value: Any) -> bytes | bytearray:
    """Encode as `encode_json` does, without a copy at the end, which costs as much as the encoding where the caches are cold."""
    buffer = bytearray()
    try:
        _encode_into(value, buffer)
    except UnicodeEncodeError:
        return _in_ascii(value)
    return buffer


def _in_ascii(value: Any) -> bytes:
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"), allow_nan=False).encode("ascii")


def decode_json(data: bytes | memoryview) -> Any:
    """Return the JSON value that some bytes encode, strictly (no NaN, no infinity).

    :raises DecodeError: if they encode none.
    """
    return decoded(_decode_any, lambda value: value, data)


def lent(value: dict[str, Any]) -> dict[str, Any]:
    """Copy the non-ASCII strings of an object, so that encoding the copy takes no lasting memory.

    When msgspec asks CPython for the UTF-8 form of a non-ASCII string, the string keeps that form for the rest of its life.
    """
    containers: list[Any] = [value]
    for one in containers:
        for item in one.values() if type(one) is dict else one:
            kind = type(item)
            if kind is str:
                if not item.isascii():
                    lent: dict[str, Any] = _with_copies(value)
                    return lent
            elif kind is dict or kind is list:
                containers.append(item)
    return value


def _with_copies(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _with_copies(item) for key, item in value.items()}
    if kind is list:
        return list(map(_with_copies, value))
    return value[:1] + value[1:] if kind is str else value


def decoder_of(kind: Any) -> Callable[[bytes | memoryview], Any]:
    """Return a function that decodes bytes as a value of a type, strictly.

    It raises `DecodeError` if they encode none.
    """
    decode = msgspec.json.Decoder(kind).decode
    return lambda data: decoded(decode, lambda value: msgspec.convert(value, kind), data)


def decoded(fast: Callable[[Any], T], convert: Callable[[Any], T], data: bytes | memoryview) -> T:
    """Decode by msgspec, or by the standard library if msgspec refuses (lone surrogates, some huge integers).

    Up to Python 3.11, decoders share the recursion limit with their caller. So a value that is nested too deeply for the rest
    of this thread's stack is decoded in a thread of its own. Otherwise a good message would look damaged to a deep caller.
    """
    try:
        return _parsed(fast, convert, data)
    except RecursionError:
        pass
    return _on_its_own_stack(partial(_parsed, fast, convert, data))


def _parsed(fast: Callable[[Any], T], convert: Callable[[Any], T], data: bytes | memoryview) -> T:
    try:
        return fast(data)
    except (msgspec.MsgspecError, ValueError):
        pass
    raw = bytes(data)
    raw = raw[: raw.find(b"\0") + 1 or len(raw)]  # no JSON has a NUL: the error is there at the latest
    try:
        text = raw.decode()
        return convert(json.loads(text, parse_constant=_no_constant, parse_float=_finite))
    except json.JSONDecodeError as error:
        raise_alone(DecodeError(len(text[: error.pos].encode()), "is not JSON"))
    except msgspec.MsgspecError:
        raise_alone(DecodeError(0, "JSON, but not what belongs here"))
    except ValueError:
        raise_alone(DecodeError(0, "is not JSON"))


def _on_its_own_stack(decode: Callable[[], T]) -> T:
    values: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            values.append(decode())
        except RecursionError:
            failures.append(DecodeError(0, _TOO_DEEP))
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=run, name="session_manager-decode")
    is_running = False
    with contextlib.suppress(RuntimeError):  # the interpreter is ending
        thread.start()
        is_running = True
    if not is_running:
        raise DecodeError(0, _TOO_DEEP)
    thread.join()
    if failures:
        raise failures[0]
    return values[0]


def _no_constant(_: str) -> NoReturn:
    raise ValueError


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value
