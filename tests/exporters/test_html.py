"""The page: it shows what was said, and runs nothing of it."""

from __future__ import annotations

import re

import html5lib
import pytest
from hypothesis import given

from session_manager import Message
from session_manager.codec.exported import Exported
from session_manager.exporters.entries import legible
from session_manager.exporters.html import POLICY, written
from session_manager.model.view import View
from session_manager.testing import strategies
from tests.support.hostile import HOSTILE, hostile_session
from tests.support.laws import examples
from tests.support.shapes import SHAPES, Answered, Asked, Called, ToolCall, in_shape

#: What a page may have: each tag, and its attributes.
ALLOWED = {
    **{
        tag: set()
        for tag in ("head", "title", "style", "h1", "h2", "dl", "main", "b", "i", "bdi", "summary", "p", "br", "hr")
    },
    **{tag: set() for tag in ("strong", "em", "s", "code", "blockquote", "ul", "li", "h3", "h4", "h5", "h6", "body")},
    **{tag: set() for tag in ("table", "thead", "tbody", "tr")},
    "html": {"lang"},
    "meta": {"charset", "name", "content", "http-equiv"},
    "header": {"class"},
    "section": {"class"},
    "details": {"class"},
    "div": {"class", "dir"},
    "p": {"class"},
    "h1": {"dir"},
    "h2": {"class"},
    "dt": {"dir"},
    "dd": {"dir"},
    "b": {"dir"},
    "span": {"dir"},
    "pre": {"dir"},
    "article": {"class", "id"},
    "time": {"datetime"},
    "a": {"href", "rel", "title"},
    "img": {"src", "alt"},
    "ol": {"start"},
    "th": {"align"},
    "td": {"align"},
}
LINK = re.compile(r"(?:https?://|mailto:|#m\d+\Z)", re.IGNORECASE)
IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+\Z")
VALUES = {
    "class": re.compile(r"[a-z -]+\Z"),
    "dir": re.compile(r"auto\Z"),
    "id": re.compile(r"m\d+\Z"),
    "href": LINK,
    "src": IMAGE,
    "rel": re.compile(r"noopener noreferrer nofollow\Z"),
    "align": re.compile(r"(?:left|right|center)\Z"),
    "start": re.compile(r"\d+\Z"),
    "http-equiv": re.compile(r"Content-Security-Policy\Z"),
}


def page_of(exported):
    return b"".join(written(exported)).decode()


def elements(text):
    """The elements of a page, as a browser parses it."""
    tree = html5lib.parse(text, namespaceHTMLElements=False)
    return [one for one in tree.iter() if isinstance(one.tag, str)]


def assert_harmless(text):
    found = elements(text)
    for one in found:
        assert one.tag in ALLOWED, one.tag
        assert set(one.attrib) <= ALLOWED[one.tag], (one.tag, sorted(one.attrib))
        for name, value in one.attrib.items():
            assert VALUES.get(name, re.compile("")).match(value), (one.tag, name, value[:60])
    names = [one.tag for one in found]
    assert [names.count(name) for name in ("html", "head", "body", "style", "title", "main")] == [1] * 6
    (policy,) = [one.attrib["content"] for one in found if "http-equiv" in one.attrib]
    assert policy == POLICY
    assert "<!--" not in text.replace("&lt;!--", "")


def text_of(page):
    return "".join(html5lib.parse(page, namespaceHTMLElements=False).itertext())


@pytest.mark.long
@pytest.mark.parametrize("text", HOSTILE, ids=[f"{number}" for number in range(len(HOSTILE))])
def test_a_hostile_text_is_shown_and_no_tag(text):
    page = page_of(hostile_session(text))
    assert_harmless(page)
    shown = text_of(page)
    assert legible(text) in shown, "as a person typed it"


def test_hostile_texts_together_are_harmless(size):
    """One that is not closed would swallow the next."""
    page = page_of(hostile_session(*HOSTILE, every=size.of(6, 1, 1)))
    assert_harmless(page)
    shown = text_of(page)
    assert [text for text in HOSTILE if legible(text) not in shown] == []


@examples(8, many=30)
@given(strategies.sessions())
def test_any_session_is_a_harmless_page(session):
    assert_harmless(page_of(Exported(session, ())))


