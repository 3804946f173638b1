"""The repair of a history: each check of `problems` mends what it finds."""

from __future__ import annotations

from collections.abc import Sequence

from session_manager.history.flaws import checks
from session_manager.history.rules import BY_SHAPE, Rules, ruled
from session_manager.model.message import Message

__all__ = ["repair"]


def repair(messages: Sequence[Message], rules: Rules = BY_SHAPE, *, user_first: bool | None = None) -> list[Message]:
    """Return a valid history with the least change; of a valid one the same messages.

    * A result without a call, or for an answered call, is left out; of a message with other parts, only that part.
    * A call without a result gets one, in its own shape, which says that it was interrupted. Where no such result can be made
      (a screenshot, a tool that the provider runs), the call is left out. So is a call that comes twice in a message.
    * A late result is moved to its place: the tool did answer.
    * A reasoning item without its follower is left out, and so is a message that says nothing.
    * Only the newest cache marks stay.
    * By rules that you name, more is mended. Parts are put in order. The later of two calls with one id gets another id, as
      does its result. System messages go where they must. Messages before the first turn are left out. Neighbours of one role
      are merged.

    ``problems(repair(x)) == []`` for every `x`, and a second repair changes nothing. A changed message keeps its position, time,
    ref and metadata. A new message has the time of its call, and no position. A message with signed thinking comes back as it is
    (Anthropic refuses changed ones), or without its thinking if one of its calls had to go.

    :param rules: what the provider accepts; by default each message by the rules of its own shape.
    :param user_first: whether the history must start with a user message; `None`, the default: as the rules say.
    :raises TypeError: if `rules` are none.

    >>> calling = Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}])
    >>> [message.content for message in repair([calling, Message("user", "Well?")])]
    [None, 'Interrupted: this call has no result.', 'Well?']
    """
    rules = ruled(rules, user_first=user_first)
    valid = list(messages)
    for _ in range(_ROUNDS):
        if (mended := _mended(valid, rules)) is valid:
            return valid
        valid = mended
    return _without_flaws(valid, rules)


#: After so many rounds, what is still flawed is left out. A shape of yours may be one that changes nothing.
_ROUNDS = 16


def _without_flaws(messages: list[Message], rules: Rules) -> list[Message]:
    while flaws := {index for check in checks(messages) for index, _ in check.find(messages, rules)}:
        messages = [message for index, message in enumerate(messages) if index not in flaws]
    return messages


def _mended(messages: list[Message], rules: Rules) -> list[Message]:
    """Mend what each check finds. After that, an earlier one may find more."""
    for check in checks(messages):
        if check.find(messages, rules):
            messages = check.mend(list(messages), rules)
    return messages
