"""Errors as JSON-ready data, and back: their type, their sentence and the arguments of their constructor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from session_manager import errors
from session_manager.errors import ConflictError, InvalidDataError, SessionManagerError
from session_manager.model.json_value import _place
from session_manager.model.session import Version

__all__ = ["ForeignError", "error_data", "error_of"]

_ERRORS: dict[str, type[SessionManagerError]] = {name: getattr(errors, name) for name in errors.__all__}
#: The types that `ConflictError` cannot name itself, since `errors` is below `model`.
_VERSIONS: dict[str, Any] = {"expected": Version | None, "actual": Version | None}


class ForeignError(Exception):
    """An error of another library, read from JSON.

    :param type: the name of its class.
    :param message: its text.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        #: The name of its class, such as ``OSError``.
        self.type: str = type
        #: Its text.
        self.message: str = message

    def __str__(self) -> str:
        return self.message


def _arguments(kind: type[SessionManagerError]) -> dict[str, tuple[Any, bool]]:
    """Return the arguments of an error's constructor: their types, and whether they are required."""
    if not inspect.isfunction(kind.__init__):
        return {}
    hints = {**get_type_hints(kind.__init__), **(_VERSIONS if kind is ConflictError else {})}
    kinds = {name: Any if hint is object else hint for name, hint in hints.items()}
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return {
        one.name: (kinds[one.name], one.default is one.empty)
        for one in parameters
        if one.kind is one.POSITIONAL_OR_KEYWORD
    }


def error_data(error: BaseException, unstructure: Callable[[Any], Any]) -> dict[str, Any]:
    """Return an error as JSON-ready data.

    :param unstructure: does the same for an argument of the error.
    """
    if isinstance(error, ForeignError):
        return {"type": error.type, "message": error.message}
    name = type(error).__name__
    data = {"type": name, "message": str(error)}
    if _ERRORS.get(name) is type(error):
        given = zip(_arguments(type(error)), error.args, strict=False)
        data.update((argument, unstructure(_plain(value))) for argument, value in given)
    return data


def _plain(value: Any) -> Any:
    """Return an error's argument for JSON. A key of bytes, or one that is no number, becomes what Python writes."""
    return (
        ascii(value) if isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)) else value
    )


def error_of(data: Mapping[str, Any], kind: type[Any], structure: Callable[[str, Any, Any], Any]) -> BaseException:
    """Return the error that JSON-ready data describe.

    :param kind: the class that it must be of.
    :param structure: given a field, its data and its type, returns its value.
    :raises InvalidDataError: if a field is missing, unknown or wrong.
    """
    given = dict(data)
    name = structure("type", given.pop("type", None), str)
    message = structure("message", given.pop("message", ""), str)
    found = _ERRORS.get(name)
    if not issubclass(found or ForeignError, kind):
        raise InvalidDataError("type", f"is not a kind of {kind.__name__}")
    arguments = _arguments(found) if found else {}
    for field in given:
        if field not in arguments:
            raise InvalidDataError(_place("", [None, field]), "there is no such field")
    if found is None or found is SessionManagerError:
        return ForeignError(name, message) if found is None else found(message)
    parts = {}
    for field, (argument, required) in arguments.items():
        if field in given:
            parts[field] = structure(field, given[field], argument)
        elif required:
            raise InvalidDataError(field, "is missing")
    return found(**parts)