def session_of(objects, **fields):
    """A session of provider's objects."""
    base = hostile_session("x").session
    placed = [Message.from_dict(one)._placed(position, None) for position, one in enumerate(objects)]
    return Exported(base._with(**{"messages": View(placed), "end": len(placed), "summary": "", **fields}), ())


STEPS = [
    Asked("Is there a flight to Lisbon?"),
    Called("I look.", (ToolCall("call_1", "flights", {"city": "Lisbon"}, "TP 571 at 09:15"),)),
    Answered("Yes, **TP 571**."),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_chat_is_shown_whole_in_any_shape(shape):
    page = page_of(session_of(in_shape(shape, STEPS)))
    assert_harmless(page)
    shown = text_of(page)
    wanted = ["Is there a flight to Lisbon?", "I look.", "Lisbon", "Yes, TP 571."]
    # A screenshot is the result there; the others have the text.
    for text in [*wanted, *([] if shape == "items: computer_call" else ["TP 571 at 09:15"])]:
        assert text in shown
    found = [one.attrib.get("class") for one in elements(page) if one.tag == "details"]
    assert "call" in found, "calls are folded"
    assert "result" in found, "and so are results"


def test_images_are_shown_if_they_are_in_the_message():
    """Those of other servers are links: nobody learns that the page was opened."""
    inline, remote = "data:image/png;base64,iVBORw0KGgpBQkM=", "https://example.com/a.png"
    brought = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgpBQkM="}}
    page = page_of(
        session_of(
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": url}} for url in (inline, remote)],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [brought]}]},
                {"role": "assistant", "content": f"![in]({inline}) and ![out]({remote})"},
            ]
        )
    )
    assert_harmless(page)
    found = elements(page)
    assert [one.attrib["src"] for one in found if one.tag == "img"] == [inline] * 3
    links = [(one.attrib["href"], one.text) for one in found if one.tag == "a" and one.attrib["href"][0] != "#"]
    assert links == [(remote, f"an image or a file: {remote}"), (remote, "out")]


def test_models_write_markdown_and_persons_text():
    text = "**a**\n* b\n\n| x | y |\n|-|-:|\n| 1 | 2 |\n\nSee https://example.com/?a=1&b=2 and main.py, or <me@example.com>."
    page = page_of(session_of([{"role": role, "content": text} for role in ("assistant", "user")]))
    assert_harmless(page)
    articles = [one for one in elements(page) if one.tag == "article"]
    drawn, typed = [[inner.tag for inner in one.iter()] for one in articles]
    assert {"strong", "li", "table", "th"} <= set(drawn)
    assert not {"strong", "li", "table", "th"} & set(typed)
    assert text in "".join(articles[1].itertext())
    links = [[one.attrib["href"] for one in article.iter("a")][1:] for article in articles]
    web = "https://example.com/?a=1&b=2"
    assert links == [[web, "mailto:me@example.com"], [web]]
    (cell,) = [one for one in articles[0].iter("td") if one.text == "2"]
    assert cell.attrib == {"align": "right"}


def test_archived_messages_are_folded_before_the_summary():
    messages = [{"role": "user", "content": f"number {number}"} for number in range(5)]
    whole = session_of(messages, summary="They *counted*.")
    split = Exported(whole.session._with(messages=View(whole.session.messages[3:])), tuple(whole.session.messages[:3]))
    page = page_of(split)
    assert_harmless(page)
    (main,) = [one for one in elements(page) if one.tag == "main"]
    assert [one.attrib.get("class") for one in main][:2] == ["earlier", "summary"]
    assert "".join(main[0].itertext()).split()[:3] == ["3", "archived", "messages"]
    assert [one.attrib["id"] for one in main[0].iter("article")] == ["m0", "m1", "m2"]
    assert [one.attrib["id"] for one in main if one.tag == "article"] == ["m3", "m4"]
    assert [one.attrib["class"] for one in main if one.tag == "h2"] == ["day"], (
        "the day is told again outside of the fold"
    )


def test_a_page_is_written_in_pieces():
    """So a long session takes little more RAM than itself."""
    pieces = list(written(session_of([{"role": "user", "content": "x" * 1000}] * 500)))
    assert len(pieces) > 5
    assert max(map(len, pieces)) < 100_000
