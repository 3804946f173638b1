"""A fault at the n-th file operation of a call, and what must hold after it."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from datetime import timedelta

import attrs

from session_manager import SaveFailedError, SessionExistsError, StorageError
from tests.faults.calls import CALLS, ENDS, KEY, OTHER, QUICK, SITUATIONS
from tests.faults.crashes import Checker, Report, found_in
from tests.faults.disk import Disk
from tests.faults.promises import KEYS, NOTHING, Run
from tests.support.faulty_files import SPARED
from tests.support.sizes import Size
from tests.support.strategies import facts
from tests.support.threads import alive

ERRNOS = ("EIO", "ENOSPC", "EDQUOT", "EMFILE", "EROFS", "EACCES", "EINTR")
INTERRUPTS = (MemoryError, KeyboardInterrupt)
#: No call takes more operations.
MOST = 150
DEADLINE = 20


@attrs.frozen
class Fault:
    """What happens to an operation."""

    error: BaseException
    sticky: bool = False
    after: bool = False
    spares: tuple = ()


def os_error(name):
    return OSError(getattr(errno, name), os.strerror(getattr(errno, name)))


def faults(number, size, *, brief=False):
    """Return what happens to the n-th operation: in a soak each error once, from then on, and after the fact.

    Otherwise some of them, in turn; in a smoke run one, for each second operation.

    :param brief: it is read only: fewer.
    """
    soak = size == Size.SOAK

    def some(offset, count):
        return ERRNOS if soak else [ERRNOS[(number * 2 + offset + place) % len(ERRNOS)] for place in range(count)]

    if size == Size.SMOKE:
        number //= 2  # each second operation is struck
        name = some(0, 1)[0]
        yield (
            Fault(os_error(name)),
            Fault(os_error(name), sticky=True),
            Fault(INTERRUPTS[number // 4 % 2](), after=True),
            Fault(os_error(name), after=True),
        )[number % 4]
        return
    turn = number % 4
    yield from (Fault(os_error(name)) for name in some(0, 1 if brief else 2))
    yield from (Fault(os_error(name), sticky=True) for name in some(2, 1))
    if brief and not soak:
        yield Fault(INTERRUPTS[number % 2](), after=turn > 1)
        return
    yield Fault(os_error("ENOSPC"), sticky=True, spares=SPARED)
    if soak or turn % 2:
        yield from (Fault(os_error(name), after=True) for name in some(3, 1))
    interrupts = [Fault(kind(), after=after) for after in (False, True) for kind in INTERRUPTS]
    yield from interrupts if soak else interrupts[turn : turn + 1]


class Place:
    """A disk with sessions on it, made once: as a process left it that was killed in the middle of a save."""

    def __init__(self, kind):
        self.kind = kind
        run = Run(kind, 1)
        run.open()
        for number in range(6):
            for key in (KEY, OTHER):
                run.m.add_message(key, "user", f"{number}", ref=f"r{number}")
                run.m.save(key)
        run.m.truncate_history(KEY, 4)
        run.m.set_summary(KEY, "summary")
        run.m.save(KEY)
        run.leave()
        self.content = dict(run.disk.content())
        if kind == "log":
            names = [name for name in self.content if name.startswith("telegram") and "session" in name]
            assert names, "what was saved is not there"
            name = names[0]
            self.content[name] += b'{"changes":[{"cha'
        self.known = {key: (allowed[0],) for key, allowed in run.allowed.items()}
        self.known["new"] = (NOTHING,)
        self.checker = Checker(kind, Report())

    def open(self, situation):
        run = Run(self.kind, 2, self.content, self.known)
        run.records = False
        run.clock.advance(timedelta(days=1))
        run.open(point=False)
        situation(run.m)
        return run


def shown(m, key):
    """Return what a manager shows of a session, whatever was saved of it."""
    session = m.get(key)
    if session is None:
        return None
    numbers = (session.start, session.end, session.refs, session.summary, session.metadata)
    return numbers, [facts(one) for one in session.messages], [facts(one) for one in m.get_archive(key)]


def all_shown(m, keys):
    return {key: shown(m, key) for key in keys}


def in_another_thread(call):
    """Do something in another thread: it must not find a lock that another thread still has."""
    raised = []

    def work():
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "a lock was left behind"
    if raised:
        raise raised[0]


def inject(place, situation, call, number, fault, *, ends, before, after, keys):
    """Make a call whose n-th operation fails, and check what is left of it; return whether the operation was reached.

    :param before: what the manager shows of each session before the call; likewise `after`.
    :param keys: of the sessions to look at: those that the call, or what is unsaved before it, is about; in a soak all.

    * An error of the system becomes a typed error, or none, if the call could do without; an interrupt comes out.
    * Each session in RAM, with its archive, is as before the call, or as after it. One that is not dirty is on the disk, as was acknowledged.
    * On the disk each is what was acknowledged, or what was being written; after `SaveFailedError` the old one.
    * Also if the power goes now.
    * No descriptor is open; there is no temporary file, unless it could not be removed; no
      thread; no lock that another thread would wait for.
    * When the disk works again, so does the call, and everything else, without a restart.
    """
    run = place.open(situation)
    m, files, disk = run.m, run.files, run.disk
    threads = alive()
    files.fail(number, fault.error, sticky=fault.sticky, after=fault.after, spares=fault.spares)
    raised = None
    try:
        call(m)
    except (StorageError, *INTERRUPTS) as error:
        raised = error
    struck, log = files.struck, files.log
    files.heal()
    assert isinstance(raised, (type(None), StorageError)) or raised is fault.error
    assert alive() <= threads
    interrupted = isinstance(fault.error, INTERRUPTS)
    assert disk.descriptors == {} or (interrupted and fault.after)
    swept = not fault.sticky and not interrupted and "unlink" not in log[number - 1 : number]
    assert not swept or not any(name.startswith(".tmp-") for name in disk.names)
    failed = getattr(raised, "failures", None) or {getattr(raised, "key", None): raised}
    found = found_in(place.kind, Disk(disk.content()), keys)
    for key, there in found.items():
        assert there in run.allowed[key], key
        if isinstance(failed.get(key), SaveFailedError):
            assert there == run.allowed[key][0], "it failed, they say"
    if raised is not None:
        run.records = True
        run.point()
        place.checker.check(run.points[-1])
    if not (ends and m._residents._phase.value == "closed"):
        afterwards(run, call, before, after, ends=ends, keys=keys)
    run.store.close()
    assert disk.descriptors == {} or interrupted
    return struck


def afterwards(run, call, before, after, *, ends, keys):
    """Check what a manager shows after a failure, and that it works again."""
    m = run.m
    for key, there in all_shown(m, keys).items():
        assert there in (before[key], after[key]), key
        if key not in m.health().dirty:
            run.check_ram(key)

    def again():
        with contextlib.suppress(SessionExistsError):
            call(m)
        if not ends:
            m.add_message(KEY, "user", "later")
            m.save_all()

    in_another_thread(again)
    if ends:
        return
    assert m.health().dirty == ()
    assert m.get(KEY).messages[-1].content == "later"
    last = all_shown(m, keys)
    m.close()
    run.store.close()
    run.open(point=False)
    assert all_shown(run.m, keys) == last
    run.m.close()


def loop(place, name, situation, size):
    """Fail each operation of a call in turn; return how many faults there were."""
    call, prepare, ends = CALLS[name], SITUATIONS[situation], name in ENDS
    run = place.open(prepare)
    every = (*KEYS, "new")
    before = all_shown(run.m, every)
    dirty = run.m.health().dirty
    call(run.m)
    after = dict(before) if ends else all_shown(run.m, every)
    run.leave()
    concerned = [key for key in every if key == KEY or key in dirty or before[key] != after[key]]
    keys = every if size == Size.SOAK else concerned
    count = 0
    for number in range(1, MOST, size.of(2, 1, 1)):
        for fault in faults(number, size, brief=name not in QUICK):
            if not inject(place, prepare, call, number, fault, ends=ends, before=before, after=after, keys=keys):
                return count
            count += 1
    raise AssertionError("the call takes too many operations")


def short_writes(place, call, situation, *, ends):
    """Make a call while each write of the disk writes a few bytes only."""
    run = place.open(situation)
    run.files.short = True
    call(run.m)
    if ends:
        run.store.close()
        run.open(point=False)
    else:
        run.m.save_all()
    last = all_shown(run.m, KEYS)
    assert run.m.health().dirty == ()
    run.leave()
    run.open(point=False)
    assert all_shown(run.m, KEYS) == last
    run.leave()
