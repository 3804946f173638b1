"""How long the command takes, in the processor's time, so that other processes do not count."""

from __future__ import annotations

import os
import subprocess

import pytest

from session_manager import SessionManager
from tests.support.command import command

pytestmark = [pytest.mark.long, pytest.mark.once]


def seconds(*arguments):
    """Return the processor time of the command."""
    before = os.times()
    subprocess.run(command(*arguments), stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_the_help_takes_150_ms():
    assert min(seconds("--help") for _ in range(3)) <= 0.15


@pytest.mark.timeout(600)
def test_a_list_of_100_000_sessions_takes_2_seconds(tmp_path):
    url = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(url) as m:
        for number in range(100_000):
            m.add_message(f"telegram:{number}", "user", "hi")
    assert min(seconds("ls", "-s", url) for _ in range(5)) <= 2
