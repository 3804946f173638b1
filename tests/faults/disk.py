"""A simulated disk: a directory in RAM that knows what a power cut may leave of it.

`SimulatedFiles` has the operations of `session_manager.stores.files.filesystem.Files`, on a `Disk`. What a file or the directory was told is
**live** at once; it is **durable** when a sync of that file, or of the directory, has returned. `Disk.freeze` takes note of what a
power cut at this moment could leave, and `Frozen.disks` builds all of it:

* of what was not synced in the directory (names created, renamed, removed) any subset, in order. A rename is one step: the name
  means the old file or the new one. A name means the file, whose bytes are as durable as they are: syncing a file does not make its
  name durable, nor the other way round;
* of the writes and cuts of a file that were not synced any subset, in order. Of the last one in it there may also be only its
  beginning (torn), its length with zeros instead of its bytes, its beginning and then zeros, or zeros and then its end.

Subsets are exhaustive up to `EXHAUSTIVE` operations; of more, some are drawn by seed, and the shortest and longest are always there.

**A sync that fails** drops the bytes that it had to write, as Linux does (Rebello et al., USENIX ATC 2020). The bytes are live, and a
later sync of the file succeeds. After a power cut they may be gone all the same. A directory whose sync failed is only not synced.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import stat
import zlib
from functools import lru_cache

import pytest

from session_manager.stores.files import directory_lock, session_directory
from session_manager.stores.files.filesystem import Files
from session_manager.testing import Clock
from tests.support.faulty_files import FaultyFiles

#: Of so many unsynced operations every subset is built.
EXHAUSTIVE = 6
#: Of more, so many subsets are drawn.
DRAWN = 40
#: Of several files' variants, so many combinations are drawn when there are more.
COMBINED = 120
#: From how many bytes on a log is compacted in a simulation.
COMPACT_FROM = 2_000
_FIRST_DESCRIPTOR = 1_000_000


#: Changes of names that tell of no file.
WITHOUT_FILE = ("remove", "exchange")


class KilledError(BaseException):
    """The process is dead: nothing that it still does reaches the disk."""


class Status:
    """What `os.stat` says, as far as the library asks."""

    __slots__ = ("st_dev", "st_ino", "st_mode", "st_mtime_ns", "st_nlink", "st_size", "st_uid")

    def __init__(self, inode):
        self.st_mode = stat.S_IFREG | 0o600
        self.st_dev, self.st_ino, self.st_nlink, self.st_uid = 7, inode.number, 1, 0
        self.st_size, self.st_mtime_ns = len(inode.data), inode.modified


class Inode:
    """A file: its bytes, those that are durable, and what was done since then.

    An operation is ``(offset, bytes, lost)``; with `None` for the bytes the file was cut or grown to the offset. ``lost``: a sync
    failed, and no later one makes it durable.
    """

    __slots__ = ("base", "data", "modified", "number", "operations")

    def __init__(self, number, data=b""):
        self.number = number
        self.data = bytearray(data)
        self.base = bytes(data)
        self.operations = []
        self.modified = number

    def do(self, offset, piece):
        self.operations.append((offset, piece, False))
        apply(self.data, offset, piece)

    def sync(self):
        """Make durable what no failed sync has lost. What was lost, and what came before it, can still be there or not."""
        lost = [number for number, operation in enumerate(self.operations) if operation[2]]
        if not lost:
            self.base, self.operations = bytes(self.data), []
        else:
            self.operations = [(*one[:2], one[2] or "done") for one in self.operations]

    def lose(self):
        self.operations = [(*one[:2], one[2] or True) for one in self.operations]


def apply(data, offset, piece):
    """Do one operation of a file to its bytes."""
    if piece is None and offset < len(data):
        del data[offset:]
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    if piece is not None:
        data[offset : offset + len(piece)] = piece


def exchange(names, one, other):
    """Let two names change places in a table of names."""
    first, second = names.pop(one, None), names.pop(other, None)
    names.update({name: inode for name, inode in ((one, second), (other, first)) if inode is not None})


class Disk:
    """A directory in RAM. Tests read `names` and `descriptors`; `changed` is called after each change of it.

    :param content: the files that are there, durable.
    """

    def __init__(self, content=None):
        self.inodes = itertools.count(1)
        self.ticks = itertools.count(1_000)
        self.numbers = itertools.count(_FIRST_DESCRIPTOR)
        self.names = {name: Inode(next(self.inodes), data) for name, data in (content or {}).items()}
        self.durable = dict(self.names)
        #: What was done to the names since the directory was synced: ``("set", name, inode)``, ``("rename", old, new, inode)``, …
        self.pending = []
        #: Open descriptors: the inode, whether it appends, and where it reads.
        self.descriptors = {}
        self.changed = lambda: None

    def content(self):
        """Return the live bytes of each name."""
        return {name: bytes(inode.data) for name, inode in self.names.items()}

    def rename_in(self, names, change):
        """Do one change to a table of names."""
        kind, *rest = change
        if kind == "set":
            names[rest[0]] = rest[1]
        elif kind == "remove":
            names.pop(rest[0], None)
        elif kind == "exchange":
            exchange(names, *rest)
        else:
            old, new, inode = rest
            if names.get(old) is inode:
                del names[old]
            names[new] = inode

    def change(self, *change):
        self.pending.append(change)
        self.rename_in(self.names, change)

    def sync(self):
        self.durable, self.pending = dict(self.names), []

    def freeze(self):
        """Return what a power cut now may leave."""
        inodes = {id(inode): inode for inode in self.durable.values()}
        for change in self.pending:
            if change[0] not in WITHOUT_FILE:
                inodes[id(change[-1])] = change[-1]
        files = {one.number: (one.base, tuple(one.operations)) for one in inodes.values()}
        names = {name: inode.number for name, inode in self.durable.items()}
        pending = [one if one[0] in WITHOUT_FILE else (*one[:-1], one[-1].number) for one in self.pending]
        return Frozen(names, tuple(pending), files)


class Frozen:
    """What a power cut at one moment may leave."""

    def __init__(self, names, pending, files):
        self.names, self.pending, self.files = names, pending, files

    def disks(self, *, fine=False):
        """Give the content of every disk that may be left, as tuples of (name, bytes); some more than once.

        :param fine: tear the last write at every byte, not at some.
        """
        for chosen in subsets(self.pending):
            names = dict(self.names)
            for kind, *rest in chosen:
                if kind == "set":
                    names[rest[0]] = rest[1]
                elif kind == "remove":
                    names.pop(rest[0], None)
                elif kind == "exchange":
                    exchange(names, *rest)
                else:
                    old, new, number = rest
                    if names.get(old) == number:
                        del names[old]
                    names[new] = number
            order = sorted(names.items())
            numbers = [number for _, number in order]
            for contents in combined([variants(*self.files[number], fine) for number in numbers]):
                yield tuple((name, data) for (name, _), data in zip(order, contents, strict=True))


def subsets(operations):
    """Return subsets of some operations, each in order: all of them, or of many some."""
    count = len(operations)
    if not count:
        return [()]
    if count <= EXHAUSTIVE:
        picked = itertools.product((False, True), repeat=count)
    else:
        draw = random.Random(count)
        picked = [tuple(number < cut for number in range(count)) for cut in range(count + 1)]
        picked += [tuple(number != left for number in range(count)) for left in range(count)]
        picked += [tuple(number == only for number in range(count)) for only in range(count)]
        picked += [tuple(draw.random() < 0.5 for _ in range(count)) for _ in range(DRAWN)]
    return [tuple(itertools.compress(operations, bits)) for bits in picked]


def combined(choices):
    """Give combinations of the variants of several files: all of them, or of many some."""
    total = 1
    for choice in choices:
        total *= len(choice)
    several = sum(len(choice) > 1 for choice in choices)
    if several < 2 or total <= COMBINED:
        yield from itertools.product(*choices)
        return
    for number, choice in enumerate(choices):  # each variant of each once, and some of all together
        for one in choice:
            yield tuple(one if place == number else other[0] for place, other in enumerate(choices))
            yield tuple(one if place == number else other[-1] for place, other in enumerate(choices))
    draw = random.Random(total)
    for _ in range(COMBINED):
        yield tuple(draw.choice(choice) for choice in choices)


@lru_cache(maxsize=256)
def variants(base, operations, fine):
    """Return the contents that a file may be left with, distinct, what is durable first and what is live last."""
    optional = [number for number, one in enumerate(operations) if one[2] != "done"]
    found = {}
    for chosen in subsets(optional):
        there = set(chosen)
        kept = [one for number, one in enumerate(operations) if one[2] == "done" or number in there]
        for data in _with_last(base, kept, fine, torn=bool(chosen)):
            found.pop(data, None)
            found[data] = None
    return tuple(found)


def _with_last(base, operations, fine, *, torn):
    """Give a file's bytes after some operations, of which the last may be torn."""
    data = bytearray(base)
    for offset, piece, _ in operations[:-1]:
        apply(data, offset, piece)
    if operations:
        offset, piece, _ = operations[-1]
        if piece is not None and torn:
            for part in torn_pieces(bytes(piece), fine):
                one = bytearray(data)
                apply(one, offset, part)
                yield bytes(one)
        apply(data, offset, piece)
    yield bytes(data)


