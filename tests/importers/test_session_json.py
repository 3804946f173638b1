"""Our own exports: what no store could keep is not written to one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from session_manager import Message, SessionManager, exporters
from session_manager.importers import OnConflict, import_sessions

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


def added(url: str, *texts: str) -> None:
    with SessionManager(url, archive=True) as m:
        for text in texts:
            m.add("k", Message.from_dict({"role": "user", "content": text}, ref=text))


def exported(url: str, tmp_path: Path) -> Path:
    exporters.export(url, "k", "jsonl", str(tmp_path / "k.jsonl"))
    return tmp_path / "k.jsonl"


def texts(url: str) -> list[object]:
    with SessionManager(url, archive=True, read_only=True) as m:
        assert m.verify() == []
        return [one.content for one in m.get_history("k")]


def counts(source: Path, into: str, on_conflict: OnConflict) -> tuple[int, int, int]:
    report = import_sessions(source, into, on_conflict=on_conflict)
    return report.sessions, report.messages, report.present


@pytest.mark.parametrize("own", [(), ("own",)], ids=["untouched", "grown there"])
def test_a_grown_export_adds_what_is_new_once(tmp_path: Path, into: str, own: tuple[str, ...]) -> None:
    """All of it was added again, behind itself."""
    source = f"log:{tmp_path}/source"
    added(source, "a", "b")
    import_sessions(exported(source, tmp_path), into)
    added(source, "c", "d")
    if own:
        with SessionManager(into) as m:
            m.set_summary("k", "ours")
    assert counts(exported(source, tmp_path), into, "append") == (1, 2, 0)
    assert counts(exported(source, tmp_path), into, "append") == (0, 0, 1)
    assert texts(into) == ["a", "b", "c", "d"]


def test_an_export_that_has_parted_is_not_added(tmp_path: Path, into: str) -> None:
    """Its revision was no lower, so it was taken for what the storage has already."""
    source = f"log:{tmp_path}/source"
    added(source, "a")
    import_sessions(exported(source, tmp_path), into)
    added(source, "b", "c")
    added(into, "x")
    report = import_sessions(exported(source, tmp_path), into, on_conflict="append")
    assert [one.reason for one in report.files[0].skipped] == [
        "it is no longer what was imported: messages were changed or removed in one of the two"
    ]
    assert counts(exported(source, tmp_path), into, "skip") == (0, 0, 0)
    assert texts(into) == ["a", "x"]
    assert counts(exported(source, tmp_path), into, "replace") == (1, 3, 0)
    assert texts(into) == ["a", "b", "c"]


def test_an_export_is_added_to_another_session_once(tmp_path: Path, into: str) -> None:
    """A message whose ref is there is the same delivery."""
    source = f"log:{tmp_path}/source"
    added(source, "a", "b")
    added(into, "b", "x")
    assert counts(exported(source, tmp_path), into, "append") == (1, 1, 0)
    assert counts(exported(source, tmp_path), into, "append") == (0, 0, 1)
    assert texts(into) == ["b", "x", "a"]
    added(source, "c")
    assert counts(exported(source, tmp_path), into, "append") == (1, 1, 0)
    assert texts(into) == ["b", "x", "a", "c"]


def test_an_export_takes_the_place_of_another_session_once(tmp_path: Path, into: str) -> None:
    """The second import replaced it again, with what the bot had added meanwhile."""
    source = f"log:{tmp_path}/source"
    added(source, "a", "b")
    added(into, "x")
    assert counts(exported(source, tmp_path), into, "replace") == (1, 2, 0)
    added(into, "own")
    assert counts(exported(source, tmp_path), into, "replace") == (0, 0, 1)
    assert texts(into) == ["a", "b", "own"]
