"""The command ``adopt``."""

from __future__ import annotations

import pytest

from session_manager import SessionManager
from session_manager.codec.converter import converter
from session_manager.importers import ImportReport
from tests.support.command import run
from tests.support.go_files import GOLDEN, go_file


@pytest.fixture
def sessions(tmp_path):
    directory = tmp_path / "sessions"
    directory.mkdir(0o700)
    (directory / "telegram_42.json").write_bytes(GOLDEN)
    (directory / "no_key.json").write_bytes(go_file(""))
    return directory


def test_an_adoption_prints_a_table_reasons_and_the_sum(sessions):
    would = run("adopt", sessions, "--dry-run")
    assert would.out.splitlines()[-1] == "1 session with 3 messages would be adopted"
    assert sorted(one.name for one in sessions.iterdir()) == ["no_key.json", "telegram_42.json"]
    done = run("adopt", sessions, "--kind", "log")
    assert done.code == 1
    assert done.out.splitlines() == [
        "FILE              FORMAT         SESSIONS  MESSAGES  THERE  SKIPPED",
        "no_key.json       picoclaw-json         0         0      0        1",
        "telegram_42.json  picoclaw-json         1         3      0        0",
        "no_key.json: key: is empty",
        "1 session with 3 messages adopted",
    ]
    refused = run("ls", "-s", sessions)
    assert refused.code not in (0, 1)
    assert "adopt" in refused.err
    (sessions / "no_key.json").unlink()
    with SessionManager(sessions, read_only=True) as m:
        assert list(m) == ["telegram:42"]
    assert run("adopt", sessions).code == 0


def test_the_report_comes_as_json(sessions):
    report = converter.structure(run("adopt", sessions, "--json").json, ImportReport)
    assert (report.sessions, report.messages, report.skipped) == (1, 3, 1)
