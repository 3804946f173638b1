"""The format ``html``: one page that looks like a chat, holds everything that it shows, and runs nothing.

The page has no script, loads nothing, and says so to the browser by a policy (``default-src 'none'``). So a mistake in the
escaping would show, and not run. Texts of models are Markdown; texts of persons are shown as they were typed. Calls, results and
thoughts are folded. Images are shown if their bytes are in the message, and are links if they are on the web.

It needs the extra ``[export]``: Jinja2, markdown-it-py and nh3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined

from session_manager.codec.exported import Exported
from session_manager.exporters.entries import Entry, Part, entries, facts, legible, one_line
from session_manager.exporters.inline_images import image_url
from session_manager.exporters.rich_text import RichText
from session_manager.history.attachments import Attachment

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["POLICY", "written"]

#: What the page allows a browser: its own style, and images that it holds itself.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

#: A longer text is folded where it is not what a person or a model says.
_FOLDED: Final = 400
_ROLES: Final = frozenset(("user", "assistant", "system", "tool", "item"))
_TITLES: Final = {"call": "Call", "result": "Result", "thought": "Thought", "data": "Data"}
_PIECE: Final = 64 * 1024
_SPACES = re.compile(r"\s+")
_LINE: Final = 90


@attrs.frozen
class _Block:
    """A part of a message on the page."""

    kind: str
    title: str
    name: str
    #: The start of what is folded.
    glimpse: str
    #: What it says: HTML, images and links, in order.
    said: tuple[_Said, ...]


@attrs.frozen
class _Said:
    #: What a person or a model says.
    html: Markup | None = None
    #: Whether that is made of Markdown.
    is_rich: bool = False
    #: Any other text; of an image or a file, what it is.
    text: str = ""
    image: str = ""
    link: str = ""


@attrs.frozen
class _Message:
    """A message on the page."""

    entry: Entry
    #: One of a few roles, by which it is drawn.
    style: str
    #: The day, if it is another one than that of the message before.
    day: str
    blocks: tuple[_Block, ...]


def written(exported: Exported) -> Iterator[bytes]:
    """Return the page of a session, in pieces of some 64 KiB."""
    session = exported.session
    first = session.start if session.messages else session.end
    rich = RichText()
    shown = _Shown(entries(exported), rich)
    chunks = _TEMPLATE.generate(
        key=one_line(session.key),
        policy=POLICY,
        facts=facts(exported),
        summary=rich.markdown(legible(session.summary)) if session.summary else None,
        archived=sum((one.position or 0) < first for one in exported.archive or ()),
        earlier=shown.until(first),
        messages=shown,
    )
    return _joined(chunks)


def _joined(chunks: Iterator[str]) -> Iterator[bytes]:
    left: list[str] = []
    size = 0
    for chunk in chunks:
        left.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            yield "".join(left).encode()
            left, size = [], 0
    yield "".join(left).encode()


class _Shown:
    """The messages of the page, one after the other."""

    def __init__(self, source: Iterator[Entry], rich: RichText) -> None:
        self._source, self._rich = source, rich
        self._next = next(source, None)
        self._day: datetime | None = None

    def until(self, position: int) -> Iterator[_Message]:
        """Yield the messages before a position."""
        return self._while(position)

    def __iter__(self) -> Iterator[_Message]:
        self._day = None
        return self._while(None)

    def _while(self, end: int | None) -> Iterator[_Message]:
        while self._next is not None and (end is None or self._next.position < end):
            entry, self._next = self._next, next(self._source, None)
            yield self._message(entry)

    def _message(self, entry: Entry) -> _Message:
        time = entry.time.astimezone(timezone.utc)
        is_new = self._day is None or self._day.date() != time.date()
        self._day = time
        day = f"{time.day} {time:%B} {time.year}" if is_new else ""
        style = entry.role if entry.role in _ROLES else "other"
        return _Message(entry, style, day, tuple(_block(part, entry.role, self._rich) for part in entry.parts))


def _block(part: Part, role: str, rich: RichText) -> _Block:
    said = tuple(_attached(one) if isinstance(one, Attachment) else _said(one, part, role, rich) for one in part.said)
    first = next((one for one in part.said if isinstance(one, str)), "")
    length = sum(len(one) for one in part.said if isinstance(one, str))
    is_long = part.kind == "text" and role in ("system", "developer") and length > _FOLDED
    glimpse = _SPACES.sub(" ", first[: _LINE * 2]).strip()[:_LINE] if part.kind != "text" or is_long else ""
    return _Block(
        kind="long" if is_long else part.kind,
        title=_TITLES.get(part.kind, ""),
        name=part.name,
        glimpse=glimpse,
        said=said,
    )


def _said(text: str, part: Part, role: str, rich: RichText) -> _Said:
    if part.kind == "thought" or (part.kind == "text" and role == "assistant"):
        return _Said(html=rich.markdown(text), is_rich=True)
    return _Said(html=rich.plain(text)) if part.kind == "text" else _Said(text=text)


def _attached(one: Attachment) -> _Said:
    image = image_url(one)
    return _Said(image=image or "", link=legible(one.url), text=one_line(one.media) or "an image or a file")


_ENVIRONMENT = Environment(
    loader=PackageLoader("session_manager.exporters", "page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["line"] = one_line
_TEMPLATE = _ENVIRONMENT.get_template("page.html")
