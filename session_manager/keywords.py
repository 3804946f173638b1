"""Keyword arguments that several calls share: each set is spelled once, as a `TypedDict`, and unpacked in the signatures.

A signature with ``**parts: Unpack[MessageParts]`` is checked by mypy and pyright like one that spells the names out.
Python itself takes any name there: the call refuses the unknown ones with `unexpected`, and `showing` lists the known ones.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if sys.version_info >= (3, 11):
    from typing import Unpack
elif TYPE_CHECKING:
    from typing_extensions import Unpack
else:

    class Unpack:
        """What annotations need of ``typing.Unpack`` in Python 3.10, at run time."""

        def __class_getitem__(cls, item: type) -> type:
            return item


__all__ = ["Unpack", "keyword_defaults", "showing", "unexpected"]

F = TypeVar("F", bound=Callable[..., object])


def unexpected(call: str, given: Iterable[str], known: frozenset[str]) -> TypeError:
    """Return the error, as Python has it, of a call that got a keyword argument that it does not have.

    :param call: its name, such as ``"SessionManager.add_message"``.
    :param known: the names of its `TypedDict`: ``__optional_keys__``.
    """
    name = next(name for name in given if name not in known)
    return TypeError(f"{call}() got an unexpected keyword argument {name!r}")


def keyword_defaults(call: Callable[..., object]) -> dict[str, object]:
    """Return the keyword-only arguments of a call, as its signature shows them, by name with their defaults."""
    parameters = inspect.signature(call).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def showing(source: Callable[..., object]) -> Callable[[F], F]:
    """Let `inspect.signature` list the names that a call unpacks: those of the function that it gives them to.

    :param source: that function, with all names and their defaults as keyword-only parameters.
    """
    names = [one for one in inspect.signature(source).parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY]

    def decorate(call: F) -> F:
        own = inspect.signature(call)
        kept = [one for one in own.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        target: Any = call
        target.__signature__ = own.replace(parameters=[*kept, *names])
        return call

    return decorate
