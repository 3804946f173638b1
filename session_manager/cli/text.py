"""Text of keys and messages, made safe for a terminal: what could steer it is shown as an escape."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

__all__ = ["age", "amount", "clock_time", "one_line", "printable", "to_json", "wide"]

#: Control characters except tab and newline, marks that turn the direction of text around, and lone surrogates.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SPACE = re.compile(r"[\t\n]")
_NAMES = {"\t": "\\t", "\n": "\\n"}
_KIB = 1024
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(text: str) -> str:
    r"""Return a text without anything that could steer a terminal; lines stay.

    >>> print(printable("a\x1b[31mb\r\nc"))
    a\x1b[31mb
    c
    """
    return _STEERING.sub(_escaped, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    r"""Return a printable text in one line.

    >>> print(one_line("a\nb"))
    a\nb
    """
    if text.isascii() and text.isprintable():
        return text
    return _SPACE.sub(lambda match: _NAMES[match.group()], printable(text))


def wide(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    >>> wide("abc"), wide("里斯本")
    (3, 6)
    """
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - for the few keys that need it

    return cell_len(text)


def to_json(value: Any) -> str:
    """Return JSON in one line, which a terminal can show: letters as they are, and what could steer it as escapes.

    :param value: JSON-ready data.
    """
    text = json.dumps(value, ensure_ascii=False)
    return _STEERING.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def clock_time(time: datetime | None) -> str:
    """Return a time in UTC, to the minute; ``""`` for none."""
    if time is None:
        return ""
    utc = time if time.tzinfo is timezone.utc else time.astimezone(timezone.utc)
    return utc.isoformat(" ", "minutes")[:16]


def age(time: datetime | None, now: datetime) -> str:
    """Return how long ago something was, in its largest unit; ``""`` if nobody knows.

    >>> now = datetime(2026, 1, 3, 12, tzinfo=timezone.utc)
    >>> age(datetime(2026, 1, 1, tzinfo=timezone.utc), now), age(now, now)
    ('2d', 'now')
    """
    if time is None:
        return ""
    seconds = int((now - time).total_seconds())
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return "now"


def amount(size: int | None) -> str:
    """Return a number of bytes for a person; ``"?"`` if nobody knows.

    >>> amount(999), amount(4608), amount(5 * 1024**3)
    ('999 B', '4.5 KiB', '5.0 GiB')
    """
    if size is None:
        return "?"
    if size < _KIB:
        return f"{size} B"
    number, units = float(size), ["KiB", "MiB", "GiB", "TiB"]
    while True:
        number, unit = number / _KIB, units.pop(0)
        if number < _KIB or not units:
            return f"{number:,.1f} {unit}"
