"""The command as a whole: help, mistakes of users, exit codes, colours, completion, speed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

import session_manager
from session_manager import SessionManager
from session_manager.cli.program import COMMANDS, program
from tests.support.command import command, in_terminal, run
from tests.support.processes import run_python

NAMES = [name for commands in COMMANDS.values() for name in commands]


# What a shell gives


def test_an_empty_storage_is_none_and_not_that_of_the_variable(tmp_path, monkeypatch):
    """``delete --prefix test: --yes -s "$CHATS"``, without such a variable, deleted in another storage."""
    named = f"log:{tmp_path / 'chats'}"
    with SessionManager(named) as manager:
        manager.add_message("test:1", "user", "Hi")
    monkeypatch.setenv("SESSION_MANAGER_STORAGE", named)
    assert run("ls").code == 0
    for words in (("delete", "test:1", "--yes", "-s", ""), ("-s", "", "delete", "test:1", "--yes")):
        done = run(*words)
        assert (done.code, done.out) == (2, "")
        assert "which storage?" in done.err
    monkeypatch.setenv("SESSION_MANAGER_STORAGE", "")
    assert run("ls").code == 2
    assert run("ls", "-s", named).code == 0


def test_a_command_works_with_closed_output(tmp_path):
    """It ended in a traceback."""
    named = f"log:{tmp_path / 'chats'}"
    with SessionManager(named) as manager:
        manager.add_message("test:1", "user", "Hi")
    for words in (("ls",), ("export", "test:1"), ("delete", "test:1", "--yes")):
        line = f"{shlex.join(command(*words, '-s', named))} >&-"
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert run("show", "test:1", "-s", named).code == 3


# Help


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(name):
    done = run(name, "--help")
    assert done.code == 0
    assert re.search(rf"^  Examples?:\n      session-manager {name} ", done.out, re.MULTILINE)
    listed = next(commands[name].help for commands in COMMANDS.values() if name in commands)
    assert program.get_command(None, name).name == name
    assert listed in run("--help").out


def test_the_help_has_the_exit_codes_and_every_command():
    done = run("--help")
    assert done.code == 0
    assert all(re.search(rf"^  {name} ", done.out, re.MULTILINE) for name in NAMES)
    assert all(re.search(rf"^ +{code}  ", done.out, re.MULTILINE) for code in (*range(7), 130))
    assert run("--version").out == f"session-manager, version {session_manager.__version__}\n"


def test_the_help_imports_little():
    """It takes 150 ms at most: neither the manager nor the converter, nor what draws, is needed."""
    code = "import sys, session_manager.cli.program as p\ntry: p.program(['--help'])\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not {"cattrs", "attrs", "msgspec", "sqlite3", "rich", "rich.console", "session_manager.manager"} & modules


def test_without_click_one_line_says_what_to_install(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(name='click')")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(command("ls"), capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "session-manager needs click and rich: pip install 'chat-session-manager[cli]'\n"


# Mistakes


def damaged(tmp_path):
    with SessionManager(f"log:{tmp_path / 'damaged'}") as m:
        m.add_message("k", "user", "hi")
    (tmp_path / "damaged" / "k.session.jsonl").write_bytes(b"\0" * 40)
    return f"log:{tmp_path / 'damaged'}"


def newer(tmp_path):
    with SessionManager(f"log:{tmp_path / 'newer'}") as m:
        m.add_message("k", "user", "hi")
    file = tmp_path / "newer" / "k.session.jsonl"
    file.write_bytes(file.read_bytes().replace(b"-log/1", b"-log/9", 1))
    return f"log:{tmp_path / 'newer'}"


def other_file(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, and longer than a hundred bytes " * 9)
    return tmp_path / "notes.txt"


MISTAKES = {
    "no storage": (lambda path: ["ls"], 2, "which storage"),
    "no such path": (lambda path: ["ls", "-s", path / "nope"], 4, "is not there"),
    "no such scheme": (lambda path: ["ls", "-s", "redis:x"], 2, "there is no such store"),
    "a URL of another kind": (lambda path: ["ls", "-s", f"snapshot:{path / 'chats'}"], 2, "log:"),
    "a file of something else": (lambda path: ["ls", "-s", other_file(path)], 2, "is not a SQLite database"),
    "RAM": (lambda path: ["ls", "-s", "memory:"], 2, "memory:"),
    "RAM as a target": (lambda path: ["copy", "memory:", "-s", path / "chats"], 2, "memory:"),
    "an empty variable": (lambda path: ["ls", "-s", ""], 2, "which storage"),
    "no such session": (lambda path: ["show", "nobody", "-s", path / "chats"], 3, "no session 'nobody'"),
    "no such session to verify": (lambda path: ["verify", "nobody", "-s", path / "chats"], 3, "no session"),
    "no such session to compact": (lambda path: ["compact", "nobody", "-s", path / "chats"], 3, "no session"),
    "no such session to search": (lambda path: ["search", "x", "--key", "no", "-s", path / "chats"], 3, "no session"),
    "a wrong key": (lambda path: ["show", "..", "-s", path / "chats"], 2, "invalid session key"),
    "damaged": (lambda path: ["show", "k", "-s", damaged(path)], 6, "damaged"),
    "a newer version": (lambda path: ["show", "k", "-s", newer(path)], 6, "log/9"),
    "nothing to delete": (lambda path: ["delete", "-s", path / "chats"], 2, "one of the two"),
    "everything to delete": (lambda path: ["delete", "--prefix", "", "-s", path / "chats"], 2, "one of the two"),
    "both": (lambda path: ["delete", "k", "--prefix", "k", "-s", path / "chats"], 2, "one of the two"),
    "no age": (lambda path: ["expire", "--older-than", "soon", "-s", path / "chats"], 2, "is not an age"),
    "a naive time": (lambda path: ["expire", "--older-than", "2026-01-01", "-s", path / "chats"], 2, "is not an age"),
    "no metadata": (lambda path: ["ls", "--where", "language", "-s", path / "chats"], 2, "NAME=VALUE"),
    "no limit": (lambda path: ["ls", "--limit", "0", "-s", path / "chats"], 2, "limit"),
    "no text": (lambda path: ["search", "", "-s", path / "chats"], 2, "TEXT"),
    "no key": (lambda path: ["show", "-s", path / "chats"], 2, "KEY"),
    "no such command": (lambda path: ["lss"], 2, "lss"),
    "all and some": (lambda path: ["show", "k", "--all", "--last", "1", "-s", path / "chats"], 2, "not both"),
    "no such target": (lambda path: ["copy", "nope:x", "-s", path / "chats"], 2, "there is no such store"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(tmp_path, mistake, log):
    arguments, code, words = MISTAKES[mistake]
    done = run(*arguments(tmp_path))
    assert (done.code, done.out) == (code, "")
    lines = [line for line in done.err.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(lines) == 1
    assert words in lines[0]


@pytest.mark.parametrize(
    "arguments", [["delete", "k", "--yes"], ["compact"], ["expire", "--older-than", "1d", "--yes"]]
)
def test_a_storage_that_is_open_elsewhere_is_named_with_its_holder(log, arguments):
    with SessionManager(log):
        done = run(*arguments, "-s", log)
    assert done.code == 5
    assert re.fullmatch(r"session-manager: .* is open in process \d+ on .*: close it there first\n", done.err)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_storage_that_may_not_be_read_is_named(log):
    path = log.partition(":")[2]
    os.chmod(path, 0)
    try:
        done = run("ls", "-s", log)
    finally:
        os.chmod(path, 0o700)
    assert (done.code, done.out) == (4, "")
    assert "Permission denied" in done.err


def test_an_error_of_the_operating_system_is_told(monkeypatch, log):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "chats")

    monkeypatch.setattr(os, "listdir", refuse)
    done = run("ls", "-s", log.partition(":")[2])
    assert (done.code, done.out) == (4, "")
    assert done.err.count("\n") == 1
    assert "Permission denied" in done.err


# Where the storage comes from


def test_the_storage_comes_from_the_option_or_the_variable(monkeypatch, log, tmp_path):
    assert run("-s", log, "ls").code == 0
    monkeypatch.setenv("SESSION_MANAGER_STORAGE", log)
    assert run("ls").out == run("ls", "-s", log).out
    SessionManager(tmp_path / "empty").close()
    assert run("-s", tmp_path / "empty", "ls").err == "no sessions\n"
    assert run("-s", tmp_path / "nope", "ls", "-s", log).code == 0


# Terminals


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    from tests.cli.conftest import fill

    return fill(f"log:{tmp_path_factory.mktemp('chats') / 'chats'}")


COLOUR = re.compile(r"\x1b\[[\d;]*m")
COMMANDS_TO_DRAW = (
    ["show", "telegram:42"],
    *(pytest.param(one, marks=pytest.mark.long) for one in (["ls"], ["search", "lisbon"], ["stats"])),
)


@pytest.mark.parametrize("arguments", COMMANDS_TO_DRAW, ids=lambda one: one[0])
def test_a_terminal_has_colours_unless_you_want_none(chats, arguments):
    code, seen = in_terminal(*arguments, "-s", chats)
    assert code == 0
    assert COLOUR.search(seen)
    code, plain = in_terminal(*arguments, "-s", chats, NO_COLOR="1")
    assert code == 0
    assert "\x1b[3" not in COLOUR.sub("\x1b[3", plain)
    dumb = in_terminal(*arguments, "-s", chats, TERM="dumb")[1]
    assert "\x1b" not in dumb


def test_markdown_is_drawn_and_the_match_is_marked(chats):
    seen = in_terminal("show", "telegram:42", "-s", chats)[1]
    assert "**" not in seen
    assert "\x1b[1mLisbon\x1b[0m" in seen
    assert "→" in seen
    assert "\x1b[1;30;43mLisbon\x1b[0m" in in_terminal("search", "lisbon", "-s", chats)[1]


def test_a_link_in_a_terminal_shows_where_it_leads(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        m.add_message("k", "assistant", "[your bank](https://evil.example) \x1b]0;title\x07")
    seen = in_terminal("show", "k", "-s", tmp_path / "chats")[1]
    assert "https://evil.example" in seen
    assert "\x1b]" not in seen


@pytest.mark.parametrize(
    "what", ["copy", *(pytest.param(one, marks=pytest.mark.long) for one in ("verify", "stats", "compact", "delete"))]
)
def test_long_work_draws_its_progress(tmp_path, what):
    url = f"log:{tmp_path / 'chats'}"
    with SessionManager(url) as m:
        for number in range(30):
            m.add_message(f"k{number}", "user", "hi")
    more = {"copy": [tmp_path / "target"], "delete": ["--prefix", "k", "--yes"]}.get(what, [])
    code, seen = in_terminal(what, *more, "-s", url)
    assert code == 0
    assert "30/30" in seen
    words = [what if what != "delete" else "stats", *(more if what == "copy" else []), "-s", url]
    assert "30/30" not in run_python("-m", "session_manager", *words).stderr


def test_a_question_is_asked_in_a_terminal(tmp_path):
    with SessionManager(tmp_path / "chats") as m:
        m.add_message("k", "user", "hi")
    code, seen = in_terminal("delete", "k", "-s", tmp_path / "chats", answer="y\n")
    assert code == 0
    assert "Delete 1 session? [y/N]: " in seen
    assert "1 session" in seen


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.once
def test_a_transcript_in_a_real_terminal(chats, tmp_path):
    """Its lines are whole on the screen of tmux, and no escape is left as text."""
    name, done = f"sm-{os.getpid()}", tmp_path / "done"
    line = f"{' '.join(command('show', 'telegram:42', '-s', chats))}; touch {done}"
    tmux = ["tmux", "-L", name]
    subprocess.run([*tmux, "-f", "/dev/null", "new-session", "-d", "-x", "90", "-y", "40", f"{line}; cat"], check=True)
    try:
        deadline = time.monotonic() + 60
        while not done.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        screen = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    assert screen.splitlines()[0].startswith("telegram:42  4 messages")
    assert "Is there a flight to Lisbon?" in screen
    assert "→ flights" in screen
    assert "[0m" not in screen


# Pipes


def test_a_closed_pipe_ends_the_command_quietly(tmp_path):
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        for number in range(1200):
            m.add_message(f"key-{number:060}", "user", "hi")
    line = f"{' '.join(command('ls', '-s', tmp_path / 'chats.db'))} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] in ("141", "0")
    assert done.stderr == ""


def test_an_encoding_without_the_letters_gets_escapes(log):
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command("ls", "-s", log), capture_output=True, text=True, check=True, env=env)
    assert "\\u91cc" in done.stdout
    assert done.stderr == ""


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell):
    done = run("completion", shell)
    assert done.code == 0
    assert "_SESSION_MANAGER_COMPLETE" in done.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("session-manager show tele", ["telegram:42", "telegram:7"]),
        ("session-manager show telegram:", ["42", "7"]),
        ("session-manager show telegram:4", ["42"]),
        ("session-manager sta", ["stats"]),
        ("session-manager stats ", []),
    ],
)
def test_bash_completes_keys_with_colons(log, tmp_path, line, wanted):
    """bash ends a word at a colon, so click's own script offered nothing behind one."""
    program = tmp_path / "session-manager"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command())} "$@"\n')
    program.chmod(0o700)
    ask = f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}; _session_manager_completion {program}"
    script = run("completion", "bash").out + ask + "\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    env = {**os.environ, "SESSION_MANAGER_STORAGE": log}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=env)
    assert (done.stdout.split(), done.stderr) == (wanted, "")


def completed(words, at, **environment):
    """Return what is offered for the n-th of some words. (That a shell can ask, another test says.)"""
    env = {"_SESSION_MANAGER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at), **environment}
    done = CliRunner().invoke(program, [], env=env, prog_name="session-manager")
    assert (done.exit_code, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_commands_options_and_keys_are_completed(log, tmp_path):
    assert completed("session-manager s", 1) == ["show", "search", "stats", "salvage"]
    assert "--older-than" in completed("session-manager expire --o", 2)
    wanted = ["telegram:42", "telegram:7"]
    assert completed("session-manager show tele", 2, SESSION_MANAGER_STORAGE=log) == wanted
    assert completed(f"session-manager show -s {log} tele", 4) == wanted
    assert completed(f"session-manager -s {log} delete tele", 4) == wanted
    assert completed("session-manager show tele", 2, SESSION_MANAGER_STORAGE=str(tmp_path / "nope")) == []
    assert completed("session-manager show tele", 2) == []
