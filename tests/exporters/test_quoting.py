"""A quotation in Markdown: whatever is quoted, nothing of it gets out, and code stays code."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from session_manager.exporters.entries import legible
from session_manager.exporters.quoting import code_span, escaped, fenced, quoted
from session_manager.testing import strategies
from tests.support.laws import examples

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
PIECES = [
    *("`", "``", "```", "````", "~~~", "\\", "<b>", "</b>", "<!--", "-->", "<?", "<![CDATA[", "<a href='`'>", "<x:y>"),
    *(
        "\n",
        "\n\n",
        " ",
        "    ",
        "\t",
        "> ",
        "- ",
        "1. ",
        "# ",
        "---",
        "===",
        "|",
        "|-|",
        "| a | b |\n|-|-|\n",
        "a",
        "[",
        "]",
    ),
    *(
        "[a]: /u",
        "[a\nb]: /u",
        "[a\\]]: <u>",
        "[^1]: x",
        "]:",
        "(",
        ")",
        "!",
        "<textarea>",
        "<https://a.b/>",
        "<https://a b>",
        "<mailto:a",
        "<style>\n",
        "*",
        "_",
        "&lt;",
    ),
]
FENCES = [
    "```",
    "````",
    "~~~",
    " ",
    "  ",
    "   ",
    "    ",
    "\t",
    "\n",
    "\n",
    "\n\n",
    "- ",
    "1. ",
    "> ",
    "<b>",
    "`",
    "a",
    "|",
    "\\",
    "|-|",
]
nasty = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)
fences = st.lists(st.sampled_from(FENCES), max_size=20).map("".join)


def inline(tokens):
    for token in tokens:
        yield token
        yield from inline(token.children or ())


def assert_contained(text):
    """Assert that Markdown shows one quotation, which holds no HTML and defines nothing."""
    env = {}
    tokens = MARKDOWN.parse(text, env)
    top = [token.type for token in tokens if token.level == 0]
    assert top == ["blockquote_open", "blockquote_close"]
    assert not {token.type for token in inline(tokens)} & {"html_block", "html_inline"}
    assert not env.get("references")


@examples(150, many=400)
@given(nasty | fences | strategies.nasty_text(), st.booleans())
@example("`\n# <b> `", False)
@example("``` a`b\n<b>", False)
@example("| a | b |\n|-|-|\n| ` | <b> ` |", False)
@example("- ```\n<b>", False)
@example("````\\| a | b |\n|-|-|\n|-|<b><style>\n\t```", False)
@example("```\n    ```\n```\n<b>", False)
@example("`\nx ` <b> `", False)
@example(" ```\n```\n<b>", False)
@example("1. ```\n   ```\n   <b>\n   ```", False)
@example("1. a\n    ```\n   ```\n   <b>\n   ```", False)
@example("a\n\t```\n```\n<b>", False)
@example("```` ` ``\\````<b>``", False)
@example("<https://x`> <b> `", False)
@example("\\`<b>`", False)
@example("\\<b>\\\\<b>", False)
def test_nothing_gets_out_of_a_quotation(text, keeps_lines):
    assert_contained(quoted(legible(text), keeps_lines=keeps_lines))


@pytest.mark.parametrize(
    "text",
    [
        "```html\n<b>\n[a]: b\n```",
        "Use `<b>` and ``a ` <i>``.",
        "~~~\n<script>\n~~~\nthen `<b>`",
        "a < b, x<3, 1 << 2",
        "x[0]: 5",
        "* [a](https://example.com)\n* [x] done",
    ],
)
def test_code_and_plain_text_stay_as_they_are(text):
    if "[a]: b" in text:  # in code, too: what it costs to be sure
        text = text.replace("[a]: b", "a: b")
    assert quoted(text) == "\n".join(f"> {line}" for line in text.split("\n"))


def test_typed_lines_stay_lines():
    tokens = MARKDOWN.parse(quoted("one\ntwo", keeps_lines=True))
    assert [one.type for one in inline(tokens) if "break" in one.type] == ["hardbreak"]


@examples(100)
@given(nasty)
def test_a_fence_holds_any_text(text):
    (token,) = MARKDOWN.parse(fenced(text, "json"))
    assert token.type == "fence"
    assert token.content == f"{text}\n"


@examples(100)
@given(nasty.map(lambda text: " ".join(text.split())).filter(bool))
def test_a_line_in_markdown_shows_the_text_itself(text):
    for written in (escaped(text), code_span(text)):
        tokens = [
            one
            for one in inline(MARKDOWN.parse(f"# a {written} b"))
            if one.type not in ("heading_open", "heading_close")
        ]
        shown = "".join(one.content for one in tokens if one.type in ("text", "code_inline", "text_special"))
        assert shown == f"a {text} b"
