"""The commands that only read: ``ls``, ``show``, ``search``, ``stats``, ``verify``."""

from __future__ import annotations

import json
import os
import re

import pytest

from session_manager import Finding, Message, SearchHit, SessionInfo, SessionManager, converter
from session_manager.operations import Stats
from tests.support.command import run

NASTY = "里斯本\x1b[31m"
SHOWN = "里斯本\\x1b[31m"


def keys(done):
    return [line.split()[0] for line in done.out.splitlines()[1:]]


# ls


def test_sessions_are_listed_the_most_recent_first(storage):
    done = run("ls", "-s", storage)
    assert keys(done) == [SHOWN, "slack:C01", "telegram:7", "telegram:42"]
    assert (done.code, done.err) == (0, "")
    assert "expires after 30d" in done.out
    assert "summary" in done.out
    assert "2026-01-01 12:00" in done.out


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--sort", "key"], ["slack:C01", "telegram:42", "telegram:7", SHOWN]),
        (["--sort", "messages", "--limit", "2"], ["telegram:7", "telegram:42"]),
        (["--sort", "bytes", "--limit", "1"], ["telegram:7"]),
        (["--prefix", "telegram:"], ["telegram:7", "telegram:42"]),
        (["--prefix", "telegram:", "--limit", "1"], ["telegram:7"]),
        (["--where", "language=de"], ["telegram:7"]),
        (["--where", "language=de", "--where", "n=1"], ["telegram:7"]),
        (["--where", 'n="1"'], []),
    ],
)
def test_sessions_are_chosen_and_sorted(storage, options, wanted):
    assert keys(run("ls", "-s", storage, *options)) == wanted


def test_no_sessions_are_said_so_and_are_no_error(storage):
    done = run("ls", "-s", storage, "--prefix", "nobody")
    assert (done.code, done.out, done.err) == (0, "", "no sessions\n")
    assert run("ls", "-s", storage, "--prefix", "nobody", "--json").json == []


def test_columns_are_aligned_where_letters_are_wide(log):
    lines = run("ls", "-s", log).out.splitlines()
    place = lines[2].index("2026")
    assert lines[0].index("LAST") == place
    assert lines[1].index("2026") == place - 3, "three letters take two columns each"


def test_the_list_as_json_is_that_of_the_converter(storage):
    found = converter.structure(run("ls", "-s", storage, "--json").json, list[SessionInfo])
    with SessionManager(storage, read_only=True) as m:
        assert found == m.list_sessions()


def test_sizes_are_shown_when_they_sort(storage):
    done = run("ls", "-s", storage, "--sort", "bytes")
    assert "BYTES" in done.out
    assert "KiB" in done.out


def test_a_damaged_session_is_listed(log):
    path = log.partition(":")[2]
    with open(os.path.join(path, "slack~3a_c01.session.jsonl"), "r+b") as file:
        file.write(b"\0\0")
    done = run("ls", "-s", log)
    assert done.code == 0
    assert "slack:C01" in keys(done)
    assert "damaged: " in done.out


# show


def test_a_transcript_has_speakers_calls_and_results(storage):
    done = run("show", "telegram:42", "-s", storage)
    assert done.code == 0
    assert done.out.splitlines()[0] == "telegram:42  4 messages, created 2026-01-01 12:00"
    roles = [line.split()[0] for line in done.out.splitlines() if "  #" in line]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert "→ flights" in done.out
    assert "…  (280 characters)" in done.out
    assert "TP 571 " * 40 not in done.out
    assert "Is there a flight to **Lisbon**?\nOne stop at most." in done.out, "piped, it is as it was written"


def test_calls_and_results_are_unfolded(log):
    assert "TP 571 " * 39 in run("show", "telegram:42", "-s", log, "--unfold").out


def positions(done):
    return [int(line.partition("#")[2].split()[0]) for line in done.out.splitlines() if "  #" in line]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], range(10, 30)),
        (["--last", "3"], range(27, 30)),
        (["--last", "3", "--before", "12"], range(9, 12)),
        (["--all"], range(5, 30)),
        (["--archive"], range(5)),
        (["--archive", "--last", "2", "--before", "4"], range(2, 4)),
    ],
)
def test_pages_of_a_transcript(storage, options, wanted):
    done = run("show", "telegram:7", "-s", storage, *options)
    assert positions(done) == list(wanted)
    assert ("earlier messages: --before" in done.out) == (wanted.start > 5)
    assert ("They counted." in done.out) == (not {"--archive", "--before"}.intersection(options))


