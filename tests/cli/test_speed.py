"""How long the command takes, in the processor's time, so that other processes do not count."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from session_manager import SessionManager
from tests.support.command import command

pytestmark = [pytest.mark.long, pytest.mark.once]


#: The least that a list costs: each state is read, decoded, sorted and printed.
FLOOR = """
import json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute("SELECT key, state FROM sessions")
for key, state in sorted((key, json.loads(state)["created"]) for key, state in rows):
    print(f"{key:<30}  {state[:16]}")
"""


def spent(words):
    """Return the processor time of a process."""
    before = os.times()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def seconds(*arguments):
    """Return the processor time of the command."""
    return spent(command(*arguments))


def test_the_help_takes_150_ms():
    pairs = [(seconds("--help"), spent([sys.executable, "-c", "import click"])) for _ in range(5)]
    took, floor = (min(times) for times in zip(*pairs, strict=True))
    assert took <= 0.15 or took <= 2 * floor, "the processor is slow now, and the floor with it"


@pytest.mark.timeout(600)
def test_a_list_of_100_000_sessions_takes_2_seconds(tmp_path):
    url = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(url) as m:
        for number in range(100_000):
            m.add_message(f"telegram:{number}", "user", "hi")
    pairs = [(seconds("ls", "-s", url), spent([sys.executable, "-c", FLOOR, tmp_path / "chats.db"])) for _ in range(4)]
    took, floor = (min(times) for times in zip(*pairs, strict=True))
    assert took <= 2 or took <= 3 * floor, "the processor is slow now, and the floor with it"
