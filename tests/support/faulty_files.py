"""A directory whose operations fail on demand."""

from __future__ import annotations

import contextlib
import os

from session_manager.stores.files.filesystem import Files

OPERATIONS = (
    "names",
    "stat",
    "fstat",
    "open_read",
    "open_new",
    "open_append",
    "read",
    "read_at",
    "write",
    "sync",
    "sync_data",
    "truncate",
    "close",
    "rename",
    "rename_new",
    "unlink",
    "sync_directory",
)
#: The operations that a full disk still does.
SPARED = ("names", "stat", "fstat", "open_read", "open_append", "read", "read_at", "truncate", "close", "unlink")


class FaultyFiles(Files):
    """Counts operations, and fails the n-th one, once or from then on, before or after doing it.

    `SPARED` are the operations that a full disk still does.

    A class, because a store opens it by itself; reach the instance by `opened`.
    """

    opened: FaultyFiles

    def __init__(self, path):
        self.begin()
        super().__init__(path)
        FaultyFiles.opened = self

    def begin(self):
        """Begin without a fault."""
        self.log: list[str] = []
        self.countdown = 0
        self.error: BaseException | None = None
        self.sticky = False
        self.after = False
        self.spares = ()
        self.short = False

    def fail(self, number, error, *, sticky=False, after=False, spares=()):
        """Fail the operation with this number (from 1), counted from now.

        :param sticky: and all that follow, but those whose names are in `spares`.
        """
        self.log = []
        self.countdown, self.error, self.sticky, self.after = number, error, sticky, after
        self.spares = spares

    def heal(self):
        """Work from now on."""
        self.error = None
        self.short = False

    @property
    def struck(self):
        """Whether the fault was reached."""
        return self.countdown <= 0

    def _operate(self, name, arguments):
        operation = getattr(super(), name)
        self.log.append(name)
        self.countdown -= 1
        goes_on = self.sticky and self.countdown < 0 and name not in self.spares
        fails = self.error is not None and (self.countdown == 0 or goes_on)
        if not fails:
            return operation(*arguments)
        if self.after or name == "close":
            result = operation(*arguments)
            if name.startswith("open"):
                super().close(result)
        raise self.error


def _operation(name):
    def operate(self, *arguments):
        return self._operate(name, arguments)

    return operate


for _name in OPERATIONS:
    setattr(FaultyFiles, _name, _operation(_name))


_write = FaultyFiles.write


def _short_write(self, fd, buffers):
    if not self.short:
        return _write(self, fd, buffers)
    return _write(self, fd, [bytes(buffers[0][:7])])


FaultyFiles.write = _short_write


def open_descriptors():
    """Return the descriptors that this process has open, and their files: a set, because one of an earlier test may be closed."""
    found = set()
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with contextlib.suppress(OSError):  # the descriptor of that list
            status = os.fstat(int(name))
            found.add((int(name), status.st_dev, status.st_ino))
    return found
