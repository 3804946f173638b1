"""Real power cuts in the middle of restores: the storage is the old one or the new one, and after a return the new one.

unshare -m python -m tests.faults.restores '{"type": "ext4", "path": "/tmp/x", "seed": 1, "cuts": 100}'
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

from session_manager import SessionManager
from session_manager.operations import backup, restore
from tests.faults.power import FileSystem
from tests.operations.storages import KINDS, filled, held, say, url_of

WORKER = """
import json, sys
from session_manager.operations import restore

print("ready", flush=True)
for line in sys.stdin:
    for made, url in json.loads(line):
        restore(made, url)
        print(url, flush=True)
"""


def go_on(url):
    with SessionManager(url, archive=True) as m:
        say(m, "one", "later")
        m.delete("two")


def cut(disk, urls, chance, seconds):
    """Cut the power of a process that restores every storage; return which restores had returned before.

    :param seconds: how long that may last, at most.
    """
    quiet = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], bufsize=0, **quiet)
    order = [(str(made), url) for url, made in chance.sample(sorted(urls.items()), len(urls))]
    assert worker.stdout.readline() == b"ready\n"
    worker.stdin.write(json.dumps(order).encode() + b"\n")
    time.sleep(chance.uniform(0, seconds))
    os.set_blocking(worker.stdout.fileno(), False)
    said = (worker.stdout.read() or b"").decode().splitlines()
    disk.cut()
    worker.kill()
    worker.communicate()
    return said


def attack(disk, place, seed, cuts):
    """Cut the power in the middle of restores, again and again, and check the storages after each cut."""
    chance = random.Random(seed)
    seen = {"cuts": 0, "new": 0, "old": 0, "wrong": ""}
    urls = {}
    for kind in KINDS:
        url = filled(url_of(kind, place, kind))
        urls[url] = place / f"backup of {kind}"
        backup(url, urls[url])
    expected = {url: held(url) for url in urls}
    began = time.monotonic()
    for url, made in urls.items():
        restore(made, url, keep=False)
    seconds = 1.5 * (time.monotonic() - began)
    for _ in range(cuts):
        before = {}
        for url in urls:
            if held(url) == expected[url]:
                go_on(url)
            before[url] = held(url)
        os.sync()
        returned = cut(disk, urls, chance, seconds)
        seen["cuts"] += 1
        disk.down()
        disk.up()
        try:
            for url in urls:
                with SessionManager(url) as m:
                    assert m.verify() == []
                there = held(url)
                assert there == expected[url] or (url not in returned and there == before[url]), (url, returned, there)
                seen["new" if there == expected[url] else "old"] += 1
        except Exception:
            seen["wrong"] = f"cut {seen['cuts']}: {traceback.format_exc()}"
            break
    return seen


def main(arguments):
    """Print what was seen, as JSON; or that it cannot be done here."""
    try:
        disk = FileSystem(arguments["type"], arguments["path"])
    except (OSError, AssertionError) as error:
        print(json.dumps({"impossible": str(error).strip()}))
        return
    place = Path(disk.mount, "place")
    place.mkdir(mode=0o700)
    try:
        print(json.dumps(attack(disk, place, arguments["seed"], arguments["cuts"])))
    finally:
        disk.down()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
