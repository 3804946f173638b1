"""The commands ``backup``, ``verify-backup`` and ``restore``."""

from __future__ import annotations

import os

from session_manager import SessionManager, converter
from session_manager.operations import Backup, Restored, verify_backup
from tests.support.command import run


def test_a_backup_is_made_while_a_bot_runs(storage, tmp_path):
    with SessionManager(storage) as bot:
        bot.add_message("slack:C01", "user", "unsaved")
        done = run("backup", tmp_path / "monday", "-s", storage)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{tmp_path / 'monday'}: 4 sessions, 31 messages, ")
    assert verify_backup(tmp_path / "monday").ok
    checked = run("verify-backup", tmp_path / "monday", "--json")
    assert checked.code == 0
    assert converter.structure(checked.json, Backup) == verify_backup(tmp_path / "monday")


def test_a_damaged_backup_is_named_and_the_exit_code_is_1(log, tmp_path):
    run("backup", tmp_path / "monday", "-s", log)
    (name,) = (name for name in os.listdir(tmp_path / "monday") if name.startswith("slack"))
    with open(tmp_path / "monday" / name, "r+b") as file:
        file.write(b"\0")
    done = run("verify-backup", tmp_path / "monday")
    assert done.code == 1
    assert name in done.out


def test_mistakes_with_backups_are_told_in_one_line(log, tmp_path):
    run("backup", tmp_path / "monday", "-s", log)
    for arguments, code in (
        (["backup", tmp_path / "monday", "-s", log], 2),
        (["backup", tmp_path / "new", "-s", tmp_path / "nope"], 4),
        (["verify-backup", tmp_path / "chats"], 2),
        (["verify-backup", tmp_path / "nope"], 2),
    ):
        done = run(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err


def test_a_restore_puts_the_backup_in_the_place_of_the_storage(storage, tmp_path):
    run("backup", tmp_path / "monday", "-s", storage)
    run("delete", "telegram:42", "--yes", "-s", storage)
    refused = run("restore", tmp_path / "monday", "-s", storage, answer="n\n")
    assert (refused.code, refused.out) == (1, "")
    done = run("restore", tmp_path / "monday", "-s", storage, answer="y\n")
    assert done.code == 0
    assert "4 sessions, 31 messages\nwhat was there is kept as " in done.out
    with SessionManager(storage, read_only=True) as m:
        assert "telegram:42" in m
    again = run("restore", tmp_path / "monday", "--yes", "--discard", "--json", "-s", storage)
    assert converter.structure(again.json, Restored).replaced is None


def test_a_storage_that_is_open_is_not_restored(log, tmp_path):
    run("backup", tmp_path / "monday", "-s", log)
    with SessionManager(log):
        assert run("restore", tmp_path / "monday", "--yes", "-s", log).code == 5


def test_a_damaged_backup_is_not_restored(log, tmp_path):
    run("backup", tmp_path / "monday", "-s", log)
    (name,) = (name for name in os.listdir(tmp_path / "monday") if name.startswith("slack"))
    (tmp_path / "monday" / name).write_bytes(b"")
    done = run("restore", tmp_path / "monday", "--yes", "-s", log)
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "the backup is damaged" in done.err
