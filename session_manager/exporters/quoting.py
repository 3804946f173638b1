r"""Text as a quotation in Markdown, which shows it as Markdown and lets nothing out of the quotation.

Every line gets ``> `` before it, so a heading, a list or an open fence ends with the quotation. Two things would reach further,
and are escaped by a backslash:

* HTML, such as a comment that is not closed, or a tag that closes one of the page. A ``<`` stays where it certainly is code: between
  fences, and between backticks in one line. Anywhere else it becomes ``\<``. In doubt, such as in a list within a list, it does so in
  code as well. An address in angle brackets is no HTML.
* The definition of a link (``[name]: address``), which would change the links of all other messages.

Source: https://spec.commonmark.org/0.31.2/ (block quotes, fenced code blocks, code spans, link reference definitions, HTML blocks).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator

__all__ = ["code_span", "escaped", "fenced", "quoted"]

#: A fence: what is before it, and what it is made of.
_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<marks>(?:[>*+\-0-9.)][>*+\-0-9.) \t]*)?)(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})")
#: A line that ends every item of a list before it, and every quotation.
_OUTER = re.compile(r"[^ \t>]")
#: A line that is indented more is no fence.
_MOST_INDENT = 3
_SPECIAL = re.compile(r"([\\`*_\[\]<>#&~|!$])")
#: Backticks that may begin code, or an escaped character.
_RUN = re.compile(r"\\.|`+", re.DOTALL)
_TICKS = re.compile("`+")
_TAG = re.compile(r"(?<!\\)((?:\\\\)*)<(?=[A-Za-z/!?])(?!(?:https?://|mailto:)[^\s<>`]*>)")
#: The start of a definition, behind anything that may come before it in a line. Its name may go on in further lines.
_DEFINITION = re.compile(r"(?m)^([ \t>*+\-0-9.)]*\[(?:[^\[\]\\]|\\.){0,999}\]):", re.DOTALL)


def quoted(text: str, *, keeps_lines: bool = False) -> str:
    r"""Return a text as a quotation.

    :param text: its lines end with a line feed.
    :param keeps_lines: show each line in a line of its own, as the person who typed it saw it.

    >>> print(quoted("# Hi\n`<b>` and <b>"))
    > # Hi
    > `<b>` and \<b>
    """
    lines = _safe(_DEFINITION.sub(r"\1\\:", text).split("\n"))
    end = "  " if keeps_lines and "```" not in text and "~~~" not in text else ""
    return "\n".join(f"> {line}{end}" if line else ">" for line in lines).removesuffix(end)


def _safe(lines: list[str]) -> Iterator[str]:
    """Yield lines without HTML that is not code."""
    at = 0
    is_left = False  # backticks before, in the same paragraph, whose partner may be in this line
    doubt = _Doubt.NONE
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.match(line)
        if doubt is _Doubt.INNER and _OUTER.match(line):
            doubt = _Doubt.NONE
        if fence is not None and doubt is not _Doubt.LASTING:
            end = _end(lines, at, fence) if doubt is _Doubt.NONE else None
            if end is not None:
                yield line.replace("|", " ")  # some readers look for tables first
                yield from lines[at + 1 : end]
                at, is_left = end, False
                continue
            is_inner = fence["marks"] or _columns(fence["indent"]) > _MOST_INDENT
            doubt = _Doubt.INNER if is_inner else _Doubt.LASTING
        spans, has_left = _spans(line)
        is_left = is_left and bool(line.strip())
        yield _escaped_tags(line, [] if is_left or doubt is not _Doubt.NONE else spans)
        is_left = is_left or has_left
        at += 1


class _Doubt(enum.Enum):
    """Whether a fence may be open of which it is not certain where it ends."""

    NONE = enum.auto()
    #: In an item of a list, or in a quotation: it ends at the next line that begins in the first column.
    INNER = enum.auto()
    LASTING = enum.auto()


def _end(lines: list[str], start: int, fence: re.Match[str]) -> int | None:
    """Return the number of the line behind a block of code; `None` if it is not certain where it ends.

    An indented fence may be in an item of a list. It is certain if no line in it is indented less.
    """
    indent = _columns(fence["indent"])
    if fence["marks"] or indent > _MOST_INDENT:
        return None
    closing = re.compile(rf"[ \t]*{fence['fence'][0]}{{{len(fence['fence'])},}}[ \t]*\Z")
    for number in range(start + 1, len(lines)):
        line = lines[number]
        columns = _columns(line[: len(line) - len(line.lstrip(" \t"))])
        if line.strip() and columns < indent:
            return None
        if columns <= _MOST_INDENT and closing.match(line):
            return number + 1
    return len(lines) if not indent else None


def _columns(space: str) -> int:
    """Return how many columns of space these are, behind the two columns of ``> ``."""
    return len(f"..{space}".expandtabs(4)) - 2


def _spans(line: str) -> tuple[list[tuple[int, int]], bool]:
    """Return where a line has code between backticks, and whether backticks are left over."""
    spans: list[tuple[int, int]] = []
    is_left = False
    at = 0
    while (run := _RUN.search(line, at)) is not None:
        at = run.end()
        if run.group()[0] == "\\":
            continue
        # Inside of code a backslash escapes nothing.
        ends = (other.end() for other in _TICKS.finditer(line, at) if len(other.group()) == len(run.group()))
        end = next(ends, None)
        if end is None:
            is_left = True
            continue
        if "|" not in line:  # the cells of a table are split first
            spans.append((run.start(), end))
        at = end
    return spans, is_left


def _escaped_tags(line: str, code: list[tuple[int, int]]) -> str:
    written, at = [], 0
    for start, end in code:
        written += [_TAG.sub(r"\1\\<", line[at:start]), line[start:end]]
        at = end
    return "".join(written) + _TAG.sub(r"\1\\<", line[at:])


def escaped(text: str) -> str:
    r"""Return a text in one line that Markdown shows as it is.

    >>> print(escaped("*a* <b>"))
    \*a\* \<b\>
    """
    return _SPECIAL.sub(r"\\\1", text)


def code_span(text: str) -> str:
    """Return a text in one line as code."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    tick = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{tick}{pad}{text}{pad}{tick}"


def fenced(text: str, language: str = "") -> str:
    """Return a text as a block of code, whatever backticks are in it."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
