"""ChatGPT's ``conversations.json``, out of an export of an account: an array of conversations, each a tree of messages.

OpenAI publishes no description. What is read here was seen in exports, and in programs that read them. The file is read
conversation by conversation. Of each, the way to ``current_node`` is the session, and every other way to a leaf one of its own.

* Texts, and transcripts of speech, are the content. Images and files are not in the file: a note stands for each of them, and
  what the file says of it is in the message's metadata, as ``parts``.
* An assistant's message to a tool, such as ``python``, is a call, if the tool's answer comes next. It has the message's id.
* Messages that the model did not see or that nobody wrote become items: thoughts, hidden ones, those of weight 0, custom
  instructions, and a tool's messages beyond the first. Messages without any text are left out, but for the user's.
* Keys are the ids of conversations. The title and all other fields become metadata; so do those of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Any

import attrs

from session_manager.codec.json import DecodeError, decode_json
from session_manager.importers.branches import Branch, branches_of
from session_manager.importers.chat import call_of
from session_manager.importers.draft import Draft
from session_manager.importers.elements import objects_of
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile
from session_manager.importers.times import seconds
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject

__all__ = ["read"]

_TOOL_NAME = re.compile(r"[^a-zA-Z0-9_-]")
#: Contents that are not the words of a conversation.
_INNER = ("thoughts", "reasoning_recap", "user_editable_context", "model_editable_context")


@attrs.frozen
class _Conversation:
    mapping: dict[str, Any]
    rest: JsonObject
    id: str | None = None
    conversation_id: str | None = None
    current_node: str | None = None
    create_time: Any = None
    update_time: Any = None


@attrs.frozen
class _Author:
    role: str
    rest: JsonObject
    name: str | None = None


@attrs.frozen
class _Message:
    author: _Author
    content: JsonObject
    rest: JsonObject
    create_time: Any = None
    recipient: str = "all"
    weight: Any = 1
    metadata: JsonObject = EMPTY_OBJECT

    @property
    def role(self) -> str:
        return self.author.role

    @property
    def is_seen(self) -> bool:
        """Whether it is one of the conversation's messages."""
        is_hidden = self.metadata.get("is_visually_hidden_from_conversation") is True
        return self.weight != 0 and not is_hidden and self.content.get("content_type") not in _INNER


@attrs.frozen
class _Node:
    message: _Message | None = None
    parent: str | None = None


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - times are in UTC
    """Read the conversations of a file."""
    for key, line, found in objects_of(file):
        if isinstance(found, Flaw):
            yield found
        else:
            yield from _sessions(file, key, line, found)


def _sessions(file: SourceFile, key: str, line: int | None, value: dict[str, Any]) -> Iterator[ImportedSession | Flaw]:
    """Read a conversation: its current branch, and the others."""
    draft = Draft(key=key, last=file.modified)
    conversation = draft.record(value, _Conversation, line)
    if conversation is None:
        yield from draft.flaws
        return
    draft.key = conversation.conversation_id or conversation.id or key
    created = draft.told(lambda: seconds(conversation.create_time, "create_time"), line)
    updated = draft.told(lambda: seconds(conversation.update_time, "update_time"), line)
    mapping = conversation.mapping
    nodes = {name: draft.record(node, _Node, line, f"mapping.{name}") or _Node() for name, node in mapping.items()}
    yield from draft.flaws
    branches = branches_of({name: node.parent for name, node in nodes.items()}, conversation.current_node)
    metadata = {name: one for name, one in conversation.rest.items() if one not in (None, {}, [])}
    for index, branch in enumerate(branches or [Branch(())]):
        one = Draft(key=f"{draft.key}:{branch.leaf}" if index else draft.key, last=created or file.modified)
        new = _fill(one, branch, nodes, mapping, line)
        if index and not new:
            continue
        about = {"branch_of": draft.key, "branch": branch.leaf} if index else {}
        last = None if index else updated
        yield from one.finished(metadata={**metadata, **about}, created=created, updated=last, line=line)


