"""Checks of the arguments of public calls: each raises an error that names the parameter."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from session_manager.errors import InvalidStorageError

__all__ = [
    "Progress",
    "check_bool",
    "check_callable",
    "check_int",
    "check_path",
    "check_progress",
    "check_seconds",
    "check_texts",
    "check_type",
    "expanded",
    "several",
]

#: Called by what takes long, after each session: how many are done, how many there are, and the session's key.
Progress: TypeAlias = Callable[[int, int, str], object]


def check_type(value: object, types: tuple[type, ...], rule: str) -> None:
    """Raise `TypeError` unless a value is of one of some types. A bool is none of them.

    :param rule: what it must be, with the parameter's name, such as ``"prefix must be a str"``.
    """
    if not isinstance(value, types) or isinstance(value, bool):
        raise TypeError(f"{rule}, not {type(value).__name__}")


def check_bool(value: object, name: str) -> None:
    """Raise `TypeError` unless a value is `True` or `False`."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")


def check_int(value: object, name: str, *, least: int) -> None:
    """Raise unless a value is an int, not a bool.

    :param least: the smallest that is taken.
    :raises TypeError: if it is something else.
    :raises ValueError: if it is less.
    """
    check_type(value, (int,), f"{name} must be an int")
    if isinstance(value, int) and value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")


def check_seconds(value: object, name: str, *, most: float) -> None:
    """Raise unless a value is a number of seconds, from 0.

    :param most: the largest that is taken.
    :raises TypeError: if it is something else.
    :raises ValueError: if it is nan, negative or more.
    """
    check_type(value, (int, float), f"{name} must be a number of seconds")
    if isinstance(value, int | float) and (math.isnan(value) or not 0 <= value <= most):
        raise ValueError(f"{name} must be from 0 to {most:,.0f} seconds, not {value}")


def check_texts(value: object, name: str) -> None:
    """Raise unless a value is a collection of strings that are not empty. One string is none: each letter would be one.

    :raises TypeError: if it is something else.
    :raises ValueError: if one of them is empty.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
        raise TypeError(f"{name} must be several strings, such as a list, not {type(value).__name__}")
    for one in value:
        check_type(one, (str,), f"{name} must be strings")
        if not one:
            raise ValueError(f"{name} must not be empty strings")


def several(value: object, name: str, what: str) -> tuple[Any, ...]:
    """Return the items of an iterable. A text or a mapping is none: its letters or keys are not meant.

    :param what: what they are, in the plural.
    :raises TypeError: if it is one, or no iterable.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be several {what}, such as a list, not {type(value).__name__}")
    return tuple(value)


def check_callable(value: object, name: str) -> None:
    """Raise `TypeError` unless a value can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")


def check_progress(value: object) -> None:
    """Raise `TypeError` unless a value can be called, or is `None`."""
    if value is not None:
        check_callable(value, "progress")


def check_path(value: object, name: str, rule: str = "must be a path") -> str:
    """Return a path as text, ``~`` at its start being the user's home.

    :param rule: what it must be, for the error of one that is empty, of bytes, or has a NUL in it.
    :raises TypeError: if it is nothing like a path.
    :raises InvalidStorageError: if no file system can hold it.
    """
    check_type(value, (str, bytes, os.PathLike), f"{name} must be a str or a path")
    text: object = os.fspath(value)  # type: ignore[call-overload]
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidStorageError(str(text), rule)
    if not _is_encodable(text):
        raise InvalidStorageError(text, "is not a name that a file system can hold")
    return expanded(text)


def expanded(path: str) -> str:
    """Return a path with the home of a user in place of a ``~`` at its start.

    :raises InvalidStorageError: if there is no such user, nor a file or directory of that name.
    """
    found = os.path.expanduser(path)
    first = found.partition(os.sep)[0]
    if first.startswith("~") and not os.path.lexists(first):
        raise InvalidStorageError(path, f"there is no home {first}: give ./{path} for a directory of that name")
    return found


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
