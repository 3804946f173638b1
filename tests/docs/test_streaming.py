"""The how-to's recipe for a reply that streams in, killed at every piece."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from session_manager import SessionManager
from tests.support.processes import run_python

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "chats.md"
KEY = "telegram:42"
PIECES = ["", "\n", "Once", " upon", "", " a time", "."]

#: What runs in the process that is killed: other calls save the chat whenever they like, here before each piece.
PROGRAM = f"""
import os, signal, sys
from session_manager import SessionManager

url, recipe, pieces, stop = sys.argv[1], sys.argv[2], eval(sys.argv[3]), int(sys.argv[4])
manager = SessionManager(url)
manager.add_message({KEY!r}, "user", "Tell me a story.")

def arriving():
    for number, piece in enumerate([*pieces, ""]):
        manager.save({KEY!r})
        if number == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece

exec(recipe)
keep_streaming({KEY!r}, "reply:1", arriving())
"""


def recipe() -> str:
    section = PAGE.read_text().partition("## Keep a reply that is still being streamed")[2]
    block = re.search(r"^(def keep_streaming.*?)\n\n\nkeep_streaming\(", section, re.DOTALL | re.MULTILINE)
    assert block is not None
    return block.group(1)


@pytest.mark.parametrize("url", ["snapshot:{}/chats", "log:{}/chats", "sqlite:{}/chats.db"])
def test_a_killed_stream_leaves_what_was_saved_and_no_empty_reply(url, size, tmp_path):
    """The recipe added an empty message first, which a kill left behind, and then one of nothing but a line end."""
    for stop in range(0, len(PIECES) + 1, size.of(4, 1, 1)):
        directory = tmp_path / str(stop)
        directory.mkdir()
        place = url.format(directory)
        assert run_python("-c", PROGRAM, place, recipe(), repr(PIECES), stop).returncode == -signal.SIGKILL
        with SessionManager(place) as m:
            said = "".join(PIECES[:stop])
            assert [one.content for one in m.get_history(KEY)] == [
                "Tell me a story.",
                *([said] if said.strip() else []),
            ]
