"""A directory whose operations fail on demand."""

from __future__ import annotations

import os

from session_manager.files import Files

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
    "unlink",
    "sync_directory",
)


class FaultyFiles(Files):
    """Counts operations, and fails the n-th one, once or from then on, before or after doing it.

    A class, because a store opens it by itself; reach the instance by `opened`.
    """

    opened: FaultyFiles

    def __init__(self, path):
        self.begin()
        super().__init__(path)
        FaultyFiles.opened = self

    def begin(self):
        """Fail nothing so far."""
        self.log: list[str] = []
        self.countdown = 0
        self.error: BaseException | None = None
        self.sticky = False
        self.after = False
        self.short = False

    def fail(self, number, error, *, sticky=False, after=False):
        """Fail the operation with this number (from 1), counted from now."""
        self.log = []
        self.countdown, self.error, self.sticky, self.after = number, error, sticky, after

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
        fails = self.error is not None and (self.countdown == 0 or (self.sticky and self.countdown < 0))
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
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
