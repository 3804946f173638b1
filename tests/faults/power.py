"""Real power cuts: a file system is shut down under workers, without writing its journal, and mounted again.

    unshare -m python -m tests.faults.power '{"type": "xfs", "path": "/tmp/x", "seed": 1, "cuts": 100}'

What counts is what was acknowledged *before* the cut: the pipes are emptied, then the file system goes down, then the
workers are killed. All stores are on it at once. It goes on with the same file system, recovery after recovery.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import struct
import subprocess
import sys
import time
import traceback

import attrs

from session_manager.stores.files.filesystem import Files
from tests.faults.arena import Tally, Worker, check, warm
from tests.faults.expected import Ledgers
from tests.faults.worker import KEYS, Place

KINDS = ("snapshot", "log", "sqlite")
#: ``_IOR('X', 125, __u32)`` is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN; 2 leaves the journal unwritten.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
MEGABYTES = {"ext4": 64, "xfs": 320}
FORCE = {"ext4": "-F", "xfs": "-f"}
#: After so much more time, at most, than it takes the slowest worker to open its storage, the power goes.
LIFE = 0.06


class FileSystem:
    """A file system in an image, and where it is mounted."""

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self.image, self.mount = os.path.join(path, "image"), os.path.join(path, "mount")
        os.mkdir(self.mount)
        with open(self.image, "wb") as file:
            file.truncate(MEGABYTES[kind] << 20)
        run(f"mkfs.{kind}", "-q", FORCE[kind], self.image)
        self.up()

    def up(self) -> None:
        run("mount", "-t", self.kind, "-o", "loop", self.image, self.mount)

    def cut(self) -> None:
        """Let what is not on the disk be lost."""
        fd = os.open(self.mount, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def down(self) -> None:
        run("umount", self.mount)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr}"


class UnsyncedFiles(Files):
    """Files that nobody syncs, to see that it is seen."""

    def sync(self, fd):
        pass

    sync_data = sync


class UnsyncedNames(Files):
    """A directory that nobody syncs, to see that it is seen."""

    def sync_directory(self):
        pass


MUTANTS = {"": None, "no sync": UnsyncedFiles, "no sync of the directory": UnsyncedNames}


def attack(disk: FileSystem, places: list[Place], seed: int, cuts: int) -> Tally:
    """Cut the power of workers on one file system, again and again, and check after each cut."""
    chance = random.Random(seed)
    tally = Tally()
    began = time.monotonic()
    chats = {place: [None] * len(KEYS) for place in places}
    for _ in range(cuts):
        ledgers = {place: Ledgers(chats[place]) for place in places}
        workers = {place: Worker.start(place, chance.getrandbits(64), chats[place]) for place in places}
        said = {place: worker.live(chance) for place, worker in workers.items()}
        time.sleep(chance.uniform(0, LIFE))
        for place, worker in workers.items():
            ledgers[place].take(said[place] + worker.lines())
        disk.cut()
        for place, worker in workers.items():
            worker.kill()
            errors = ledgers[place].errors[:]
            ledgers[place].take(worker.lines(), acknowledgements=False)
            ledgers[place].errors = errors  # what it met after the cut is no wonder
            worker.forget()
            tally.take(ledgers[place])
        tally.kills += 1
        disk.down()
        disk.up()
        try:
            for place in places:
                assert ledgers[place].errors == [], ledgers[place].errors
                chats[place] = check(place, ledgers[place], writes=chance.random() < 0.3)
                tally.ahead += ledgers[place].ahead
        except Exception:
            tally.wrong = f"cut {tally.kills}: {traceback.format_exc()}"
            break
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def main(arguments: dict) -> None:
    """Print what was seen, as JSON; or that it cannot be done here."""
    try:
        disk = FileSystem(arguments["type"], arguments["path"])
    except (OSError, AssertionError) as error:
        print(json.dumps({"impossible": str(error).strip()}))
        return
    files = MUTANTS[arguments.get("mutant", "")]
    kinds = [kind for kind in KINDS if files is None or kind == arguments.get("kind", kind)]
    places = [Place(kind, os.path.join(disk.mount, kind), files) for kind in kinds]
    for place in places:
        os.mkdir(place.path)
        warm(place.kind)
    disk.down()  # so that the directories are there, come what may
    disk.up()
    try:
        print(json.dumps(attrs.asdict(attack(disk, places, arguments["seed"], arguments["cuts"]))))
    finally:
        with contextlib.suppress(AssertionError):
            disk.down()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
