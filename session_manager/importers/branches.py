"""The branches of a tree of messages: each way from the first message to one without an answer."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["Branch", "branches_of"]


@attrs.frozen
class Branch:
    """One way through a tree."""

    #: The ids of its nodes, from the root on.
    ids: tuple[str, ...]
    #: How many of them it shares with the branches before it.
    shared: int = 0

    @property
    def leaf(self) -> str:
        """The id of its last node."""
        return self.ids[-1]


def branches_of(parents: Mapping[str, str | None], current: str | None = None) -> list[Branch]:
    """Return the branches of a tree, the current one first, and the others in the order of their last nodes.

    A node whose parent is not there is a root. Where parents go in a circle, the circle is cut open.

    :param parents: the parent of each node, by its id, in the order of the nodes.
    :param current: the last node of the current branch, which may have children; by default the last node of all.

    >>> [branch.ids for branch in branches_of({"a": None, "b": "a", "c": "a"})]
    [('a', 'c'), ('a', 'b')]
    """
    if not parents:
        return []
    inner = {parent for parent in parents.values() if parent is not None}
    ends = [node for node in parents if node not in inner]
    first = current if current in parents else (ends or list(parents))[-1]
    branches: list[Branch] = []
    seen: set[str] = set()
    for end in (first, *ends, *parents):
        if end is None or end in seen:
            continue
        ids = _way_to(end, parents)
        branches.append(Branch(ids, sum(node in seen for node in ids)))
        seen.update(ids)
    return branches


def _way_to(end: str, parents: Mapping[str, str | None]) -> tuple[str, ...]:
    way: dict[str, None] = {}
    node: str | None = end
    while node is not None and node in parents and node not in way:
        way[node] = None
        node = parents[node]
    return tuple(reversed(way))
