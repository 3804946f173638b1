"""The plots of the README, drawn from the figures of a run: ``python -m benchmarks.plots figures.json docs/img``.

They need matplotlib, and figures of a run with ``--peers``; a plot whose figures are not there is not drawn.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_OURS = "session_manager "
#: What only syncs besides is drawn where that matters.
_SYNCED = (" + fsync", ", fsync=True")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "session_manager",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
}

#: What a plot needs to know: the figures, and who is durable.
Figures = Sequence[Mapping[str, Any]]


def draw(found: Mapping[str, Any], directory: str) -> list[str]:
    """Draw the plots to a directory; return the files.

    :param found: as `benchmarks.report.document` makes it.
    """
    durable = {one["name"]: one["durable"] for one in found["contenders"]}
    plots: dict[str, Callable[[Figures, Mapping[str, bool], Axes], bool]] = {
        "save.svg": _save,
        "reopen.svg": _reopen,
        "memory.svg": _memory,
        "turn.svg": _turn,
    }
    os.makedirs(directory, exist_ok=True)
    drawn = []
    for name, plot in plots.items():
        with mpl.rc_context(_STYLE):
            figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
            if plot(found["figures"], durable, axes):
                path = os.path.join(directory, name)
                figure.savefig(path, metadata={"Date": None, "Creator": None})
                drawn.append(path)
            plt.close(figure)
    return drawn


def _save(figures: Figures, durable: Mapping[str, bool], axes: Axes) -> bool:
    """Draw what saving one more message costs, against the length of the conversation."""
    axes.set_title("Saving one more message of 1 KB")
    return _by_size(figures, durable, axes, "peers", "1 of ")


def _turn(figures: Figures, durable: Mapping[str, bool], axes: Axes) -> bool:
    """Draw what a turn on a server costs, against the length of the conversation."""
    axes.set_title("A turn of two messages of 1 KB, on PostgreSQL")
    return _by_size(figures, durable, axes, "postgres", "a turn at ")


def _by_size(figures: Figures, durable: Mapping[str, bool], axes: Axes, workload: str, start: str) -> bool:
    """Draw a line for each contender, by the number of messages that a case is named with."""
    axes.set_prop_cycle(color=[*mpl.color_sequences["tab10"], *mpl.color_sequences["Dark2"]])
    lines: dict[str, list[tuple[int, float]]] = {}
    floor = ""
    for one in figures:
        size = one["case"].replace(",", "").removeprefix(start)
        if one["workload"] == workload and one["case"].startswith(start) and size.isdigit():
            count, floor = int(size), one["floor"]["name"]
            lines.setdefault(one["subject"]["name"], []).append((count, one["subject"]["median"] * 1000))
            lines.setdefault(floor, []).append((count, one["floor"]["median"] * 1000))
    if not lines:
        return False
    for name, points in lines.items():
        counts, times = zip(*sorted(set(points)), strict=True)
        ours, weak = name.startswith(_OURS), not durable.get(name, True)
        style = "--" if name == floor else ":" if weak else "-"
        label = f"{name} (not durable)" if weak else name
        color = "black" if name == floor else None
        axes.plot(
            counts, times, style, marker="o" if ours else None, lw=2.5 if ours else 1.2, ms=4, label=label, c=color
        )
    axes.set(xscale="log", yscale="log", xlabel="messages in the conversation", ylabel="ms, median")
    axes.figure.legend(loc="outside right upper", fontsize=7)
    return True


def _reopen(figures: Figures, _durable: Mapping[str, bool], axes: Axes) -> bool:
    """Draw how long opening a conversation anew and reading all of it takes."""
    some = [one for one in figures if one["workload"] == "peers" and one["case"] == "open, read 1,000"]
    if not some:
        return False
    bars = {one["subject"]["name"]: one["subject"]["median"] * 1000 for one in some}
    bars = {name: time for name, time in bars.items() if not name.endswith(_SYNCED)}
    bars["bare decoder"] = some[0]["floor"]["median"] * 1000
    _bars(axes, bars, "{:.3g} ms")
    axes.set(xscale="log", xlabel="ms, median")
    axes.set_title("Opening a conversation of 1,000 messages of 1 KB, and reading all")
    return True


def _memory(figures: Figures, _durable: Mapping[str, bool], axes: Axes) -> bool:
    """Draw how many bytes of RAM, and of disk, a message takes."""
    kinds = ("RAM of a message of 1,000", "disk of a message of 1,000")
    some = [one for one in figures if one["workload"] == "sizes" and one["figure"].startswith(kinds)]
    if not some:
        return False
    bars = {one["figure"].replace(" of a message of 1,000", ""): one["subject"]["median"] for one in some}
    bars["its JSON"] = some[0]["floor"]["median"]
    for one in figures:
        name = one["subject"]["name"]
        if one["case"] == "disk of a message" and not name.startswith(_OURS) and not name.endswith(_SYNCED):
            bars[f"disk, {name}"] = one["subject"]["median"]
    _bars(axes, bars, "{:,.0f} B")
    axes.set(xscale="log", xlabel="bytes")
    axes.set_title("A message of 1 KB")
    return True


def _bars(axes: Axes, bars: Mapping[str, float], form: str) -> None:
    names = sorted(bars, key=bars.__getitem__, reverse=True)
    ours = [
        name.startswith((_OURS, "RAM")) or name.partition(", ")[2] in ("snapshot", "log", "sqlite") for name in names
    ]
    drawn = axes.barh(names, [bars[name] for name in names], color=["C0" if one else "C7" for one in ours])
    axes.bar_label(drawn, [form.format(bars[name]) for name in names], padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.grid(visible=False, axis="y")


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as opened:
        print("\n".join(draw(json.load(opened), sys.argv[2])))
