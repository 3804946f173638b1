"""Every command on the page of exporting runs, and what it writes is there."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from session_manager import SessionManager
from tests.support.command import command, run
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "exporting.md").read_text()
LINES = re.findall(r"^session-manager .*$", "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)), re.MULTILINE)


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_MANAGER_STORAGE", "log:chats")
    with SessionManager("log:chats") as m:
        m.add_message("telegram:42", "user", "Is there a flight to Lisbon?")
    assert len(LINES) >= 5
    for line in LINES:
        if ">" in line:
            text = line.replace("session-manager ", f"{shlex.join(command())} ")
            assert subprocess.run(["sh", "-c", text], check=False).returncode == 0
        else:
            done = run(*shlex.split(line)[1:])
            assert (done.code, line) == (0, line), done.err
    written = {"chat.html", "chat.md", "chats.jsonl", "chats.json"}
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert {file.name for file in files if "Lisbon" in file.read_text()} == written
