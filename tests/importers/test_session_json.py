"""Our own exports: what no store could keep is not written to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from session_manager import SessionManager, exporters
from session_manager.importers import import_sessions

STORAGES = ("snapshot:{}/chats", "log:{}/chats", "sqlite:{}/chats.db")


@pytest.fixture(params=STORAGES, ids=[one.partition(":")[0] for one in STORAGES])
def into(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url: str = request.param.format(tmp_path)
    return url


def changed(tmp_path: Path, **fields: Any) -> Path:
    """Return an export of a session with other fields."""
    with SessionManager(f"log:{tmp_path}/source") as m:
        m.add_message("telegram:42", "user", "hi")
    document = json.loads(exporters.export(f"log:{tmp_path}/source", "telegram:42", "json"))
    (tmp_path / "chat.json").write_text(json.dumps({**document, **fields}))
    return tmp_path / "chat.json"


def test_a_session_that_was_never_saved_comes_in(tmp_path: Path, into: str) -> None:
    """Its revision is 0, which a store took, and then called damage."""
    source = changed(tmp_path, revision=0)
    assert import_sessions(source, into).sessions == 1
    assert import_sessions(source, into).present == 1
    with SessionManager(into) as m:
        assert [one.content for one in m.get_history("telegram:42")] == ["hi"]
        assert m.verify() == []


@pytest.mark.parametrize("field", ["revision", "end"])
@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64])
def test_a_number_beyond_every_store_is_named(tmp_path: Path, into: str, field: str, number: int) -> None:
    """SQLite's integers end at 2**63: an `OverflowError` came out of the import."""
    (file,) = import_sessions(changed(tmp_path, **{field: number}), into).files
    (skipped,) = file.skipped
    assert (file.sessions, skipped.key) == (0, "telegram:42")
    assert skipped.reason == f"{field}: must be 9,007,199,254,740,992 or less"


def test_the_highest_numbers_come_in_and_leave_room(tmp_path: Path, into: str) -> None:
    assert import_sessions(changed(tmp_path, revision=2**53, end=2**53), into).ok
    with SessionManager(into) as m:
        m.add_message("telegram:42", "user", "more")
    with SessionManager(into) as m:
        assert (len(m.get_history("telegram:42")), m.verify()) == (2, [])
