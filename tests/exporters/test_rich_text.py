"""The guards of a text on a page, each without the other ones."""

from __future__ import annotations

import html5lib
import pytest

from session_manager.exporters import rich_text
from session_manager.exporters.entries import legible
from session_manager.exporters.rich_text import ATTRIBUTES, TAGS, RichText, sanitized
from tests.support.hostile import HOSTILE

WEB = ("http://", "https://", "mailto:")


def assert_harmless(text, *, tags=TAGS):
    """Assert that a browser finds no other tags, attributes and addresses in HTML than those that a text may have."""
    fragment = html5lib.parseFragment(text, namespaceHTMLElements=False)
    for one in fragment.iter():
        if isinstance(one.tag, str) and one.tag != "DOCUMENT_FRAGMENT":
            assert one.tag in tags
            assert set(one.attrib) <= {*ATTRIBUTES.get(one.tag, ()), *(["rel"] if one.tag == "a" else [])}
            assert one.attrib.get("href", WEB[0]).lower().startswith(WEB)
            assert one.attrib.get("src", "data:image/png;base64,").startswith("data:image/")
    return "".join(fragment.itertext())


@pytest.mark.parametrize("guard", ["parser", "sanitizer"])
def test_each_guard_is_enough(guard, monkeypatch):
    if guard == "parser":
        monkeypatch.setattr(rich_text, "sanitized", lambda text: text)
    make = RichText().markdown if guard == "parser" else sanitized
    for text in HOSTILE:
        assert_harmless(make(legible(text)))


@pytest.mark.parametrize(
    "text",
    [
        "<img src='data:image/svg+xml;base64,PHN2Zz4='>",
        "<img src='data:text/html;base64,PHN2Zz4='>",
        "<img src='https://example.com/a.png'>",
        "<a href='data:image/png;base64,iVBORw0KGgo='>x</a>",
        "<a href='//example.com'>x</a>",
        "<a href=' javascript:alert(1)'>x</a>",
    ],
)
def test_the_sanitizer_takes_addresses_away(text):
    found = sanitized(text)
    assert "src" not in found
    assert "href" not in found


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_text_is_shown_as_it_is(text):
    assert assert_harmless(RichText().plain(legible(text)), tags={"a"}) == legible(text)


def test_html_in_markdown_is_shown_and_not_taken_away():
    assert "<b>x</b>" in assert_harmless(RichText().markdown("Use <b>x</b>, and\n\n<div>\n`<i>`"))


@pytest.mark.parametrize(
    "text",
    ["word", "A few words, and a number 5.", "It's 12", "a  b", "Setext\n-", "a: b", "x_y_z", "1. one", "https://a.b"],
)
def test_simple_text_is_what_markdown_makes_of_it(text):
    """Most answers of a model are, and need no parser."""
    its = RichText()
    assert str(its.markdown(text)).replace("&#39;", "'") == sanitized(its._markdown.render(text))
