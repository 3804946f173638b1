"""Keyword arguments that several calls share: spelled once, and as clear as if each call spelled them."""

from __future__ import annotations

import inspect
import sys
from typing import get_type_hints

import pytest

from session_manager import AsyncSessionManager, AsyncTurn, Message, SessionManager, Turn
from session_manager.history import ContextOptions, context
from session_manager.keywords import Unpack, showing
from session_manager.model import MessageParts

CLASSES = (SessionManager, Turn, AsyncSessionManager, AsyncTurn)
SHARED = [("add_message", MessageParts, Message), ("get_context", ContextOptions, context.context)]


def keyword_only(function):
    return [one for one in inspect.signature(function).parameters.values() if one.kind is one.KEYWORD_ONLY]


@pytest.mark.parametrize(("name", "options", "source"), SHARED)
def test_a_typed_dict_has_the_names_and_types_of_its_function(name, options, source):
    hints = get_type_hints(source._checked if isinstance(source, type) else source)
    names = [one.name for one in keyword_only(source)]
    assert list(options.__annotations__) == names
    if sys.version_info >= (3, 11):  # 3.10 makes a hint optional because of a default of None
        assert get_type_hints(options) == {one: hints[one] for one in names}
    assert options.__optional_keys__ == {*names}


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(("name", "options", "source"), SHARED)
def test_a_signature_lists_the_shared_names_with_their_defaults(cls, name, options, source):
    """Consoles and documentation read it: ``**parts`` would tell them nothing."""
    shown = inspect.signature(getattr(cls, name))
    listed = [one for one in keyword_only(getattr(cls, name)) if one.name != "if_absent"]  # its own
    assert listed == keyword_only(source)
    assert all(one.kind is not one.VAR_KEYWORD for one in shown.parameters.values())
    assert get_type_hints(getattr(cls, name))["return"] == get_type_hints(getattr(SessionManager, name))["return"]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(("name", "options", "source"), SHARED)
def test_a_docstring_lists_the_shared_names(cls, name, options, source):
    listed = [line for line in inspect.getdoc(getattr(cls, name)).splitlines() if line.startswith(":param ")]
    documented = {word.strip() for line in listed for word in line.removeprefix(":param ").split(":")[0].split(",")}
    assert options.__optional_keys__ <= documented


UNKNOWN = r"^{}\.{}\(\) got an unexpected keyword argument 'nmae'$"


@pytest.mark.parametrize("name", ["add_message", "get_context"])
def test_an_unknown_name_is_an_error_that_names_the_call_and_the_argument(name):
    """It was passed on, and the error named a function that the caller does not know."""
    given = {"add_message": ("user", "hi"), "get_context": ()}[name]
    with SessionManager() as m:
        m.add_message("k", "user", "before")
        with pytest.raises(TypeError, match=UNKNOWN.format("SessionManager", name)):
            getattr(m, name)("k", *given, nmae="Ada")
        with m.turn("k") as turn, pytest.raises(TypeError, match=UNKNOWN.format("Turn", name)):
            getattr(turn, name)(*given, nmae="Ada")
        assert [message.content for message in m.get_history("k")] == ["before"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["add_message", "get_context"])
async def test_an_async_call_names_itself_and_the_unknown_argument(name):
    given = {"add_message": ("user", "hi"), "get_context": ()}[name]
    async with AsyncSessionManager() as m:
        with pytest.raises(TypeError, match=UNKNOWN.format("AsyncSessionManager", name)):
            await getattr(m, name)("k", *given, nmae="Ada")
        async with m.turn("k") as turn:
            with pytest.raises(TypeError, match=UNKNOWN.format("AsyncTurn", name)):
                await getattr(turn, name)(*given, nmae="Ada")
        assert await m.get("k") is None


@pytest.mark.parametrize("name", ["at", "parts", "self_", "buffered", "session", "position"])
def test_a_name_of_an_inner_parameter_is_unknown(name):
    """It must not reach the functions to which a call gives its arguments."""
    with SessionManager() as m, m.turn("k") as turn:
        for call in (m.add_message, turn.add_message):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                call(*("k", "user", "x")[-3 if call == m.add_message else -2 :], **{name: None})
        for call in (lambda **given: m.get_context("k", **given), turn.get_context):
            with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
                call(**{name: None})


def test_arguments_of_none_are_as_if_they_were_missing():
    with SessionManager() as m:
        given = dict.fromkeys(MessageParts.__optional_keys__)
        assert m.add_message("k", "user", "hi", **given) == m.add_message("k", "user", "hi")
        assert all(message.created_at.tzinfo is not None for message in m.get_history("k"))


def test_a_mapping_that_is_unpacked_is_not_changed():
    """A message without a time gets the call's: in a copy of the caller's dict."""
    given = {"name": "Ada"}
    with SessionManager() as m, m.turn("k") as turn:
        m.add_message("k", "user", "hi", **given)
        turn.add_message("user", "hi", **given)
    assert given == {"name": "Ada"}


def test_a_call_of_a_user_shows_and_passes_on_the_same():
    @showing(Message)
    def say(m: SessionManager, text: str, **parts: Unpack[MessageParts]) -> Message:
        return m.add_message("k", "user", text, **parts)

    assert list(inspect.signature(say).parameters) == ["m", "text", *MessageParts.__annotations__]
    with SessionManager() as m:
        assert say(m, "hi", name="Ada").name == "Ada"


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="there is typing.Unpack")
def test_python_3_10_needs_no_package_for_the_annotations():
    assert Unpack[MessageParts] is MessageParts
