"""A disk on which a sync fails once, and the next one succeeds, although the dropped bytes will not survive a power cut.

Linux does it like that: after a failed ``fsync`` the pages count as clean. A read still shows them, and they are never written.
"""

from __future__ import annotations

import errno
import operator
import os

import attrs

from session_manager.stores.files.filesystem import Files


@attrs.define
class Inode:
    """A file, under whatever name: what of it is not on the disk."""

    #: Keeps the inode from being used again, and its bytes readable when it has no name any more.
    fd: int
    #: From where to where it was written since the last sync.
    dirty: list[tuple[int, int]] = attrs.Factory(list)
    #: What a failed sync has dropped.
    lost: list[tuple[int, int]] = attrs.Factory(list)

    def truncate(self, size: int) -> None:
        for ranges in (self.dirty, self.lost):
            ranges[:] = [(first, min(last, size)) for first, last in ranges if first < size]

    def on_disk(self) -> bytes:
        """Return what a power cut leaves of it: zeros where nothing was written."""
        data = bytearray(os.pread(self.fd, 1 << 30, 0))
        for first, last in [*self.dirty, *self.lost]:
            data[first:last] = bytes(last - first)
        return bytes(data)


@attrs.define
class Disk:
    """What of a directory is on the disk."""

    #: How many syncs go well before one fails; negative: all do.
    fuse: int = -1
    #: Names of the files of which a sync has failed; ``.`` is the directory.
    failed: list[str] = attrs.Factory(list)
    inodes: dict[tuple[int, int], Inode] = attrs.Factory(dict)
    #: What names a power cut leaves.
    names: dict[str, Inode] = attrs.Factory(dict)
    #: What has been done to names since the directory was synced: each name, and what has it now.
    pending: list[tuple[int, str, Inode | None]] = attrs.Factory(list)
    count: int = 0
    #: Of that, the new names that a failed sync has dropped: they are to be given again. What was removed can only be
    #: synced again.
    dropped: list[tuple[int, str, Inode | None]] = attrs.Factory(list)

    def fails(self) -> bool:
        """Count a sync, and say whether it is the one that fails."""
        if self.fuse < 0:
            return False
        self.fuse -= 1
        return self.fuse < 0

    def remount(self, path: str) -> None:
        """Make a directory of what a power cut leaves."""
        os.makedirs(path, 0o700)
        for name, inode in self.names.items():
            with open(os.open(os.path.join(path, name), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                file.write(inode.on_disk())

    def note(self, name: str, inode: Inode | None) -> None:
        """Take note of what has a name now."""
        self.count += 1
        self.pending.append((self.count, name, inode))

    def recall(self) -> None:
        """Let the next sync of the directory write what a failed one has dropped: as file systems with a journal do."""
        self.pending, self.dropped = sorted([*self.dropped, *self.pending], key=operator.itemgetter(0)), []

    def throw_away(self) -> None:
        for inode in self.inodes.values():
            os.close(inode.fd)


class ForgetfulFiles(Files):
    """A directory, new, on such a disk."""

    def __init__(self, path: str, disk: Disk) -> None:
        super().__init__(path)
        self.disk = disk
        self.names_of: dict[int, str] = {}
        #: Whether the process that opened it was killed: it changes nothing any more.
        self.killed = False

    def _live(self):
        if self.killed:
            raise OSError(errno.EIO, "killed")

    def _inode(self, status: os.stat_result, name: str | None = None) -> Inode:
        key = status.st_dev, status.st_ino
        if key not in self.disk.inodes:
            assert name is not None
            self.disk.inodes[key] = Inode(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd))
        return self.disk.inodes[key]

    def open_new(self, name):
        self._live()
        fd = super().open_new(name)
        self.disk.note(name, self._inode(os.fstat(fd), name))
        self.names_of[fd] = name
        return fd

    def open_append(self, name):
        self._live()
        fd = super().open_append(name)
        self._inode(os.fstat(fd), name)
        self.names_of[fd] = name
        return fd

    def open_read(self, name):
        fd = super().open_read(name)
        self._inode(os.fstat(fd), name)
        self.names_of[fd] = name
        return fd

    def write(self, fd, buffers):
        self._live()
        status = os.fstat(fd)
        written = super().write(fd, buffers)
        self._inode(status).dirty.append((status.st_size, status.st_size + written))
        return written

    def truncate(self, fd, size):
        self._live()
        super().truncate(fd, size)
        self._inode(os.fstat(fd)).truncate(size)

    def rename(self, source, target):
        self._live()
        inode = self._inode(os.stat(source, dir_fd=self._fd), source)
        super().rename(source, target)
        self.disk.note(source, None)
        self.disk.note(target, inode)

    def unlink(self, name):
        self._live()
        super().unlink(name)
        self.disk.note(name, None)

    def sync(self, fd):
        self._live()
        inode = self._inode(os.fstat(fd))
        if self.disk.fails():
            inode.lost += inode.dirty
            inode.dirty.clear()
            self.disk.failed.append(self.names_of[fd])
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        inode.dirty.clear()

    sync_data = sync

    def sync_directory(self):
        self._live()
        pending, self.disk.pending = self.disk.pending, []
        if self.disk.fails():
            self.disk.dropped += [one for one in pending if one[2] is not None]
            self.disk.pending = [one for one in pending if one[2] is None]
            self.disk.failed.append(".")
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        for number, name, inode in pending:
            self.disk.dropped = [one for one in self.disk.dropped if one[1] != name or one[0] > number]
            if inode is None:
                self.disk.names.pop(name, None)
            else:
                self.disk.names[name] = inode


class StubbornFiles(ForgetfulFiles):
    """Syncs again what could not be synced, and believes it, to see that it is seen."""

    def sync(self, fd):
        try:
            super().sync(fd)
        except OSError:
            super().sync(fd)

    sync_data = sync

    def sync_directory(self):
        try:
            super().sync_directory()
        except OSError:
            super().sync_directory()
