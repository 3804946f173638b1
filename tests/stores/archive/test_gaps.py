"""An archive from which messages are missing: the session says how many were archived."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from session_manager import SessionManager, open_store
from session_manager.stores import copy

ROOT = Path(__file__).parents[3]
FILED = ["snapshot", "log"]
KINDS = [*FILED, "sqlite"]
KEY = "telegram:42"
ARCHIVE = "telegram~3a42.archive.jsonl"


def url_of(kind, path):
    return f"{kind}:{path / 'chats.db' if kind == 'sqlite' else path / 'chats'}"


def fill(m, *texts, keep=1):
    for text in texts:
        m.add_message(KEY, "user", text)
    m.truncate_history(KEY, keep_last=keep)
    m.save(KEY)


def archive(m, key=KEY):
    return [one.content for one in m.get_archive(key)]


def reasons(m, key=None):
    return [finding.reason for finding in m.verify(key)]


def missing(count, of):
    return [f"of {of} archived messages, {count} are missing"]


@pytest.mark.parametrize("kind", FILED)
def test_an_archive_whose_tail_was_cut_is_noticed(kind, tmp_path):
    """Five of six messages were shown, and nothing was wrong with that."""
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        fill(m, *"abcdefg")
        assert m.verify() == []
    path = tmp_path / "chats" / ARCHIVE
    path.write_bytes(path.read_bytes()[:-20])
    for read_only in (False, True):
        with SessionManager(url_of(kind, tmp_path), read_only=read_only) as m:
            assert archive(m) == list("abcde")
            assert reasons(m) == reasons(m, KEY) == missing(1, 6)
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        fill(m, "h")
        assert archive(m) == list("abcdeg")
        assert reasons(m) == missing(1, 7)


@pytest.mark.parametrize("kind", FILED)
def test_an_archive_that_is_gone_is_noticed(kind, tmp_path):
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        fill(m, *"abc")
    (tmp_path / "chats" / ARCHIVE).unlink()
    with SessionManager(url_of(kind, tmp_path)) as m:
        assert reasons(m) == missing(2, 2)
        m.set_summary(KEY, "what is saved meanwhile does not hide it")
        m.save_all()
        m.compact(KEY)
        assert reasons(m) == missing(2, 2)


@pytest.mark.parametrize("kind", FILED)
@pytest.mark.parametrize("archiving", ["before", "after"])
def test_a_copy_of_a_running_bot_is_checked(kind, archiving, tmp_path):
    """Messages that moved between the two copies were in neither, unless the session is copied first."""
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        fill(m, "a", "b")
        chats, backup = tmp_path / "chats", tmp_path / "backup"
        backup.mkdir(0o700)
        names = [ARCHIVE, next(name for name in os.listdir(chats) if ".session.json" in name)]
        if archiving == "after":
            names.reverse()
        shutil.copy2(chats / names[0], backup)
        fill(m, "c", "d")
        shutil.copy2(chats / names[1], backup)
    with SessionManager(f"{kind}:{backup}", read_only=True) as m:
        found = [one.content for one in [*m.get_archive(KEY), *m.get_history(KEY)]]
        assert (found, reasons(m)) == ((["a", "d"], missing(2, 3)) if archiving == "before" else (["a", "b"], []))


def test_a_row_that_is_gone_is_noticed(tmp_path):
    with SessionManager(url_of("sqlite", tmp_path), archive=True) as m:
        fill(m, *"abc")
        assert m.verify() == []
    with closing(sqlite3.connect(tmp_path / "chats.db")) as connection, connection:
        connection.execute("DELETE FROM archive WHERE position = 0")
    with SessionManager(url_of("sqlite", tmp_path)) as m:
        assert missing(1, 2)[0] in reasons(m, KEY)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_changes_an_archive_counts_it(kind, tmp_path):
    """Truncations and summaries, by managers that archive and that do not, clears, forks, deletions, conflicts."""

    def count(key=KEY):
        session = m._residents.store.load(key)
        assert m.verify() == []
        assert len(archive(m, key)) == (0 if session is None else session._archived)
        return len(archive(m, key))

    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        m.add_message(KEY, "user", "plain")
        m.save(KEY)
        assert count() == 0
        fill(m, "a", "b", keep=2)
        m.summarize(KEY, lambda *_: "summary", keep_last=1)
        assert count() == 2
        m.fork(KEY, "fork")
        assert count("fork") == 0
    with SessionManager(url_of(kind, tmp_path)) as m:
        fill(m, "c", "d")
        m.compact(KEY)
        assert count() == 2
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        fill(m, "e")
        assert count() == 3
        m.truncate_history(KEY, keep_last=0)
        m.clear(KEY)
        fill(m, "f", "g")
        assert count() == 1
        m.delete(KEY)
        assert count() == 0
        fill(m, "h", "i", "j")
        assert count() == 2


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_a_copy_counts_what_it_archives(source, target, tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    with SessionManager(url_of(source, tmp_path / "from"), archive=True) as m:
        fill(m, *"abc")
    with closing(open_store(url_of(target, tmp_path / "to"))) as store:
        assert copy(url_of(source, tmp_path / "from"), store).ok
        assert (store.load(KEY)._archived, store.verify(KEY)) == (2, [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_does_not_say_so_is_taken_at_its_word(kind, tmp_path):
    """An older version did not count; from the next save on, what is archived is."""
    with closing(open_store(url_of(kind, tmp_path))) as store, SessionManager(store, archive=True) as m:
        fill(m, *"abc")
        m.add_message(KEY, "user", "d")
        commit = m._residents.peek(KEY).commit("token", archive=True)
        store.write(attrs.evolve(commit, session=commit.session._with(_archived=0)))
        m.reload(KEY)
        assert (len(archive(m)), m.verify()) == (2, [])
        fill(m, "e")
        assert (len(archive(m)), store.load(KEY)._archived, m.verify()) == (4, 2, [])


@pytest.mark.parametrize("kind", FILED)
def test_without_an_archive_files_say_nothing_of_one(kind, tmp_path):
    """Their bytes are those of the versions before."""
    with SessionManager(url_of(kind, tmp_path), archive=True) as m:
        m.add_message(KEY, "user", "a")
        m.save(KEY)
        m.add_message(KEY, "user", "b")
    (path,) = (tmp_path / "chats").glob("*.session.json*")
    assert b"archived" not in path.read_bytes()


@pytest.mark.parametrize("kind", FILED)
@pytest.mark.parametrize("call", ["save", "compact"])
def test_an_archive_ahead_of_a_restored_session_goes_to_quarantine(kind, call, tmp_path):
    """A backup of the session alone was put back; the next save deleted the archive that had been written since."""
    (path, url) = (tmp_path / "chats", url_of(kind, tmp_path))
    with SessionManager(url, archive=True) as m:
        fill(m, "first")
    (session,) = path.glob("*.session.json*")
    backup = session.read_bytes()
    with SessionManager(url, archive=True) as m:
        for text in ("second", "third", "fourth"):
            fill(m, text)
    newer = (path / ARCHIVE).read_bytes()
    session.write_bytes(backup)

    with SessionManager(url) as m:
        if call == "save":
            m.add_message(KEY, "user", "after")
            m.save(KEY)
        else:
            m.compact(KEY)
    (kept,) = path.glob(f".quarantine-*-{ARCHIVE}")
    assert kept.read_bytes() == newer


@pytest.mark.parametrize("kind", FILED)
def test_a_clear_over_a_restored_session_leaves_no_copy_of_its_archive(kind, tmp_path):
    """What `clear` removes is gone, also from the archive that is ahead of the session."""
    (path, url) = (tmp_path / "chats", url_of(kind, tmp_path))
    with SessionManager(url, archive=True) as m:
        fill(m, "first")
    (session,) = path.glob("*.session.json*")
    backup = session.read_bytes()
    with SessionManager(url, archive=True) as m:
        for text in ("secret", "third", "fourth"):
            fill(m, text)
    session.write_bytes(backup)
    with SessionManager(url) as m:
        m.clear(KEY)
        m.save(KEY)
    assert not [file for file in path.iterdir() if b"secret" in file.read_bytes()]
