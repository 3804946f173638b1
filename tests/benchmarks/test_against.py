"""Two versions are compared: the earlier one comes out of git, both run in turns, and the ratio tells which is slower."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import benchmarks.__main__ as command
from benchmarks.against.comparison import LIMIT, Compared, compare_versions
from benchmarks.against.versions import PACKAGE, CannotCompareError, Version, earlier, present
from benchmarks.harness import Figure
from benchmarks.place import Place
from benchmarks.report import compared_document, compared_table
from tests.support.places import ROOT

#: Where a name may come from: these paths stay wherever the modules behind them move.
PUBLIC = {"", "aio", "history", "manager", "model", "testing", "stores", "adapters.openai_agents"} | {
    f"stores.{name}" for name in ("memory", "snapshot", "log", "sqlite", "postgres")
}
SLOWER = """
def _slow_down():
    import time
    from session_manager.manager import SessionManager
    quick = SessionManager.get_history
    def slow(self, key):
        time.sleep(0.002)
        return quick(self, key)
    SessionManager.get_history = slow
_slow_down()
"""
pytestmark = pytest.mark.once
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
values = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


def git(repository: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, "-C", str(repository), *arguments], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path) -> Path:
    """A repository of two commits: the package is in the second."""
    repository = tmp_path / "clone"
    repository.mkdir()
    git(repository, "init", "-q")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Empty")
    shutil.copytree(ROOT / PACKAGE, repository / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Quick")
    return repository


def slow_down(repository: Path) -> None:
    with open(repository / PACKAGE / "__init__.py", "a") as file:
        file.write(SLOWER)


def compared(old: list[float], new: list[float]) -> Compared:
    return Compared("work", Figure("name", "subject", "floor"), old, new, (min(old), min(new)))


@given(values, st.data())
def test_the_spread_holds_the_ratio(old, data):
    new = data.draw(st.lists(st.floats(1e-6, 1e3), min_size=len(old), max_size=len(old)))
    one = compared(old, new)
    for low, high in (one.interval, one.quartiles):
        assert one.ratios[0] <= low <= one.ratio <= high <= one.ratios[-1]
    assert one.least_ratio == min(new) / min(old)


@given(values, st.floats(0.5, 2))
def test_a_version_is_slower_from_3_percent_on(old, factor):
    assume(abs(factor - LIMIT) > 1e-6)
    one = compared(old, [factor * value for value in old])
    assert one.ratio == pytest.approx(factor)
    assert one.verdict == ("slower" if factor > LIMIT else "not slower")


def test_what_the_noise_hides_is_open():
    assert compared([1.0] * 20, [0.9, 1.1] * 10).verdict == "open"


@pytest.mark.parametrize("count", [6, 25, 400])
def test_the_interval_holds_the_true_median_95_times_of_100(count):
    source = random.Random(count)
    trials = 300
    held = 0
    for _ in range(trials):
        low, high = compared([1.0] * count, [source.expovariate(1) for _ in range(count)]).interval
        held += low <= 0.6931 <= high
    assert held >= 0.93 * trials


def test_a_count_that_stays_0_is_not_slower():
    assert compared([0.0, 0.0], [0.0, 0.0]).verdict == "not slower"
    assert compared([0.0, 0.0], [1.0, 1.0]).verdict == "slower"


def test_the_benchmarks_import_public_names_only():
    """An earlier commit has its other modules elsewhere."""
    found = set()
    for file in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name for name in names if name.partition(".")[0] == PACKAGE}
    assert PACKAGE in found
    assert {name.partition(".")[2] for name in found} <= PUBLIC


@needs_git
def test_the_earlier_version_is_the_commit_and_the_new_one_the_tree(clone, tmp_path):
    slow_down(clone)
    old, new = earlier("HEAD", str(clone), str(tmp_path / "old")), present(str(clone), str(tmp_path / "new"))
    assert "(Quick)" in old.says
    assert new.says == f"{old.says}, with changes that are not committed"
    assert SLOWER not in Path(old.folder, PACKAGE, "__init__.py").read_text()
    assert SLOWER in Path(new.folder, PACKAGE, "__init__.py").read_text()
    git(clone, "commit", "-q", "-a", "-m", "Slow")
    assert present(str(clone), str(tmp_path / "again")).says.endswith("(Slow)")


@pytest.mark.long
@needs_git
def test_the_slower_version_is_found(clone, tmp_path):
    slow_down(clone)
    old, new = earlier("HEAD", str(clone), str(tmp_path / "old")), present(str(clone), str(tmp_path / "new"))
    path = tmp_path / "place"
    path.mkdir()
    place = Place(str(path), share=0.02, largest=10)
    told = []
    found = compare_versions("history", old, new, place, lambda *at: told.append(at), lives=2)
    assert [one.figure.name for one in found] != []
    assert all(one.verdict == "slower" and one.ratio > 2 for one in found)
    assert all(len(one.old) == len(one.new) == len(told) / len(found) for one in found)
    assert compared_table(found).count("slower") == len(found)
    assert json.loads(json.dumps(compared_document({}, {}, found)))["figures"][0]["verdict"] == "slower"
    assert os.listdir(path) == ["bytecode"] or os.listdir(path) == []


@needs_git
def test_no_commit_no_package_no_clone_and_no_git_are_told(clone, tmp_path, monkeypatch):
    folder = str(tmp_path / "old")
    for ref in ("nonsense", "--all", "", "HEAD^{tree}"):
        with pytest.raises(CannotCompareError, match="names no commit of"):
            earlier(ref, str(clone), folder)
    with pytest.raises(CannotCompareError, match=r"\(Empty\) has no package session_manager"):
        earlier("HEAD~1", str(clone), folder)
    with pytest.raises(CannotCompareError, match="is not the top of a git clone"):
        earlier("HEAD", str(clone / PACKAGE), folder)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(CannotCompareError, match="is not the top of a git clone"):
        present(str(tmp_path / "elsewhere"), folder)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotCompareError, match="git is not installed"):
        earlier("HEAD", str(clone), folder)
    assert not os.path.exists(folder)


@pytest.mark.long
@needs_git
def test_the_command_compares_with_a_commit(clone, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_ROOT", str(clone))
    place, figures = tmp_path / "place", tmp_path / "figures.json"
    place.mkdir()
    command.main(["--against", "HEAD", "history", "--quick", "--dir", str(place), "--json", str(figures)])
    printed = capsys.readouterr()
    assert [one["figure"] for one in json.loads(figures.read_text())["figures"]] == [
        "1,000 messages",
        "10,000 messages",
    ]
    assert "(Quick)" in printed.out
    assert re.search("history +10,000 messages", printed.out)
    with pytest.raises(SystemExit):
        command.main(["--against", "nonsense", "--dir", str(place)])
    assert "'nonsense' names no commit" in capsys.readouterr().err
    assert os.listdir(place) == []


@pytest.mark.long
@needs_git
def test_a_version_that_cannot_run_a_workload_is_named(clone, tmp_path, monkeypatch, capsys):
    (clone / PACKAGE / "__init__.py").write_text("raise ImportError('nothing here')\n")
    git(clone, "commit", "-q", "-a", "-m", "Broken")
    git(clone, "checkout", "-q", "HEAD~1")
    monkeypatch.setattr(command, "_ROOT", str(clone))
    with pytest.raises(SystemExit):
        command.main(["--against", "HEAD@{1}", "history", "--quick", "--dir", str(tmp_path)])
    assert "no figures of history: old: ImportError: nothing here" in capsys.readouterr().err


@pytest.mark.long
def test_a_package_from_elsewhere_is_not_measured(tmp_path):
    """Without the package in its folder, the worker would import that of the checkout."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "place").mkdir()
    empty = Version("old", str(tmp_path / "empty"), "nothing")
    place = Place(str(tmp_path / "place"), share=0, largest=10)
    with pytest.raises(RuntimeError, match="old: the package was imported from"):
        compare_versions("history", empty, empty, place, lambda *at: None, lives=1)
