"""The tree of a transcript of Claude Code: which lines are one message, and which message follows which.

* An answer is written as several lines, one for each block of its content, with the same ``message.id``.
* Calls that were made together are answered by one line each. Each hangs under the line of its call, so that the tree forks
  where the conversation does not. Anthropic wants all results of an answer in one message.
* Lines that are no messages hang in the tree as well, and messages hang under them.
* A line whose parent is not there, because it was damaged or is in another file, follows the line before it.
* A compaction begins a new tree: ``logicalParentUuid`` leads to the old one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from session_manager.model.json_value import EMPTY_OBJECT, JsonObject

__all__ = ["Line", "Node", "Tree"]


@attrs.frozen
class Line:
    """A line of a transcript."""

    rest: JsonObject
    type: str
    message: JsonObject | None = None
    uuid: str | None = None
    parent: str | None = attrs.field(default=None, alias="parentUuid")
    logical_parent: str | None = attrs.field(default=None, alias="logicalParentUuid")
    is_sidechain: bool = attrs.field(default=False, alias="isSidechain")
    agent: str | None = attrs.field(default=None, alias="agentId")
    timestamp: Any = None
    is_compact_summary: bool = attrs.field(default=False, alias="isCompactSummary")

    @property
    def is_message(self) -> bool:
        """Whether it was sent to the model, or came from it."""
        is_told = self.rest.get("isVisibleInTranscriptOnly") is True and not self.is_compact_summary
        is_error = self.rest.get("isApiErrorMessage") is True
        return self.type in ("user", "assistant") and self.message is not None and not is_told and not is_error

    @property
    def blocks(self) -> list[Any]:
        """The blocks of its message's content."""
        content = (self.message or EMPTY_OBJECT).get("content")
        return content if isinstance(content, list) else [{"type": "text", "text": content}]

    @property
    def results(self) -> set[str]:
        """The ids of the calls that it answers."""
        found = [one.get("tool_use_id") for one in self.blocks if isinstance(one, dict)]
        return {one for one in found if isinstance(one, str)}


@attrs.define
class Node:
    """A message, of one line or several, and the lines behind it that are no messages."""

    parent: str | None
    lines: list[tuple[int, Line]]
    values: list[dict[str, Any]]
    items: list[tuple[int, dict[str, Any]]] = attrs.field(factory=list)

    def message(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the message of the lines, and what else they say: the last one has the last word."""
        message: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for _, line in self.lines:
            message.update(line.message or {})
            told = {"uuid": line.uuid, "parentUuid": line.parent, "agentId": line.agent}
            rest.update({**told, **line.rest})
        if len(self.lines) > 1:
            message["content"] = [block for _, line in self.lines for block in line.blocks]
            rest["uuids"] = [line.uuid for _, line in self.lines]
            if rest.pop("toolUseResult", None) is not None:
                rest["toolUseResults"] = [line.rest.get("toolUseResult") for _, line in self.lines]
        return message, rest

    def text(self) -> str:
        """Return the text of the message."""
        found = [block.get("text") for block in self.lines[0][1].blocks if isinstance(block, dict)]
        return "\n".join(text for text in found if isinstance(text, str))


@attrs.define
class Tree:
    """The messages of a transcript while its lines are read, in their order."""

    #: The messages of the conversation, by names of their own.
    main: dict[str, Node] = attrs.field(factory=dict)
    #: Lines that come before every message.
    before: list[tuple[int, dict[str, Any]]] = attrs.field(factory=list)
    _sides: dict[str, tuple[str | None, Node]] = attrs.field(factory=dict)
    #: The node that each line belongs to, or hangs behind, by its uuid.
    _homes: dict[str, str] = attrs.field(factory=dict)
    _last: dict[tuple[bool, str | None], str] = attrs.field(factory=dict)
    #: The node that has the results of an answer, by the answer.
    _results: dict[str, str] = attrs.field(factory=dict)

    def add(self, line: Line, value: dict[str, Any], number: int) -> None:
        """Add a line; one that is there already is left out."""
        if line.uuid is not None and line.uuid in self._homes:
            return
        parent = self._parent(line)
        if not line.is_message:
            self._add_item(line, parent, value, number)
            return
        name = self._same(line, parent)
        if name is None:
            name = self._name(line, number)
            node = Node(parent, [(number, line)], [value])
            if line.is_sidechain:
                self._sides[name] = (line.agent, node)
            else:
                self.main[name] = node
        else:
            node = self._node(name)
            node.lines.append((number, line))
            node.values.append(value)
        if line.results and parent is not None:
            self._results.setdefault(parent, name)
        self._settle(line, name)

    def sidechains(self) -> list[tuple[str, dict[str, Node]]]:
        """Return the trees of sidechains, and their names: the agent's, or the first line's."""
        roots: dict[str, str] = {}
        found: dict[str, dict[str, Node]] = {}
        for name, (agent, node) in self._sides.items():
            root = roots.get(node.parent or "") or (name if agent is None else agent)
            roots[name] = root
            found.setdefault(root, {})[name] = node
        return list(found.items())

    def _node(self, name: str) -> Node:
        return self.main[name] if name in self.main else self._sides[name][1]

    def _parent(self, line: Line) -> str | None:
        """Return the node that a line follows."""
        wanted = line.parent or line.logical_parent
        if wanted is None and line.is_sidechain and line.agent is None:
            return None
        home = self._homes.get(wanted or "")
        if home is None or (home in self._sides) != line.is_sidechain:
            return self._last.get((line.is_sidechain, line.agent if line.is_sidechain else None))
        return home

    def _same(self, line: Line, parent: str | None) -> str | None:
        """Return the node that a line is a part of, if there is one."""
        answer = _answer_of(line)
        if answer is not None and (answer in self.main or answer in self._sides):
            return answer
        name = self._results.get(parent or "")
        if name is None or line.type != "user" or not line.results:
            return None
        answered = set[str]().union(*(one.results for _, one in self._node(name).lines))
        return None if answered & line.results else name

    def _name(self, line: Line, number: int) -> str:
        return _answer_of(line) or line.uuid or f"line-{number}"

    def _add_item(self, line: Line, parent: str | None, value: dict[str, Any], number: int) -> None:
        home = parent or self._last.get((False, None)) or next(reversed(self._sides), None)
        if home is None:
            self.before.append((number, value))
            return
        self._node(home).items.append((number, value))
        if line.uuid is not None:
            self._homes[line.uuid] = home

    def _settle(self, line: Line, name: str) -> None:
        if line.uuid is not None:
            self._homes[line.uuid] = name
        self._last[line.is_sidechain, line.agent if line.is_sidechain else None] = name


def _answer_of(line: Line) -> str | None:
    """Return the id of the answer that a line belongs to."""
    message: Mapping[str, Any] = line.message or {}
    answer = message.get("id")
    return answer if line.type == "assistant" and isinstance(answer, str) and answer else None
