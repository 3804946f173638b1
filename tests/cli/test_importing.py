"""The command ``import``."""

from __future__ import annotations

import json

import pytest

from session_manager import SessionManager
from session_manager.codec.converter import converter
from session_manager.importers import FORMATS, ImportReport
from tests.support.command import run


def conversation(*texts):
    return json.dumps({"messages": [{"role": "user", "content": text} for text in texts]}) + "\n"


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "a.jsonl").write_text(conversation("one", "two") + '{"messages"\n' + conversation("three"))
    (directory / "notes.txt").write_text("hello")
    return directory


def test_an_import_prints_a_table_reasons_and_the_sum(source, tmp_path):
    target = f"log:{tmp_path / 'chats'}"
    done = run("import", source, "-s", target)
    assert done.code == 1
    assert done.out.splitlines() == [
        "FILE     FORMAT  SESSIONS  MESSAGES  THERE  SKIPPED",
        "a.jsonl  openai         2         3      0        1",
        "a.jsonl:2: is not JSON",
        "2 sessions with 3 messages imported, 1 file of no known format",
    ]
    (source / "a.jsonl").write_text(conversation("one", "two"))
    again = run("import", source / "a.jsonl", "-s", target)
    assert (again.code, again.out.splitlines()[-1]) == (
        0,
        "0 sessions with 0 messages imported, 1 were there already",
    )
    with SessionManager(target, read_only=True) as m:
        assert [one.content for one in m.get_history("a:1")] == ["one", "two"]


def test_a_dry_run_imports_nothing(source, tmp_path):
    done = run("import", source, "-s", tmp_path / "new", "--dry-run")
    assert "2 sessions with 3 messages would be imported" in done.out
    assert not (tmp_path / "new").exists()


def test_the_report_comes_as_json(source, tmp_path):
    done = run("import", source, "-s", f"sqlite:{tmp_path / 'chats.db'}", "--json")
    report = converter.structure(done.json, ImportReport)
    assert (done.code, report.sessions, report.messages, report.skipped) == (1, 2, 3, 1)


def test_many_files_are_summed_up(tmp_path):
    directory = tmp_path / "old"
    directory.mkdir()
    for number in range(60):
        (directory / f"{number}.json").write_text(conversation("hi") if number else '{"messages": [{"role": 1}]}')
    done = run("import", directory, "-s", tmp_path / "chats")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == ["FILE", "0.json", "59", "0.json", "60"]
    assert lines[-1] == "60 sessions with 59 messages imported"


MISTAKES = {
    "no source": (lambda source, tmp: ["import", tmp / "none", "-s", tmp / "chats"], 4, "is not there"),
    "nothing known": (
        lambda source, tmp: ["import", source / "notes.txt", "-s", tmp / "chats"],
        2,
        "no sessions of a format",
    ),
    "no such format": (lambda source, tmp: ["import", source, "-s", tmp / "chats", "--format", "word"], 2, "openai"),
    "no such zone": (
        lambda source, tmp: ["import", source, "-s", tmp / "chats", "--timezone", "Mars"],
        2,
        "is no time zone",
    ),
    "RAM": (lambda source, tmp: ["import", source, "-s", "memory:"], 2, "memory: is in the RAM"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(mistake, source, tmp_path):
    arguments, code, told = MISTAKES[mistake]
    done = (
        run(*arguments(source, tmp_path), "--timezone", "UTC")
        if mistake != "no such zone"
        else run(*arguments(source, tmp_path))
    )
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "chats").exists()


def test_fail_names_the_session_that_is_there(source, tmp_path):
    target = f"snapshot:{tmp_path / 'chats'}"
    with SessionManager(target) as m:
        m.add_message("a:1", "user", "ours")
    done = run("import", source, "-s", target, "--on-conflict", "fail")
    assert done.code == 1
    assert "a:1" in done.err


def test_help_lists_every_format():
    done = run("import", "--help")
    assert done.code == 0
    assert all(name in done.out for name in FORMATS)
