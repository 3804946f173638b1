"""The commands that write: ``copy``, ``compact``, ``delete``, ``expire``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import pytest

from session_manager import CopyReport, InvalidStorageError, SessionManager, StorageError, converter
from session_manager.operations import CompactReport, verify
from tests.support.command import run
from tests.support.processes import python


def there(storage):
    with SessionManager(storage, read_only=True) as m:
        return list(m)


# copy


def test_a_copy_is_whole_and_goes_on_where_it_was(storage, tmp_path):
    target = f"sqlite:{tmp_path / 'copy.db'}"
    assert run("copy", target, "-s", storage, "--prefix", "telegram:").out == "2 sessions copied\n"
    done = run("copy", target, "-s", storage)
    assert (done.code, done.out) == (0, "2 sessions copied, 2 were there already\n")
    assert there(target) == there(storage)
    report = converter.structure(run("copy", target, "-s", storage, "--json").json, CopyReport)
    assert len(report.present) == 4


def test_what_cannot_be_copied_is_named_and_the_exit_code_is_1(log, tmp_path):
    target = f"snapshot:{tmp_path / 'copy'}"
    run("copy", target, "-s", log, "--prefix", "telegram:42")
    with SessionManager(target) as m:
        m.add_message("telegram:42", "user", "theirs")
    with open(os.path.join(log.partition(":")[2], "slack~3a_c01.session.jsonl"), "r+b") as file:
        file.write(b"\0\0")
    done = run("copy", target, "-s", log)
    assert done.code == 1
    assert "telegram:42: the target has another version" in done.err
    assert "slack:C01: " in done.err
    assert done.out == "2 sessions copied\n"


# compact


def test_compaction_says_how_much_it_gave_back(storage):
    done = run("compact", "-s", storage)
    assert done.code == 0
    assert done.out.startswith("4 sessions: ")
    report = converter.structure(run("compact", "telegram:7", "-s", storage, "--json").json, CompactReport)
    assert report.sessions == 1
    assert verify(storage) == []


# delete


def test_a_session_is_deleted_when_you_say_yes(storage):
    done = run("delete", "slack:C01", "-s", storage, answer="y\n")
    assert (done.code, done.out) == (0, "1 session deleted\n")
    assert "Delete 1 session? [y/N]" in done.err
    assert "slack:C01" not in there(storage)


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_nothing_is_deleted_when_you_say_no(log, answer):
    before = there(log)
    for arguments in (["delete", "--prefix", "telegram:"], ["expire", "--older-than", "1d"]):
        done = run(*arguments, "-s", log, answer=answer)
        assert (done.code, done.out) == (1, "")
        assert "nothing was done" in done.err
    assert there(log) == before


def test_a_prefix_is_deleted_without_a_question(storage):
    done = run("delete", "--prefix", "telegram:", "--yes", "-s", storage, "--json")
    assert done.json == {"dry_run": False, "deleted": ["telegram:42", "telegram:7"]}
    assert len(there(storage)) == 2
    assert verify(storage) == []


def test_a_dry_run_deletes_nothing(storage):
    done = run("delete", "--prefix", "telegram:", "--dry-run", "-s", storage)
    assert (done.code, done.out, done.err) == (0, "telegram:42\ntelegram:7\n", "2 sessions would be deleted\n")
    assert len(there(storage)) == 4


def test_of_several_sessions_none_is_deleted_if_one_is_missing(log):
    done = run("delete", "slack:C01", "nobody", "--yes", "-s", log)
    assert (done.code, done.err) == (3, "session-manager: no session 'nobody'\n")
    assert len(there(log)) == 4


def test_a_damaged_session_can_be_deleted(log):
    path = log.partition(":")[2]
    with open(os.path.join(path, "slack~3a_c01.session.jsonl"), "r+b") as file:
        file.write(b"\0\0")
    assert run("delete", "slack:C01", "--yes", "-s", log).code == 0
    assert any(name.startswith(".quarantine-") for name in os.listdir(path))


# expire


def test_old_sessions_are_deleted(storage):
    names = run("expire", "--older-than", "1d", "--where", "language=de", "--dry-run", "-s", storage)
    assert names.out == "telegram:7\n"
    assert run("expire", "--yes", "-s", storage, "--json").json["deleted"] == ["slack:C01"], "by its own expiry"
    done = run("expire", "--older-than", "2026-01-01T12:02Z", "--yes", "-s", storage)
    assert done.out == "2 sessions deleted\n"
    assert len(there(storage)) == 1
    assert run("expire", "--older-than", "52w", "-s", storage).out == "0 sessions deleted\n"


# Ctrl-C


def begun(target):
    """Say whether a storage has sessions already."""
    with contextlib.suppress(StorageError, InvalidStorageError):
        return bool(there(target))
    return False


@pytest.mark.parametrize("kind", ["log", pytest.param("sqlite", marks=pytest.mark.long)])
def test_an_interrupt_leaves_everything_consistent(tmp_path, kind):
    """The command stops between two sessions; the same command goes on."""
    source, target = f"log:{tmp_path / 'chats'}", f"{kind}:{tmp_path / 'target'}"
    with SessionManager(source) as m:
        for number in range(1500):
            m.add_message(f"k{number}", "user", "x")
    with python("-m", "session_manager", "copy", target, "-s", source, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not begun(target) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    if process.returncode == 0:
        pytest.skip("it was faster than the signal")
    assert process.returncode == 130
    assert "interrupted" in said
    assert verify(target) == []
    assert len(there(target)) < 1500
    assert run("copy", target, "-s", source).code == 0
    assert there(target) == there(source)
