"""Ids of tool calls that a provider refuses: those that come twice, or have a form that it does not take."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence

from session_manager.history.check import Check, Found
from session_manager.history.pairing import Place, is_plain, pair
from session_manager.history.rules import Rules, Unique
from session_manager.history.shapes import Where, calls, shape_of
from session_manager.model.message import Message

__all__ = ["CALL_IDS"]


def _find(messages: Sequence[Message], rules: Rules) -> Found:
    return [
        (index, f"tool call {slot + 1} has an id that came before, or that is not accepted")
        for index, slot in _renamed(messages, rules)
    ]


def _mend(messages: list[Message], rules: Rules) -> list[Message]:
    pairing = pair(messages, rules)
    for (index, slot), new in _renamed(messages, rules).items():
        messages[index] = _with_id(messages[index], slot, new, is_call=True)
        if (result := pairing.answered.get((index, slot))) is not None:
            messages[result[0]] = _with_id(messages[result[0]], result[1], new, is_call=False)
    return messages


def _with_id(message: Message, slot: int, id: str, *, is_call: bool) -> Message:
    shape = shape_of(message)
    change = shape.with_call_id if is_call else shape.with_result_id
    return message._with_object(change(message._object, slot, id))


def _renamed(messages: Sequence[Message], rules: Rules) -> dict[Place, str]:
    """Return the new ids of calls that need one. A signed message is not changed, and neither are its ids."""
    all_made = {index: made for index, one in enumerate(messages) if not is_plain(one._object) and (made := calls(one))}
    taken = {call.id for made in all_made.values() for call in made if call.id}
    seen: set[str] = set()
    found: dict[Place, str] = {}
    for index, made in all_made.items():
        its = rules.of(made[0].shape)
        if its.unique_ids is not Unique.HISTORY:
            seen = set()
        for call in made:
            if call.id is None or call.where is Where.OWN:
                continue
            again = its.unique_ids is not Unique.NOWHERE and call.id in seen
            seen.add(call.id)
            if not again and _matches(call.id, its.id_pattern):
                continue
            if call.shape.is_signed(messages[index]._object):
                continue
            new = next((one for one in _candidates(call.id, its.id_pattern) if one not in taken), None)
            if new is not None:
                found[index, call.slot] = new
                taken.add(new)
                seen.add(new)
    return found


def _matches(id: str, pattern: str | None) -> bool:
    return pattern is None or re.fullmatch(pattern, id) is not None


def _candidates(given: str, pattern: str | None) -> Iterator[str]:
    """Yield ids for a call: the same for the same history, so that a provider's cache finds it again."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", given)[:56] or "call"
    readable = itertools.chain((plain,), (f"{plain}_{number}" for number in itertools.count(2)))
    if _matches(f"{plain}_2", pattern):
        return filter(lambda one: _matches(one, pattern), readable)
    # Mistral takes nine letters and digits: https://github.com/langchain-ai/langchain/pull/24668
    digests = (
        hashlib.sha256(one.encode("utf-8", "surrogatepass")).hexdigest()[:9]
        for one in itertools.islice(readable, 1_000)
    )
    return (one for one in digests if _matches(one, pattern))


#: Ids that are unique where they must be, and have the form that the provider takes.
CALL_IDS = Check(_find, _mend)
