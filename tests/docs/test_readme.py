"""The README's code runs as it stands, and is the quickstart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from configparser import ConfigParser

import pytest

from benchmarks.promises.bots import BOTS
from benchmarks.promises.situations import SITUATIONS, examine
from session_manager import InvalidStorageError, SessionManager
from session_manager.stores.urls import settled_scheme
from tests.support.command import run
from tests.support.places import ROOT

pytestmark = pytest.mark.once

README = (ROOT / "README.md").read_text()


def test_the_readmes_code_is_the_quickstart_and_runs_twice(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert code.strip() == (ROOT / "examples" / "quickstart.py").read_text().strip()
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    first = capsys.readouterr().out.splitlines()
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == first
    assert len(first) == 3


def test_the_readmes_commands_show_what_its_program_wrote(tmp_path, monkeypatch):
    """They named a storage that a reader did not have, and a command that a virtual environment hides."""
    monkeypatch.chdir(tmp_path)
    section = README.partition("## Look at it")[2].partition("\n## ")[0]
    first, *lines = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1].splitlines()
    program = first.rpartition(".venv/bin/python ")[2]
    subprocess.run([sys.executable, ROOT / program], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert len(lines) == 2
    for line in lines:
        done = run(*line.removeprefix(".venv/bin/session-manager ").split())
        assert (done.code, "telegram:42" in done.out) == (0, True)


def test_the_readme_and_the_tutorial_share_no_storage():
    """The tutorial ended in a bare AssertionError when the README's code had run in the same directory."""
    opened = [
        set(re.findall(r'SessionManager\("([^"]+)"', page.read_text()))
        for page in (ROOT / "README.md", ROOT / "docs" / "tutorial.md")
    ]
    assert opened[0]
    assert opened[1]
    assert opened[0].isdisjoint(opened[1])


def test_the_table_of_storages_has_each(tmp_path, monkeypatch):
    """The error for an unknown one lists them."""
    monkeypatch.chdir(tmp_path)
    table = README.partition("## Which storage")[2].partition("\n\n[")[0]
    named = re.findall(r'`"([^"]+)"`', table)
    with pytest.raises(InvalidStorageError) as told:
        SessionManager("nothing://chats")
    assert {settled_scheme(url, read_only=False) for url in named} == set(re.findall(r"(\w+):", told.value.reason)[1:])


def test_the_table_of_extras_has_each():
    """Those of adapters are on their page."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    table = README.partition("| extra |")[2].partition("\n\n")[0]
    adapters = set(re.findall(r"`\[([\w-]+)\]`", (ROOT / "docs" / "adapters.md").read_text()))
    listed = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([\w-]+)`", row.split("|")[1] if "|" in row else "")
    }
    assert listed | adapters == set(setup["options.extras_require"])
    assert listed.isdisjoint(adapters)


def comparison():
    """Return the rows of the comparison that `python -m benchmarks.promises` prints."""
    table = README.partition("<!-- promises:")[2].partition("\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:-1]]


def test_the_comparison_has_each_situation_of_its_command():
    assert [row[0] for row in comparison()] == [situation.__doc__.rstrip(".") for situation in SITUATIONS]


@pytest.mark.long
def test_the_comparison_says_what_its_command_finds():
    """For this library, and for the 25 lines of `sqlite3`, which are here on every machine."""
    rows = comparison()
    assert [row[1] for row in rows] == examine(BOTS["session_manager"])
    assert [row[4] for row in rows] == examine(BOTS["plain sqlite3"])


def test_the_row_of_costs_has_the_figures_as_measured():
    row = README.partition("| One more message, durably")[2].partition("\n")[0]
    figures = (ROOT / "benchmarks" / "README.md").read_text()
    measured = []
    for subject, column in (
        ("peers +1 of {}: session_manager log", 3),
        ("peers +1 of {}: OpenAI Agents SQLiteSession", 3),
        ("peers +1 of {}: LangGraph SqliteSaver", 3),
        ("sqlite +1 of {} messages", 1),
    ):
        for count in ("10", "1,000"):
            (found,) = re.findall(rf"^{subject.format(count)}  +(.*)$", figures, re.MULTILINE)
            number, unit = re.split(r"  +", found)[column - 1].split(" ")
            measured.append(float(number) / (1000 if unit == "us" else 1))
    shown = [float(number) for number in re.findall(r"([\d.]+) ms", row)]
    assert len(shown) == 8
    assert shown == pytest.approx(measured, rel=0.02)


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_two_commands_make_or_reuse_an_environment():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert len(commands) == 2
    assert "examples/bot.py --demo" in commands[0]
    assert "pytest" in commands[1]
