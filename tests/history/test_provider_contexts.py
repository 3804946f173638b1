"""What `get_context` gives under the rules of a provider, to that provider: its own types, and the checkers of ``refusals``.

Conversations of each provider's shape, whole and damaged, with and without summary, system prompt and bounds.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import ContextTooSmallError, Message, SessionManager
from session_manager.history import (
    ANTHROPIC,
    BEDROCK,
    GEMINI,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    STRICT_TEMPLATES,
    SystemPlace,
    problems,
    repair,
)
from tests.support.laws import examples
from tests.support.places import CHATS
from tests.support.provider_types import check_types, typed
from tests.support.refusals import REFUSALS
from tests.support.shapes import (
    PROVIDER_SHAPES,
    Answered,
    Asked,
    airline_conversations,
    in_shape,
    neutral_conversations,
)

#: For each case its rules, and the shapes that its provider takes.
CASES = {
    "chat": (OPENAI_CHAT, ["chat"]),
    "function": (OPENAI_CHAT, ["function"]),
    "items": (OPENAI_RESPONSES, [shape for shape in PROVIDER_SHAPES if shape.startswith("items")]),
    "blocks": (ANTHROPIC, ["blocks"]),
    "parts": (GEMINI, ["parts", "parts: snake"]),
    "converse": (BEDROCK, ["converse"]),
    "chat: strict": (STRICT_TEMPLATES, ["chat"]),
}
#: OpenAI's types call the id of this result otherwise than its server does.
UNTYPED = "items: local_shell_call by call_id"

each_case = pytest.mark.parametrize("case", typed(*CASES))


@st.composite
def damaged(draw, shape):
    """Conversations in a shape whose messages were cut, removed, doubled, moved and interrupted."""
    history = in_shape(shape, draw(neutral_conversations()))
    for _ in range(draw(st.integers(0, 4))):
        if not history:
            break
        at, to = draw(st.integers(0, len(history) - 1)), draw(st.integers(0, len(history) - 1))
        match draw(st.sampled_from(["cut", "end", "remove", "remove", "double", "move", "say", "empty"])):
            case "cut":
                history = history[at:]
            case "end":
                history = history[: at + 1]
            case "remove":
                history = [*history[:at], *history[at + 1 :]]
            case "double":
                history = [*history[:to], history[at], *history[to:]]
            case "move":
                moved = history.pop(at)
                history = [*history[:to], moved, *history[to:]]
            case "say":
                said = draw(st.sampled_from([Asked("Oh!"), Answered("Oh!")]))
                history = [*history[:to], *in_shape(shape, [said]), *history[to:]]
            case "empty":
                history = [*history[:to], *in_shape(shape, [Answered("")]), *history[to:]]
    return history


def check(rules, context):
    assert REFUSALS[rules.name](context) == []


def context_of(history, rules, *, summary="", system=None, **bounds):
    """Return the context; `None` if there can be none."""
    with SessionManager() as m:
        m.get_or_create("k")
        m.add("k", *history)
        m.set_summary("k", summary)
        try:
            return m.get_context("k", rules=rules, system=system, **bounds)
        except ContextTooSmallError:
            assert bounds
            return None


@each_case
def test_the_provider_takes_a_context_under_its_rules(case):
    rules, shapes = CASES[case]
    checked = []

    @examples(5)
    @given(st.data(), st.booleans(), st.none() | st.integers(0, 12))
    def taken(data, summarized, bound):
        shape = data.draw(st.sampled_from(shapes))
        history = data.draw(damaged(shape))
        summary = "They met." if summarized else ""
        context = context_of(history, rules, summary=summary, system="Be brief.", max_messages=bound)
        # A template wants a question, and nothing makes one up.
        if context is not None and (rules is not STRICT_TEMPLATES or any(one["role"] == "user" for one in history)):
            check(rules, context)
            checked.append(context)
            if shape != UNTYPED:
                check_types(case, context)

    taken()
    assert any(checked)


@each_case
def test_the_provider_takes_recorded_conversations_cut_anywhere(case, size):
    if not CHATS.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    rules, shapes = CASES[case]
    for number, (_, system, steps) in enumerate(
        airline_conversations()[list(CASES).index(case) :: size.of(60, 24, 24)]
    ):
        shape = shapes[number % len(shapes)]
        history = in_shape(shape, steps)
        for at in range(len(history) + 1):
            for part in (history[at:], history[:at]):
                if any(one.get("role") == "user" for one in part):
                    check(rules, context_of(part, rules, summary="They met.", system=system))
        if shape != UNTYPED:
            check_types(case, context_of(history, rules, summary="They met.", system=system))


@each_case
def test_what_a_provider_takes_is_handed_on_unchanged(case):
    rules, shapes = CASES[case]

    @examples(7)
    @given(st.sampled_from(shapes), neutral_conversations(alternating=True))
    def unchanged(shape, steps):
        history = in_shape(shape, steps)
        assert REFUSALS[rules.name](history) == []
        messages = [Message.from_dict(value) for value in history]
        assert problems(messages, rules) == []
        assert all(one is two for one, two in zip(repair(messages, rules), messages, strict=True))
        context = context_of(history, rules, system="Be brief.")
        assert context[-len(history) :] == history
        assert len(context) - len(history) == (rules.system is not SystemPlace.APART)

    unchanged()
