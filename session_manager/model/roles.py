"""The roles of messages that providers and frameworks know."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["KNOWN_ROLES", "shown_kind"]

#: OpenAI, with the roles of its Responses and Conversations; Gemini; LangChain; Cohere; Llama, Granite, ChatGLM; Vercel's AI SDK.
KNOWN_ROLES: Final = frozenset(
    (
        *("user", "assistant", "system", "developer", "tool", "function"),
        *("unknown", "critic", "discriminator"),
        *("model",),
        *("human", "ai", "chat"),
        *("chatbot", "USER", "CHATBOT", "SYSTEM", "TOOL"),
        *("ipython", "documents", "control", "observation"),
        *("data",),
    )
)

#: What the type of an item looks like, such as ``function_call``; any other may be somebody's text.
_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,39}\Z")


def shown_kind(role: object, type_: object) -> str:
    """Return what a repr may show of a message's kind: a role that is not known may be the text of a message.

    :param role: the role; `None` for an item that has only a type.
    :param type_: the type.
    """
    if isinstance(role, str) and role:
        return f"{role!a}" if role in KNOWN_ROLES else "of another role"
    return f"{type_!a}" if isinstance(type_, str) and _TYPE.match(type_) else "of another type"
