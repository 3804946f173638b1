"""Reading a file whole, and replacing one so that a power cut leaves the old one or the new one.

The order of a replacement: everything is encoded → a temporary file in the same directory, new (``O_EXCL``), 0600, with
a random name → written in a loop → ``fsync`` → closed → the file to be replaced is checked → renamed over it →
``fsync`` of the directory → done. Without the first sync the new name may hold nothing after a power cut, without the
second it may not be there (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).

A sync that failed is never tried again on the same file: Linux has marked the pages clean, and a second one succeeds
without having written them (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX
ATC 2020). The file is thrown away, and one fresh attempt is made from memory.

Several files at once take the same steps in the same order. All temporary files are written and synced before the first
rename, by several threads, since a journal commits simultaneous syncs together. One sync of the directory serves all renames.
The old files are open meanwhile, and several threads close them at the end: only then does the file system free what they
take on the disk. Otherwise each rename does that, and keeps the next one waiting for the disk.
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import re
import secrets
import stat as stat_module
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from session_manager.frozen import Frozen
from session_manager.stores.files.filesystem import Files

__all__ = [
    "AT_ONCE",
    "CROWDED",
    "NotRegularError",
    "OutcomeUnknownError",
    "Replacement",
    "Signature",
    "at_once",
    "is_orphan",
    "read_pieces",
    "read_start",
    "read_whole",
    "remove_orphans",
    "replace",
    "replace_many",
    "signature",
    "write_all",
]

T = TypeVar("T")

_ORPHAN = re.compile(r"\.tmp-[0-9a-f]{16}\Z")
#: The largest read, in bytes: a file of one read is not copied once more.
_CHUNK = 1024 * 1024 * 1024
#: A larger file is judged before it is read whole, by so many of its first bytes.
_LARGE, _HEAD = 64 * 1024, 4096
_PIECE = 8192
#: How much of a file is in RAM that is read in pieces.
_BIG_PIECE = 1024 * 1024
#: How many files are synced at once.
_THREADS = 8
#: How many bytes a caller gathers for one writing of many files; a single file may have more.
AT_ONCE = 16 * 1024 * 1024
#: Errors after which a caller tries each of many files alone: one file at a time needs less room and fewer descriptors.
CROWDED = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)

#: A file's device, inode, size in bytes, and time of modification in nanoseconds.
Signature = tuple[int, int, int, int]

#: Returns the signature of a file, which tells whether it is still the same file with the same content.
signature: Callable[[os.stat_result], Signature] = operator.attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns")


class OutcomeUnknownError(Exception):
    """The file may have been replaced, but that may not survive a power cut. The cause is the `OSError`."""


class NotRegularError(Exception):
    """A name is a link, a directory, a FIFO, …: ``args[0]`` says which."""


def read_whole(
    files: Files, name: str, until: bytes | None = None, *, judge: Callable[[bytes], object] | None = None
) -> tuple[bytes, os.stat_result]:
    """Return a file's bytes, and its status.

    :param until: read no further than the chunk in which this byte first occurs.
    :param judge: called with the first bytes of a large file. If it raises, the rest is not read. So an endless or a
        sparse file that is no session takes no memory.
    :raises NotRegularError: if it is not a regular file.
    :raises OSError: if it cannot be read, or is not there.
    """
    fd, status = _open_regular(files, name)
    try:
        if judge is not None and status.st_size > _LARGE:
            judge(files.read_at(fd, _HEAD, 0))
        chunks: list[bytes] = []
        left = status.st_size + 1 if until is None else 0
        while chunk := files.read(fd, min(max(left, _PIECE), _CHUNK)):
            chunks.append(chunk)
            left -= len(chunk)
            if until is not None and until in chunk:
                break
    finally:
        files.close(fd)
    return b"".join(chunks), status


def read_start(files: Files, name: str, size: int) -> bytes:
    """Return the first bytes of a file, at most so many.

    :raises NotRegularError: if it is not a regular file.
    :raises OSError: if it cannot be read, or is not there.
    """
    fd, _ = _open_regular(files, name)
    try:
        return files.read_at(fd, size, 0)
    finally:
        files.close(fd)


def read_pieces(files: Files, name: str) -> Iterator[bytes]:
    """Iterate over the bytes of a file, a piece at a time.

    :raises NotRegularError: if it is not a regular file.
    :raises OSError: if it cannot be read, or is not there.
    """
    fd, _ = _open_regular(files, name)
    try:
        while piece := files.read(fd, _BIG_PIECE):
            yield piece
    finally:
        files.close(fd)


def _open_regular(files: Files, name: str) -> tuple[int, os.stat_result]:
    fd = None
    try:
        fd = files.open_read(name)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise
    if fd is None:
        raise NotRegularError("a symbolic link or a special file")
    try:
        status = files.fstat(fd)
        if not stat_module.S_ISREG(status.st_mode):
            raise NotRegularError("a directory" if stat_module.S_ISDIR(status.st_mode) else "a special file")
    except BaseException:
        files.close(fd)
        raise
    return fd, status


def replace(files: Files, name: str, buffers: Sequence[bytes], check: Callable[[], None]) -> Signature:
    """Replace a file, or create it; when this returns, it survives a power cut.

    :param buffers: the bytes of the new file.
    :param check: called just before the rename; if it raises, the old file stays as it is.
    :returns: the signature of the new file.
    :raises OSError: the old file is untouched, and nothing else is left behind.
    :raises OutcomeUnknownError: the file was renamed, but the directory was not synced.
    """
    temporary, new = _durable(files, buffers)
    renamed = False
    try:
        check()
        _rename(files, temporary, name)
        renamed = True
    finally:
        if not renamed:
            _discard(files, temporary)
    failure = _sync_failure(files)
    if failure is not None:
        raise OutcomeUnknownError from failure
    return new


class Replacement(Frozen, frozen=True):
    """The arguments of `replace` for one file."""

    name: str
    buffers: Sequence[bytes]
    check: Callable[[], None]


def replace_many(files: Files, wanted: Sequence[Replacement]) -> list[Signature | Exception]:
    """Replace several files, each as `replace` does.

    :returns: for each file, what `replace` would return or raise. After an interrupt each file is the old one or the new one.
    """
    old: deque[int] = deque()
    try:
        return _replaced(files, wanted, old)
    finally:
        _close_all(files, old)


def _replaced(files: Files, wanted: Sequence[Replacement], old: deque[int]) -> list[Signature | Exception]:
    """Replace files, and return the outcomes.

    :param old: gets descriptors of the old files.
    """
    written: dict[int, tuple[str, Signature]] = {}
    outcomes: list[Signature | Exception] = [OutcomeUnknownError()] * len(wanted)

    def write(number: int) -> None:
        try:
            written[number] = _durable(files, wanted[number].buffers)
        except OSError as error:
            outcomes[number] = error

    renamed: list[int] = []
    try:
        at_once(write, range(len(wanted)))
        for number, (temporary, new) in sorted(written.items()):
            one = wanted[number]
            try:
                one.check()
                old.extend(files.open_old(one.name))
                _rename(files, temporary, one.name)
                renamed.append(number)
                outcomes[number] = new
            except Exception as error:  # noqa: BLE001 - it is that file's outcome
                outcomes[number] = error
    finally:
        for number in written.keys() - set(renamed):
            _discard(files, written[number][0])
    failure = _sync_failure(files) if renamed else None
    if failure is not None:
        for number in renamed:
            outcomes[number] = unknown = OutcomeUnknownError()
            unknown.__cause__ = failure
    return outcomes


def _close_all(files: Files, left: deque[int]) -> None:
    """Close files that were replaced. An error tells nothing: nobody has written to them."""

    def close(_: int) -> None:
        with contextlib.suppress(OSError):
            files.close(left.popleft())

    try:
        at_once(close, range(len(left)))
    finally:
        while left:  # an interrupt
            close(0)


def at_once(step: Callable[[T], None], items: Iterable[T]) -> None:
    """Call a function with each of some items, in this thread and, for many items, in further threads.

    Fewer threads do it if no more can be started. An exception of any of them comes out here; after it, and after an
    interrupt, no further item is begun. No thread is left.
    """
    left = deque(items)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _each(left, step)
        except BaseException as error:  # noqa: BLE001 - it comes out in the caller's thread
            left.clear()
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(min(len(left), _THREADS) - 1)]
    try:
        with contextlib.suppress(RuntimeError):  # no more threads are to be had
            for thread in threads:
                thread.start()
        work()
    finally:
        left.clear()
        _join(threads)
    if failures:
        raise failures[0]


def _each(left: deque[T], step: Callable[[T], None]) -> None:
    while True:
        try:
            item = left.popleft()
        except IndexError:  # another thread took the last one
            return
        step(item)


def _join(threads: Sequence[threading.Thread]) -> None:
    """Wait for threads to end, also after an interrupt: the caller then removes the files that they wrote."""
    interrupt = None
    left = deque(threads)
    while left:
        try:
            _join_each(left)
        except BaseException as error:  # noqa: BLE001 - it comes out in the end
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _join_each(left: deque[threading.Thread]) -> None:
    while left:
        while left[0].is_alive():
            left[0].join()
        left.popleft()


def _durable(files: Files, buffers: Sequence[bytes]) -> tuple[str, Signature]:
    """Write a temporary file and make it durable, in a second attempt if the first one's sync fails; return its name."""
    try:
        return _written(files, buffers)
    except _SyncFailedError:
        pass
    return _written(files, buffers)


