"""Every command on the pages of operations and of privacy runs, one after the other in its section."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from session_manager import SessionManager
from tests.support.command import command, run
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGES = [(ROOT / "docs" / name).read_text() for name in ("operations.md", "privacy.md")]
SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {name: text for page in PAGES for name, text in SECTION.findall(page)}
LINE = re.compile(r"^session-manager .*$", re.MULTILINE)
OURS = [
    name for name, text in SECTIONS.items() if any(map(LINE.search, re.findall(r"```sh\n(.*?)```", text, re.DOTALL)))
]


@pytest.fixture
def chats(tmp_path, monkeypatch):
    """The storage of the page: a directory ``chats``, in which each of its keys is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_MANAGER_STORAGE", "chats")
    with SessionManager("log:chats", archive=True) as m:
        for key in ("telegram:42", "telegram:7", "test:1"):
            for number in range(30):
                m.add_message(key, "user", f"my boarding pass to Lisbon, number {number}")
            m.save_all()
            m.truncate_history(key, 20)
        m.update_metadata("telegram:42", {"language": "de"})
    return tmp_path


@pytest.mark.parametrize("section", OURS)
def test_the_commands_of_a_section_run(section, chats):
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL) for line in LINE.findall(block)
    ]
    for line in lines:
        words = shlex.split(line, comments=True)
        if "exit code 5" in line:
            with SessionManager("chats"):
                assert run(*words[1:]).code == 5
        elif {">", "&&"}.intersection(words):
            text = line.replace("session-manager ", f"{shlex.join(command())} ")
            assert subprocess.run(["sh", "-c", text], check=False).returncode == 0
        else:
            done = run(*words[1:])
            assert (done.code, line) == (0, line), done.err
            assert done.out or done.err


def test_there_are_many_sections_with_commands():
    assert len(OURS) >= 16
