"""Ids of tool calls that a provider refuses: those that come twice, or have a form that it does not take."""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterator, Sequence

from session_manager.history.check import Check, Found
from session_manager.history.pairing import Place, is_plain, pair
from session_manager.history.rules import Rules, Unique
from session_manager.history.shapes import Call, Shape, Where, calls, shape_of
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
    """Return the new ids of calls that need one."""
    all_made = {index: made for index, one in enumerate(messages) if not is_plain(one) and (made := calls(one))}
    taken = {call.id for made in all_made.values() for call in made if call.id}
    seen: set[str] = set()
    offered: dict[str, Iterator[str]] = {}
    found: dict[Place, str] = {}
    for index, made in all_made.items():
        its = rules.of(made[0].shape)
        if its.unique_ids is not Unique.HISTORY:
            seen = set()
        refused = _refused(made, its, seen)
        if not refused or not _may_change(messages[index], made[0].shape):
            continue
        for slot, given in refused:
            plain = re.sub(r"[^a-zA-Z0-9_-]", "_", given)[:56] or "call"
            if plain not in offered:
                offered[plain] = _candidates(plain, its.id_pattern)
            if (new := _first(offered[plain], taken, its.id_pattern)) is not None:
                found[index, slot] = new
                taken.add(new)
    return found


def _refused(made: Sequence[Call], rules: Rules, seen: set[str]) -> list[tuple[int, str]]:
    """Return the calls, by slot and id, whose id is refused.

    :param seen: the ids that came before; those of the calls are added.
    """
    found = []
    for call in made:
        if call.id is None or call.where is Where.OWN:
            continue
        again = rules.unique_ids is not Unique.NOWHERE and call.id in seen
        seen.add(call.id)
        if again or not _matches(call.id, rules.id_pattern):
            found.append((call.slot, call.id))
    return found


def _may_change(message: Message, shape: Shape) -> bool:
    """Say whether the ids in a message may be changed: it is not signed, and a shape of yours tells how."""
    return type(shape).with_call_id is not Shape.with_call_id and not shape.is_signed(message._object)


def _matches(id: str, pattern: str | None) -> bool:
    return pattern is None or re.fullmatch(pattern, id) is not None


def _first(candidates: Iterator[str], taken: Container[str], pattern: str | None) -> str | None:
    """Return the next candidate that may be used; `None` if the pattern is one that these do not match."""
    misses = 0
    for one in candidates:
        if not _matches(one, pattern):
            misses += 1
            if misses == _MISSES:
                break
        elif one not in taken:
            return one
    return None


def _candidates(plain: str, pattern: str | None) -> Iterator[str]:
    """Return ids for calls: the same for the same history, so that a provider's cache finds it again."""
    readable = itertools.chain((plain,), (f"{plain}_{number}" for number in itertools.count(2)))
    if _matches(f"{plain}_2", pattern):
        return readable
    import hashlib  # it loads OpenSSL, for ids that few patterns ask for

    # Mistral takes nine letters and digits: https://github.com/langchain-ai/langchain/pull/24668
    return (hashlib.sha256(one.encode()).hexdigest()[:9] for one in readable)


#: After so many candidates that a pattern refuses, no further one is tried.
_MISSES = 64

#: Ids that are unique where they must be, and have the form that the provider takes.
CALL_IDS = Check(_find, _mend)
