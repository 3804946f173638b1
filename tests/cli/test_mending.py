"""The command ``salvage``."""

from __future__ import annotations

import os

import pytest

from session_manager import converter
from session_manager.operations import SalvageReport, verify
from tests.support.command import run


@pytest.fixture
def damaged(log):
    """A log of which the second message is damaged."""
    path = os.path.join(log.partition(":")[2], "telegram~3a42.session.jsonl")
    with open(path, "r+b") as file:
        data = file.read().replace(b"flights", b"fl1ghts", 1)
        file.seek(0)
        file.write(data)
    return log


def test_what_is_whole_is_named_and_nothing_is_written(damaged):
    for _ in range(2):
        done = run("salvage", "-s", damaged)
        assert (done.code, done.err) == (1, "")
        assert "telegram:42: 3 messages whole, 1 lost" in done.out
        assert "  missing: #1\n" in done.out
        assert done.out.endswith("1 session of 4\n")


def test_a_session_is_put_right(damaged):
    done = run("salvage", "telegram:42", "--write", "-s", damaged)
    assert done.code == 0
    assert "put right" in done.out
    assert "in quarantine: .quarantine-" in done.out
    assert verify(damaged) == []
    assert run("salvage", "-s", damaged).out == "nothing is damaged\n"


def test_the_report_as_json_has_the_messages(damaged):
    report = converter.structure(run("salvage", "-s", damaged, "--json").json, SalvageReport)
    assert len(report.sessions[0].messages) == 3


def test_a_session_that_is_not_there_is_not_salvaged(log):
    assert run("salvage", "nobody", "-s", log).code == 3
