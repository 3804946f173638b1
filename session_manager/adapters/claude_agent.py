"""Claude Agent SDK: its `SessionStore`, in a storage of this library.

>>> from claude_agent_sdk import ClaudeAgentOptions, query  # doctest: +SKIP
>>> store = ClaudeSessionStore("log:chats")  # doctest: +SKIP
>>> options = ClaudeAgentOptions(session_store=store, resume=session_id)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from session_manager.adapters.attempts import ATTEMPTS, retried
from session_manager.adapters.opening import Storage, UsesStorage, missing
from session_manager.model.key import join_key, key_prefix, quote_part, split_key, unquote_part
from session_manager.model.message import Item
from session_manager.model.session import Session
from session_manager.stores.descriptions import SessionInfo

try:
    from claude_agent_sdk import fold_session_summary
except ModuleNotFoundError as error:
    raise missing("claude-agent", error) from error

if TYPE_CHECKING:
    from claude_agent_sdk import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

__all__ = ["ClaudeSessionStore"]

#: The first part of the keys of all sessions, and the key of their metadata at which the SDK's summary is.
_CHANNEL, _SUMMARY = "claude", "claude_summary"
#: How many parts the key of a transcript has that is no subagent's.
_MAIN = 3


class ClaudeSessionStore(UsesStorage):
    """The transcripts of the Claude Agent SDK, as it takes them by ``ClaudeAgentOptions(session_store=…)``.

    A transcript is a session. Its key is ``claude:PROJECT:SESSION``, and that of a subagent ``claude:PROJECT:SESSION:SUBPATH``, with
    `quote_part` of each. An entry is an `Item`, exactly as the SDK gave it; its ``uuid`` is the item's ref. So the manager lists,
    searches, exports and expires transcripts.

    Each `append` is one commit, with the summary of the transcript. It is durable when it returns, and has done nothing if it
    raises. Several tasks, threads and stores may use one storage at once, and so may several processes, if the storage lets them.

    :param storage: a URL or path, as for `SessionManager.shared`; or a manager of yours.
    :raises TypeError: if the storage is something else.
    :raises InvalidStorageError: if the URL or path cannot be what it says.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Add entries to a transcript, all or none, durably. Entries whose ``uuid`` is there are left out.

        :raises InvalidKeyError: if the parts of the key are too long together, or no text that JSON can hold.
        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises SaveError: if they could not be saved; nothing has changed.
        :raises ConflictError: if other writers are in the way each time, or an unsaved change of yours is; nothing has changed.
        """
        name = _key(key)
        items = [Item(cast("Mapping[str, object]", entry), ref=entry.get("uuid") or None) for entry in entries]
        if items:
            async with self._queues.of(name):
                await self._append(name, key, items)

    async def _append(self, name: str, key: SessionKey, items: list[Item]) -> None:
        for attempt in range(ATTEMPTS):
            session = await self._manager.get(name)
            with retried(attempt):  # another process has added entries since
                async with self._manager.turn(name, expected=None if session is None else session.version) as turn:
                    new = await self._absent(name, items)
                    turn.add(*new)
                    if new and key.get("subpath") is None:
                        await turn.set_metadata({_SUMMARY: _folded(session, key, [item.to_dict() for item in new])})
                return

    async def _absent(self, name: str, items: list[Item]) -> list[Item]:
        """Return the items that are not there, each once. One without a ref is another one each time."""
        absent: dict[object, Item] = {}
        for number, item in enumerate(items):
            if item.ref is None:
                absent[number] = item
            elif item.ref not in absent and not await self._manager.contains_ref(name, item.ref):
                absent[item.ref] = item
        return list(absent.values())

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return the entries of a transcript, in order, as fresh dicts; `None` if there is no such transcript.

        :raises CorruptSessionError: if it is damaged.
        """
        session = await self._manager.get(_key(key))
        return None if session is None else [cast("SessionStoreEntry", item.to_dict()) for item in session.messages]

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the id of each transcript of a project, and when it was last changed, in milliseconds since 1970.

        Transcripts of subagents are left out.
        """
        return [{"session_id": name, "mtime": _mtime(info)} for name, info in await self._listed(project_key)]

    async def list_session_summaries(self, project_key: str) -> list[SessionSummaryEntry]:
        """Return the SDK's summary of each transcript of a project, without loading transcripts."""
        return [
            {"session_id": name, "mtime": _mtime(info), "data": cast("dict[str, object]", info.metadata[_SUMMARY])}
            for name, info in await self._listed(project_key)
            if _SUMMARY in info.metadata
        ]

    async def _listed(self, project_key: str) -> list[tuple[str, SessionInfo]]:
        infos = await self._manager.list_sessions(key_prefix(_CHANNEL, quote_part(project_key)))
        parts = [(split_key(info.key), info) for info in infos]
        return [(unquote_part(names[2]), info) for names, info in parts if len(names) == _MAIN]

    async def delete(self, key: SessionKey) -> None:
        """Delete a transcript, durably, with those of its subagents; of a key with a subpath only that one.

        The subagents go first. If the call fails or the process is killed, the session is still listed, and you can delete it again.

        :raises SaveError: if one could not be deleted; it is still there.
        """
        name = _key(key)
        if key.get("subpath") is None:
            await self._manager.delete_prefix(name + ":")
        await self._manager.delete(name)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the subpaths of a session's subagents."""
        prefix = key_prefix(_CHANNEL, quote_part(key["project_key"]), quote_part(key["session_id"]))
        return [unquote_part(info.key[len(prefix) :]) for info in await self._manager.list_sessions(prefix)]


def _key(key: SessionKey) -> str:
    parts = [key["project_key"], key["session_id"]]
    if (subpath := key.get("subpath")) is not None:
        parts.append(subpath)
    return join_key(_CHANNEL, *map(quote_part, parts))


def _folded(session: Session | None, key: SessionKey, entries: list[dict[str, object]]) -> dict[str, object]:
    """Return the SDK's summary of a transcript, with new entries."""
    before = None if session is None else session.metadata.get(_SUMMARY)
    last = cast("SessionSummaryEntry | None", before and {"session_id": key["session_id"], "mtime": 0, "data": before})
    return fold_session_summary(last, key, cast("list[SessionStoreEntry]", entries))["data"]


def _mtime(info: SessionInfo) -> int:
    return 0 if info.updated is None else int(info.updated.timestamp() * 1000)
