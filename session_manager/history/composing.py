"""A context, composed: the prompts, the summary, and the end of the history that is within the bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from session_manager.errors import InvalidMessageError, raise_alone
from session_manager.history.contents import CACHE_MARKS
from session_manager.history.context import SUMMARY_PREFACE
from session_manager.history.cuts import compaction, fitting
from session_manager.history.repairs import repair
from session_manager.history.roles import head, joined, merged
from session_manager.history.rules import Rules, SystemPlace
from session_manager.history.shapes import BEDROCK, CHAT, GEMINI, Shape, calls, results, shape_of
from session_manager.history.shapes.items import is_compaction
from session_manager.model.message import Item, Message
from session_manager.model.session import Session
from session_manager.model.times import utc_now
from session_manager.model.view import View

__all__ = ["composed"]


def composed(
    session: Session | None,
    buffered: Sequence[Message],
    system: str | Mapping[str, Any] | Message | None,
    max_messages: int | None,
    max_tokens: int | None,
    count: Callable[[Message], int],
    rules: Rules,
    summary_role: str | None,
) -> list[Any]:
    """Return the messages of `session_manager.history.context.context`, which has checked its arguments."""
    stored = View[Message]() if session is None else session.messages
    whole: Sequence[Message] = [*stored, *buffered] if buffered else stored
    first = head(whole)
    prompts = [*(() if system is None else (_prompt(system),)), *whole[:first]]
    summary = "" if session is None else session.summary
    lead = _lead(prompts, summary, whole[first:], rules, summary_role) if prompts or summary else []
    if any(message.role == "user" for message in lead):
        rules = attrs.evolve(rules, user_first=False)
    rest = _rest(whole[first:], max_messages, max_tokens, count, rules)
    if (kept := _newest_compaction(stored, buffered)) is not None and compaction(rest) is None:
        rest = repair([_alone(kept), *rest], rules)
    done = [*lead, *rest]
    if lead and rules.alternate:
        done = repair(done, rules)
    elif lead and CACHE_MARKS.find(done, rules):
        done = CACHE_MARKS.mend(done, rules)
    return [message.to_dict() for message in done]


def _newest_compaction(stored: Sequence[Message], buffered: Sequence[Message]) -> Message | None:
    for messages in (buffered, stored):
        if (at := compaction(messages)) is not None:
            return messages[at]
    return None


def _alone(message: Message) -> Message:
    """Return a message with a compaction without what is bound to messages that were cut: calls, results and thoughts."""
    if not calls(message) and not results(message):
        return message
    shape, value = shape_of(message), message._object
    parts = [part for part in shape.parts(value) or () if is_compaction({"role": "assistant", "content": [part]})]
    return message._with_object(shape.with_content(value, parts))


def _prompt(system: object) -> Message:
    if isinstance(system, str):
        return Message("system", system)
    try:
        message = Message.of(system)
    except InvalidMessageError as error:
        raise_alone(InvalidMessageError(f"system.{error.path}" if error.path else "system", error.reason))
    if isinstance(message, Item):
        raise InvalidMessageError("system", "an Item is never sent to a model")
    return message


def _lead(
    prompts: list[Message], summary: str, rest: Sequence[Message], rules: Rules, summary_role: str | None
) -> list[Message]:
    """Return what comes before the history: the prompts and the summary in one system message, or as the rules have it."""
    shape = rules.shape or _newest_shape(rest)
    if rules.shape is None and shape in (GEMINI, BEDROCK):
        rules = rules.of(shape)
        apart = True
    else:
        apart = rules.system is SystemPlace.APART
    lead = [] if apart else merged(prompts)
    if not summary:
        return lead
    role = summary_role or rules.summary_role
    text = SUMMARY_PREFACE + summary
    made = Message._restore(
        shape.made(role, text), lead[-1].created_at if lead else rest[0].created_at if rest else utc_now()
    )
    both = joined(lead[-1], made) if lead and summary_role in (None, lead[-1].role) else None
    return [*lead, made] if both is None else [*lead[:-1], both]


def _newest_shape(messages: Sequence[Message]) -> Shape:
    """Return the shape of the newest messages that is not the common one of all."""
    newest = (shape_of(message) for message in reversed(messages[-8:]))
    return next((shape for shape in newest if shape is not CHAT and shape.is_whole), CHAT)


def _rest(
    rest: Sequence[Message],
    max_messages: int | None,
    max_tokens: int | None,
    count: Callable[[Message], int],
    rules: Rules,
) -> list[Message]:
    if max_messages is None and max_tokens is None:
        return repair(rest, rules)
    if max_messages is not None:
        rest = fitting(rest, max_messages, _one, rules, "max_messages")
    if max_tokens is not None:
        rest = fitting(rest, max_tokens, count, rules, "max_tokens")
    return list(rest)


def _one(_: Message) -> int:
    return 1
