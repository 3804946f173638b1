"""The context for a model: the system prompt, the summary, and the end of the history, valid and within bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from session_manager.arguments import check_callable, check_int
from session_manager.errors import InvalidMessageError
from session_manager.history.rules import BY_SHAPE, Rules, ruled
from session_manager.history.tokens import estimate_tokens
from session_manager.model.json_value import checked_text
from session_manager.model.message import Message
from session_manager.model.roles import KNOWN_ROLES
from session_manager.model.session import Session

__all__ = ["OPTIONS", "SUMMARY_PREFACE", "ContextOptions", "context"]

#: The text before the summary, in the message that brings it.
SUMMARY_PREFACE = "Summary of the conversation so far:\n"


class ContextOptions(TypedDict, total=False):
    """The keyword arguments of calls that make a context. `SessionManager.get_context` says what each means.

    A call of your own takes the same by ``**options: Unpack[ContextOptions]``.
    """

    system: str | Mapping[str, Any] | Message | None
    max_messages: int | None
    max_tokens: int | None
    count: Callable[[Message], int]
    rules: Rules | None
    summary_role: str | None


#: Their names.
OPTIONS = ContextOptions.__optional_keys__


def context(
    session: Session | None,
    buffered: Sequence[Message] = (),
    *,
    system: str | Mapping[str, Any] | Message | None = None,
    max_messages: int | None = None,
    max_tokens: int | None = None,
    count: Callable[[Message], int] = estimate_tokens,
    rules: Rules | None = None,
    summary_role: str | None = None,
) -> list[Any]:
    """Return the messages to send to a model, as fresh dicts. A pure function; see `SessionManager.get_context`.

    :param buffered: further messages, behind those of the session.
    :raises TypeError: if a bound is no int, `count` is not callable, or `rules` are none.
    :raises ValueError: if a bound is negative.
    :raises InvalidMessageError: if `summary_role` is no known role, or `count` returns anything but an int of 0 or more.
    :raises ContextTooSmallError: if a bound is too small for the last question and what belongs to it.
    """
    for name, bound in (("max_messages", max_messages), ("max_tokens", max_tokens)):
        if bound is not None:
            check_int(bound, f"{name}: a bound", least=0)
    check_callable(count, "count")
    rules = BY_SHAPE if rules is None else ruled(rules)
    if summary_role is not None:
        checked_text(summary_role, "summary_role", empty=False)
        if summary_role not in KNOWN_ROLES:
            raise InvalidMessageError(
                "summary_role", "is no role that a provider knows, such as system, developer or user"
            )
    from session_manager.history.composing import composed

    return composed(session, buffered, system, max_messages, max_tokens, count, rules, summary_role)
