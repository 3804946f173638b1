"""The command ``python -m benchmarks.promises``: the situations, tried with four memories, as a table in Markdown."""

from __future__ import annotations

import importlib.metadata
import sys

from benchmarks.promises.bots import BOTS, Bot
from benchmarks.promises.situations import SITUATIONS, examine


def _release(kind: type[Bot]) -> str:
    return f" {importlib.metadata.version(kind.package)}" if kind.package else ""


def main() -> None:
    """Print the table. Names on the command line choose some of the memories."""
    chosen = {name: kind for name, kind in BOTS.items() if not sys.argv[1:] or name in sys.argv[1:]}
    columns = [[name + _release(kind), *examine(kind)] for name, kind in chosen.items()]
    first = ["", *(str(situation.__doc__).rstrip(".") for situation in SITUATIONS)]
    rows = list(zip(first, *columns, strict=True))
    rows.insert(1, ("---",) * len(rows[0]))
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