def torn_pieces(piece, fine):
    """Give what may be left of a write that is not whole."""
    size = len(piece)
    for cut in range(1, size) if fine else cuts(piece):
        zeros = bytes(size - cut)
        yield piece[:cut]
        yield piece[:cut] + zeros
        yield bytes(cut) + piece[cut:]
    yield bytes(size)


def cuts(piece):
    """Return places to cut a write at: near both ends, at what its format is made of, in the middle, and some more."""
    size = len(piece)
    places = {1, 2, size // 2, size - 22, size - 21, size - 3, size - 2, size - 1}
    for mark in (b"\n", b"\t", b'"crc32"', b"]"):
        place = piece.find(mark)
        places |= {place, place + 1} if place >= 0 else set()
    draw = random.Random(zlib.crc32(piece))
    places |= {draw.randrange(1, max(size, 2)) for _ in range(6)}
    return sorted(place for place in places if 0 < place < size)


class SimulatedFiles(Files):
    """The operations of `Files` on a `Disk`.

    :param path: what the store calls the directory: a name in errors.
    :param disk: the directory.
    """

    def __init__(self, path, disk):
        self.path, self._fd, self.disk = path, None, disk
        self.dead = False
        #: After so many changes of the disk the process is dead.
        self.fuse = None

    def _inode(self, name):
        self._live()
        inode = self.disk.names.get(name)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return inode

    def _live(self):
        if self.dead:
            raise KilledError

    def _changing(self):
        """Begin a change: the process may be dead before it."""
        self._live()
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                self.dead = True
                raise KilledError

    def _opened(self, inode, appends):
        number = next(self.disk.numbers)
        self.disk.descriptors[number] = [inode, appends, 0]
        return number

    def names(self):
        self._live()
        return list(self.disk.names)

    def stat(self, name):
        self._live()
        inode = self.disk.names.get(name)
        return None if inode is None else Status(inode)

    def fstat(self, fd):
        self._live()
        return Status(self.disk.descriptors[fd][0])

    def open_read(self, name):
        assert not name.startswith(".tmp-"), "what is half written is never read"
        return self._opened(self._inode(name), appends=False)

    def open_new(self, name):
        self._changing()
        if name in self.disk.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        inode = Inode(next(self.disk.inodes))
        inode.modified = next(self.disk.ticks)
        self.disk.change("set", name, inode)
        self.disk.changed()
        return self._opened(inode, appends=True)

    def open_append(self, name):
        return self._opened(self._inode(name), appends=True)

    def read(self, fd, size):
        self._live()
        opened = self.disk.descriptors[fd]
        data = bytes(opened[0].data[opened[2] : opened[2] + size])
        opened[2] += len(data)
        return data

    def read_at(self, fd, size, offset):
        self._live()
        return bytes(self.disk.descriptors[fd][0].data[offset : offset + size])

    def write(self, fd, buffers):
        self._changing()
        inode, appends, _ = self.disk.descriptors[fd]
        assert appends
        piece = b"".join(buffers)
        inode.do(len(inode.data), piece)
        inode.modified = next(self.disk.ticks)
        self.disk.changed()
        return len(piece)

    def sync(self, fd):
        self._changing()
        self.disk.descriptors[fd][0].sync()
        self.disk.changed()

    sync_data = sync

    def lose(self, fd):
        """Do what a sync does that fails."""
        self.disk.descriptors[fd][0].lose()

    def truncate(self, fd, size):
        self._changing()
        inode = self.disk.descriptors[fd][0]
        inode.do(size, None)
        inode.modified = next(self.disk.ticks)
        self.disk.changed()

    def close(self, fd):
        self._live()
        del self.disk.descriptors[fd]

    def rename(self, source, target):
        inode = self._inode(source)
        self._changing()
        self.disk.change("rename", source, target, inode)
        self.disk.changed()

    def rename_new(self, source, target):
        if target in self.disk.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        SimulatedFiles.rename(self, source, target)

    def exchange(self, one, other):
        self._inode(one), self._inode(other)
        self._changing()
        self.disk.change("exchange", one, other)
        self.disk.changed()

    def unlink(self, name):
        self._inode(name)
        self._changing()
        self.disk.change("remove", name)
        self.disk.changed()

    def sync_directory(self):
        self._changing()
        self.disk.sync()
        self.disk.changed()

    def close_directory(self):
        """Close nothing: a killed process does that, too."""


class FaultyDisk(FaultyFiles, SimulatedFiles):
    """A simulated disk whose operations fail on demand, too. A sync that fails has lost what it was to write.

    :param path: what the store calls the directory.
    :param disk: the directory.
    """

    def __init__(self, path, disk):
        self.begin()
        SimulatedFiles.__init__(self, path, disk)
        FaultyFiles.opened = self

    def _operate(self, name, arguments):
        self._live()
        try:
            return super()._operate(name, arguments)
        except OSError:
            if name in ("sync", "sync_data"):
                self.lose(*arguments)
            raise


class NoLock:
    """Stands for the lock of the operating system, which is not the disk's."""

    is_open = True

    def __init__(self, *_):
        pass

    def acquire(self):
        return True

    def release(self):
        pass

    def close(self):
        self.is_open = False


@contextlib.contextmanager
def simulation():
    """Let stores open a directory that is nowhere. What is random there is the same each time, and so is the order of things; logs are compacted when they are small."""
    numbers = itertools.count(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session_directory, "create_directory", lambda path: None)
        patched.setattr(directory_lock.DirectoryLock, "_sign", sign)
        patched.setattr(directory_lock, "WriterLock", NoLock)
        patched.setattr("session_manager.stores.log.file._COMPACT_FROM", COMPACT_FROM)
        patched.setattr("session_manager.stores.files.atomic._THREADS", 1)
        patched.setattr("secrets.token_hex", lambda size: f"{next(numbers):0{2 * size}x}")
        yield


def sign(lock):
    """Write ``.holder`` as it is written, but the same in every process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(directory_lock.os, "getpid", lambda: 1)
        patched.setattr(directory_lock.platform, "node", lambda: "host")
        patched.setattr(directory_lock, "utc_now", Clock())
        _sign(lock)


_sign = directory_lock.DirectoryLock._sign
