"""Transcripts in Markdown and in plain text: all is there, in its place."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from markdown_it import MarkdownIt

from session_manager import Item, Message
from session_manager.codec.exported import Exported
from session_manager.exporters import markdown, plain_text
from session_manager.exporters.entries import entries, legible
from session_manager.model.view import View
from session_manager.testing import strategies
from tests.support.hostile import HOSTILE, hostile_session
from tests.support.laws import examples
from tests.support.shapes import SHAPES, Answered, Asked, Called, ToolCall, in_shape

STEPS = [
    Asked("Is there a flight to Lisbon?"),
    Called("I look.", (ToolCall("call_1", "flights", {"city": "Lisbon"}, "TP 571 at 09:15"),)),
    Answered("Yes, TP 571."),
]
WRITERS = {"md": markdown.written, "text": plain_text.written}
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def session_of(*messages, archived=0):
    """A session of messages, the first of which are in its archive."""
    placed = [
        (one if isinstance(one, Message) else Message.from_dict(one))._placed(position, None)
        for position, one in enumerate(messages)
    ]
    base = hostile_session("k").session
    session = base._with(messages=View(placed[archived:]), end=len(placed), summary="", _metadata=base._metadata)
    return Exported(session, tuple(placed[:archived]))


def text_of(form, exported):
    return b"".join(WRITERS[form](exported)).decode()


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_chat_is_there_whole_in_any_shape(form, shape):
    text = text_of(form, session_of(*in_shape(shape, STEPS)))
    for wanted in (
        "Is there a flight to Lisbon?",
        "I look.",
        "Lisbon",
        "Yes, TP 571.",
        "result" if form == "text" else "**Result**",
    ):
        assert wanted in text
    if shape != "items: computer_call":  # whose results are pictures
        assert "TP 571 at 09:15" in text


@pytest.mark.parametrize("shape", [one for one in SHAPES if not one.startswith("items: ")])
def test_a_result_has_the_name_of_its_tool(shape):
    """Most providers name the call in a result, and not the tool."""
    found = entries(session_of(*in_shape(shape, STEPS)))
    named = {part.kind: part.name for entry in found for part in entry.parts if part.kind in ("call", "result")}
    assert named == {"call": "flights", "result": "flights"}


def top_level(text):
    """What Markdown shows outside of quotations and lists: headings, and the kinds of blocks."""
    tokens = MARKDOWN.parse(text)
    return [
        tokens[at + 1].content if token.type == "heading_open" else token.type
        for at, token in enumerate(tokens)
        if token.level == 0 and not token.type.endswith("_close")
    ]


@pytest.mark.parametrize("texts", [HOSTILE[:20], HOSTILE[20:50], HOSTILE[50:]], ids=["a", "b", "c"])
def test_no_message_forges_another_one_in_markdown(texts):
    exported = hostile_session(*texts, "## user · #0 · 2026-01-01 00:00:00", "# k\n\n## Summary", every=3)
    found = top_level(text_of("md", exported))
    headings = [one for one in found if "·" in one or one == "Summary"]
    assert len(headings) == 1 + len(list(exported.messages))
    assert not {"html_block", "hr", "code_block"} & set(found)


@pytest.mark.parametrize("text", ["user  #0  2026-01-01 00:00:00", "\n\nuser  #1\n", "\x1b[31m\r\nuser  #2\x85user"])
def test_no_message_forges_another_one_in_text(text):
    given = session_of(
        {"role": "user", "content": text}, {"role": "assistant", "content": None, "reasoning_content": text}
    )
    lines = text_of("text", given).split("\n")
    assert len([line for line in lines if re.match(r"\w+  #\d", line)]) == 2
    assert "\x1b" not in "".join(lines)


@examples(15, many=100)
@given(strategies.sessions())
def test_any_session_has_a_transcript(session):
    for form in WRITERS:
        text = text_of(form, Exported(session, ()))
        assert legible(text) == text, "no control character, and no lone surrogate"
        pattern = r"^## .* · #\d+ · " if form == "md" else r"^\S.*  #\d+  \d+-"
        assert len(re.findall(pattern, text, re.MULTILINE)) == len(session.messages)


def test_everything_has_its_place():
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    given = session_of(
        {"role": "user", "content": "old"},
        {"role": "user", "name": "anna", "content": [{"type": "text", "text": "one\ntwo"}, image]},
        Item({"event": "vote"}),
        {"role": "assistant", "content": "```py\nx < 1\n```", "reasoning_content": "Hmm."},
        archived=1,
    )
    given = Exported(given.session._with(summary="They *said* hello."), given.archive)
    text = text_of("md", given)
    assert text.startswith("# k\n\n* Messages: 3\n* Archived: 1\n* Created: 2026-01-01 00:00 UTC\n")
    assert "\n## Summary\n\n> They *said* hello.\n" in text
    assert re.search(r"\n## user · #0 · [\d: -]+ · archived\n\n> old\n", text)
    assert re.search(r"\n## user \(anna\) · #1 · [\d: -]+\n\n> one  \n> two\n\n> \\\[an image or a file: ", text)
    assert '\n**Data**\n\n```json\n{\n  "event": "vote"\n}\n```\n' in text
    assert "\n> ```py\n> x < 1\n> ```\n\n**Thought**\n\n```\nHmm.\n```\n" in text
    text = text_of("text", given)
    assert text.startswith("k\nMessages: 3\nArchived: 1\n")
    assert "\nsummary\n    They *said* hello.\n" in text
    assert re.search(r"\nuser  #0  [\d: -]+  archived\n    old\n", text)
    assert re.search(
        r"\nuser \(anna\)  #1  .*\n    one\n    two\n    \[an image or a file: https://example.com/a.png\]\n", text
    )
    assert '\n    [data]\n    {\n      "event": "vote"\n    }\n' in text
    assert "\n    [thought]\n    Hmm.\n" in text
