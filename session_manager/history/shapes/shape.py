"""The shape of a message: how it carries its role, its text, its tool calls and their results.

`Shape` is what all of `history` knows of a message's form. A subclass says it for one form, and `register_shape` adds yours.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from session_manager.history.text import Part, texts
from session_manager.values import Value

__all__ = ["INTERRUPTED", "Call", "Object", "Result", "Shape", "Where", "text_of"]

#: What the result of a call says that never got one.
INTERRUPTED: Final = "Interrupted: this call has no result."

#: A message's object. Shapes read it, and never change it.
Object = Mapping[str, Any]


class Where(enum.Enum):
    """Where a provider takes the result of a call."""

    #: In the messages with results right behind the call's message (OpenAI chat).
    BEHIND = "behind"
    #: In the next message (Gemini, Bedrock).
    NEXT = "next"
    #: At the start of the user messages right behind the call's message, which the provider joins (Anthropic).
    JOINED = "joined"
    #: Anywhere behind the call (OpenAI Responses).
    AFTER = "after"
    #: In the model's own messages up to the next user message: a tool that the provider runs itself (Anthropic).
    OWN = "own"


@attrs.frozen(eq=False, repr=False)
class Call(Value):
    """A call that a message makes."""

    shape: Shape
    #: Its id; `None` if it is missing, empty or no string.
    id: str | None
    #: Which entry of the message's calls, or block of its content, it is; else 0.
    slot: int
    #: What a result names of it, each with the kind of the call.
    keys: tuple[tuple[str, str | None], ...]
    where: Where


@attrs.frozen(eq=False, repr=False)
class Result(Value):
    """A result that a message brings."""

    shape: Shape
    #: The id of its call; `None` if it is missing, empty or no string.
    id: str | None
    #: Which block of the message's content it is; else 0.
    slot: int
    #: What it names of its call, the surest first: the keys of a `Call`.
    keys: tuple[tuple[str, str | None], ...]
    #: Whether it may answer a call by its place alone, as it names none.
    by_place: bool = False


class Shape:
    """How messages of one form carry their parts. Subclass it for yours, and give an instance to `register_shape`.

    Every method takes a message's JSON object, which may hold anything: a method raises nothing and changes nothing. What a
    method returns is made of the message's own parts. The defaults are those of a message without calls, whose ``content`` is a
    text or a list of objects with a ``text``.
    """

    #: The name of the shape, for a person.
    name: str = "plain"
    #: The field with the list of parts.
    field: str = "content"
    #: Other names for roles: what the shape calls the user, the model, the system.
    roles: Mapping[str, str] = {"developer": "system"}  # noqa: RUF012  shared by all, and read-only

    #: Whether all messages of a history have this shape, the system's as well, so that one that is made must have it too.
    is_whole: bool = False

    def __repr__(self) -> str:
        return f"<Shape {self.name}>"

    def owns(self, message: Object) -> bool:
        """Say whether a message has this shape."""
        return "role" in message

    def role(self, message: Object) -> str | None:
        """Return who speaks: ``"system"``, ``"user"``, ``"assistant"`` or ``"tool"``; another role as it is; `None` for none."""
        role = message.get("role")
        return self.roles.get(role, role) if isinstance(role, str) else None

    def with_role(self, message: Object, role: str) -> dict[str, Any]:
        """Return the message said by ``"system"``, ``"user"`` or ``"assistant"``."""
        return {**message, "role": role}

    def content(self, message: Object) -> Any:
        """Return what a message says: a text, or the list of its parts; `None` if it has neither."""
        return message.get(self.field)

    def with_content(self, message: Object, content: Any) -> dict[str, Any]:
        """Return the message with another content."""
        return {**message, self.field: content}

    def parts(self, message: Object) -> Sequence[Any] | None:
        """Return the list of the message's parts; `None` if it has no such list."""
        content = self.content(message)
        return content if isinstance(content, list) else None

    def calls(self, message: Object) -> list[Call]:
        """Return the calls that a message makes, in order."""
        return []

    def results(self, message: Object) -> list[Result]:
        """Return the results that a message brings, in order."""
        return []

    def call_at(self, message: Object, slot: int) -> Any:
        """Return the part of the message that is a call; the whole message if it is no part of it."""
        return message

    def with_calls(self, message: Object, one: Object, other: Object) -> dict[str, Any]:
        """Return the message with the calls of two others, where calls are no parts of its content."""
        return dict(message)

    def without_calls(self, message: Object, slots: set[int]) -> dict[str, Any] | None:
        """Return the message without some of its calls; `None` if nothing is left."""
        return None

    def without_results(self, message: Object, slots: set[int]) -> dict[str, Any] | None:
        """Return the message without some of its results; `None` if nothing is left."""
        return None

    def interrupted(self, message: Object, call: Call) -> dict[str, Any] | None:
        """Return a result that says that a call was interrupted; `None` if such a result cannot be made.

        It is the object of a message, or of a part where results are parts: see `bringing`.
        """
        return None

    def bringing(self, parts: list[Any]) -> dict[str, Any] | None:
        """Return the message that brings results which are parts; `None` if results of this shape are messages themselves."""
        return None

    def with_call_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        """Return the message with another id for one of its calls."""
        return dict(message)

    def with_result_id(self, message: Object, slot: int, id: str) -> dict[str, Any]:
        """Return the message with another id for one of its results."""
        return dict(message)

    def made(self, role: str, text: str) -> dict[str, Any]:
        """Return a message of this shape that says a text.

        :param role: ``"system"``, ``"user"`` or ``"assistant"``.
        """
        return {"role": role, "content": text}

    def text_part(self, text: str) -> dict[str, Any]:
        """Return a part that says a text."""
        return {"type": "text", "text": text}

    def is_signed(self, message: Object) -> bool:
        """Say whether the provider signed what the model thought in a message, so that the message must stay as it is."""
        return False

    def unsigned(self, message: Object) -> dict[str, Any] | None:
        """Return a signed message without the model's thoughts, so that it may be changed; `None` if nothing is left."""
        return dict(message)

    def is_text(self, part: Any) -> bool:
        """Say whether a part of the list is nothing but a text."""
        return isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type", "text") in _TEXTS

    def result_parts(self, part: Any) -> Sequence[Any] | None:
        """Return the list of parts that a result in the list of parts has; `None` if the part is no such result."""
        return None

    def with_result_parts(self, part: Any, parts: list[Any]) -> Any:
        """Return such a result with other parts."""
        return part

    def texts(self, message: Object) -> Iterator[Part]:
        """Yield the texts of a message that a person or a model reads: what is searched and counted."""
        return texts(message)


_TEXTS: Final = ("text", "input_text", "output_text")


def text_of(value: Object, field: str) -> str | None:
    """Return a field's text; `None` if it is missing, empty or no string."""
    given = value.get(field)
    return given if isinstance(given, str) and given else None
