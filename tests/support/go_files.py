"""Files as picoclaw writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.support import places

KEY = "telegram:42"
SAID = {"role": "user", "content": "hi"}
#: A file of picoclaw's own making.
GOLDEN = (places.GOLDEN / "telegram_42.json").read_bytes()


def go_file(key: Any = KEY, messages: Any = (SAID,), **fields: Any) -> bytes:
    """A session of one file, as Go's ``json.MarshalIndent`` writes it."""
    objects = list(messages) if isinstance(messages, tuple) else messages
    whole = {
        "key": key,
        "messages": objects,
        "created": "2026-01-02T03:04:05Z",
        "updated": "2026-01-02T03:04:05Z",
        **fields,
    }
    return _escaped(json.dumps(whole, indent=2, ensure_ascii=False))


def go_meta(key: Any = KEY, **fields: Any) -> bytes:
    """The metadata of a session of two files."""
    whole = {
        "key": key,
        "summary": "",
        "skip": 0,
        "count": 0,
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-02T03:04:05Z",
        **fields,
    }
    return _escaped(json.dumps(whole, indent=2, ensure_ascii=False))


def go_lines(messages: Iterable[Any] = (SAID,)) -> bytes:
    """The messages of a session of two files, as Go's ``json.Marshal`` writes each."""
    return b"".join(_escaped(json.dumps(one, ensure_ascii=False, separators=(",", ":"))) + b"\n" for one in messages)


def _escaped(text: str) -> bytes:
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()
