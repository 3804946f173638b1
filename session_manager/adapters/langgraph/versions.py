"""Versions of channels: texts whose order is theirs."""

from __future__ import annotations

from session_manager.adapters.langgraph.values import Version
from session_manager.model.ids import random_id

__all__ = ["next_version"]


def next_version(current: Version | None) -> str:
    """Return a version after another one, in the form that LangGraph's own savers use: a number, and something random.

    Two branches of a thread give a channel different versions, so.

    :param current: a version of any saver of LangGraph; `None`: there is none yet.
    """
    number = 0 if current is None else int(str(current).partition(".")[0])
    return f"{number + 1:032}.{random_id()[:8]}"
