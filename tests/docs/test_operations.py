"""The commands on the page of operations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from session_manager import SessionManager
from session_manager.operations import verify_backup
from tests.support.places import ROOT

pytestmark = pytest.mark.once


def commands(section):
    """Return the commands of a section."""
    page = (ROOT / "docs" / "operations.md").read_text().partition(f"\n## {section}\n")[2]
    (found,) = re.findall(r"```sh\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    return found


def run(text, place):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "SESSION_MANAGER_STORAGE": "chats"}
    text = text.replace("session-manager ", "python -m session_manager ")  # which may not be on the path
    return subprocess.run(["sh", "-ec", text], cwd=place, env=environment, capture_output=True, text=True, check=False)


def test_the_command_for_a_backup_makes_one_and_names_damage(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        m.add_message("one", "user", "hi")
        m.save_all()
        done = run(commands("Backup"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (made,) = (tmp_path / "backups").iterdir()
    assert verify_backup(made).sessions == 1
    (tmp_path / "backups").rename(tmp_path / "before")
    (tmp_path / "chats" / "one.session.json").write_text("{}")
    done = run(commands("Backup"), tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("one: ")
