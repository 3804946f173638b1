"""Other programs' sessions in a directory: no store shows them, so none opens the directory as if it were empty.

* **Sessions that are adopted in place** (picoclaw's) are refused, beside sessions of ours, too: an adoption has not been finished,
  or the other program has written again.
* **Sessions of any other program** are refused where there are none of ours, and no store has been opened before. Else somebody put
  a file beside our sessions, which must not keep a bot from its chats: `Store.strays` names it.

A program that only reads a directory, as `verify` and `copy` do, is refused for files in directories below as well, if nothing of ours is
there. Databases do not count. They are SQLite's to open: a read here, and its end, would take SQLite's locks from this process.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from session_manager.stores.files.atomic import NotRegularError, read_start
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.kinds import LOCK, MANIFEST, archives_in, is_ours, sessions_in
from session_manager.stores.files.recognition import HEAD, MIGRATED, format_of, metas_in, owner_of

__all__ = ["ADOPTED", "foreign_below", "foreign_finding", "foreign_in", "foreign_objection"]

#: The formats whose sessions can be adopted in place.
ADOPTED = ("picoclaw-json", "picoclaw-jsonl")

#: How many directories below one are looked at.
_BELOW = 200

_ENDINGS = (".json", ".jsonl", ".ndjson")


def foreign_in(files: Files, names: Iterable[str]) -> dict[str, list[str]]:
    """Return the files with sessions of other programs, sorted, by their formats. A file that cannot be read is none.

    :param names: the names in the directory.
    """
    names = list(names)
    candidates = [name for name in names if name.endswith(_ENDINGS) and not is_ours(name) and name[0] != "."]
    there, metas = frozenset(candidates), metas_in(names)
    found: dict[str, list[str]] = {}
    for name in sorted(candidates):
        if owner_of(name, there) is None and (known := _format_of(files, name, metas)) is not None:
            found.setdefault(known, []).append(name)
    return found


def _format_of(files: Files, name: str, metas: frozenset[str]) -> str | None:
    try:
        return format_of(name, read_start(files, name, HEAD), metas)
    except (OSError, NotRegularError):
        return None


def foreign_below(path: str, names: Collection[str]) -> dict[str, list[str]]:
    """Return files with sessions of another program in the first directories below one that is no storage of ours.

    :param path: the directory.
    :param names: all names in it.
    """
    if _is_ours(names):
        return {}
    for directory, below, _ in itertools.islice(os.walk(path), _BELOW):
        below[:] = sorted(name for name in below if not name.startswith("."))
        found = {} if directory == path else _found_at(directory)
        if found:
            start = os.path.relpath(directory, path)
            return {known: [os.path.join(start, name) for name in some] for known, some in found.items()}
    return {}


def _found_at(directory: str) -> dict[str, list[str]]:
    """Return the files with sessions of other programs at a path; none if it cannot be read."""
    try:
        files = Files(directory)
    except OSError:
        return {}
    try:
        return foreign_in(files, files.names())
    except OSError:
        return {}
    finally:
        files.close_directory()


def _is_ours(names: Collection[str]) -> bool:
    """Say whether a directory is, or was, a storage of ours."""
    return LOCK in names or MANIFEST in names or bool(sessions_in(names)) or bool(archives_in(names))


def foreign_objection(path: str, found: Mapping[str, Sequence[str]], names: Collection[str]) -> str:
    """Say why a store must not open a directory with sessions of other programs; ``""`` if it may.

    :param path: the directory, as the caller names it.
    :param found: the files with these sessions (`foreign_in`).
    :param names: all names in it.
    """
    adopted = {one: found[one] for one in ADOPTED if one in found}
    if adopted:
        return _to_adopt(path, adopted, names)
    if not found or _is_ours(names):
        return ""
    return (
        f"holds {_counted(found)}, and no sessions of ours: import them into a storage of their own with "
        f"import_sessions({path!r}, STORAGE), or session-manager import"
    )


def _to_adopt(path: str, found: Mapping[str, Sequence[str]], names: Collection[str]) -> str:
    there = frozenset(names)
    again = [name for some in found.values() for name in some if f"{name}{MIGRATED}" in there]
    if not again:
        return (
            f"holds {_counted(found)}, which are not adopted, or not to the end: stop that program, and call "
            f"adopt({path!r}), or session-manager adopt; or import them into another storage with import_sessions({path!r}, STORAGE)"
        )
    return (
        f"holds {_counted(found)}: that program has written {again[0]} again since it was adopted as {again[0]}{MIGRATED}. Stop it, "
        f"move {again[0]} elsewhere, and import it from there with import_sessions, or session-manager import"
    )


def _counted(found: Mapping[str, Sequence[str]]) -> str:
    """Say how many sessions there are, of which formats."""
    return " and ".join(
        f"{len(some):,} {'file' if len(some) == 1 else 'files'} of sessions in the format {known} (such as {some[0]})"
        for known, some in found.items()
    )


def foreign_finding(format: str) -> str:
    """Say what is to be done with a file of another program's sessions beside sessions of ours."""
    if format in ADOPTED:
        return f"holds sessions in the format {format}, which are not shown: adopt them"
    return f"holds sessions in the format {format}, which are not shown: import them, or move the file elsewhere"
