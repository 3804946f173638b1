"""Mistakes of durability that libraries have shipped, made in our own code, and which of `tests.faults.checks` must notice each.

`tests.faults.test_mutants` applies them. A mistake is put into the source of a function, which must have the text that it replaces, or a
method is replaced; both are undone afterwards.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from contextlib import contextmanager, suppress

import attrs
import pytest

from session_manager.manager import saving
from session_manager.model import changes
from session_manager.stores.archive import files as archive_files
from session_manager.stores.archive import format as archive_format
from session_manager.stores.archive import marks as archive_marks
from session_manager.stores.files import atomic, directory_lock, session_directory
from session_manager.stores.log import clean_shutdown as clean_mark
from session_manager.stores.log import reader as log_reader
from session_manager.stores.log import replay as log_replay
from session_manager.stores.log.appender import LogAppender
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.snapshot import format as snapshot_format
from session_manager.stores.sqlite import SQLiteStore
from session_manager.stores.sqlite import connecting as sqlite_opening


@attrs.frozen
class Mutant:
    """A mistake.

    :param name: what it is.
    :param caught_by: the check that must notice.
    :param apply: makes it, given a `pytest.MonkeyPatch`.
    """

    name: str
    caught_by: str
    apply: object


def edited(owner, name, *replacements):
    """Return what puts a mistake into the source of a function."""

    def apply(patched):
        function = owner.__dict__[name]
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in replacements:
            assert source.count(old) >= 1, f"{name} has no {old!r} any more: the mutant needs another place"
            source = source.replace(old, new)
        made = {}
        code = compile("from __future__ import annotations\n" + source, f"<mutant of {name}>", "exec")
        exec(code, function.__globals__, made)
        put(patched, owner, name, made[name])

    return apply


def replaced(owner, name, value):
    """Return what replaces a function."""
    return lambda patched: put(patched, owner, name, value)


def put(patched, owner, name, value):
    """Put a function into the place of another, and into every module of ours that has imported that."""
    function = getattr(owner, name)
    patched.setattr(owner, name, value)
    for module in [module for found, module in sys.modules.items() if found.startswith("session_manager.")]:
        for other, there in list(vars(module).items()):
            if there is function:
                patched.setattr(module, other, value)


def several(*mistakes):
    def apply(patched):
        for mistake in mistakes:
            mistake(patched)

    return apply


def rename_before_sync(files, name, buffers, check):
    temporary = f".tmp-{atomic.secrets.token_hex(8)}"
    fd = files.open_new(temporary)
    atomic.write_all(files, fd, buffers)
    check()
    files.rename(temporary, name)
    files.sync(fd)
    known = atomic.signature(files.fstat(fd))
    files.close(fd)
    files.sync_directory()
    return known


def in_place(files, name, buffers, check):
    check()
    try:
        fd = files.open_append(name)
    except FileNotFoundError:
        fd = files.open_new(name)
    files.truncate(fd, 0)
    atomic.write_all(files, fd, buffers)
    files.sync(fd)
    known = atomic.signature(files.fstat(fd))
    files.close(fd)
    files.sync_directory()
    return known


def reused_positions(change, session):
    after = _remove(change, session)
    return after if after is session else after._with(end=change.position)


_remove = changes.Remove._apply


def unlinking_release(lock):
    _release(lock)
    with suppress(FileNotFoundError):
        lock._files.unlink(".lock")


_release = directory_lock.DirectoryLock.release


def kept_descriptor(appender, file, base):
    """Return the descriptor of the first append to a file for each later one."""
    kept = vars(appender._files).setdefault("kept", {})
    if file.name not in kept:
        kept[file.name] = _opened(appender, file, base)
    elif file.facts is None or file.facts.version != base:
        appender._reader.current(file, (base,))
    return kept[file.name]


_opened = LogAppender._opened

LATE_ARCHIVE = """
    if self._archives.concerns(commit):
        self._archives.prepare(commit, lambda: bases[0])
