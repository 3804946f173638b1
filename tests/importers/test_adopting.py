"""Adoption: picoclaw's directory becomes ours in place, and no kill and no power cut loses a session of it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from session_manager import InvalidStorageError, SessionManager, StorageError, StorageLockedError
from session_manager.importers import ImportReport, adopt, import_sessions
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.names import file_name
from tests.faults.disk import Disk, KilledError, SimulatedFiles, simulation
from tests.support.go_files import GOLDEN, KEY, go_file, go_lines, go_meta
from tests.support.processes import run_python
from tests.support.sizes import Size

KINDS = ("snapshot", "log")
SUFFIXES = {"snapshot": ".session.json", "log": ".session.jsonl"}


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


SOURCES = {
    "telegram_42.json": GOLDEN,
    "slack_1.jsonl": go_lines(said("a", "b", "c")),
    "slack_1.meta.json": go_meta("slack:1", skip=1, count=3, summary="s", scope={"v": 1}),
    "new.meta.json": go_meta("new"),
}
#: What each session says: its archive, its messages, its summary.
EXPECTED = {
    KEY: ((), 3, "They <b>love</b> maths."),
    "slack:1": (("a",), 2, "s"),
    "new": ((), 0, ""),
}


def filled(path: Path, files: Mapping[str, bytes] = SOURCES) -> Path:
    path.mkdir(0o700, exist_ok=True)
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def theirs(path: Path) -> dict[str, bytes]:
    """The files that are not ours."""
    return {
        name: (path / name).read_bytes()
        for name in os.listdir(path)
        if name[0] != "." and not name.endswith((*SUFFIXES.values(), ".archive.jsonl"))
    }


def migrated(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.migrated": data for name, data in files.items()}


def reasons(report: ImportReport) -> dict[str, list[str]]:
    return {file.name: [one.reason for one in file.skipped] for file in report.files if file.skipped}


def check(path: Path) -> None:
    """Check that all sessions are ours, and whole."""
    with SessionManager(path, read_only=True) as m:
        assert sorted(m) == sorted(EXPECTED)
        assert m.verify() == []
        for key, (archive, count, summary) in EXPECTED.items():
            session = m.get(key)
            assert session is not None
            assert (len(session.messages), session.summary) == (count, summary)
            assert tuple(one.content for one in m.get_archive(key)) == archive


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_a_directory_becomes_ours_and_nothing_is_removed(kind: Any, tmp_path: Path) -> None:
    path = filled(tmp_path / "chats")
    seen: list[tuple[int, int, str]] = []
    report = adopt(path, kind=kind, progress=lambda *done: seen.append(done))
    assert [(one.name, one.sessions, one.messages) for one in report.files] == [
        ("new.meta.json", 1, 0),
        ("slack_1.jsonl", 1, 3),
        ("telegram_42.json", 1, 3),
    ]
    assert (report.ok, seen) == (True, [(1, 3, "new"), (2, 3, "slack:1"), (3, 3, KEY)])
    assert theirs(path) == migrated(SOURCES)
    assert (path / file_name(KEY, SUFFIXES[kind or "snapshot"])).exists()
    check(path)
    with SessionManager(path) as m:
        session = m.get("slack:1")
        assert session is not None
        assert session.metadata["scope"] == {"v": 1}
        assert session.metadata["imported"]["adopted"] == {
            name: sha256(SOURCES[name]).hexdigest() for name in ("slack_1.jsonl", "slack_1.meta.json")
        }
        m.add_message(KEY, "user", "more")
    assert adopt(path) == ImportReport()


def test_sessions_of_ours_decide_the_kind(tmp_path: Path) -> None:
    path = tmp_path / "chats"
    with SessionManager(f"log:{path}") as m:
        m.add_message("ours", "user", "hi")
    filled(path)
    with pytest.raises(InvalidStorageError, match="is a directory of logs"):
        adopt(path, kind="snapshot")
    assert theirs(path) == SOURCES
    assert adopt(path).sessions == 3
    with SessionManager(path) as m:
        assert len(m) == 4


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    path = filled(tmp_path / "chats")
    report = adopt(path, dry_run=True)
    assert (report.sessions, report.messages, report.ok) == (3, 6, True)
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == SOURCES


def test_what_cannot_be_adopted_stays_and_is_told(tmp_path: Path) -> None:
    other = {
        "orphan.jsonl": go_lines(said("x")),
        "cut.json": GOLDEN[:-20],
        "bad_key.json": go_file(".."),
        "twice.json": go_file("slack:1"),
        "taken.json": go_file("taken"),
        "taken.json.migrated": b"{}",
    }
    path = filled(tmp_path / "chats", {**SOURCES, **other})
    told = reasons(adopt(path))
    assert told.keys() == other.keys() - {"taken.json.migrated"}
    assert told["taken.json"][0].startswith("taken.json.migrated is there already: move it elsewhere")
    assert told["twice.json"] == ["another session of the source has the same key (picoclaw-json)"]
    assert told["orphan.jsonl"] == ["its key is not known: orphan.meta.json is not there"]
    assert theirs(path) == {**migrated(SOURCES), **other}
    again = reasons(adopt(path))
    assert again.keys() == told.keys()
    assert again["twice.json"][0].startswith("we have another session of its key: move it elsewhere")
    with pytest.raises(InvalidStorageError, match="picoclaw-json"):
        SessionManager(path)
    for name in other:
        (path / name).unlink()
    check(path)


def test_a_damaged_line_is_told_and_the_rest_adopted(tmp_path: Path) -> None:
    files = {"a.jsonl": go_lines(said("one")) + b'{"role":"us', "a.meta.json": go_meta("a")}
    path = filled(tmp_path / "chats", files)
    assert reasons(adopt(path)) == {"a.jsonl": ["is not JSON"]}
    assert theirs(path) == migrated(files)
    with SessionManager(path) as m:
        assert [one.content for one in m.get_history("a")] == ["one"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_picoclaw_writes_again_is_told_and_both_stay(kind: Any, tmp_path: Path) -> None:
    path = filled(tmp_path / "chats")
    adopt(path, kind=kind)
    again = {
        "telegram_42.json": go_file(),
        "slack_1.jsonl": go_lines(said("d")),
        "slack_1.meta.json": go_meta("slack:1"),
    }
    filled(path, again)
    with pytest.raises(InvalidStorageError, match=r"has written \S+ again since it was adopted"):
        SessionManager(path)
    report = adopt(path)
    assert {name: one[0].partition(":")[0] for name, one in reasons(report).items()} == dict.fromkeys(
        ("telegram_42.json", "slack_1.jsonl"), "that program has written to it again since it was adopted"
    )
    assert theirs(path) == {**migrated(SOURCES), **again}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in again:
        (path / name).rename(elsewhere / name)
    check(path)
    import_sessions(elsewhere, path, on_conflict="replace")
    with SessionManager(path) as m:
        assert [one.content for one in m.get_history("slack:1")] == ["d"]


def test_a_file_that_came_back_as_it_was_is_not_mistaken(tmp_path: Path) -> None:
    path = filled(tmp_path / "chats")
    adopt(path)
    filled(path, {"telegram_42.json": GOLDEN})
    assert reasons(adopt(path))["telegram_42.json"][0].startswith("telegram_42.json.migrated is there already")
    assert theirs(path) == {**migrated(SOURCES), "telegram_42.json": GOLDEN}


def test_a_file_that_is_written_meanwhile_is_not_renamed(tmp_path: Path) -> None:
    """picoclaw should be stopped. If it is not, what it writes stays."""
    path = filled(tmp_path / "chats", {"a.json": go_file("a")})
    written: list[str] = []

    class Written(Files):
        def stat(self, name: str) -> os.stat_result | None:
            if name == "a.json":
                written.append("newer")  # and longer: the clock of a file system may stand still for so long
                (path / name).write_bytes(go_file("a", said(*written)))
            return super().stat(name)

    assert reasons(adopt(path, files=Written)) == {"a.json": ["a.json was written to while it was adopted"]}
    assert theirs(path) == {"a.json": go_file("a", said(*written))}


def test_what_is_no_directory_of_picoclaws_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        adopt(tmp_path / "nowhere")
    filled(tmp_path / "empty", {"notes.txt": b"hi"})
    for dry_run in (False, True):
        with pytest.raises(InvalidStorageError, match="holds no sessions that can be adopted"):
            adopt(tmp_path / "empty", dry_run=dry_run)
    assert os.listdir(tmp_path) == ["empty"]
    assert os.listdir(tmp_path / "empty") == ["notes.txt"]
    with pytest.raises(ValueError, match="kind must be one of snapshot, log"):
        adopt(tmp_path / "empty", kind="sqlite")  # type: ignore[arg-type]


def test_an_open_storage_is_not_adopted(tmp_path: Path) -> None:
    path = tmp_path / "chats"
    with SessionManager(path) as m:
        m.add_message("ours", "user", "hi")
        m.save_all()
        filled(path)
        with pytest.raises(StorageLockedError):
            adopt(path)
    assert theirs(path) == SOURCES


@pytest.mark.parametrize("name", ["rename_new", "sync_directory", "sync"])
def test_an_error_is_typed_and_a_second_call_finishes(name: str, tmp_path: Path) -> None:
    for number in itertools.count(1):
        path = filled(tmp_path / f"chats{number}")
        count = itertools.count(1)

        class Failing(Files):
            def _fail(self, name: str, count: Any = count, number: int = number) -> None:
                if next(count) == number:
                    raise OSError(5, os.strerror(5))

        def failing(self: Any, *arguments: Any) -> Any:
            self._fail(name)
            return getattr(Files, name)(self, *arguments)

        setattr(Failing, name, failing)
        try:
            adopt(path, files=Failing)
        except StorageError:
            assert adopt(path).ok
        check(path)
        assert theirs(path) == migrated(SOURCES)
        if next(count) <= number:
            break
    assert number > 2


# Kills and power cuts


def adopted(disk: Disk, kind: str, fuse: int | None = None) -> ImportReport:
    def opened(path: str) -> SimulatedFiles:
        files = SimulatedFiles(path, disk)
        files.fuse = fuse
        return files

    return adopt("/simulated", kind=kind, files=opened)  # type: ignore[arg-type]


def whole(content: Mapping[str, bytes]) -> None:
    """Check that each file of picoclaw's is there, byte for byte, under its old name or its new one, and not under both."""
    for name, data in SOURCES.items():
        found = [content[one] for one in (name, f"{name}.migrated") if one in content]
        assert found == [data], name


