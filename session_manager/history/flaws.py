"""What a provider refuses in a history.

Providers refuse a request in which calls and results do not fit together, and refuse it each time. `problems` finds that, and
what else `session_manager.history.rules` says of a provider, by its own words where they are known:

* *A call without its result*, where its result must be. OpenAI chat: "An assistant message with 'tool_calls' must be
  followed by tool messages responding to each 'tool_call_id'". Anthropic: "`tool_use` ids were found without
  `tool_result` blocks immediately after". OpenAI Responses: "No tool output found for function call". Gemini: "the number of
  function response parts is equal to the number of function call parts". Bedrock: "Expected toolResult blocks".
* *A result without its call*. OpenAI chat: "messages with role 'tool' must be a response to a preceeding message with
  'tool_calls'". Anthropic: "unexpected `tool_use_id` found in `tool_result` blocks". Responses: "No tool call found for
  function call output".
* *A call with two results*, and one call twice in a message. Anthropic: "each tool_use must have a single result".
* *A result that is late*: see `session_manager.history.shapes.Where`.
* *Parts in another order*: "Messages following `tool_use` blocks must begin with a matching number of `tool_result` blocks".
* *A reasoning item without the item that it led to*. Responses: "Item of type 'reasoning' was provided without its
  required following item". Any item of the model right after it will do.
* *A message that says nothing*, which providers refuse each time. The last message may: the model goes on there.
* *An item that comes twice*. Responses: "Duplicate item found with id".
* *More cache marks than the provider takes*. Anthropic: "A maximum of 4 blocks with cache_control may be provided".
* By rules that you name: ids of calls that come again, a system message among the others, a history that does not start with
  the user, neighbours of one role, an end with the assistant's words.

A message whose shape is not understood has no problems. Other flaws inside of one message are not looked for, such as a missing
id or a field too many.

**Turns.** A turn is a user message and all its answers, up to the next user message that starts one. Each user message starts
a turn, even right after another, so that a group chat without answers can be cut anywhere. Two kinds of user message start
none. One only brings results. The other is between a call and its result: the user wrote while the tool was running. So no
turn parts a call from its result, and no cut at a turn makes a new problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from session_manager.as_dict import AsDict
from session_manager.history.call_ids import CALL_IDS
from session_manager.history.check import Check
from session_manager.history.contents import CACHE_MARKS, CONTENTS, ITEMS
from session_manager.history.item_ids import ITEM_IDS
from session_manager.history.pairing import plain_starts
from session_manager.history.roles import ENDS, NEIGHBOURS, REASONING, STARTS, SYSTEM
from session_manager.history.rules import BY_SHAPE, Rules, ruled
from session_manager.history.tool_calls import TOOL_CALLS
from session_manager.model.message import Message
from session_manager.values import Value

__all__ = ["Problem", "checks", "problems"]


@attrs.frozen(eq=False, repr=False)
class Problem(Value, AsDict):
    """A flaw of a history that a provider refuses."""

    #: The index of the message in the sequence, from 0.
    index: int
    #: The message's position in its session; `None` if it has none.
    position: int | None
    #: The reason in words; never text of a message.
    reason: str


def problems(messages: Sequence[Message], rules: Rules = BY_SHAPE, *, user_first: bool | None = None) -> list[Problem]:
    """Return all that a provider would refuse in a history, in order; an empty list if it is valid.

    The top of the module lists the checks.

    :param rules: what the provider accepts; by default each message by the rules of its own shape.
    :param user_first: whether the history must start with a user message; `None`, the default: as the rules say.
    :raises TypeError: if `rules` are none.

    >>> asked = Message("user", "What time is it?")
    >>> calling = Message("assistant", None, tool_calls=[{"id": "call_1", "type": "function"}])
    >>> [(problem.index, problem.reason) for problem in problems([asked, calling])]
    [(1, 'tool call 1 of 1 has no result')]
    """
    rules = ruled(rules, user_first=user_first)
    found = [one for check in checks(messages) for one in check.find(messages, rules)]
    found.sort(key=lambda one: one[0])
    return [Problem(index, messages[index].position, reason) for index, reason in found]


#: In the order of the repair: an earlier one makes no work for a later one, but for a few cases.
_CHECKS = (ITEMS, ITEM_IDS, SYSTEM, TOOL_CALLS, REASONING, CONTENTS, CALL_IDS, STARTS, ENDS, NEIGHBOURS, CACHE_MARKS)
#: Those that find something among the plain texts of users and assistants.
_PLAIN = (STARTS, ENDS, NEIGHBOURS)


def checks(messages: Sequence[Message]) -> tuple[Check, ...]:
    """Return the checks that may find something in a history, in the order of a repair."""
    is_all_plain = plain_starts(messages) is not None and all(
        (one._text or one._object["content"]).strip() for one in messages
    )
    return _PLAIN if is_all_plain else _CHECKS
