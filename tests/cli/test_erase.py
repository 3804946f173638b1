"""The command ``erase``."""

from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

from session_manager import SessionManager, converter
from session_manager.operations import EraseReport, verify
from tests.support.command import in_terminal, run
from tests.support.traces import TRACES, storage, talk, traces_in

KEY = "telegram:42"


def there(url):
    with SessionManager(url, read_only=True) as m:
        return sorted(m)


@pytest.fixture(params=["snapshot", "log", "sqlite"])
def url(request, tmp_path):
    return storage(request.param, tmp_path, KEY)


def test_a_session_is_erased_when_you_say_yes(url, tmp_path):
    assert len(traces_in(tmp_path)) >= len(TRACES) - 1
    done = run("erase", KEY, "-s", url, answer="y\n")
    assert done.code == 0
    assert "Erase 1 session, with every copy in the storage? There is no way back. [y/N]" in done.err
    assert done.out == (
        "KEY          MESSAGES  ARCHIVED  QUARANTINED  FILES\n"
        "telegram:42         5         1            1      0\n"
        "1 session erased\n"
    )
    assert "An erasure does not reach:\n  other sessions" in done.err
    assert "backups" in done.err
    assert traces_in(tmp_path) == {}
    assert there(url) == ["other", "telegram:1"]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_nothing_is_erased_when_you_say_no(tmp_path, answer):
    url = storage("log", tmp_path, KEY)
    for arguments in ([KEY], ["--prefix", "telegram:"]):
        done = run("erase", *arguments, "-s", url, answer=answer)
        assert (done.code, done.out) == (1, "")
        assert "nothing was done" in done.err
    assert len(there(url)) == 3
    assert verify(url) == []


def test_a_prefix_is_erased_without_a_question(url, tmp_path):
    report = converter.structure(run("erase", "--prefix", "telegram:", "--yes", "-s", url, "--json").json, EraseReport)
    assert [one.key for one in report.sessions] == ["telegram:1", KEY]
    assert report.ok
    assert there(url) == ["other"]
    assert traces_in(tmp_path) == {}
    done = run("erase", "--prefix", "telegram:", "--yes", "-s", url)
    assert (done.code, done.out) == (0, "0 sessions erased\n")
    assert run("erase", "--prefix", "telegram:", "-s", url).code == 0, "there is nothing to ask about"


def test_a_dry_run_says_the_same_and_erases_nothing(url):
    with SessionManager(url):  # a bot is at work
        done = run("erase", KEY, "--dry-run", "-s", url)
        assert run("erase", KEY, "--dry-run", "--json", "-s", url).json["dry_run"] is True
    assert done.code == 0
    assert done.out.splitlines()[1:] == [
        "telegram:42         5         1            1      0",
        "1 session would be erased",
    ]
    assert len(there(url)) == 3


def test_what_is_not_there_is_named_and_the_exit_code_is_3(url, tmp_path):
    """The others are erased: a job may run again."""
    done = run("erase", KEY, "nobody", "--yes", "-s", url)
    assert done.code == 3
    assert "there is nothing of a session 'nobody'" in done.err
    assert traces_in(tmp_path) == {}
    assert run("erase", KEY, "--yes", "-s", url).code == 3


def test_what_is_left_is_named_and_the_exit_code_is_1(tmp_path):
    url = storage("snapshot", tmp_path, KEY)
    path = tmp_path / "chats"
    (path / "copy.bak").write_bytes((path / "telegram~3a42.session.json").read_bytes())
    done = run("erase", KEY, "--yes", "-s", url)
    assert done.code == 1
    assert (
        f"is not a file of ours, and has the text of the session: a copy, or what was adopted; look at it, and remove it ({path}/copy.bak)"
        in done.out
    )


def test_a_reader_of_a_database_is_waited_for_and_the_exit_code_is_1(tmp_path):
    url = storage("sqlite", tmp_path, KEY)
    with contextlib.closing(sqlite3.connect(tmp_path / "chats.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchone()
        done = run("erase", KEY, "--yes", "-s", url)
    assert done.code == 1
    assert "waits for a reader" in done.out
    done = run("verify", "-s", url)
    assert (done.code, "its erasure was begun" in done.out) == (1, True)
    with SessionManager(url) as m:  # the opening finishes it
        talk(m, "third", traced=False)
    assert traces_in(tmp_path) == {}
    assert run("verify", "-s", url).code == 0


def test_mistakes(tmp_path):
    url = storage("log", tmp_path, KEY)
    for arguments, code, said in (
        ([], 2, "name the sessions, or give a --prefix"),
        ([KEY, "--prefix", "t"], 2, "one of the two"),
        (["", "--yes"], 2, "key"),
        ([KEY, "--yes", "-s", f"log:{tmp_path / 'nowhere'}"], 4, "there is no storage"),
        ([KEY, "-s", f"sqlite:{tmp_path / 'nowhere.db'}"], 4, "there is no storage"),
    ):
        done = run("erase", "-s", url, *arguments)
        assert (done.code, done.out) == (code, "")
        assert said in done.err
        assert "Traceback" not in done.err
    with SessionManager(url):
        done = run("erase", KEY, "--yes", "-s", url)
    assert (done.code, "is open" in done.err or "locked" in done.err or "in use" in done.err) == (5, True), done.err
    assert os.listdir(tmp_path) == ["chats"]
    assert len(there(url)) == 3


def test_the_help_has_examples_and_exit_codes():
    done = run("erase", "--help")
    assert done.code == 0
    assert "session-manager erase telegram:42" in done.out
    assert "exit code is 1" in done.out


def test_in_a_terminal_the_table_is_coloured(tmp_path):
    url = storage("log", tmp_path, KEY)
    code, seen = in_terminal("erase", KEY, "-s", url, answer="y\n")
    assert code == 0
    assert "\x1b[36mtelegram:42" in seen
    assert traces_in(tmp_path) == {}