def _fill(draft: Draft, branch: Branch, nodes: dict[str, _Node], mapping: dict[str, Any], line: int | None) -> int:
    """Add the messages of a branch; return how many of them no branch before it has."""
    told = [(name, nodes[name].message) for name in branch.ids]
    found = [(name, message) for name, message in told if message is not None and not _is_empty(message)]
    own = set(branch.ids[branch.shared :])
    new = 0
    answers: str | None = None
    for index, (name, message) in enumerate(found):
        after = found[index + 1][1] if index + 1 < len(found) else None
        at: datetime | None = draft.told(lambda told=message: seconds(told.create_time, "create_time"), line)  # type: ignore[misc]
        made = _made(name, message, after, answers)
        answers = name if made is not None and "tool_calls" in made else None
        if made is None:
            draft.add_item(mapping[name]["message"], line=line, at=at)
        else:
            path = f"mapping.{name}.message"
            new += draft.add(made, path, line=line, at=at, metadata=_metadata(name, message)) and name in own
    return new


def _made(name: str, message: _Message, after: _Message | None, answers: str | None) -> dict[str, Any] | None:
    """Return what a provider takes for a message; `None` if it is an item.

    :param after: the message behind it.
    :param answers: the call before it.
    """
    content = _content(message.content)
    if not message.is_seen or content is None:
        return None
    if message.role == "tool":
        return None if answers is None else {"role": "tool", "tool_call_id": answers, "content": content}
    is_call = message.recipient != "all" and after is not None and after.role == "tool" and after.is_seen
    if message.role == "assistant" and is_call and after is not None and _content(after.content) is not None:
        call = call_of(name, _TOOL_NAME.sub("_", message.recipient), _arguments(content))
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": message.role, "content": content}


def _arguments(content: Any) -> Any:
    """Return the arguments of a call: the text if that is a JSON object, as those of most tools are."""
    if isinstance(content, str):
        try:
            if isinstance(decode_json(content.encode(errors="surrogatepass")), dict):
                return content
        except DecodeError:
            pass
    return {"input": content}


def _content(content: JsonObject) -> Any:
    """Return what a content says: a text, or parts; `None` if it says nothing that is known."""
    parts = content.get("parts")
    if not isinstance(parts, list):
        texts = [content.get(name) for name in ("text", "result", "content")]
        return next((text for text in texts if isinstance(text, str)), None)
    said = [_part(one) for one in parts]
    if len(said) == 1 or not any(said):
        return said[0] if said else ""
    return [{"type": "text", "text": text} for text in said if text]


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    text = part.get("text")
    if isinstance(text, str):
        return text
    return f"[{part.get('content_type') or 'part'}: {part.get('asset_pointer') or 'not in the file'}]"


def _is_empty(message: _Message) -> bool:
    """Say whether a message is a node of the tree, and nothing else."""
    return message.role != "user" and _content(message.content) == "" and message.content.get("content_type") == "text"


def _metadata(name: str, message: _Message) -> dict[str, Any]:
    """Return what else is known of a message."""
    content = message.content
    parts = content.get("parts")
    has_more = isinstance(parts, list) and any(not isinstance(one, str) for one in parts)
    told = {
        "id": name,
        "recipient": None if message.recipient == "all" else message.recipient,
        "author": {"name": message.author.name, **message.author.rest},
        "content_type": None if content.get("content_type") == "text" else content.get("content_type"),
        "parts": parts if has_more else None,
        "weight": None if message.weight == 1 else message.weight,
        **{
            one: value
            for one, value in content.items()
            if one not in ("content_type", "parts", "text", "result", "content")
        },
        **{one: value for one, value in message.rest.items() if one != "id"},
        **message.metadata,
    }
    told["author"] = {one: value for one, value in told["author"].items() if value not in (None, {})}
    return {one: value for one, value in told.items() if value not in (None, {}, [])}