@pytest.mark.parametrize("kind", KINDS)
def test_every_disk_that_a_power_cut_may_leave_is_finished(kind: str) -> None:
    """At each change of the disk: whatever a power cut leaves of it, no session is lost, and a second call finishes."""
    with simulation():
        disk = Disk(SOURCES)
        points = [disk.freeze()]
        disk.changed = lambda: points.append(disk.freeze())
        adopted(disk, kind)
        seen: set[Any] = set()
        for point in points:
            for content in point.disks():
                key = tuple((name, data) for name, data in content if name[:2] not in (".t", ".h", ".l"))
                if key in seen:
                    continue
                seen.add(key)
                whole(dict(content))
                recovered = Disk(dict(content))
                assert adopted(recovered, kind).ok
                finished(recovered, kind)
        assert len(seen) >= 9


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_every_change_loses_nothing(kind: str, size: Size) -> None:
    """Also if the second call is killed at its first changes."""
    with simulation():
        for fuse in itertools.count():
            disk = Disk(SOURCES)
            try:
                adopted(disk, kind, fuse)
            except KilledError:
                pass
            else:
                break
            whole(disk.content())
            for second in range(size.of(2, 8, 30)):
                again = Disk(disk.content())
                try:
                    adopted(again, kind, second)
                except KilledError:
                    whole(again.content())
                assert adopted(again, kind).ok
                finished(again, kind)
        assert fuse > 15


