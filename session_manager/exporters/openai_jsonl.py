"""The format ``jsonl``: a session a line, as ``{"messages": […]}``, the form in which OpenAI chat takes examples for fine-tuning.

Source: https://platform.openai.com/docs/guides/supervised-fine-tuning (each line is one conversation in ``messages``).

* ``messages`` has the archived messages first, and then the history. Each is the object that a provider gave or took, unchanged.
  It is OpenAI's own form if the bot talks to OpenAI chat. Blocks of Anthropic, parts of Gemini and the like stay as they are.
* Messages without a role are not in ``messages``: an `Item`, which no model sees, and records of OpenAI Responses such as a
  ``function_call``.
* A second field, ``session_manager``, has everything else: the key, the times, the summary, the metadata, the messages without a
  role, and a note on each message with its position, time, metadata, ref and turn. `session_manager.codec.exported` describes
  it field by field. `session_manager.importers` read it back without a loss.
* ``jq -c '{messages}'`` takes the second field away, for a program that refuses fields which it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from session_manager.codec.exported import Exported, line

__all__ = ["lines", "written"]


def written(exported: Exported) -> Iterator[bytes]:
    """Return the line of a session, in pieces."""
    yield from line(exported)
    yield b"\n"


def lines(sessions: Iterable[Exported]) -> Iterator[bytes]:
    """Return the lines of sessions, in pieces."""
    for one in sessions:
        yield from written(one)