def test_messages_as_they_were_given(storage):
    done = run("show", "telegram:7", "-s", storage, "--raw")
    assert len(done.out.splitlines()) == 25, "all of them, as somebody may keep them"
    assert json.loads(done.out.splitlines()[0]) == {"role": "user", "content": "message 5"}
    nasty = run("show", NASTY, "-s", storage, "--raw")
    assert json.loads(nasty.out)["content"] == "steer\x1b[31m the\x07 terminal \ud800"
    assert nasty.out.isprintable() or nasty.out.rstrip("\n").isprintable()


def test_a_session_as_json(storage):
    found = run("show", "telegram:42", "-s", storage, "--json").json
    messages = converter.structure(found["messages"], list[Message])
    with SessionManager(storage, read_only=True) as m:
        assert messages == m.get_history("telegram:42")
        assert converter.structure(found["session"], SessionInfo) == m.list_sessions("telegram:42")[0]
    assert run("show", "telegram:7", "--json", "--last", "2", "-s", storage).json["summary"] == "They counted."


def test_nothing_that_is_shown_steers_the_terminal(storage):
    """A message could clear the screen, set the window's title, or hide what it says."""
    for arguments in (["show", NASTY], ["ls"], ["search", "steer"], ["stats"], ["show", NASTY, "--json"]):
        done = run(*arguments, "-s", storage)
        assert done.code == 0
        assert "\x1b" not in done.out
        assert "\x07" not in done.out


# search


def test_matches_are_found_best_first(storage):
    done = run("search", "lisbon", "-s", storage)
    assert done.out.splitlines() == [
        "telegram:42 #0  user  2026-01-01 12:00",
        "    Is there a flight to ****Lisbon****? One stop at most.",
    ]
    hits = converter.structure(run("search", "message", "-s", storage, "--json").json, list[SearchHit])
    with SessionManager(storage, read_only=True) as m:
        assert hits == m.search("message")
    assert len(hits) == 20


def test_a_search_is_bounded(storage):
    assert len(run("search", "message", "-s", storage, "--limit", "3", "--json").json) == 3
    assert run("search", "message", "-s", storage, "--prefix", "slack", "--json").json == []
    assert run("search", "message", "-s", storage, "--key", "telegram:42", "--json").json == []
    done = run("search", "nowhere to be seen", "-s", storage)
    assert (done.code, done.out, done.err) == (0, "", "nothing found\n")


# stats


def test_figures(storage):
    done = run("stats", "-s", storage)
    assert "4, none damaged" in done.out
    assert re.search(r"^telegram +2 +29 ", done.out, re.MULTILINE)
    found = converter.structure(run("stats", "-s", storage, "--json").json, Stats)
    assert (found.sessions, found.messages) == (4, 31)
    assert run("stats", "-s", storage, "--prefix", "slack", "--json").json["sessions"] == 1


# verify


def test_a_sound_storage_has_no_flaws(storage):
    done = run("verify", "-s", storage)
    assert (done.code, done.out) == (0, "no flaws\n")
    assert run("verify", "telegram:42", "-s", storage, "--json").json == []


def test_damage_is_reported_and_the_exit_code_is_1(log):
    path = os.path.join(log.partition(":")[2], "telegram~3a42.session.jsonl")
    with open(path, "r+b") as file:
        file.seek(200)
        file.write(b"\0\0")
    done = run("verify", "-s", log)
    assert done.code == 1
    assert done.out.startswith("telegram:42: ")
    assert path in done.out
    assert done.err == "1 flaw\n"
    found = run("verify", "telegram:42", "-s", log, "--json")
    assert found.code == 1
    assert converter.structure(found.json, list[Finding])[0].path == path


# Beside a bot


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["ls", "--sort", "bytes"],
        ["show", "telegram:42"],
        ["search", "oi"],
        ["stats"],
        ["verify"],
        ["delete", "--prefix", "t", "--dry-run"],
        ["expire", "--older-than", "1d", "--dry-run"],
    ],
    ids=" ".join,
)
def test_what_reads_does_not_disturb_a_running_bot(storage, arguments):
    with SessionManager(storage) as bot:
        bot.add_message("telegram:42", "user", "meanwhile")
        done = run(*arguments, "-s", storage)
        assert (done.code, done.err.replace("2 sessions would be deleted", "").strip()) == (
            0,
            "",
        ) or "4 sess" in done.err
        assert bot.save("telegram:42")
