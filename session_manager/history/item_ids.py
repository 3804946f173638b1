"""Items of OpenAI's Responses that come twice: the provider refuses a second one with the same id."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from session_manager.history.check import Check, Found
from session_manager.history.rules import Rules
from session_manager.history.shapes.items import item_id, may_rename
from session_manager.model.json_value import same
from session_manager.model.message import Message

__all__ = ["ITEM_IDS"]


def _find(messages: Sequence[Message], rules: Rules) -> Found:
    return [(index, "an item whose id came before") for index in _again(messages, rules)]


def _again(messages: Sequence[Message], rules: Rules) -> dict[int, bool]:
    """Return the later items with an id that came before, by their index: whether such an item is the same as the first."""
    if not rules.unique_items:
        return {}
    seen: dict[str, dict[str, Any]] = {}
    found: dict[int, bool] = {}
    for index, message in enumerate(messages):
        value = message._object
        if "id" not in value or (name := item_id(value)) is None:
            continue
        if name not in seen:
            seen[name] = value
        elif (is_same := same(seen[name], value)) or may_rename(value):
            found[index] = is_same
    return found


def _mend(messages: list[Message], rules: Rules) -> list[Message]:
    again = _again(messages, rules)
    taken = {given for message in messages if isinstance(given := message._object.get("id"), str)}
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(2))
    kept: list[Message] = []
    for index, message in enumerate(messages):
        if index not in again:
            kept.append(message)
        elif not again[index]:
            value = message._object
            start = value["id"][:56]
            new = next(one for number in numbers[start] if (one := f"{start}_{number}") not in taken)
            kept.append(message._with_object({**value, "id": new}))
    return kept


#: No item twice: the later one is left out if it is the same, and gets another id if it may have one.
ITEM_IDS = Check(_find, _mend)
