"""The plots of the README, drawn from the figures of a run: ``python -m benchmarks.plots figures.json docs/img``.

They need matplotlib, and figures of a run with ``--peers``; a plot whose figures are not there is not drawn.
"""

from __future__ import annotations

import json
import math
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
#: Those of our lines, and that of all other libraries.
_COLORS, _GREY = ("C0", "C1", "C2", "C3"), "0.6"
#: How many names find room one above the other.
_LABELS = 24
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
        "postgres.svg": _turn,
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
    axes.set_title("Saving one more message of 1 KB (dotted: not durable)")
    return _by_size(figures, durable, axes, "peers", "1 of ")


def _turn(figures: Figures, durable: Mapping[str, bool], axes: Axes) -> bool:
    """Draw what a turn on a server costs, against the length of the conversation."""
    axes.set_title("A turn of two messages of 1 KB, on PostgreSQL")
    return _by_size(figures, durable, axes, "postgres", "a turn at ")


def _by_size(figures: Figures, durable: Mapping[str, bool], axes: Axes, workload: str, start: str) -> bool:
    """Draw a line for each contender, by the number of messages that a case is named with."""
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
    ends: dict[str, tuple[float, float]] = {}
    colors: dict[str, str] = {}
    for name in sorted(lines, key=lambda name: name.startswith(_OURS)):  # ours above the others
        counts, times = zip(*sorted(set(lines[name])), strict=True)
        ours, style = name.startswith(_OURS), "-" if durable.get(name, True) else ":"
        colors[name] = "black" if name == floor else _COLORS[len(colors) % len(_COLORS)] if ours else _GREY
        style = "--" if name == floor else style
        axes.plot(counts, times, style, marker="o" if ours else None, lw=2.5 if ours else 1.2, ms=4, c=colors[name])
        ends[name] = counts[-1], times[-1]
    axes.set(xscale="log", yscale="log", xlabel="messages in the conversation", ylabel="ms, median")
    _label(axes, ends, colors)
    return True


def _label(axes: Axes, ends: Mapping[str, tuple[float, float]], colors: Mapping[str, str]) -> None:
    """Name each line at its end, in its colour; names that would overlap are moved apart, up and down."""
    low, high = (math.log10(end) for end in axes.get_ylim())
    apart = (high - low) / _LABELS
    names = sorted(ends, key=lambda name: ends[name][1])
    places: list[float] = []
    for name in names:
        place = math.log10(ends[name][1])
        places.append(max(place, places[-1] + apart) if places else place)
    over = max((places[-1] if places else high) - high, 0)
    for name, place in zip(names, places, strict=True):
        x, y = ends[name]
        axes.annotate(
            name,
            (x, y),
            (x * 1.6, 10 ** (place - over)),
            va="center",
            fontsize=8,
            color="0.3" if colors[name] == _GREY else colors[name],
            weight="bold" if name.startswith(_OURS) else "normal",
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "0.75", "shrinkA": 0, "shrinkB": 2},
            annotation_clip=False,
        )


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
