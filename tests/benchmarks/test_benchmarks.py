"""The benchmarks measure what they say: the laws of the harness, each workload on a tiny scale, peers that are missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import pages
from benchmarks.__main__ import main
from benchmarks.environment import discards, file_system
from benchmarks.floors import BareDatabase
from benchmarks.harness import Case, Figure, Measured, Samples, Target, measure
from benchmarks.peers import durability
from benchmarks.peers.comparison import against_peers, compare
from benchmarks.peers.contender import Contender
from benchmarks.peers.durability import Examined, examine
from benchmarks.peers.worker import CONTENDERS, Worker
from benchmarks.place import Place
from benchmarks.report import document, peers_table, table
from benchmarks.storages import FILES
from benchmarks.syncs import slow_syncs
from benchmarks.workloads import GOALS, WORKLOADS
from tests.support.places import ROOT

pytestmark = pytest.mark.once

README = (ROOT / "benchmarks" / "README.md").read_text()
#: These start many processes, or wait for minutes, or need a server (`tests/benchmarks/test_server_peers.py`).
SLOW = {"import", "importing", "loop", "open", "sizes", "postgres"}
OURS = [name for name, kind in CONTENDERS.items() if not kind.package]
times = st.floats(1e-6, 1e3)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """Where processes run, whose bytecode is compiled once."""
    return Place(str(tmp_path_factory.mktemp("place")), share=0, largest=10)


def measured(subject: list[float], floor: list[float], **figure: object) -> Measured:
    return Measured("work", "case", Figure("name", "subject", "floor", **figure), Samples(subject), Samples(floor))


@given(st.lists(times, min_size=1))
def test_the_p99_is_what_99_of_100_do_not_exceed(values):
    p99 = Samples(values).p99
    assert p99 in values
    assert sum(value <= p99 for value in values) >= 0.99 * len(values)
    assert sum(value < p99 for value in values) < 0.99 * len(values)
    assert Samples(values).median <= p99


@given(st.lists(times, min_size=1), st.lists(times, min_size=1), times)
def test_a_target_is_met_by_the_ratio_or_by_the_value_itself(subject, floor, limit):
    one = measured(subject, floor, target=Target(limit))
    assert one.ratio == one.subject.median / one.floor.median
    assert one.met is (one.ratio <= limit)
    assert measured(subject, floor, target=Target(limit, of="value")).met is (one.subject.median <= limit)
    assert measured(subject, floor).met is None
    least = measured(subject, floor, target=Target(limit), statistic="least")
    assert (least.value, least.ratio) == (min(subject), min(subject) / min(floor))
    tail = measured(subject, floor, target=Target(limit), statistic="p99")
    assert tail.ratio == tail.subject.p99 / tail.floor.p99
    assert tail.met is (tail.ratio <= limit)


def test_slow_syncs_take_as_long_as_is_said_and_end_with_the_block(tmp_path):
    before, files = (os.fsync, os.fdatasync, FILES.sync_data), FILES(str(tmp_path))
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with slow_syncs(0.02):
        for sync in (os.fsync, os.fdatasync, files.sync, files.sync_data):
            begun = time.perf_counter()
            sync(fd)
            assert time.perf_counter() - begun >= 0.015
        os.close(fd)
        with pytest.raises(OSError, match="Bad file"):
            os.fsync(fd)
    files.close_directory()
    assert (os.fsync, os.fdatasync, FILES.sync_data) == before


def test_the_command_slows_down_the_syncs_of_a_save_and_of_its_floor(tmp_path, capsys):
    found = tmp_path / "figures.json"
    main(["log", "--quick", "--sync", "1", "--dir", str(tmp_path), "--json", str(found)])
    assert "syncs: of files take at least 1 ms" in capsys.readouterr().out
    for figure in json.loads(found.read_text())["figures"]:
        assert figure["floor"]["median"] > 0.0008
        assert figure["subject"]["median"] > 0.0008


@pytest.mark.parametrize("arguments", [["0"], ["-1"], ["nan"], ["0.3", "--peers"], ["0.3", "--against", "HEAD"]])
def test_slow_syncs_that_mean_nothing_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["log", "--sync", *arguments])
    assert "--sync" in capsys.readouterr().err


def test_contestants_take_turns_and_the_first_round_does_not_count():
    ran = []
    contestants = {name: lambda name=name: ran.append(name) or [float(len(ran))] for name in "AB"}
    (one,) = measure("work", Case("case", contestants, [Figure("name", "A", "B")], 2), lambda number: None)
    assert "".join(ran) == "ABABBA"
    assert (one.subject.values, one.floor.values) == ([3, 6], [4, 5])


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in WORKLOADS if name not in SLOW])
def test_each_workload_runs(name, tmp_path):
    place = Place(str(tmp_path), share=0, largest=12, most=5)
    found = [one for case in WORKLOADS[name](place) for one in measure(name, case, lambda number: None)]
    names = [one.figure.name for one in found]
    assert names
    assert len({*names}) == len(names)
    assert all(one.ratio > 0 for one in found)
    assert table(found).count("\n") == len(found) + 1
    assert json.loads(json.dumps(document({}, found)))["figures"][0]["workload"] == name
    assert os.listdir(tmp_path) == []


def test_the_page_tells_of_each_workload_and_each_contender():
    assert [name for name in WORKLOADS if f"| `{name}` |" not in README] == []
    assert [name for name in CONTENDERS if f"| {name} |" not in README] == []


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    main(["history", "--quick", "--dir", str(tmp_path), "--json", str(tmp_path / "figures.json")])
    found = json.loads((tmp_path / "figures.json").read_text())
    printed = capsys.readouterr()
    assert [one["figure"] for one in found["figures"]] == ["1,000 messages", "10,000 messages"]
    assert all(one["figure"] in printed.out for one in found["figures"])
    assert f"discards: {found['environment']['discards']}" in printed.out
    assert re.search(r"^pace: 1,000 squares take [1-9]\d* us, a stat \d+\.\d us$", printed.out, re.MULTILINE)
    assert "history: 10,000 messages" in printed.err
    assert os.listdir(tmp_path) == ["figures.json"]


def test_the_goals_are_the_figures_that_have_a_target(tmp_path, capsys):
    main(["history", "--goals", "--quick", "--dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "10,000 messages" in printed
    assert "1.5 x" in printed
    assert "1,000 messages  " not in printed.replace("10,000 messages", "")
    assert set(GOALS) <= set(WORKLOADS)


def test_the_floor_of_a_database_checks_what_it_changes(tmp_path):
    floor = BareDatabase(str(tmp_path / "floor.db"))
    assert floor.insert() > 0
    floor._position += 1
    with pytest.raises(ValueError, match="another writer"):
        floor.insert()
    floor.close()


@pytest.mark.parametrize("name", [OURS[0], *(pytest.param(name, marks=pytest.mark.long) for name in OURS[1:])])
def test_a_contender_keeps_what_it_is_given(name, tmp_path, place):
    worker = Worker(name, str(tmp_path), place.environment())
    worker.ask("prepare", 4)
    assert worker.ask("add") > 0
    assert worker.ask("count") == 6
    assert worker.ask("size") > 1000
    worker.close()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_syncs_are_counted(place):
    one = examine("session_manager log", place)
    assert not one.missing
    if one.syncs is None:
        pytest.skip("strace may not trace here")
    assert one.syncs == 1
    assert one.durable


def test_without_strace_the_documentation_is_believed(place, monkeypatch):
    monkeypatch.setattr(durability, "_strace", lambda: None)
    one = examine("session_manager log", place)
    assert (one.syncs, one.durable, one.missing) == (None, True, "")


@pytest.mark.long
def test_a_peer_that_is_not_there_is_named_and_does_not_take_part(place, monkeypatch):
    class Absent(Contender):
        package = "chat-session-manager-absent"

    monkeypatch.setitem(CONTENDERS, "absent", Absent)
    absent = examine("absent", place)
    assert absent.missing == "chat-session-manager-absent is not installed"
    assert "missing: chat-session-manager-absent is not installed" in peers_table([absent])
    taking_part = [absent, *(_examined(name) for name in OURS)]
    (case,) = compare(place, taking_part)
    assert set(case.contestants) == {*OURS}


def test_a_process_that_fails_says_why(tmp_path, place):
    worker = Worker("nobody", str(tmp_path), place.environment())
    with pytest.raises(RuntimeError, match="nobody: KeyError: 'nobody'"):
        worker.ask("prepare", 1)
    worker.close()


def _examined(name: str, package: str = "", *, durable: bool = True, whole_file: bool = False) -> Examined:
    return Examined(name, package, "", "", whole_file, None, durable)


def test_peers_are_compared_at_equal_durability():
    def seconds(name: str, value: float) -> Measured:
        return replace(
            measured([value], [1.0]), workload="peers", case="1 of 1,000", figure=Figure(name, name, "write and sync")
        )

    peers = {"slow": 9.0, "fast": 5.0, "careless": 0.1, "whole": 8.0}
    figures = [seconds(name, value) for name, value in peers.items()]
    figures += [seconds("session_manager log", 2.0), seconds("session_manager snapshot", 4.0)]
    contenders = [_examined(name, name, durable=name != "careless", whole_file=name == "whole") for name in peers]
    log, snapshot = against_peers(figures, [*contenders, *map(_examined, OURS)])
    assert (log.figure.floor, log.ratio, log.met) == ("fast", 0.4, True)
    assert (snapshot.figure.floor, snapshot.ratio, snapshot.met) == ("whole", 0.5, False)


def test_it_is_told_whether_the_disk_discards(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("disk / ext4 rw,relatime,discard 0 0\n")
    assert file_system(str(tmp_path), str(mounts)) == "ext4 (rw,relatime,discard)"
    assert discards(str(tmp_path), str(mounts)) == "yes: mounted with discard"
    mounts.write_text("disk / ext4 rw,nodiscard 0 0\n")
    number = os.stat(tmp_path).st_dev
    queue = tmp_path / "devices" / f"{os.major(number)}:{os.minor(number)}" / "queue"
    assert discards(str(tmp_path), str(mounts), str(tmp_path / "devices")) == "not known on this machine"
    queue.mkdir(parents=True)
    for able, said in ((0, "no: the disk cannot"), (4096, "no: mounted without discard, though the disk could")):
        (queue / "discard_max_bytes").write_text(f"{able}\n")
        assert discards(str(tmp_path), str(mounts), str(tmp_path / "devices")) == said


def test_plots_are_drawn_of_what_was_measured(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from benchmarks.plots import draw

    floor = {"name": "write and sync", "median": 0.001}
    subject = {"name": "session_manager log", "median": 0.002}
    cases = ["1 of 10", "1 of 100", "open, read 1,000"]
    figures = [{"workload": "peers", "case": c, "figure": c, "subject": subject, "floor": floor} for c in cases]
    found = {"contenders": [{"name": "session_manager log", "durable": True}], "figures": figures}
    drawn = draw(found, str(tmp_path))
    assert [os.path.basename(path) for path in drawn] == ["save.svg", "reopen.svg"]
    assert all(re.search("session_manager log", Path(path).read_text()) for path in drawn)


def test_the_cost_of_pages_is_measured(tmp_path):
    found = list(pages.costs(str(tmp_path), cold=30, resident=300))
    assert len(found) == 6
    assert all(0 < one.median < 1 for one in found)
    assert {one.bound for one in found} == {0.005, 0.0001}
