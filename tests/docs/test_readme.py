"""The README's code runs as it stands, and is the quickstart."""

from __future__ import annotations

import re

import pytest

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
    second = capsys.readouterr().out.splitlines()
    assert second[: len(first)] == first
    assert len(second) == 2 * len(first) > 0


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_two_commands_make_or_reuse_an_environment():
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert len(commands) == 2
    assert "examples/bot.py --demo" in commands[0]
    assert "pytest" in commands[1]