def finished(disk: Disk, kind: str) -> None:
    content = disk.content()
    assert {name: data for name, data in content.items() if name.endswith(".migrated")} == migrated(SOURCES)
    assert not content.keys() & SOURCES.keys()
    ours = [name for name in content if name.endswith(SUFFIXES[kind])]
    assert sorted(ours) == sorted(file_name(key, SUFFIXES[kind]) for key in EXPECTED)


DYING = """
import sys
from session_manager.importers import adopt
from tests.support.killed_files import DyingFiles
DyingFiles.left = int(sys.argv[2])
adopt(sys.argv[1], files=DyingFiles)
"""


def test_a_process_that_really_dies_loses_nothing(tmp_path: Path, size: Size) -> None:
    """At one operation after the other; in between, the directory is not opened as if it were whole."""
    for number in range(4, 80, size.of(12, 3, 1)):
        path = filled(tmp_path / f"chats{number}")
        done = run_python("-c", DYING, path, number)
        if done.returncode == 0:
            break
        assert done.returncode == 7
        if set(theirs(path)) != set(migrated(SOURCES)):
            with pytest.raises(InvalidStorageError, match="not adopted, or not to the end"):
                SessionManager(path)
        assert adopt(path).ok
        check(path)
        assert theirs(path) == migrated(SOURCES)
    assert number > 20


def test_the_report_is_json(tmp_path: Path) -> None:
    report = adopt(filled(tmp_path / "chats")).to_dict()
    assert json.loads(json.dumps(report)) == report
