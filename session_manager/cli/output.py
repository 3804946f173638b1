"""Output: JSON for programs, and aligned columns for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from session_manager.cli.terminal import paint
from session_manager.cli.text import one_line, to_json, wide

if TYPE_CHECKING:
    from session_manager.stores.contract import Finding

__all__ = ["confirm", "counted", "json_list", "json_value", "print_findings", "table"]

#: So many rows are measured and written at once.
_AT_ONCE = 10_000
#: So many keys are shown with a question.
_SHOWN = 20


def json_value(value: Any) -> None:
    """Print a public value as one JSON document."""
    click.echo(to_json(_data(value)))


def json_list(values: Iterable[Any]) -> None:
    """Print public values as a JSON array, one a line."""
    lines = ",\n".join(to_json(_data(value)) for value in values)
    click.echo(f"[\n{lines}\n]" if lines else "[]")


def _data(value: Any) -> Any:
    from session_manager.codec.converter import converter  # noqa: PLC0415 - it imports cattrs, for JSON alone

    return converter.unstructure(value)


def print_findings(findings: Iterable[Finding]) -> None:
    """Print flaws, one a line: whose it is, what is wrong, and where."""
    for finding in findings:
        place = one_line(finding.path) + ("" if finding.offset is None else f", byte {finding.offset:,}")
        who = "beside the sessions" if finding.key is None else one_line(finding.key)
        click.echo(f"{paint(who, 'cyan')}: {paint(one_line(finding.reason), 'red')} ({place})")


def counted(number: int, what: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "session"), counted(2000, "session")
    ('1 session', '2,000 sessions')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def confirm(question: str, keys: Sequence[str]) -> None:
    """Show sessions, and ask a question about them, on standard error.

    :raises click.Abort: if the answer is no.
    """
    for key in keys[:_SHOWN]:
        click.echo(f"  {one_line(key)}", err=True)
    if len(keys) > _SHOWN:
        click.echo(f"  and {len(keys) - _SHOWN:,} more", err=True)
    click.confirm(question, abort=True, err=True)


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str], numbers: Sequence[int] = ()
) -> None:
    """Print rows in columns, under their heads.

    :param colours: the colour of each column; ``""`` for none.
    :param numbers: the columns that are aligned to the right.
    """
    by_column = list(zip(*rows, strict=True)) or [()] * len(heads)
    widths = [_width([head, *column]) for head, column in zip(heads, by_column, strict=True)]
    sys.stdout.write(_template(widths, ["bold"] * len(heads), numbers).format(*heads).rstrip(" ") + "\n")
    template = _template(widths, colours, numbers)
    for start in range(0, len(rows), _AT_ONCE):
        lines = []
        for row in rows[start : start + _AT_ONCE]:
            fitting = template
            if not "".join(
                row
            ).isascii():  # some letters take two columns, and some none: `str.format` counts each as one
                narrowed = [width - wide(cell) + len(cell) for cell, width in zip(row, widths, strict=True)]
                fitting = _template(narrowed, colours, numbers)
            lines.append(fitting.format(*row).rstrip(" ") + "\n")
        sys.stdout.write("".join(lines))


def _width(cells: Sequence[str]) -> int:
    """Return how many columns of a terminal the widest of some texts takes."""
    return max(map(len if "".join(cells).isascii() else wide, cells))


def _template(widths: Sequence[int], colours: Sequence[str], numbers: Sequence[int]) -> str:
    """Return what a row is formatted by. The last column is as wide as its text."""
    last = len(widths) - 1
    cells = [
        f"{{:>{width}}}" if at in numbers else "{}" if at == last else f"{{:<{width}}}"
        for at, width in enumerate(widths)
    ]
    return "  ".join(paint(cell, colour) if colour else cell for cell, colour in zip(cells, colours, strict=True))
