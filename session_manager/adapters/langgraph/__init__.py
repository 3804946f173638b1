"""LangGraph's checkpoints and memories in a storage of this library: `LangGraphSaver` and `LangGraphStore`.

``pip install 'chat-session-manager[langgraph]'``
"""

from __future__ import annotations

from session_manager.adapters.opening import missing

try:
    import langgraph  # noqa: F401 - whether it is there
except ModuleNotFoundError as error:
    raise missing("langgraph", error) from error

from session_manager.adapters.langgraph.saver import LangGraphSaver
from session_manager.adapters.langgraph.store import LangGraphStore

__all__ = ["LangGraphSaver", "LangGraphStore"]
