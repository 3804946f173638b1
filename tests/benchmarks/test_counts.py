"""Calls and frames of the common operations: they are those of the file, and a change of them is noticed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import counts
from benchmarks.counts import Count, changed, count, read, write
from session_manager import SessionManager
from tests.support.places import ROOT

sizes = st.builds(Count, st.integers(1, 1000), st.integers(1, 1000))


def command() -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", "counts"], cwd=ROOT, capture_output=True, text=True)


def test_calls_and_frames_are_those_of_the_file():
    """In a process of its own: modules that other tests import make no difference."""
    found = command()
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.long
def test_counts_are_the_same_each_time():
    assert counts.counts() == counts.counts()


@given(st.dictionaries(st.text(), sizes), st.data())
def test_a_count_is_changed_that_differs_by_more_than_5_percent(known, data):
    assert changed(known, known) == []
    for name, old in known.items():
        new = replace(old, calls=data.draw(st.integers(0, 2 * old.calls)))
        lines = changed(known, {**known, name: new})
        assert bool(lines) is (100 * abs(new.calls - old.calls) > 5 * old.calls)
        assert all(line.startswith(f"{name}: {new.calls} calls, {old.calls} in the file") for line in lines)


def test_a_case_that_only_one_side_has_is_told():
    one = {"save": Count(1, 2)}
    assert changed({}, one) == ["save: not in the file"]
    assert changed(one, {}) == ["save: not counted any more"]


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), sizes))
def test_the_file_is_read_as_it_was_written(tmp_path_factory, found):
    file = tmp_path_factory.mktemp("counts") / "counts.json"
    write(found, str(file))
    assert read(str(file)) == found
    assert file.read_text().count("\n") == max(len(found), 1) + 2


def test_only_the_packages_own_functions_count():
    def foreign() -> int:
        return len([*map(str, range(10))])

    before = sys.getprofile()
    assert count(foreign) == Count(0, 0)
    with SessionManager() as manager:
        once = count(lambda: manager.get_history("chat"))
        twice = count(lambda: (manager.get_history("chat"), foreign(), manager.get_history("chat")))
    assert twice == Count(once.frames, 2 * once.calls)
    assert once.calls >= once.frames > 0
    assert sys.getprofile() is before


def test_the_command_fails_when_a_save_has_become_dearer(tmp_path, monkeypatch, capsys):
    """The file is what was counted before: here one call in ten less."""
    saved = Count(17, 100)
    found = {"add_message": Count(11, 40), "save, log": saved}
    write({**found, "save, log": replace(saved, calls=90)}, str(tmp_path / "counts.json"))
    monkeypatch.setattr(counts, "FILE", str(tmp_path / "counts.json"))
    monkeypatch.setattr(counts, "counts", lambda: found)
    monkeypatch.setattr(counts, "read", lambda: read(counts.FILE))
    with pytest.raises(SystemExit) as failed:
        counts.main([])
    assert "counts --write" in str(failed.value.code)
    printed = capsys.readouterr().out
    assert "save, log: 100 calls, 90 in the file (+11.1%)" in printed
    assert "add_message:" not in printed
