"""The context for a model: the system prompt, the summary, and the end of the history, valid and within bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from session_manager.arguments import check_callable, check_int
from session_manager.errors import InvalidMessageError, raise_alone
from session_manager.history.cuts import fit
from session_manager.history.problems import head
from session_manager.history.repair import repair
from session_manager.history.tokens import estimate_tokens
from session_manager.model.json_value import checked_text
from session_manager.model.message import Message
from session_manager.model.roles import KNOWN_ROLES
from session_manager.model.session import Session
from session_manager.model.view import View

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
    summary_role: str


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
    summary_role: str = "system",
) -> list[Any]:
    """Return the messages to send to a model, as fresh dicts. A pure function; see `SessionManager.get_context`.

    :param buffered: further messages, behind those of the session.
    :raises TypeError: if a bound is no int, or `count` is not callable.
    :raises ValueError: if a bound is negative.
    :raises InvalidMessageError: if `summary_role` is no known role, or `count` returns anything but an int of 0 or more.
    """
    for name, bound in (("max_messages", max_messages), ("max_tokens", max_tokens)):
        if bound is not None:
            check_int(bound, f"{name}: a bound", least=0)
    check_callable(count, "count")
    checked_text(summary_role, "summary_role", empty=False)
    if summary_role not in KNOWN_ROLES:
        raise InvalidMessageError("summary_role", "is no role that a provider knows, such as system, developer or user")
    stored = View[Message]() if session is None else session.messages
    whole = stored.to_list() + list(buffered)
    first = head(whole)
    kept, rest = whole[:first], whole[first:]
    if system is not None:
        kept.insert(0, Message("system", system) if isinstance(system, str) else _given(system))
    if session is not None and session.summary:
        kept.append(Message(summary_role, SUMMARY_PREFACE + session.summary))
    if max_messages is None and max_tokens is None:
        rest = repair(rest)
    if max_messages is not None:
        rest = fit(rest, max_messages, _one)
    if max_tokens is not None:
        rest = fit(rest, max_tokens, count)
    return [message.to_dict() for message in [*kept, *rest]]


def _given(system: object) -> Message:
    try:
        return Message.of(system)
    except InvalidMessageError as error:
        raise_alone(InvalidMessageError(f"system.{error.path}" if error.path else "system", error.reason))


def _one(_: Message) -> int:
    return 1
