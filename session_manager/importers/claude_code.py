"""Claude Code's transcripts: a JSONL file for each session, and one for each of its agents.

Anthropic publishes no description. What is read here is what readers of such files have found: simonw/claude-code-transcripts,
and ``models.py`` and ``dag.py`` of daaain/claude-code-log.

* Each line has a ``uuid`` and a ``parentUuid``. The tree that they make is put together by
  `session_manager.importers.claude_code_tree`: the branch of the last line is the session, and each other one is a session of its
  own, ``ID:UUID``. So is each sidechain, the conversation of an agent: ``ID:AGENT``.
* Messages are Anthropic's, exactly. Lines of one answer are one message, and results of calls made together are one as well.
  What Anthropic does not take (``id``, ``model``, ``usage``) and what the line says besides is the message's metadata.
* After a compaction the summary is the session's, and the messages before it go to the archive.
* Lines that were never sent to a model become items. Snapshots of files and progress of tools are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.importers.branches import Branch, branches_of
from session_manager.importers.claude_code_tree import Line, Node, Tree
from session_manager.importers.draft import Draft
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, objects_in
from session_manager.importers.times import time_of

__all__ = ["read"]

#: Lines that tell the state of the program, not of the conversation.
_LEFT_OUT = ("progress", "file-history-snapshot")
#: Lines that tell a session's title, and the field that has it. The last ones are the stronger ones.
_TITLES = {"summary": "summary", "ai-title": "aiTitle", "custom-title": "customTitle"}
#: Fields of lines that are the session's.
_SHARED = ("sessionId", "cwd", "version", "gitBranch", "userType", "entrypoint", "slug")
#: Fields of a message that Anthropic takes.
_SENT = ("role", "content")


@attrs.define
class _Transcript:
    """A file while it is read."""

    draft: Draft
    zone: tzinfo | None
    tree: Tree = attrs.field(factory=Tree)
    shared: dict[str, Any] = attrs.field(factory=dict)
    titles: dict[str, Any] = attrs.field(factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says of its session."""
        title = next((self.titles[kind] for kind in reversed(_TITLES) if kind in self.titles), None)
        told = {**self.shared, "title": title}
        return {name: value for name, value in told.items() if value not in (None, "")}


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:
    """Read the session of a file, its other branches and its sidechains."""
    transcript = _Transcript(Draft(key=file.stem, last=file.modified), zone)
    for number, found in objects_in(file):
        if isinstance(found, Flaw):
            transcript.draft.flaw(found.reason, number)
        elif found.get("type") not in _LEFT_OUT:
            _take(transcript, found, number)
    yield from transcript.draft.flaws
    yield from _sessions(transcript, file)


def _take(transcript: _Transcript, value: dict[str, Any], number: int) -> None:
    kind = value.get("type")
    title = value.get(_TITLES.get(kind, "")) if isinstance(kind, str) else None
    if isinstance(title, str):
        transcript.titles[str(kind)] = title
        return
    line = transcript.draft.record(value, Line, number)
    if line is None:
        return
    for name in _SHARED:
        if name in value:
            transcript.shared.setdefault(name, value[name])
    transcript.tree.add(line, value, number)


def _sessions(transcript: _Transcript, file: SourceFile) -> Iterator[ImportedSession | Flaw]:
    """Return the sessions of a tree."""
    tree = transcript.tree
    stem, session = file.stem, transcript.shared.get("sessionId")
    sides = tree.sidechains()
    is_agent = not tree.main and bool(sides)
    if not is_agent:
        yield from _branches(transcript, stem, tree.main, tree.before, {})
    for index, (name, nodes) in enumerate(sides):
        owner = session if is_agent and isinstance(session, str) else stem
        own = stem if is_agent and not index else name
        key = own if own == owner else f"{owner}:{own}"
        yield from _branches(
            transcript, key, nodes, tree.before if is_agent and not index else [], {"sidechain_of": owner}
        )


def _branches(
    transcript: _Transcript,
    key: str,
    nodes: dict[str, Node],
    before: list[tuple[int, dict[str, Any]]],
    about: dict[str, Any],
) -> Iterator[ImportedSession | Flaw]:
    """Return the sessions of the branches of a tree; those that say nothing of their own are none."""
    found = branches_of({name: node.parent for name, node in nodes.items()}, next(reversed(nodes), None))
    for index, branch in enumerate(found or [Branch(())]):
        draft = Draft(key=f"{key}:{branch.leaf}" if index else key, last=transcript.draft.last)
        for number, value in before:
            _add_item(draft, value, number, transcript.zone)
        summary, archived = "", 0
        for name in branch.ids:
            told = _add(draft, nodes[name], transcript)
            if told is not None:
                summary, archived = told, len(draft.messages)
        if not draft.messages and not draft.flaws and (index or not transcript.titles):
            continue
        metadata = {**transcript.metadata, **about, **({"branch_of": key, "branch": branch.leaf} if index else {})}
        yield from draft.finished(metadata=metadata, summary=summary, archived=archived)


def _add(draft: Draft, node: Node, transcript: _Transcript) -> str | None:
    """Add a node's message, and the items behind it; return the summary that it is, if it is one."""
    number, line = node.lines[0]
    summary: str | None = None
    if line.is_compact_summary:
        _add_item(draft, node.values[0], number, transcript.zone)
        summary = node.text()
    else:
        at = draft.told(lambda: time_of(line.timestamp, "timestamp", transcript.zone), number)
        message, rest = node.message()
        told = {name: value for name, value in message.items() if name in _SENT}
        rest = {**{name: value for name, value in message.items() if name not in (*_SENT, "type")}, **rest}
        metadata = {name: one for name, one in rest.items() if one is not None and transcript.shared.get(name) != one}
        draft.add(told, "message", line=number, at=at, metadata=metadata)
    for after, value in node.items:
        _add_item(draft, value, after, transcript.zone)
    return summary


def _add_item(draft: Draft, value: dict[str, Any], number: int, zone: tzinfo | None) -> None:
    at = draft.told(lambda: time_of(value.get("timestamp"), "timestamp", zone), number)
    draft.add_item(value, line=number, at=at)
