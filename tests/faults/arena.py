"""A process that forks workers, kills them, and checks the storage after each: it has the library loaded, so that a fork is quick.

    python -m tests.faults.arena '{"kind": "log", "path": "/dev/shm/x", "seed": 1, "kills": 500}'

It goes on with the same storage all the time, recovery after recovery, and prints its findings as JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import logging
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback

import attrs

from session_manager import SessionManager, StorageError
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.names import file_name
from tests.faults.expected import Chat, Ledgers, shown
from tests.faults.worker import DIRECTORY, KEYS, Place, work, work_until_told

#: How many seconds a worker lives that is to be killed while it opens the storage; how much another one may say before.
YOUNG, CHANCE_YOUNG = (0.0, 0.004), 0.2
MOST_LINES, TICK, MOMENT = 16, 0.0005, (0.0, 0.0015)
DEADLINE = 60
#: After so many seconds a signal that has had no effect is sent again.
PATIENCE = 1.0
PIPE_BYTES = 1 << 20
#: What `verify` may find after a kill: the next save moves it to quarantine.
TORN = "a torn record"


@attrs.define
class Worker:
    """A forked worker, and what it says."""

    pid: int
    fd: int
    has_ended: bool = False

    @classmethod
    def start(cls, place: Place, seed: int, chats: list[Chat | None], does=work) -> Worker:
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        pid = os.fork()
        if not pid:
            status = 3
            try:
                os.close(reader)
                logging.getLogger("session_manager").addHandler(logging.NullHandler())
                does(place, seed, chats, writer)
                status = 0
            finally:
                os._exit(status)  # if it is not 0, it has said why
        os.close(writer)
        os.set_blocking(reader, False)
        return cls(pid, reader)

    def lines(self) -> list[str]:
        """Return what it has said since the last time; whole lines, for each is said by one system call."""
        parts = []
        try:
            while part := os.read(self.fd, PIPE_BYTES):
                parts.append(part)
            self.has_ended = True
        except BlockingIOError:
            pass
        return b"".join(parts).decode().split("\n")[:-1]

    def live(self, chance: random.Random, young: float = CHANCE_YOUNG) -> list[str]:
        """Let it live until it has opened the storage, and said so much, and for a moment more; return what it has said.

        Some (`young`: how many) not that long. By what it says, and not by the clock: a slow machine is to see as much.
        """
        if chance.random() < young:
            time.sleep(chance.uniform(*YOUNG))
            return self.lines()
        said: list[str] = []
        amount, end = chance.randrange(MOST_LINES), time.monotonic() + DEADLINE
        while not self.has_ended and not ("o" in said and len(said) > amount):
            select.select([self.fd], [], [], DEADLINE)
            said += self.lines()
            assert time.monotonic() < end, "a worker hangs"
            time.sleep(TICK)
        time.sleep(chance.uniform(*MOMENT))
        return said

    def kill(self) -> bool:
        """Kill it; say whether it was that which ended it."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def tell(self, number: int) -> bool:
        """Send it a signal, again if that was swallowed by a callback; say whether it ended well."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            os.kill(self.pid, number)
            again = time.monotonic() + PATIENCE
            while time.monotonic() < again:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    return os.waitstatus_to_exitcode(status) == 0
                time.sleep(TICK)
        self.kill()
        raise AssertionError("a worker hangs")

    def forget(self):
        os.close(self.fd)


def check(place: Place, ledgers: Ledgers, *, writes: bool) -> list[Chat | None]:
    """Look at a storage, and return what is in it.

    :param writes: open it for writing, and close it; else nothing is left of the look, and the next worker recovers.
    :raises AssertionError: if that may not be.
    """
    found = None
    if os.path.exists(place.where):
        with contextlib.suppress(_NothingYetError):
            found = look(place.url, writes=writes)
    if found is None:
        found = [None] * len(KEYS)
    elif writes and place.kind != "sqlite":
        assert temporaries(place.where) == [], "temporary files that an opening has left"
    wrong = [text for number, chat in enumerate(found) if (text := ledgers.contradicted(number, chat))]
    assert wrong == [], f"{place.kind}: {wrong}, loose={ledgers.loose}"
    return found


class _NothingYetError(Exception):
    """A database whose creator was killed, and which a reader cannot make."""


def look(url: str, *, writes: bool) -> list[Chat | None]:
    try:
        m = SessionManager(url, read_only=not writes)
    except StorageError as error:
        if not writes and error.reason == "is an empty database":
            raise _NothingYetError from error
        raise
    with m:
        found = [shown(m, key) for key in KEYS]
        assert set(m) == {key for key, chat in zip(KEYS, found, strict=True) if chat is not None}
        if writes:
            findings = [finding for finding in m.verify() if not finding.reason.startswith(TORN)]
            assert findings == [], findings
    return found


def temporaries(where: str) -> list[str]:
    return [name for name in os.listdir(where) if name.startswith(".tmp-")]


@attrs.define
class Tally:
    """What was seen."""

    kills: int = 0
    acknowledged: int = 0
    opened: int = 0
    #: How many workers had begun a save that was not acknowledged.
    under_way: int = 0
    #: How often a session was found in a state that was begun, and not acknowledged.
    ahead: int = 0
    torn: int = 0
    calls: dict[str, int] = attrs.Factory(dict)
    seconds: float = 0.0
    wrong: str = ""

    def take(self, ledgers: Ledgers) -> None:
        self.acknowledged += ledgers.acknowledged
        self.opened += ledgers.opened
        self.under_way += any(max(one.begun, default=0) > one.durable for one in ledgers.of)
        for call, times in ledgers.calls.items():
            self.calls[call] = self.calls.get(call, 0) + times


def attack(place: Place, seed: int, kills: int, told: int = 0) -> Tally:
    """Kill workers on one storage, one after the other, and check after each.

    :param told: end them by this signal, at which they close their managers.
    """
    chance = random.Random(seed)
    chats: list[Chat | None] = [None] * len(KEYS)
    tally = Tally()
    began = time.monotonic()
    warm(place.kind)
    for _ in range(kills):
        ledgers = Ledgers(chats)
        worker = Worker.start(place, chance.getrandbits(64), chats, work_until_told if told else work)
        said = worker.live(chance, 0 if told else CHANCE_YOUNG)  # to be told, it must listen
        was_killed = worker.tell(told) if told else worker.kill()
        ledgers.take(said + worker.lines())
        worker.forget()
        tally.kills += was_killed
        tally.take(ledgers)
        try:
            assert ledgers.errors == [], ledgers.errors
            assert was_killed, "it did not end as it was to"
            tally.torn += torn(place)
            chats = check(place, ledgers, writes=chance.random() < 0.2)
            tally.ahead += ledgers.ahead
        except Exception:
            tally.wrong = f"kill {tally.kills}: {traceback.format_exc()}"
            break
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def warm(kind: str) -> None:
    """Import here what each worker would import for itself."""
    with tempfile.TemporaryDirectory() as path, Place(kind, path).opened() as m:
        m.add_message("k", "user", "\u00fc")
    gc.collect()
    gc.freeze()


def torn(place: Place) -> int:
    """Return how many files a kill has left cut short, or temporary."""
    if place.kind == "sqlite" or not os.path.exists(os.path.join(place.path, DIRECTORY)):
        return 0
    where = os.path.join(place.path, DIRECTORY)
    count = len(temporaries(where))
    for key in KEYS:
        path = os.path.join(where, file_name(key, ".session.jsonl"))
        if place.kind == "log" and os.path.exists(path):
            with open(path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                count += file.read() != b"\n"
    return count


def main(arguments: dict) -> None:
    mutant = arguments.get("mutant")
    place = Place(
        arguments["kind"], arguments["path"], files=TearingFiles if mutant == "torn" else None, early=mutant == "early"
    )
    tally = attack(place, arguments["seed"], arguments["kills"], arguments.get("told", 0))
    print(json.dumps(attrs.asdict(tally)))


class TearingFiles(Files):
    """Files that are replaced piece by piece, to see that it is seen. A whole one is the one that was written."""

    def rename(self, source, target):
        path = os.path.join(self.path, target)
        with open(self.open_read(source), "rb") as file:
            status, whole = os.fstat(file.fileno()), file.read()
        os.truncate(os.path.join(self.path, source), 0)
        super().rename(source, target)
        with open(path, "wb", buffering=0) as new:
            new.writelines(whole[begin : begin + 100] for begin in range(0, len(whole), 100))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
