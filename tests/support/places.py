"""Paths in this repository and beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
GOLDEN = ROOT / "tests" / "golden"
#: Recorded conversations, one a line; not every machine has them.
CHATS = ROOT.parent / "shared" / "data" / "airline_chats.jsonl"
