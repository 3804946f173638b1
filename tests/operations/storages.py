"""Storages for backups: sessions with archives, and what a storage holds."""

from __future__ import annotations

from contextlib import closing

from session_manager import SessionManager, open_store
from session_manager.stores.files.filesystem import Files
from tests.support.killed_files import CHANGING, KilledError

FILED = ("snapshot", "log")
KINDS = (*FILED, "sqlite")


def url_of(kind, path, name="chats"):
    return f"{kind}:{path / name}{'.db' if kind == 'sqlite' else ''}"


def path_of(url):
    return url.partition(":")[2]


def say(m, key, *texts, keep=2):
    """Add messages to a session, and archive all but the last ones."""
    for text in texts:
        m.add_message(key, "user", text)
    m.truncate_history(key, keep_last=keep)
    m.save(key)


def filled(url, *keys, texts="abcd"):
    """Fill a storage with sessions that have archives."""
    with SessionManager(url, archive=True) as m:
        for key in keys or ("one", "two"):
            say(m, key, *(f"{key} {text}" for text in texts))
    return url


def held(storage):
    """Return the texts of each session, archived ones first."""
    store = storage if not isinstance(storage, str) else open_store(storage, read_only=True)
    try:
        return {
            key: [one.content for one in [*store.archive(key), *store.load(key).messages]]
            for key in sorted(store.keys())
        }
    finally:
        if store is not storage:
            store.close()


def bytes_in(path):
    """Return the files under a path, but for locks and the memory of SQLite."""
    places = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {
        str(one.relative_to(path.parent)): one.read_bytes()
        for one in places
        if one.is_file() and not one.name.endswith((".lock", ".holder", "-shm"))
    }


def versions(url):
    with closing(open_store(url, read_only=True)) as store:
        return {key: store.version(key) for key in list(store.keys())}


class Mortal(Files):
    """All directories of one process that dies at one of its operations."""

    left = 10**9
    log = None

    def _count(self, name, arguments):
        Mortal.left -= 1
        if Mortal.left < 0:
            raise KilledError
        if Mortal.log is not None:
            Mortal.log.append((name, self.path, arguments))


def _counted(name):
    def operate(self, *arguments):
        self._count(name, arguments)
        return getattr(Files, name)(self, *arguments)

    return operate


for _name in (*CHANGING, "exchange", "make_directory", "remove_directory"):
    setattr(Mortal, _name, _counted(_name))
