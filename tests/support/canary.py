"""The canary: a text that no repr, log line or error may ever show."""

from __future__ import annotations

#: The tests put it into messages, summaries and metadata; `tests/conftest.py` watches for it.
CANARY = "xyzzy-CANARY-plugh"
