"""The workloads. Each is a generator of cases, which prepares a case, yields it, and tidies up when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.harness import Case
from benchmarks.place import Place
from benchmarks.workloads.add_message import add_message
from benchmarks.workloads.backup import backup
from benchmarks.workloads.burst import burst
from benchmarks.workloads.busy import busy
from benchmarks.workloads.cold import cold
from benchmarks.workloads.context import context
from benchmarks.workloads.get_history import get_history
from benchmarks.workloads.hop import hop
from benchmarks.workloads.images import images
from benchmarks.workloads.import_package import import_package
from benchmarks.workloads.importing import importing
from benchmarks.workloads.log import log
from benchmarks.workloads.loop_lag import loop_lag
from benchmarks.workloads.many import many
from benchmarks.workloads.open_directory import open_directory
from benchmarks.workloads.own import own
from benchmarks.workloads.postgres import postgres
from benchmarks.workloads.read import read
from benchmarks.workloads.reader import reader
from benchmarks.workloads.save import save
from benchmarks.workloads.search import search
from benchmarks.workloads.sizes import sizes
from benchmarks.workloads.sqlite import sqlite
from benchmarks.workloads.threads import threads

__all__ = ["GOALS", "WORKLOADS"]

#: By the name that the command knows them by; their docstring is the command's help.
WORKLOADS: dict[str, Callable[[Place], Iterator[Case]]] = {
    "save": save,
    "log": log,
    "sqlite": sqlite,
    "postgres": postgres,
    "own": own,
    "burst": burst,
    "threads": threads,
    "busy": busy,
    "read": read,
    "cold": cold,
    "open": open_directory,
    "many": many,
    "search": search,
    "add": add_message,
    "history": get_history,
    "context": context,
    "reader": reader,
    "backup": backup,
    "loop": loop_lag,
    "hop": hop,
    "import": import_package,
    "importing": importing,
    "sizes": sizes,
    "images": images,
}

#: The workloads whose figures tell how fast the library is, for ``--goals``: those of one machine and one process.
GOALS = ("own", "log", "sqlite", "save", "add", "burst", "threads", "read", "many", "search", "hop", "import")
