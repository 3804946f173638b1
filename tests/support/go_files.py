"""Files as picoclaw writes them."""

from __future__ import annotations

import json
from typing import Any

from tests.support import places

KEY = "telegram:42"
SAID = {"role": "user", "content": "hi"}
#: A file of picoclaw's own making.
GOLDEN = (places.GOLDEN / "telegram_42.json").read_bytes()


def go_file(key: Any = KEY, messages: Any = (SAID,), **fields: Any) -> bytes:
    """A file as Go's ``json.MarshalIndent`` writes it."""
    objects = list(messages) if isinstance(messages, tuple) else messages
    whole = {
        "key": key,
        "messages": objects,
        "created": "2026-01-02T03:04:05Z",
        "updated": "2026-01-02T03:04:05Z",
        **fields,
    }
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()
