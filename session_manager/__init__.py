"""Chat sessions in RAM, each made durable atomically.

>>> from session_manager import SessionManager
>>> with SessionManager() as m:
...     _ = m.add_message("telegram:42", "user", "Hello!")
...     [message.to_dict() for message in m.get_history("telegram:42")]
[{'role': 'user', 'content': 'Hello!'}]
"""

import typing as _typing

from session_manager import errors
from session_manager.errors import *  # noqa: F403 - an `except` must find each of them at any moment
from session_manager.late import late as _late

if _typing.TYPE_CHECKING:
    from session_manager.aio.manager import AsyncSessionManager as AsyncSessionManager
    from session_manager.aio.turn import AsyncTurn as AsyncTurn
    from session_manager.codec.converter import converter as converter
    from session_manager.history.search import SearchHit as SearchHit
    from session_manager.manager.autosave import Autosave as Autosave
    from session_manager.manager.draft import LAST as LAST
    from session_manager.manager.leases import Lease as Lease
    from session_manager.manager.manager import Health as Health
    from session_manager.manager.manager import SessionManager as SessionManager
    from session_manager.manager.summaries import Summarized as Summarized
    from session_manager.manager.summaries import SummaryPolicy as SummaryPolicy
    from session_manager.manager.together import Write as Write
    from session_manager.manager.turn import Turn as Turn
    from session_manager.model.key import join_key as join_key
    from session_manager.model.key import key_prefix as key_prefix
    from session_manager.model.key import quote_part as quote_part
    from session_manager.model.key import split_key as split_key
    from session_manager.model.key import unquote_part as unquote_part
    from session_manager.model.message import Item as Item
    from session_manager.model.message import Message as Message
    from session_manager.model.packed import pack_bytes as pack_bytes
    from session_manager.model.packed import unpack_bytes as unpack_bytes
    from session_manager.model.session import ANY as ANY
    from session_manager.model.session import Session as Session
    from session_manager.model.session import Version as Version
    from session_manager.stores import CopyReport as CopyReport
    from session_manager.stores import open_store as open_store
    from session_manager.stores.contract import Commit as Commit
    from session_manager.stores.contract import Finding as Finding
    from session_manager.stores.contract import SessionInfo as SessionInfo
    from session_manager.stores.contract import Store as Store

__version__ = "0.2.0"

#: Where the names are that are imported when they are asked for.
_HOMES = {
    "ANY": "model.session",
    "AsyncSessionManager": "aio",
    "AsyncTurn": "aio",
    "Autosave": "manager.autosave",
    "Commit": "stores.contract",
    "CopyReport": "stores",
    "Finding": "stores.contract",
    "Health": "manager",
    "Item": "model",
    "LAST": "manager.draft",
    "Lease": "manager.leases",
    "Message": "model",
    "SearchHit": "history.search",
    "Session": "model",
    "SessionInfo": "stores.contract",
    "SessionManager": "manager",
    "Store": "stores.contract",
    "Summarized": "manager.summaries",
    "SummaryPolicy": "manager.summaries",
    "Turn": "manager.turn",
    "Version": "model",
    "Write": "manager.together",
    "converter": "codec.converter",
    "join_key": "model.key",
    "key_prefix": "model.key",
    "open_store": "stores",
    "pack_bytes": "model.packed",
    "quote_part": "model.key",
    "split_key": "model.key",
    "unpack_bytes": "model.packed",
    "unquote_part": "model.key",
}

if not _typing.TYPE_CHECKING:  # else every name would be one of this module's
    __all__ = sorted([*errors.__all__, *_HOMES])  # noqa: PLE0605 - type checkers go by the aliases above

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = _late(__name__, home, name)
        except ModuleNotFoundError as error:
            if error.name != "anyio":
                raise
            extra = "pip install 'chat-session-manager[async]'"
            raise ImportError(f"{name} needs anyio: {extra}", name="anyio") from error
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
