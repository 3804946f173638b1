"""A simulated power cut: each file, and each name, is left as it was at some moment since its last sync."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import attrs

from tests.support.faulty_files import FaultyFiles


@attrs.define(eq=False)
class Inode:
    """The contents that a file may have after a power cut: the synced one first, the current one last."""

    contents: list[bytes] = attrs.field(factory=lambda: [b""])


class PowerFiles(FaultyFiles):
    """`FaultyFiles` that note which bytes and names are durable. A failed sync makes nothing durable."""

    def __init__(self, path):
        #: Names of operations that fail for the time being.
        self.broken: frozenset[str] = frozenset()
        #: Files by their number in the file system, which may be given to another file later.
        self._inodes: dict[int, Inode] = {}
        #: The files that a name may stand for after a power cut, the newest last; `None` is no file.
        self._targets: dict[str, list[Inode | None]] = {}
        for entry in Path(path).iterdir():
            self._inodes[entry.stat().st_ino] = inode = Inode([entry.read_bytes()])
            self._targets[entry.name] = [inode]
        super().__init__(path)

    def _operate(self, name, arguments):
        if name in self.broken:
            raise OSError(errno.EIO, "EIO")
        if name == "write":
            arguments = (arguments[0], list(arguments[1]))
        try:
            result = super()._operate(name, arguments)
        except BaseException:
            if self.after and name not in ("sync", "sync_data", "sync_directory"):
                self._note(name, arguments, None)
            raise
        self._note(name, arguments, result)
        return result

    def _note(self, name, arguments, result):
        if name == "open_new" and result is not None:
            inode = self._inodes[os.fstat(result).st_ino] = Inode()
            self._point(arguments[0], inode)
        elif name in ("write", "truncate"):
            inode = self._inodes[os.fstat(arguments[0]).st_ino]
            inode.contents.append(Path(f"/proc/self/fd/{arguments[0]}").read_bytes())
        elif name in ("sync", "sync_data"):
            inode = self._inodes.get(os.fstat(arguments[0]).st_ino)
            if inode is not None:
                del inode.contents[:-1]
        elif name == "rename" and (inode := self._targets.get(arguments[0], [None])[-1]) is not None:
            self._point(arguments[1], inode)
            self._point(arguments[0], None)
        elif name == "unlink":
            self._point(arguments[0], None)
        elif name == "sync_directory":
            for targets in self._targets.values():
                del targets[:-1]

    def _point(self, name, inode):
        self._targets.setdefault(name, [None]).append(inode)

    def cut(self, path, chance, *, hidden=()):
        """Write into a directory what a power cut may leave of this one.

        :param chance: a `random.Random`.
        :param hidden: how the names begin of hidden files that are written, too.
        """
        for name, targets in sorted(self._targets.items()):
            inode = chance.choice(targets)
            if inode is not None and (not name.startswith(".") or name.startswith(hidden)):
                Path(path, name).write_bytes(_left(inode.contents, chance))


def _left(contents, chance):
    """Return the content that is left of a file: one of its contents, or only the beginning of an append."""
    number = chance.randrange(len(contents))
    if number and contents[number].startswith(contents[number - 1]):
        return contents[number][
            : chance.choice([len(contents[number]), chance.randint(len(contents[number - 1]), len(contents[number]))])
        ]
    return contents[number]