"""

MUTANTS = (
    Mutant(
        "no fsync of the directory for many files",
        "crash states (snapshot, bursts)",
        edited(atomic, "_replaced", ("_sync_failure(files) if renamed else None", "None")),
    ),
    Mutant(
        "an error of one of many files is taken for success",
        "crash states (snapshot, bursts)",
        edited(
            atomic,
            "_replaced",
            ("except Exception as error:", "except Exception:"),
            ("outcomes[number] = error\n    finally", "outcomes[number] = new\n    finally"),
        ),
    ),
    Mutant("no fsync of the file", "crash states (snapshot)", edited(atomic, "_written", ("files.sync(fd)", "pass"))),
    Mutant(
        "no fsync of the directory",
        "crash states (snapshot)",
        edited(atomic, "_sync_failure", ("files.sync_directory()", "pass")),
    ),
    Mutant(
        "renamed before the fsync",
        "crash states (snapshot)",
        replaced(atomic, "replace", rename_before_sync),
    ),
    Mutant(
        "written in place",
        "crash states (snapshot)",
        replaced(atomic, "replace", in_place),
    ),
    Mutant(
        "the descriptor is synced again after a failure",
        "crash states (snapshot, errors)",
        edited(
            atomic,
            "_written",
            (
                "            except OSError as error:\n",
                "            except OSError as error:\n                files.sync(fd)\n",
            ),
            ("                raise _SyncFailedError(*error.args) from error\n", ""),
        ),
    ),
    Mutant(
        "an appended record is not synced",
        "crash states (log)",
        edited(LogAppender, "append", ("self._files.sync_data(fd)", "pass")),
    ),
    Mutant(
        "acknowledged before it is written",
        "crash states (snapshot)",
        several(
            edited(saving.Saving, "_write", ("store.write(commit)", "pass")),
            edited(
                saving.Saving, "_write_many", ("errors = store.write_many(commits)", "errors = [None] * len(commits)")
            ),
        ),
    ),
    Mutant(
        "clean before the write",
        "every call (snapshot, save)",
        several(
            edited(
                saving.Saving,
                "_write",
                ("    try:\n", "    self.note(commit, None)\n    try:\n"),
                ("        self.note(commit, error)\n", "        pass\n"),
                ("    with lock:\n        residents.land(commit, begun, landed)\n", ""),
            ),
            edited(
                saving.Saving,
                "_write_many",
                ("    try:\n", "    for one in commits:\n        self.note(one, None)\n    try:\n"),
                ("        self.note(commit, error)\n", "        pass\n"),
            ),
        ),
    ),
    Mutant(
        "the error of a sync is ignored",
        "crash states (log, errors)",
        edited(
            LogAppender,
            "append",
            (
                "        self._files.sync_data(fd)\n",
                "        try:\n            self._files.sync_data(fd)\n        except OSError:\n            pass\n",
            ),
        ),
    ),
    Mutant(
        "records of a burst are not synced",
        "crash states (log, bursts)",
        edited(LogAppender, "_sync", ("self._files.sync_data(one.fd)", "pass")),
    ),
    Mutant(
        "the error of a sync in a burst is ignored",
        "crash states (log, bursts)",
        edited(LogAppender, "_sync", ("one.failure = error", "pass")),
    ),
    Mutant(
        "a failed append is not cut back",
        "every call (log, save)",
        edited(
            LogAppender,
            "_cut_back",
            ("self._files.truncate(fd, facts.signature[2])", "pass"),
            ("self._files.sync(fd)", "pass"),
        ),
    ),
    Mutant(
        "a stale descriptor after a compaction",
        "crash states (log)",
        several(
            replaced(LogAppender, "_opened", kept_descriptor),
            replaced(LogAppender, "_close", lambda appender, fd: None),
            edited(LogAppender, "append", ("self._files.close(fd)", "pass")),
        ),
    ),
    Mutant("no CRC check of a log", "flipped bits (log)", replaced(log_replay, "damaged", lambda lines: None)),
    Mutant(
        "no CRC check of a snapshot",
        "flipped bits (snapshot)",
        edited(snapshot_format, "_checked_body", ("if data[stop:] != (b", "if False and data[stop:] != (b")),
    ),
    Mutant(
        "appended without looking at the torn end",
        "crash states (log)",
        edited(LogAppender, "_opened", ("if facts.torn is not None:", "if False:")),
    ),
    Mutant(
        "repaired without the lock",
        "two openers",
        edited(
            session_directory.SessionDirectory,
            "_open",
            (
                "    if not self.read_only:\n",
                "    remove_orphans(self.files, self.listed())\n    if not self.read_only:\n",
            ),
        ),
    ),
    Mutant("no lock", "two openers", replaced(directory_lock.WriterLock, "acquire", lambda lock: True)),
    Mutant(
        "the lock file is deleted",
        "two openers",
        replaced(directory_lock.DirectoryLock, "release", unlinking_release),
    ),
    Mutant(
        "locked after reading",
        "a lock that is handed over",
        edited(
            session_directory.SessionDirectory,
            "_open",
            ("    if not self.read_only:\n", "    self.other_names = self.listed()\n    if not self.read_only:\n"),
            (
                "        self._check_place()\n    self.other_names = self._checked()\n",
                "        self._check_place()\n",
            ),
        ),
    ),
    Mutant(
        "synchronous=NORMAL",
        "SQLite's commits",
        lambda patched: patched.setattr(
            sqlite_opening,
            "_WRITER",
            tuple(one.replace("synchronous = FULL", "synchronous = NORMAL") for one in sqlite_opening._WRITER),
        ),
    ),
    Mutant(
        "what became of a commit is not asked",
        "SQLite's commits",
        replaced(SQLiteStore, "landed", lambda store, commit: False),
    ),
    Mutant(
        "a fixed temporary name",
        "crash states (snapshot)",
        edited(atomic, "_written", ('f".tmp-{secrets.token_hex(8)}"', '".tmp-0123456789abcdef"')),
    ),
    Mutant(
        "appended in text mode",
        "crash states (log)",
        edited(
            LogAppender,
            "_written",
            ("(fd, record) != size", '(fd, [one.replace(b"\\n", b"\\r\\n") for one in record]) < size'),
        ),
    ),
    Mutant(
        "no loop for short writes",
        "short writes (snapshot)",
        edited(atomic, "write_all", ("while left:", "if left:")),
    ),
    Mutant(
        "the version is not checked (snapshot)",
        "another program (snapshot)",
        replaced(SnapshotStore, "_check_base", lambda store, key, name, bases: None),
    ),
    Mutant(
        "the version is not checked (log)",
        "another program (log)",
        edited(LogAppender, "_opened", ("facts.signature == signature(status)", "True")),
    ),
    Mutant(
        "the mark of a clean end stays while there is a writer",
        "crash states (log, killed)",
        edited(clean_mark.CleanMark, "__init__", ("files.unlink(_NAME)", "pass")),
    ),
    Mutant(
        "what a killed process left is believed (log)",
        "crash states (log, killed)",
        replaced(log_reader.LogReader, "_believe", lambda reader, file: None),
    ),
    Mutant(
        "what a killed process left is believed (directory)",
        "crash states (snapshot, killed)",
        edited(session_directory.SessionDirectory, "_open", ("self.files.sync_directory()", "pass")),
    ),
    Mutant(
        "positions are used twice",
        "crash states (snapshot, removals)",
        replaced(changes.Remove, "_apply", reused_positions),
    ),
    Mutant(
        "the archive after the session",
        "crash states (snapshot)",
        edited(
            SnapshotStore,
            "_replace",
            (
                "    if archives:\n        self._archives.prepare(commit, partial(self._actual, key, self._directory.name(key), bases))\n",
                "",
            ),
            (
                "    left = self._archives.finish(commit) if archives else None\n",
                LATE_ARCHIVE + "    left = self._archives.finish(commit)\n",
            ),
        ),
    ),
    Mutant(
        "every line of an archive counts",
        "crash states (snapshot)",
        edited(archive_format._Scan, "run", ("int(head[3]) <= self.version.revision", "True")),
    ),
    Mutant(
        "what a failed save archived is not cut off",
        "crash states (snapshot, errors)",
        edited(
            archive_files.ArchiveFiles,
            "concerns",
            ("return commit.spared is not None or key not in self._facts", "return False"),
        ),
    ),
    Mutant(
        "a deletion leaves no mark",
        "crash states (snapshot, archives)",
        replaced(archive_files.ArchiveFiles, "mark_of", lambda archives, key: None),
    ),
    Mutant(
        "an archive is made before its mark",
        "crash states (snapshot, archives)",
        replaced(archive_marks.ArchiveMarks, "put", lambda marks, name: None),
    ),
    Mutant(
        "a deletion is not synced",
        "crash states (snapshot, removals)",
        edited(
            session_directory.SessionDirectory,
            "remove",
            (
                "    self.names.discard(name)\n    try:\n        self.files.sync_directory()",
                "    self.names.discard(name)\n    try:\n        pass",
            ),
        ),
    ),
    Mutant(
        "the temporary file of a failed save stays",
        "every call (snapshot, save)",
        replaced(atomic, "_discard", lambda files, name: None),
    ),
    Mutant(
        "the descriptor of a failed save stays open",
        "every call (snapshot, save)",
        edited(
            atomic,
            "_written",
            (
                "            with contextlib.suppress(OSError):\n                files.close(fd)\n            raise",
                "            raise",
            ),
        ),
    ),
)


@contextmanager
def applied(mutant):
    """Make the mistake for a while."""
    with pytest.MonkeyPatch.context() as patched:
        mutant.apply(patched)
        yield
