"""Roles that no provider knows, and other parts of a message that no provider takes, are refused where they are given."""

from __future__ import annotations

import pytest

from session_manager import AsyncSessionManager, InvalidMessageError, Message, SessionManager
from session_manager.model.roles import KNOWN_ROLES

KEY = "telegram:1"
TEXT = "hello there"
#: What add_message refuses, and where.
BAD = [
    ((TEXT,), {}, "role"),
    ((TEXT, "user"), {}, "role"),
    (("User", "x"), {}, "role"),
    (("",), {}, "role"),
    ((5,), {}, "role"),
    (("assistant", None), {"tool_calls": 5}, "tool_calls"),
    (("assistant", None), {"tool_calls": {"id": "c"}}, "tool_calls"),
    (("assistant", None), {"tool_calls": "c"}, "tool_calls"),
    (("user", "x"), {"name": 5}, "name"),
    (("user", "x"), {"name": ["Ada"]}, "name"),
    (("tool", "x"), {"tool_call_id": 5}, "tool_call_id"),
]
REFUSED = pytest.mark.parametrize(("given", "more", "path"), BAD)


@REFUSED
def test_what_no_provider_takes_is_refused(given, more, path):
    """A forgotten role was stored as a role, and its text was shown by a repr."""
    with SessionManager() as m:
        with pytest.raises(InvalidMessageError) as raised:
            m.add_message(KEY, *given, **more)
        assert raised.value.path == path
        assert TEXT not in str(raised.value)
        assert list(m) == []


@REFUSED
def test_in_a_turn_too(given, more, path):
    with SessionManager() as m, m.turn(KEY) as turn:
        with pytest.raises(InvalidMessageError) as raised:
            turn.add_message(*given, **more)
        assert raised.value.path == path
        assert turn.messages == []


@REFUSED
@pytest.mark.anyio
async def test_in_the_async_manager_and_its_turns_too(given, more, path):
    async with AsyncSessionManager() as m, m.turn(KEY) as turn:
        for add in (lambda: turn.add_message(*given, **more), lambda: m.add_message("other", *given, **more)):
            with pytest.raises(InvalidMessageError) as raised:
                await add()
            assert raised.value.path == path
        assert [key async for key in m] == []


def test_the_roles_of_providers_and_frameworks_are_known():
    openai = {"system", "developer", "user", "assistant", "tool", "function"}
    assert openai | {"model", "human", "ai", "chatbot", "ipython"} <= KNOWN_ROLES
    with SessionManager() as m:
        for role in sorted(KNOWN_ROLES):
            m.add_message(KEY, role, "x")
        assert {message.role for message in m.get_history(KEY)} == KNOWN_ROLES


@pytest.mark.anyio
async def test_more_roles_are_taken_where_they_are_allowed():
    with SessionManager(roles=["narrator"]) as m, m.turn("other") as turn:
        assert m.add_message(KEY, "narrator", "x").role == "narrator"
        assert turn.add_message("narrator", "x").role == "narrator"
        with pytest.raises(InvalidMessageError):
            m.add_message(KEY, TEXT)
    async with AsyncSessionManager(roles={"narrator"}) as am:
        assert (await am.add_message(KEY, "narrator", "x")).role == "narrator"


@pytest.mark.parametrize("manager", [SessionManager, AsyncSessionManager])
@pytest.mark.parametrize(
    ("roles", "error"),
    [
        ("narrator", TypeError),
        (5, TypeError),
        (None, TypeError),
        ([5], TypeError),
        ([""], ValueError),
        ({"a": 1}, TypeError),
    ],
)
def test_roles_are_several_strings(manager, roles, error):
    with pytest.raises(error, match="roles must"):
        manager(roles=roles)


def test_mappings_and_from_dict_take_any_role():
    """What comes from elsewhere is kept as it is."""
    odd = {"role": TEXT, "content": "x", "name": 5, "tool_calls": 5}
    with SessionManager() as m:
        m.add(KEY, odd, Message.from_dict(odd))
        m.update_last(KEY, odd)
        assert [message.to_dict() for message in m.get_history(KEY)] == [odd, odd]
        assert m.set_history(KEY, [odd])


@pytest.mark.parametrize(
    "given", [{"role": TEXT}, {"type": TEXT}, {"role": TEXT, "type": "message"}, {"type": "x" * 50}]
)
def test_reprs_show_no_unknown_role(given):
    shown = repr(Message.from_dict(given))
    assert "hello" not in shown
    assert "xxxx" not in shown
    assert "another" in shown


def test_reprs_show_known_roles_and_types():
    assert repr(Message("model", "x")) == "<Message 'model': 1 characters>"
    assert repr(Message.from_dict({"type": "function_call"})) == "<Message 'function_call': content NoneType>"


@pytest.mark.parametrize("role", [TEXT, "", 5, "User"])
def test_an_unknown_summary_role_is_refused(role):
    with SessionManager() as m:
        m.add_message(KEY, "user", "x")
        for call in (lambda: m.get_context(KEY, summary_role=role), lambda: m.get_context("none", summary_role=role)):
            with pytest.raises(InvalidMessageError) as raised:
                call()
            assert raised.value.path == "summary_role"
            assert TEXT not in str(raised.value)
        assert m.get_context(KEY, summary_role="developer")
