"""Text as HTML that is safe on a page: Markdown for what a model writes, and plain text with its links.

Three layers keep a text from running anything. markdown-it-py reads no HTML and makes no links but to the web. nh3 then removes
every tag, attribute and address that is not listed here. The page's own policy (`session_manager.exporters.html`) forbids the rest.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import nh3
from linkify_it import LinkifyIt  # type: ignore[import-untyped]
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markupsafe import Markup, escape

from session_manager.exporters.inline_images import image_of

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["ATTRIBUTES", "SCHEMES", "TAGS", "RichText", "sanitized"]

#: The tags of a text.
TAGS: Final = frozenset(
    (
        *("p", "br", "hr", "strong", "em", "s", "code", "pre", "blockquote", "a", "img"),
        *("ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
    )
)
#: The attributes that each of them may have.
ATTRIBUTES: Final = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title"},
    "ol": {"start"},
    "th": {"align"},
    "td": {"align"},
}
#: What addresses begin with that a link may have.
SCHEMES: Final = frozenset(("http", "https", "mailto"))
_WEB: Final = ("http://", "https://", "mailto:")
_REL: Final = "noopener noreferrer nofollow"
#: What may mean something in Markdown. A colon may be a part of an address, and a hyphen of a line under a heading.
_SPECIAL: Final = re.compile(r"[\\`*_\[\]<>#&~|!\n\t:-]|  ")


def _kept(_: str, attribute: str, value: str) -> str | None:
    """Return the value of an attribute that stays; `None` to remove it."""
    if attribute == "href":
        return value if value.lower().startswith(_WEB) else None
    if attribute == "src":
        return image_of(value)
    return value


def sanitized(text: str) -> Markup:
    """Return HTML, of anybody, with nothing in it but what is listed here."""
    return Markup(  # noqa: S704 - it is what nh3 leaves
        nh3.clean(
            text,
            tags=set(TAGS),
            clean_content_tags=set(),
            attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
            attribute_filter=_kept,
            url_schemes={*SCHEMES, "data"},
            link_rel=_REL,
        )
    )


class RichText:
    """Makes HTML of texts, for one page. Several threads must not use one at the same time."""

    def __init__(self) -> None:
        self._markdown = _Markdown("commonmark", {"html": False, "linkify": True}, renderer_cls=_Renderer)
        self._markdown.enable(["table", "strikethrough", "linkify"])
        self._markdown.core.ruler.push("simplified", _simplified)
        self._links = LinkifyIt(options={"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
        # A name such as main.py is no address, though .py is a country's.
        self._markdown.linkify = self._links

    def markdown(self, text: str) -> Markup:
        """Return Markdown as HTML.

        :param text: legible text (`session_manager.exporters.entries.legible`).
        """
        if _is_simple(text):
            return Markup("<p>%s</p>\n") % text
        return sanitized(self._markdown.render(text))

    def plain(self, text: str) -> Markup:
        """Return a text as it is, with links where it has addresses of the web."""
        found = (self._links.match(text) or ()) if "://" in text else ()
        written, at = [], 0
        for one in found:
            if one.url.lower().startswith(_WEB):
                written.append(escape(text[at : one.index]))
                written.append(Markup('<a href="%s" rel="%s">%s</a>') % (one.url, _REL, one.text))
                at = one.last_index
        return Markup("").join([*written, escape(text[at:])])


def _is_simple(text: str) -> bool:
    """Say whether a text means the same with and without Markdown: a line of words, without an address."""
    return _SPECIAL.search(text) is None and text[:1].isalpha()


class _Markdown(MarkdownIt):
    """Markdown whose links lead to the web, and whose images are on the page or are links."""

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library calls it
        """Say whether an address may be one of a link or an image."""
        return url.lower().startswith(_WEB) or image_of(url) is not None


class _Renderer(RendererHTML):
    """Writes tokens as HTML: images of other servers as links, and headings smaller than those of the page."""

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: MutableMapping[str, Any]) -> str:
        """Write an image."""
        token = tokens[idx]
        source = str(token.attrs.get("src", ""))
        text = self.renderInlineAsText(token.children, options, env) if token.children else ""
        inline = image_of(source)
        if inline is not None:
            return Markup('<img src="%s" alt="%s">') % (inline, text)
        return Markup('<a href="%s">%s</a>') % (source, text or source)


def _simplified(state: Any) -> None:
    """Take from tokens what the list of attributes does not have, or put it in a form that it has."""
    for token in state.tokens:
        token.info = ""  # else the language of code becomes a class
        if token.type in ("th_open", "td_open"):
            style = str(token.attrs.pop("style", ""))
            if style:
                token.attrs["align"] = style.removeprefix("text-align:")
