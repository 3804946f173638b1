"""The command and the operations on a server's storage, whose URL has a password."""

from __future__ import annotations

import os
import re

import pytest

from session_manager import InvalidStorageError, SessionManager, StorageError, operations
from session_manager.importers import adopt
from tests.support.command import run
from tests.support.places import ROOT
from tests.support.postgres import needs_driver

psycopg = needs_driver()

SECRET = "hunter2-hunter2"


@pytest.fixture
def url(place):
    """A database of its own, in whose default schema the sessions are."""
    name = f"db_{place.schema}"
    place.run(f"CREATE DATABASE {name}")
    told = psycopg.conninfo.conninfo_to_dict(place.url)
    one = f"postgresql://{told['user']}:{SECRET}@{told['host']}:{told['port']}/{name}"
    with SessionManager(one) as m:
        m.add_message("telegram:42", "user", "Is there a flight to Lisbon?")
        m.add_message("slack:1", "user", "hi")
    yield one
    place.run(f"DROP DATABASE {name} WITH (FORCE)")


WORKS = [
    ("ls",),
    ("show", "telegram:42"),
    ("search", "lisbon"),
    ("stats",),
    ("verify",),
    ("compact",),
    ("quarantine", "ls"),
    ("salvage",),
    ("accept-edits", "telegram:42"),
    ("copy", "log:copy"),
    ("export", "telegram:42"),
    ("expire", "--older-than", "90d", "--yes"),
    ("delete", "slack:1", "--yes"),
    ("erase", "telegram:42", "--yes"),
]
REFUSED = [("backup", "there"), ("restore", "there", "--yes"), ("holder",), ("restore", "there")]


@pytest.mark.parametrize("words", WORKS + REFUSED, ids=" ".join)
def test_no_command_shows_a_password(url, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*words, "--storage", url, answer="n\n")
    assert SECRET not in done.out + done.err
    assert "Usage" not in done.err
    assert (done.code == 0) is (words in WORKS), done.err
    unreachable = run(
        *words, "--storage", url.replace("postgresql://", "postgres://x:").replace("/db_", "/none_"), answer="n\n"
    )
    assert SECRET not in unreachable.out + unreachable.err
    assert unreachable.code != 0
    for spelled in (f"'{url}'", f" {url}", psycopg.conninfo.make_conninfo(**psycopg.conninfo.conninfo_to_dict(url))):
        misspelled = run(*words, "--storage", spelled, answer="n\n")
        assert SECRET not in misspelled.out + misspelled.err
        assert misspelled.code != 0
    assert [name for name in os.listdir(tmp_path) if name != "copy"] == []


def test_no_operation_shows_a_password(url, tmp_path):
    for call in (
        lambda: operations.backup(url, tmp_path / "backup"),
        lambda: operations.restore(tmp_path, url),
        lambda: operations.holder(url),
        lambda: adopt(url),
    ):
        with pytest.raises((StorageError, InvalidStorageError)) as raised:
            call()
        assert SECRET not in f"{raised.value} {raised.value!r} {raised.value.args}"


def test_the_code_of_the_page_on_several_machines_runs(url):
    page = (ROOT / "docs" / "scaling.md").read_text()
    block, shards = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    given = ["postgresql://bot:secret@db.internal/chats?sslmode=verify-full&", "postgresql://bot@db.internal/chats"]
    for one, ours in zip(given, [f"{url}?", url], strict=True):
        assert one in block
        block = block.replace(one, ours)
    names = {}
    exec(block, names)
    assert sorted(names["manager"]) == ["slack:1", "telegram:42"]
    assert list(names["other"]) == []
    for one in ("manager", "other", "store"):
        names[one].close()
    for number in (1, 2):
        one = f"postgresql://bot@db{number}.internal/chats"
        assert one in shards
        shards = shards.replace(one, url if number == 1 else "postgresql://nobody@127.0.0.1:1/chats")
    exec(shards, names)
    assert list(names["store"].shards) == ["one", "two"]
    assert "two: not open" in repr(names["store"])
    names["store"].close()


def test_an_erasure_says_what_a_server_keeps(url):
    report = operations.erase(url, "telegram:42")
    assert [one.key for one in report.sessions] == ["telegram:42"]
    assert any("write-ahead log" in one for one in report.unreachable)
    assert SECRET not in repr(report)
