"""An import that is killed: the same call goes on, and no session is there twice, or in part."""

from __future__ import annotations

import contextlib
import json
import signal
import textwrap
from pathlib import Path

import pytest

from session_manager import SessionManager
from session_manager.importers import import_sessions
from session_manager.stores.contract import Store
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.killed_files import KilledError, KilledFiles
from tests.support.processes import run_python

STORES = {"snapshot": SnapshotStore, "log": LogStore}
CHATS = 5


def source_in(directory: Path, *, more: int = 0) -> Path:
    """Write chats of other programs, with or without further messages."""
    path = directory / "chats.jsonl"
    lines = []
    for number in range(CHATS):
        said = [{"role": "user", "content": f"{number}: {index}"} for index in range(3 + more)]
        lines.append(json.dumps({"messages": said, "topic": number}) + "\n")
    path.write_text("".join(lines))
    return path


def check(store: Store | str, *, messages: int) -> None:
    """Check that each session is there once, and whole."""
    with SessionManager(store) as m:
        assert sorted(m) == [f"chats:{number}" for number in range(1, CHATS + 1)]
        for number in range(CHATS):
            said = [one.content for one in m.get_history(f"chats:{number + 1}")]
            assert said == [f"{number}: {index}" for index in range(messages)]
        assert m.verify() == []


def whole_or_none(store: Store, sizes: tuple[int, ...]) -> None:
    for key in list(store.keys()):
        session = store.load(key)
        assert session is not None
        assert len(session.messages) in sizes


def imported(place: Path, kind: str, source: Path, left: int) -> bool:
    """Import with so many operations that reach the disk; say whether it was cut short."""
    store = STORES[kind](place, files=KilledFiles)
    files = store._files
    files.left = left  # type: ignore[attr-defined]
    try:
        import_sessions(source, store, on_conflict="append")
    except KilledError:
        return True
    finally:
        files.left = 10**9  # type: ignore[attr-defined]
        store._directory._lock.release()
        files.left = 0  # type: ignore[attr-defined]
        with contextlib.suppress(KilledError):
            store.close()
    return False


@pytest.mark.parametrize("kind", STORES)
def test_a_kill_at_every_operation_is_gone_on_from(kind: str, tmp_path: Path) -> None:
    first = source_in(tmp_path)
    (tmp_path / "grown").mkdir()
    grown = source_in(tmp_path / "grown", more=2)
    number, is_cut = 0, True
    while is_cut:
        place = tmp_path / f"{number}"
        is_cut = imported(place, kind, first, number)
        with contextlib.closing(STORES[kind](place)) as store:
            whole_or_none(store, (3,))
        report = import_sessions(first, f"{kind}:{place}")
        assert report.sessions + report.present == CHATS
        check(f"{kind}:{place}", messages=3)
        imported(place, kind, grown, number)
        with contextlib.closing(STORES[kind](place)) as store:
            whole_or_none(store, (3, 5))
        import_sessions(grown, f"{kind}:{place}", on_conflict="append")
        check(f"{kind}:{place}", messages=5)
        number += 1
    assert number > CHATS


@pytest.mark.parametrize("url", ["snapshot:{}", "log:{}", "sqlite:{}"])
def test_a_process_that_is_killed_has_written_whole_sessions(url: str, tmp_path: Path) -> None:
    source, storage = source_in(tmp_path), url.format(tmp_path / "chats")
    program = textwrap.dedent(
        """
        import os, sys
        from session_manager.importers import importing
        from session_manager.importers import import_sessions
        importing._SESSIONS = 1
        said = []
        def progress(done, total, key):
            said.append(key)
            if len(said) == 3:
                os.kill(os.getpid(), 9)
        import_sessions(sys.argv[1], sys.argv[2], progress=progress)
        """
    )
    done = run_python("-c", program, source, storage)
    assert done.returncode == -signal.SIGKILL
    report = import_sessions(source, storage)
    assert (report.sessions, report.present) == (CHATS - 3, 3)
    check(storage, messages=3)
