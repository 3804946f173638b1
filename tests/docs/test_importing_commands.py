"""Every command on the page of importing runs, one after the other."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from session_manager import SessionManager
from tests.support.command import run
from tests.support.go_files import GOLDEN
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "importing.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("support.jsonl").write_text('{"messages": [{"role": "user", "content": "Where is my parcel?"}]}\n')
    Path("sessions").mkdir(mode=0o700)
    Path("sessions", "telegram_42.json").write_bytes(GOLDEN)
    assert len(LINES) >= 8
    for line in LINES:
        words = shlex.split(line)
        assert words[0] == "session-manager"
        done = run(*words[1:])
        assert (done.code, line) == (0, line), done.err
        assert done.out or done.err
    with SessionManager("log:chats", read_only=True) as m:
        assert [message.content for message in m.get_history("support:1")] == ["Where is my parcel?"]
