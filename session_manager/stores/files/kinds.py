"""Kinds of directories: which store a directory belongs to, by the names of its files.

A directory belongs to one kind of store. A store of another kind would not see its sessions, so it is refused. A directory
with sessions of two kinds is refused to both. Hidden files (quarantine, locks, temporary files) do not count.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping

__all__ = [
    "ARCHIVE_SUFFIX",
    "BACKUP_OBJECTION",
    "LOCK",
    "MANIFEST",
    "SUFFIXES",
    "archives_in",
    "databases_in",
    "deletion_mark",
    "is_json_name",
    "is_ours",
    "json_objection",
    "marked_archive",
    "objection",
    "sessions_in",
]

#: How the names of sessions' files end, by the scheme of the store that reads them.
SUFFIXES = {"snapshot": ".session.json", "log": ".session.jsonl"}

#: How the name of an archive's file ends.
ARCHIVE_SUFFIX = ".archive.jsonl"

#: The name of the lock file of a directory. It is never deleted, so that it tells whose the directory is.
LOCK = ".lock"

#: The file that makes a directory a backup. Nothing is written to a backup.
MANIFEST = "backup.manifest"

#: Why no store opens a backup for writing.
BACKUP_OBJECTION = "is a backup, which is never written to: restore it to a storage, or open it read-only"

_NOUNS = {"snapshot": "snapshots", "log": "logs"}
_MARK = ".deleted-"
_DATABASES = (".db", ".sqlite", ".sqlite3")


def deletion_mark(archive: str) -> str:
    """Return the name of the mark that declares an archive without a session garbage (`session_manager.stores.archive.marks`)."""
    return _MARK + archive


def marked_archive(name: str) -> str | None:
    """Return the name of the archive that a mark of this name is for; `None` if it is no mark's name."""
    return name.removeprefix(_MARK) if name.startswith(_MARK) and name.endswith(ARCHIVE_SUFFIX) else None


def is_json_name(path: str) -> bool:
    """Say whether a path is named like a JSON file."""
    return path.lower().endswith((".json", ".jsonl"))


def is_ours(name: str) -> bool:
    """Say whether a file is named like a session of ours, or like an archive."""
    return name.endswith((*SUFFIXES.values(), ARCHIVE_SUFFIX))


def json_objection(path: str) -> str:
    """Return why a JSON file is no storage."""
    if is_ours(path):
        return f"is the JSON file of one session: open its directory, {os.path.dirname(path) or '.'}"
    return (
        "is a JSON file: sessions live in a directory (snapshot:PATH, log:PATH) or in a database (sqlite:PATH); "
        "import_sessions, or session-manager import, takes in those of another program"
    )


def sessions_in(names: Collection[str]) -> dict[str, list[str]]:
    """Return the names of the sessions' files in a directory, by the scheme of the store that reads them."""
    found = {
        scheme: [name for name in names if name.endswith(suffix) and name[0] != "."]
        for scheme, suffix in SUFFIXES.items()
    }
    return {scheme: some for scheme, some in found.items() if some}


def objection(path: str, found: Mapping[str, Collection[str]], scheme: str) -> str:
    """Say why a store must not open a directory; ``""`` if it may.

    :param path: the directory, as the caller names it.
    :param found: the sessions' files in it (`sessions_in`).
    :param scheme: that of the store; ``""`` for any.
    """
    if len(found) > 1:
        (one, some), (other, others) = sorted(found.items(), reverse=True)
        return (
            f"holds both {_NOUNS[one]} ({len(some):,}, such as {min(some)}) and {_NOUNS[other]} ({len(others):,}, such as "
            f"{min(others)}): move one kind to a directory of its own"
        )
    for there in found:
        if scheme not in ("", there):
            return f"is a directory of {_NOUNS[there]}: open it as {there}:{path}"
    return ""


def archives_in(names: Iterable[str]) -> set[str]:
    """Return the names of the archives in a directory."""
    return {name for name in names if name.endswith(ARCHIVE_SUFFIX) and not name.startswith(".")}


def databases_in(names: Collection[str]) -> list[str]:
    """Return the databases of sessions in a directory, sorted. Each is told by its lock file, which is never deleted, or by being in a backup."""
    there = set(names)
    return sorted(
        name for name in names if name.endswith(_DATABASES) and not there.isdisjoint((f"{name}.lock", MANIFEST))
    )
