"""The terminal: whether there is one, its colours, and progress bars on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from session_manager.arguments import Progress
from session_manager.cli.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["columns", "console", "has_colours", "is_terminal", "paint", "progress_bar"]

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
    "match": "1;30;43",
}
_WIDEST = 100
_LONGEST_KEY = 40


def is_terminal(stream: TextIO) -> bool:
    """Say whether a person reads a stream, on a terminal that can do more than lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colours(stream: TextIO) -> bool:
    """Say whether a stream gets colours: it is a terminal, and ``NO_COLOR`` is not set (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def columns() -> int:
    """Return how many columns the terminal has."""
    return shutil.get_terminal_size().columns


def paint(text: str, colour: str) -> str:
    """Return a text in a colour, if standard output has colours.

    :param colour: one of ``bold``, ``dim``, ``red``, ``green``, ``yellow``, ``magenta``, ``cyan``, ``match``.
    """
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if text and has_colours(sys.stdout) else text


def console() -> Console:
    """Return what draws Markdown and tables on standard output."""
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn

    colours = "auto" if has_colours(sys.stdout) else None
    width = min(columns(), _WIDEST)
    return Console(width=width, color_system=colours, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]


@contextmanager
def progress_bar(what: str) -> Iterator[Progress | None]:
    """Draw how far something is, on standard error; `None` if that is no terminal.

    :param what: what is going on, such as ``"Verifying"``.
    """
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only where something is drawn
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    out = Console(stderr=True, color_system="auto" if has_colours(sys.stderr) else None, highlight=False, emoji=False)
    parts = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[key]}", style="dim", markup=False),
    )
    with Bar(*parts, console=out, transient=True) as bar:
        task = bar.add_task(what, total=None, key="")

        def show(done: int, total: int, key: str) -> None:
            bar.update(task, completed=done, total=total, key=_shortened(key))

        yield show


def _shortened(key: str) -> str:
    text = one_line(key)
    return text if len(text) <= _LONGEST_KEY else f"{text[:_LONGEST_KEY]}…"