class _SyncFailedError(OSError):
    pass


def _written(files: Files, buffers: Sequence[bytes]) -> tuple[str, Signature]:
    """Write a temporary file and make it durable; return its name."""
    temporary = f".tmp-{secrets.token_hex(8)}"
    complete = False
    try:
        fd = files.open_new(temporary)
        try:
            write_all(files, fd, buffers)
            try:
                files.sync(fd)
            except OSError as error:
                raise _SyncFailedError(*error.args) from error
            new = signature(files.fstat(fd))
        except BaseException:
            with contextlib.suppress(OSError):
                files.close(fd)
            raise
        files.close(fd)
        complete = True
    finally:
        if not complete:
            _discard(files, temporary)
    return temporary, new


def write_all(files: Files, fd: int, buffers: Sequence[bytes]) -> None:
    """Write all of some buffers, in order.

    :raises OSError: if that is not possible; some of it may have been written.
    """
    left: list[bytes | memoryview] = [buffer for buffer in buffers if buffer]
    while left:
        written = files.write(fd, left)
        if written <= 0:
            raise OSError(errno.EIO, "nothing was written")
        if written == sum(map(len, left)):
            return
        done = 0
        while done < len(left) and written >= len(left[done]):
            written -= len(left[done])
            done += 1
        del left[:done]
        if written:
            left[0] = memoryview(left[0])[written:]


def _rename(files: Files, temporary: str, name: str) -> None:
    """Rename a temporary file. If that fails, but its name is gone, the outcome is unknown."""
    try:
        files.rename(temporary, name)
    except OSError as error:
        try:
            there = files.stat(temporary) is not None
        except OSError:
            there = False
        if there:
            raise
        raise OutcomeUnknownError from error


def _sync_failure(files: Files) -> OSError | None:
    try:
        files.sync_directory()
    except OSError as error:
        return error
    return None


def _discard(files: Files, name: str) -> None:
    with contextlib.suppress(OSError):
        files.unlink(name)


def is_orphan(name: str) -> bool:
    """Say whether a file is a temporary one, by its name. Its writer may be at work, or was killed."""
    return _ORPHAN.match(name) is not None


def remove_orphans(files: Files, names: Sequence[str]) -> None:
    """Remove the temporary files that a killed writer left. Call it only under the directory's lock."""
    for name in names:
        if is_orphan(name):
            _discard(files, name)
