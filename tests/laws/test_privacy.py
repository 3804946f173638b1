"""What every durable store keeps private: the modes of its files, what was deleted, and what its objects show of themselves.

(Errors and logs: `tests/faults/test_canary.py`; files under any umask, links: `tests/faults/test_neighbours.py`.)
"""

from __future__ import annotations

import gc
import os
import stat
from datetime import timedelta

import pytest

from session_manager import Autosave, SessionManager
from tests.support.strategies import CANARY

KINDS = ["snapshot", "log", "sqlite"]
KEY = "telegram:42"

kinds = pytest.mark.parametrize("kind", KINDS)


def opened(kind, tmp_path, **options):
    return SessionManager(f"{kind}:{tmp_path / 'new' / 'chats'}", **options)


def files(path):
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]


def fill(m):
    for number in range(30):
        m.add_message(KEY, "user", f"{CANARY} {number} " + "x" * 3000 * (number % 3 == 0), metadata={"note": CANARY})
        m.save(KEY)
    m.set_summary(KEY, CANARY)
    m.update_metadata(KEY, {"note": CANARY})
    m.save(KEY)


@kinds
def test_all_files_and_directories_are_private_at_every_moment(kind, tmp_path):
    mask = os.umask(0)
    try:
        with opened(kind, tmp_path) as m:
            fill(m)
            m.search("x")
            m.compact(KEY)
            there = files(tmp_path)
            assert {stat.S_IMODE(os.stat(file).st_mode) for file in there} == {0o600}
        assert {stat.S_IMODE(os.stat(file).st_mode) for file in files(tmp_path)} == {0o600}
    finally:
        os.umask(mask)
    assert len(there) >= 3
    assert stat.S_IMODE(os.stat(tmp_path / "new").st_mode) == 0o700


def empty(m):
    m.set_summary(KEY, "")
    m.set_history(KEY, [])
    m.update_metadata(KEY, {}, ["note"])
    m.save(KEY)
    m.compact(KEY)


def clear(m):
    m.clear(KEY)
    m.update_metadata(KEY, {}, ["note"])
    m.save(KEY)


@kinds
@pytest.mark.parametrize(
    "how",
    [lambda m: m.delete(KEY), lambda m: m.expire(timedelta(0)), clear, empty],
    ids=["delete", "expire", "clear", "compact"],
)
def test_text_that_is_gone_is_in_no_file(kind, tmp_path, how):
    with opened(kind, tmp_path) as m:
        fill(m)
        assert m.search("CANARY")
        how(m)
        for _ in "open", "closed":
            for file in files(tmp_path):
                with open(file, "rb") as opened_file:
                    assert b"CANARY" not in opened_file.read(), file
            m.close()


def shown(one):
    """Return the repr of an object; of one that another test interrupted while it was made, nothing."""
    try:
        return repr(one)
    except AttributeError:
        return ""


@kinds
def test_no_object_of_a_manager_shows_text_in_its_repr(kind, tmp_path):
    before = set(map(id, gc.get_objects()))  # other tests have left messages, with any text as their role
    with opened(kind, tmp_path, max_resident_bytes=10**6, autosave=Autosave(1000.0, 1000)) as m:
        fill(m)
        m.add_message(KEY, "user", CANARY)
        assert m.search("CANARY")
        made = [one for one in gc.get_objects() if id(one) not in before]
        ours = [one for one in made if str(type(one).__module__).startswith("session_manager.")]
        assert len({type(one) for one in ours}) > 15
        assert [type(one) for one in ours if CANARY in shown(one)] == []
