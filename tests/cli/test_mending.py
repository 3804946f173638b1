"""The commands ``salvage``, ``accept-edits`` and ``quarantine``."""

from __future__ import annotations

import os

import pytest

from session_manager import converter
from session_manager.operations import AcceptedEdits, SalvageReport, quarantine, verify
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


# Edited by hand


def test_edits_are_accepted(damaged):
    assert run("show", "telegram:42", "-s", damaged).code == 6
    done = run("accept-edits", "telegram:42", "-s", damaged)
    assert (done.code, done.out) == (0, "telegram:42: 4 messages, signed\n")
    assert "fl1ghts" in run("show", "telegram:42", "-s", damaged).out
    again = run("accept-edits", "telegram:42", "-s", damaged, "--json")
    assert converter.structure(again.json, AcceptedEdits).signed is False


# Quarantine


@pytest.fixture
def kept(damaged):
    """A storage with something in quarantine, and its name."""
    run("salvage", "--write", "-s", damaged)
    (one,) = quarantine.list(damaged)
    return damaged, one


def test_the_quarantine_is_listed_and_shown(kept, log):
    storage, one = kept
    done = run("quarantine", "ls", "-s", storage)
    assert one.name in done.out
    assert "telegram:42" in done.out
    found = run("quarantine", "ls", "--key", "telegram:42", "--json", "-s", storage)
    assert converter.structure(found.json, list[quarantine.Quarantined]) == [one]
    assert "fl1ghts" in run("quarantine", "show", one.name, "-s", storage).out
    assert run("quarantine", "ls", "--key", "slack:C01", "-s", storage).err == "nothing is in quarantine\n"


def test_the_quarantine_is_purged_when_you_say_yes(kept):
    storage, one = kept
    assert run("quarantine", "purge", "-s", storage, answer="n\n").code == 1
    assert run("quarantine", "purge", "--older-than", "1d", "-s", storage).out == "0 pieces removed\n"
    assert run("quarantine", "purge", "--older-than", "2020-01-01T00:00Z", "-s", storage).out == "0 pieces removed\n"
    assert quarantine.list(storage) == (one,)
    done = run("quarantine", "purge", one.name, "-s", storage, answer="y\n")
    assert (done.code, done.out) == (0, "1 piece removed\n")
    assert one.name in done.err
    assert quarantine.list(storage) == ()
    assert run("quarantine", "purge", one.name, "--yes", "-s", storage).code == 4
    assert run("quarantine", "show", one.name, "-s", storage).code == 4
    assert run("quarantine", "purge", "--yes", "-s", storage, "--json").json == []
