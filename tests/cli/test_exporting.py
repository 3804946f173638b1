"""The command ``export``."""

from __future__ import annotations

import json
import subprocess

import pytest

from session_manager import SessionManager
from session_manager.exporters import export
from tests.support.command import command, in_terminal, run

KEY = "telegram:7"


@pytest.mark.parametrize("form", ["md", "text", "json", "jsonl", "html"])
def test_an_export_goes_to_standard_output(storage, form):
    done = run("export", KEY, "-s", storage, "-f", form)
    assert (done.code, done.err) == (0, "")
    assert done.out == export(storage, KEY, form)
    assert "message 29" in done.out


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.md", "md"), ("a.TXT", "text"), ("a.json", "json"), ("a.jsonl", "jsonl"), ("a.html", "html"), ("a", "md")],
)
def test_the_name_of_the_file_tells_the_format(log, tmp_path, name, form):
    done = run("export", KEY, "-s", log, "-o", tmp_path / name)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / name).read_text() == export(log, KEY, form)


def test_the_archive_may_stay(log):
    assert "message 3\n" in run("export", KEY, "-s", log).out
    assert "message 3\n" not in run("export", KEY, "-s", log, "--no-archive").out


def test_several_sessions_go_to_a_file(log, tmp_path):
    done = run("export", "--prefix", "telegram:", "-s", log, "-o", tmp_path / "all.json")
    assert (done.code, done.out) == (0, "2 sessions with 34 messages exported\n")
    assert [one["key"] for one in json.loads((tmp_path / "all.json").read_text())] == ["telegram:42", "telegram:7"]
    done = run("export", "--prefix", "", "-s", log, "-f", "jsonl")
    assert (done.code, done.err) == (0, "4 sessions with 36 messages exported\n")
    assert len(done.out.splitlines()) == 4, "standard output has nothing but the lines"


def test_a_damaged_session_is_named_and_left_out(log, tmp_path):
    path = tmp_path / "chats" / "slack~3a_c01.session.jsonl"
    path.write_bytes(path.read_bytes().replace(b"oi", b"io"))
    done = run("export", "--prefix", "", "-s", log, "-o", tmp_path / "all.jsonl")
    assert (done.code, done.out) == (1, "3 sessions with 35 messages exported\n")
    assert done.err.startswith("slack:C01: session 'slack:C01' is damaged")
    assert run("export", "slack:C01", "-s", log).code == 6


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "give KEY for one session, or --prefix for several"),
        ([KEY, "--prefix", "a"], 2, "give KEY for one session, or --prefix for several"),
        (["--prefix", "a"], 2, "--prefix needs --format json or jsonl: md has one session"),
        ([KEY, "-f", "pdf"], 2, "'pdf' is not one of"),
        (["nobody"], 3, "no session 'nobody'"),
        ([KEY, "-o", "nowhere/a.md"], 4, "nowhere/a.md: cannot be written: No such file or directory"),
        ([KEY, "-o", "chats/a.md"], 2, "lies in the storage itself"),
    ],
)
def test_a_mistake_is_told_in_a_line(log, tmp_path, monkeypatch, words, code, told):
    monkeypatch.chdir(tmp_path)
    done = run("export", *words, "-s", log)
    assert done.code == code
    assert told in done.err


def test_a_message_does_not_steer_the_terminal(log):
    with SessionManager(log) as m:
        m.add_message("k", "user", "\x1b[31m, \x9b31m, \u202e, \x07")
    code, seen = in_terminal("export", "k", "-f", "jsonl", "-s", log)
    assert code == 0
    assert "\\u001b[31m, \\u009b31m, \\u202e, \\u0007" in seen
    assert run("export", "k", "-f", "jsonl", "-s", log).out == export(log, "k", "jsonl"), "a file gets the text itself"


def test_a_pipe_may_close_early(log):
    line = f"{' '.join(command('export', KEY, '-f', 'html', '-s', log))} | head -c 10"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("<!DOCTYPE ", "")
