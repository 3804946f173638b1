"""A workload over the public API on a simulated disk: random steps, by a seed.

An error, a kill, and a power cut are steps, too, so that recovery is part of it, with points (`tests.faults.promises`) of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from datetime import timedelta

from session_manager import SaveError, StorageError, stores
from tests.faults.disk import KilledError
from tests.faults.promises import KEYS, Run
from tests.support.faulty_files import SPARED


def step(name):
    """Make a method a step of the workload."""

    def mark(method):
        STEPS[name] = method
        return method

    return mark


STEPS = {}


class Workload(Run):
    """Does random things, and has each session saved now and then."""

    def work(self, steps, only=None):
        """Do so many steps, and return the points.

        :param only: the names of the steps; all but bursts by default. With bursts, those are also what fails, is killed or cut.
        """
        names = tuple([name for name in STEPS if name != "burst"] if only is None else only)
        if "burst" in names:
            self.something = self.burst
        self.open()
        self.look()
        for _ in range(steps):
            self.clock.advance(self.draw.choice((1, 60, 3600)))
            STEPS[self.draw.choices(names, [WEIGHTS.get(name, 2) for name in names])[0]](self)
        self.files.heal()
        self.m.save_all()
        for key in KEYS:
            self.check_ram(key)
        self.look()
        self.m.close()
        self.store.close()
        self.point()
        return self.points

    def look(self):
        """Read everything."""
        for key in KEYS:
            self.m.get(key)
            list(self.m.get_archive(key))

    def key(self):
        return self.draw.choice(KEYS)

    def text(self):
        return f"{next(self.number)} " + "x" * self.draw.choice((0, 3, 40, 300))

    def message(self, **more):
        return {"role": self.draw.choice(("user", "assistant")), "content": self.text(), **more}

    def save(self, key):
        """Save, while in the middle of it another thread may save another session."""
        if self.draw.random() < 0.15:
            other = self.draw.choice([other for other in KEYS if other != key])
            self.m.add(other, self.message())

            def work():
                self.m.save(other)
                self.check_ram(other)

            self.meanwhile = (self.draw.randrange(5), work)
        self.m.save(key)
        self.meanwhile = None
        if self.raised:
            raise self.raised[0]
        self.check_ram(key)

    @step("add")
    def _add(self):
        key = self.key()
        self.m.add(key, *[self.message() for _ in range(self.draw.choice((1, 1, 3)))])
        self.save(key)

    @step("add unsaved")
    def _add_unsaved(self):
        self.m.add_message(self.key(), "user", self.text(), ref=f"r{next(self.refs)}", metadata={"n": 1.0})

    @step("turn")
    def _turn(self):
        key = self.key()
        with self.m.turn(key, f"tg:{self.draw.randrange(30)}") as turn:
            if not turn.done:
                turn.add_message("user", self.text())
                turn.add_message("assistant", self.text())
        self.check_ram(key)

    @step("truncate")
    def _truncate(self):
        key = self.key()
        self.m.truncate_history(key, self.draw.randrange(4))
        self.save(key)

    @step("summarize")
    def _summarize(self):
        key = self.key()
        self.m.summarize(key, lambda summary, messages: f"{len(summary)} and {len(messages)}", keep_last=2)
        self.check_ram(key)

    @step("summary and metadata")
    def _notes(self):
        key = self.key()
        self.m.set_summary(key, self.text())
        self.m.update_metadata(
            key, {"tier": self.draw.choice((1, 1.0, True)), "large": "x" * self.draw.choice((0, 1500))}
        )
        self.save(key)

    @step("edit")
    def _edit(self):
        key = self.key()
        self.m.update_last(key, self.message())
        if session := self.m.get(key):
            self.m.update_message(key, session.start, self.message())
        self.save(key)

    @step("remove")
    def _remove(self):
        key = self.key()
        self.m.remove_last(key)
        self.save(key)

    @step("replace")
    def _replace(self):
        key = self.key()
        self.m.set_history(key, [self.message(), self.message()])
        self.save(key)

    @step("clear")
    def _clear(self):
        key = self.key()
        if self.m.get(key) is not None:
            self.m.clear(key)
            self.save(key)

    @step("delete")
    def _delete(self):
        key = self.key()
        self.m.delete(key)
        assert self.m.get(key) is None

    @step("fork")
    def _fork(self):
        key, other = self.draw.sample(KEYS, 2)
        if self.m.get(key) is not None and self.m.get(other) is None:
            self.m.fork(key, other)
            self.check_ram(other)

    @step("compact")
    def _compact(self):
        self.m.compact(self.key())

    @step("save all")
    def _save_all(self):
        self.m.save_all()
        for key in KEYS:
            self.check_ram(key)

    @step("burst")
    def _burst(self):
        self.burst()
        for key in KEYS:
            self.check_ram(key)

    def burst(self):
        """Save several sessions at once."""
        for key in self.draw.sample(KEYS, self.draw.randrange(2, len(KEYS) + 1)):
            self.m.add(key, self.message())
        self.m.save_all()

    @step("expire")
    def _expire(self):
        self.clock.advance(timedelta(days=1))
        for key in self.m.expire(timedelta(days=self.draw.choice((1, 3)))):
            assert self.m.get(key) is None

    @step("copy")
    def _copy(self):
        """Copy what is stored to a store of the other kind, and go on there."""
        target = Workload("snapshot" if self.kind == "log" else "log", next(self.number))
        target.open()
        target.m.close()
        self.store.detach(self.m._residents)  # a copy takes no store that a manager has
        stores.copy(self.store, target.store)
        self.store.attach(self.m._residents)
        for key in KEYS:
            (copied,) = target.allowed[key]
            assert copied in self.allowed[key], key  # of what the copy has read there is one; the rest is not listed
        target.store.close()
        self.points += target.points

    @step("reopen")
    def _reopen(self):
        self.m.close()
        self.store.close()
        self.open(archive=self.draw.random() < 0.8)
        self.some()

    def some(self):
        """Read some sessions, in any order, or all, or none."""
        for key in self.draw.sample(KEYS, self.draw.randrange(len(KEYS) + 1)):
            self.m.get(key)

    @step("kill")
    def _kill(self):
        """Kill the process in the middle of something, and start another one."""
        self.files.fuse = self.draw.randrange(14)
        with contextlib.suppress(KilledError):
            self.something()
        self.leave()
        self.open(archive=self.draw.random() < 0.8)
        self.some()

    @step("power cut")
    def _cut(self):
        """Cut the power at one of the last moments, and start again with one of the disks that may be left."""
        first = len(self.points)
        self.something()
        self.leave()
        point = self.draw.choice(self.points[first:] or self.points[-1:])
        self.allowed = point.allowed
        self.put(dict(self.draw.choice(list(point.disk.disks()))))
        self.open(archive=self.draw.random() < 0.8)
        self.some()

    def something(self):
        key = self.key()
        self.m.add(key, self.message())
        self.m.truncate_history(key, self.draw.choice((1, 2, 99)))
        if self.draw.random() < 0.2:
            self.m.clear(key)
        self.m.save(key)
        if self.draw.random() < 0.3:
            self.m.compact(key)
        if self.draw.random() < 0.1:
            self.m.delete(key)

    @step("error")
    def _error(self):
        """Fail one operation, or all from then on, and go on when it works again."""
        number = self.draw.choice((errno.EIO, errno.ENOSPC))
        self.files.fail(
            self.draw.randrange(1, 16),
            OSError(number, os.strerror(number)),
            sticky=self.draw.random() < 0.4,
            after=self.draw.random() < 0.2,
            spares=self.draw.choice(((), SPARED)),
        )
        with contextlib.suppress(SaveError, StorageError):
            self.something()
        self.files.heal()


WEIGHTS = {
    "add": 8,
    "truncate": 6,
    "turn": 4,
    "error": 4,
    "kill": 3,
    "power cut": 3,
    "copy": 1,
    "save all": 1,
    "expire": 1,
    "delete": 1,
    "clear": 1,
}
