"""The comparison on a server: what takes part keeps what it is given, and what is missing is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import server
from benchmarks.__main__ import main
from benchmarks.harness import measure
from benchmarks.place import Place
from benchmarks.report import server_peers_table
from benchmarks.server import NoServerError, Server, serving
from benchmarks.server_peers.comparison import TakingPart, compare_turns, examine_on
from benchmarks.server_peers.conversation import Conversation
from benchmarks.server_peers.worker import CONTENDERS
from benchmarks.workloads import WORKLOADS
from tests.support.places import ROOT
from tests.support.postgres import shared_url

pytestmark = pytest.mark.once

README = (ROOT / "benchmarks" / "README.md").read_text()
OURS = [name for name, kind in CONTENDERS.items() if not kind.package]


@pytest.fixture
def postgres():
    return Server(shared_url())


@pytest.fixture
def place(tmp_path):
    return Place(str(tmp_path), share=0, largest=10, most=5)


def test_the_page_tells_of_each_contender_on_a_server():
    assert [name for name in CONTENDERS if f"| {name} |" not in README] == []


def test_each_of_ours_keeps_what_it_is_given(postgres):
    """Two conversations of one database, each begun with four messages."""
    with postgres.database("kept") as url:
        for number, name in enumerate(OURS):
            one = CONTENDERS[name](url, f"conversation-{number}")
            one.begin(["a", "b", "c", "d"])
            assert one.turn("e", "f") == (0 if number == 0 else 4)
            one.add("g", "h")
            one.close()
            again = CONTENDERS[name](url, f"conversation-{number}")
            assert again.read() == list("abcdefgh")
            again.close()


@pytest.mark.long
def test_the_workload_runs(place, monkeypatch):
    monkeypatch.setenv(server.VARIABLE, shared_url())
    found = [one for case in WORKLOADS["postgres"](place) for one in measure("postgres", case, lambda number: None)]
    names = [one.figure.name for one in found]
    assert {"shared, 10 messages", "exclusive, 10 messages", "open 5 sessions", "a page of 5 of 5"} <= {*names}
    assert len({*names}) == len(names)
    assert all(one.ratio > 0 for one in found)


@pytest.mark.long
def test_contenders_take_turns_on_a_server(postgres, place):
    contenders = [examine_on(postgres, name, place) for name in OURS]
    assert [one.missing for one in contenders] == [""] * len(OURS)
    (case,) = compare_turns(postgres, place, contenders)
    assert list(case.contestants) == OURS
    assert [one.name for one in case.figures] == [f"a turn at 10: {name}" for name in OURS[1:]]


@pytest.mark.long
def test_figures_on_a_server_are_ratios_to_the_bare_statements(postgres, place):
    contenders = [examine_on(postgres, name, place) for name in OURS[:2]]
    for case in compare_turns(postgres, place, contenders):
        (one,) = measure("postgres", case, lambda number: None)
        assert (one.figure.floor, one.ratio > 0) == ("INSERT and COMMIT", True)


@pytest.mark.long
@pytest.mark.parametrize("count", [3, None])
def test_a_contender_on_a_server_that_fails_is_named(postgres, place, monkeypatch, count):
    class Absent(Conversation):
        package = "chat-session-manager-absent" if count is None else ""

    monkeypatch.setitem(CONTENDERS, "absent", Absent)
    one = examine_on(postgres, "absent", place)
    assert one.missing.startswith("chat-session-manager-absent is not installed" if count is None else "does not run: ")
    assert f"missing: {one.missing}" in server_peers_table([one])


def test_without_a_server_the_command_says_so(tmp_path, monkeypatch, capsys):
    def programs():
        raise NoServerError("there is no pg_ctl")

    monkeypatch.delenv(server.VARIABLE, raising=False)
    monkeypatch.setattr(server, "_programs", programs)
    pytest.importorskip("psycopg")
    main(["server", "--peers", "--quick", "--dir", str(tmp_path)])
    assert "no peers on PostgreSQL: there is no pg_ctl\n" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_a_server_of_its_own_is_stopped_and_removed(server_path):
    with serving(str(server_path)) as one:
        with one.database("a b") as url:
            assert url.endswith("/a b")
        assert one.run("SHOW synchronous_commit") == [("on",)]
        assert os.path.isdir(f"/proc/{one.pid}")
    assert not os.path.isdir(f"/proc/{one.pid}")
    assert os.listdir(server_path) == []


def test_a_server_that_cannot_be_made_is_told(server_path, monkeypatch):
    """Another user's directory, for example: the error is the program's own last line."""
    monkeypatch.setattr(server, "_programs", lambda: str(server_path))
    (server_path / "initdb").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (server_path / "initdb").chmod(0o755)
    with pytest.raises(NoServerError, match="initdb: no room"), serving(str(server_path)):
        pass
    assert os.listdir(server_path) == ["initdb"]


def test_a_turn_on_a_server_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from benchmarks.plots import draw

    floor = {"name": "INSERT and COMMIT", "median": 0.001}
    subject = {"name": "session_manager shared", "median": 0.002}
    cases = ["a turn at 10", "a turn at 1,000"]
    figures = [{"workload": "postgres", "case": c, "figure": c, "subject": subject, "floor": floor} for c in cases]
    (path,) = draw({"contenders": [], "figures": figures}, str(tmp_path))
    assert os.path.basename(path) == "postgres.svg"
    assert "session_manager shared" in Path(path).read_text()


def test_the_table_names_releases():
    assert "kept 1.2  reads" in server_peers_table([TakingPart("one", "kept", "1.2", "reads")])
