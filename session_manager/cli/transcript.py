"""A transcript of messages: drawn in a terminal, with Markdown, or as plain lines where the output is piped."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from session_manager.cli.terminal import console, is_terminal
from session_manager.cli.text import clock_time, one_line, printable
from session_manager.history.pieces import Piece, pieces, speaker
from session_manager.model.message import Message

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["print_messages", "print_title"]

_COLOURS = {"user": "green", "assistant": "cyan", "system": "magenta", "tool": "yellow"}
_FOLDED = 100
_MARKS = {"call": "→", "result": "←", "file": "◆", "thought": "…"}
_CODE = "```"


def print_title(title: str, notes: str, summary: str, earlier: str) -> None:
    """Print what stands above a transcript.

    :param notes: what is known of the session.
    :param summary: its summary; ``""`` for none.
    :param earlier: what is left out before the first message; ``""`` for nothing.
    """
    if not is_terminal(sys.stdout):
        click.echo(f"{one_line(title)}  {notes}")
        if summary:
            click.echo(f"\nsummary\n{printable(summary)}")
        if earlier:
            click.echo(f"\n{earlier}")
        return
    from rich.padding import Padding  # noqa: PLC0415 - only where something is drawn
    from rich.rule import Rule  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    out = console()
    out.print(Text.assemble((one_line(title), "bold"), "  ", (notes, "dim")))
    out.print(Rule(style="dim"))
    if summary:
        out.print(Text("summary", style="bold magenta"))
        out.print(Padding(Text(printable(summary), style="italic"), (0, 0, 1, 2)))
    if earlier:
        out.print(Text(earlier, style="dim"))
        out.print()


def print_messages(messages: Iterable[Message], *, unfold: bool) -> None:
    """Print messages.

    :param unfold: print calls and results whole, else each in a line.
    """
    if is_terminal(sys.stdout):
        out = console()
        for message in messages:
            _draw(out, message, unfold=unfold)
        return
    for message in messages:
        said = pieces(message)
        click.echo(f"\n{_role(message, said)}  #{message.position}  {clock_time(message.created_at)}")
        for piece in said:
            click.echo(_plain(piece, unfold=unfold))


def _role(message: Message, said: list[Piece]) -> str:
    """Return who speaks. Some providers bring the results of tools as the user's messages."""
    return "tool" if said and all(piece.kind == "result" for piece in said) else one_line(speaker(message))


def _plain(piece: Piece, *, unfold: bool) -> str:
    if piece.kind == "text":
        return printable(piece.text)
    mark = f"{_MARKS[piece.kind]} {one_line(piece.name)}".rstrip()
    if piece.kind == "file":
        return f"{mark} {piece.text}"
    whole = unfold or piece.kind == "thought"
    return f"{mark} {printable(piece.text) if whole else _folded(piece.text, _FOLDED)}".rstrip()


def _folded(text: str, room: int) -> str:
    """Return a text in one line that has room for so many characters, and how long it is if it has not."""
    line = one_line(" ".join(text.split()))
    if len(line) <= room:
        return line
    rest = f"…  ({len(text):,} characters)"
    return line[: max(room - len(rest), 8)] + rest


def _draw(out: Console, message: Message, *, unfold: bool) -> None:
    from rich.padding import Padding  # noqa: PLC0415 - only where something is drawn
    from rich.text import Text  # noqa: PLC0415

    said = pieces(message)
    role = _role(message, said)
    colour = _COLOURS.get(role, "blue")
    when = f"#{message.position}  {clock_time(message.created_at)}"
    out.print(Text.assemble((role, f"bold {colour}"), "  ", (when, "dim")))
    for piece in said:
        out.print(Padding(_drawn(piece, role, out.width - 2, unfold=unfold), (0, 0, 0, 2)))
    out.print()


def _drawn(piece: Piece, role: str, width: int, *, unfold: bool) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415 - only where something is drawn

    if piece.kind == "text":
        return _markdown(piece.text, is_typed=role == "user")
    mark, name = _MARKS[piece.kind], one_line(piece.name)
    if piece.kind == "thought":
        return Text(f"{mark} {printable(piece.text)}", style="dim italic")
    room = width - len(mark) - len(name) - 2
    text = printable(piece.text) if unfold and piece.kind != "file" else _folded(piece.text, room)
    return Text.assemble((f"{mark} ", "yellow"), (name, "bold yellow"), " " if name else "", (text, "dim"))


def _markdown(text: str, *, is_typed: bool) -> RenderableType:
    """Draw Markdown.

    :param is_typed: a person wrote it, and means each end of a line.
    """
    from rich.markdown import Markdown  # noqa: PLC0415 - only where something is drawn

    source = printable(text)
    if is_typed and _CODE not in source:
        source = source.replace("\n", "  \n")
    # A link shows its address: the text of a message must not hide where it leads.
    return Markdown(source, code_theme="ansi_dark", hyperlinks=False)
