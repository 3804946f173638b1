"""Options and arguments that several commands share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

__all__ = [
    "age_option",
    "dry_run_option",
    "json_option",
    "key_argument",
    "keys_of",
    "prefix_option",
    "storage_option",
    "where_option",
    "yes_option",
]

F = TypeVar("F", bound=Callable[..., Any])

_VARIABLE = "SESSION_MANAGER_STORAGE"
_LENGTHS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: So many keys are offered at once to complete one.
_OFFERED = 100


def _storage(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return the storage: the command's own option, that of `session-manager`, or the variable.

    An option that is given is the storage, also if it is empty, as ``-s "$CHATS"`` is without such a variable.
    """
    given = (value, ctx.find_root().obj, os.environ.get(_VARIABLE))
    found = next((one for one in given if one is not None), None)
    if ctx.resilient_parsing:
        return found or None
    if not found:
        raise click.UsageError(f"which storage? Give --storage, such as --storage log:chats, or set {_VARIABLE}.", ctx)
    if found == "memory:":
        raise click.UsageError("memory: is in the RAM of your program, and no other process can look at it.", ctx)
    return str(found)


def storage_option(command: F) -> F:
    """Add the option that names the storage; the parameter is never empty."""
    option = click.option(
        "-s",
        "--storage",
        metavar="STORAGE",
        callback=_storage,
        help=f"A path, or a URL: log:PATH, snapshot:PATH, sqlite:PATH. By default {_VARIABLE}.",
    )
    return option(command)


def json_option(command: F) -> F:
    """Add the option for programs that read the output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead, for programs.")(command)


def prefix_option(command: F) -> F:
    """Add the option that chooses sessions by the start of their keys."""
    option = click.option(
        "--prefix", default="", help="Only sessions whose keys start with this text, such as telegram:."
    )
    return option(command)


def age_option(command: F) -> F:
    """Add the option that chooses sessions by their age."""
    option = click.option(
        "--older-than", metavar="AGE", callback=_age, help="Such as 90d, 12h, 30m, 2w, or a moment: 2026-01-31T00:00Z."
    )
    return option(command)


def where_option(command: F) -> F:
    """Add the option that chooses sessions by their metadata."""
    option = click.option(
        "--where",
        multiple=True,
        metavar="NAME=VALUE",
        callback=_where,
        help="Only sessions with this in their metadata. VALUE is JSON, or else a text; 'n=\"1\"' is the text 1. Repeatable.",
    )
    return option(command)


def dry_run_option(command: F) -> F:
    """Add the option that only says what would be done."""
    return click.option("--dry-run", is_flag=True, help="Delete nothing, and say what would be deleted.")(command)


def yes_option(command: F) -> F:
    """Add the option that answers the question."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(command)


def key_argument(*, required: bool = True, several: bool = False) -> Callable[[F], F]:
    """Add the argument that names a session; a shell completes it from the storage.

    :param several: any number of them.
    """
    name, count = ("keys", -1) if several else ("key", 1)
    shown = "KEY" if required else "[KEY]..." if several else "[KEY]"
    return click.argument(name, metavar=shown, required=required, nargs=count, shell_complete=keys_of)


def keys_of(ctx: click.Context, _: click.Parameter, incomplete: str) -> Sequence[str]:
    """Return the keys of the storage that start so; none if it cannot be read."""
    storage = ctx.params.get("storage") or ctx.find_root().params.get("storage") or os.environ.get(_VARIABLE)
    if not storage:
        return []
    with suppress(Exception):  # a shell shows no errors while you type
        from session_manager.stores.opening import opened  # noqa: PLC0415 - the module is imported for each --help

        with opened(storage, read_only=True) as store:
            return sorted(filter(str.isprintable, store.keys(incomplete)))[:_OFFERED]
    return []


def _where(ctx: click.Context, param: click.Parameter, pairs: Sequence[str]) -> dict[str, Any]:
    """Return names and values of metadata.

    :raises click.BadParameter: if one is not ``NAME=VALUE``.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE, such as language=de", ctx, param)
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _age(ctx: click.Context, param: click.Parameter, text: str | None) -> timedelta | datetime | None:
    """Return how long ago, or since when.

    :raises click.BadParameter: if it is neither an age nor an aware time.
    """
    if text is None:
        return None
    number, unit = text[:-1], _LENGTHS.get(text[-1:])
    with suppress(ValueError, OverflowError):
        if unit is not None and number.isascii() and number.isdigit():
            return timedelta(**{unit: int(number)})
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is not None:
            return moment
    hint = "is not an age such as 90d, 12h, 30m or 2w, nor a time such as 2026-01-31T00:00Z"
    raise click.BadParameter(f"{text!r} {hint}", ctx, param)
