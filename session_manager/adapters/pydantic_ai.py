"""Pydantic AI: its `ConversationStore`, in a storage of this library.

>>> from pydantic_ai.conversation import Conversation  # doctest: +SKIP
>>> store = PydanticAIStore("log:chats")  # doctest: +SKIP
>>> conversation = await store.load("42") or Conversation(conversation_id="42")  # doctest: +SKIP
>>> await store.save(await agent.run("Hello!", conversation=conversation))  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from session_manager.adapters.opening import Storage, UsesStorage, missing
from session_manager.errors import ConflictError
from session_manager.model.key import join_key, key_prefix, quote_part
from session_manager.model.message import Item, Message
from session_manager.model.session import Session

try:
    from pydantic import TypeAdapter
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
    from pydantic_ai.messages import ModelMessagesTypeAdapter
    from pydantic_core import from_json, to_json
except ModuleNotFoundError as error:
    raise missing("pydantic-ai", error) from error

__all__ = ["PydanticAIStore"]

#: The first part of the keys of all sessions, and the keys of their metadata at which the record and its scope are.
_CHANNEL, _RECORD, _SCOPE = "pydantic-ai", "pydantic_ai_record", "pydantic_ai_scope"
#: In how many entries' case a store remembers which conversation has them.
_REMEMBERED = 10_000

_records: TypeAdapter[ConversationRecord] = TypeAdapter(ConversationRecord)


class PydanticAIStore(UsesStorage, ConversationStore):
    """The conversations of Pydantic AI, each in a session, with all branches that it has left.

    Use `load`, `save`, `branch`, `fork`, `list_conversations` and `delete` as Pydantic AI documents them. The key of a conversation is
    ``pydantic-ai:ID``, with `quote_part` of the id. An entry is an `Item` of the session; its id is the item's ref.

    A save is one commit of the new entries and the record. It is durable when it returns, and has done nothing if it raises. Several
    tasks, threads and stores may use one storage at once, and so may several processes, if the storage lets them: of two that save over
    one revision, one gets a ``ConversationConflict``.

    A fork gets a copy of the entries that it shares. So `delete` erases all messages of a conversation that no fork has, and a fork
    outlives the conversation that it came from.

    :param storage: a URL or path, as for `SessionManager.shared`; or a manager of yours.
    :raises TypeError: if the storage is something else.
    :raises InvalidStorageError: if the URL or path cannot be what it says.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        #: The keys of sessions that have these entries. It is a hint: sessions change and go.
        self._places: dict[str, str] = {}

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation; `None` if there is none.

        :raises InvalidKeyError: if no conversation can have that id.
        :raises CorruptSessionError: if the session is damaged.
        """
        key = _key(conversation_id)
        record = _record(await self._manager.get(key))
        if record is not None:
            self._remember(key, record)
        return record

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """Return the records, that of the latest save first; those of damaged sessions are left out.

        No messages are loaded.

        :param scope: only those with this scope.
        :param limit: how many at most.
        """
        where = None if scope is None else {_SCOPE: scope}
        infos = await self._manager.list_sessions(key_prefix(_CHANNEL), where=where)
        records = [_parsed(info.metadata[_RECORD]) for info in infos if _RECORD in info.metadata]
        return sorted(records, key=lambda record: record.updated_at, reverse=True)[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Save a record and new entries in one commit, over the record that has a revision.

        :raises ConversationConflict: if the record has another revision, or its head is in no conversation; nothing has changed.
        :raises InvalidMessageError: if a message holds what is not JSON; nothing has changed.
        :raises SaveError: if it could not be saved; nothing has changed.
        """
        key = _key(record.conversation_id)
        session = await self._expected(key, record.conversation_id, expected_revision)
        entries = await self._with_history(session, record, new_entries)
        try:
            async with self._manager.turn(key, expected=None if session is None else session.version) as turn:
                turn.add(*_items(entries))
                await turn.set_metadata({_RECORD: from_json(_records.dump_json(record)), _SCOPE: record.scope})
        except ConflictError as error:
            raise ConversationConflict(record.conversation_id) from error
        self._remember(key, record)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with all of its entries, durably.

        :raises ConversationConflict: if it has another revision, or there is none.
        :raises SaveError: if it could not be deleted; it is still there.
        """
        key = _key(conversation_id)
        session = await self._expected(key, conversation_id, expected_revision)
        try:
            await self._manager.delete(key, expected=session.version if session is not None else None)
        except ConflictError as error:
            raise ConversationConflict(conversation_id) from error

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry. One that this store has not met is looked for in all conversations.

        :raises LookupError: if no conversation has it.
        """
        found = await self._manager.get_message(await self._place_of(entry_id), entry_id)
        if found is None:
            raise _no(entry_id)
        return _entries([found])[0]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries up to one, in order, or the last of them.

        :param limit: how many at most.
        :raises LookupError: if no conversation has that entry.
        """
        if head_id is None:
            return []
        session = await self._manager.get(await self._place_of(head_id))
        chain: list[Message] = []
        wanted: str | None = head_id
        for item in reversed(() if session is None else session.messages.to_list()):
            if wanted is None or (limit is not None and len(chain) >= limit):
                break
            if item.ref == wanted:
                chain.append(item)
                wanted = item.to_dict()["parent_id"]
        if not chain and limit != 0:
            raise _no(head_id)
        return _entries(reversed(chain))

    async def _expected(self, key: str, conversation_id: str, revision: str | None) -> Session | None:
        """Return the session of a conversation that must have a revision."""
        session = await self._manager.get(key)
        record = _record(session)
        if (None if record is None else record.revision) != revision:
            raise ConversationConflict(conversation_id)
        return session

    async def _with_history(
        self, session: Session | None, record: ConversationRecord, new: Sequence[ConversationEntry]
    ) -> list[ConversationEntry]:
        """Return new entries, behind those of another conversation that they stand on: the record's conversation is a fork of it."""
        entries = list(new)
        base = entries[0].parent_id if entries else record.head_id
        if not await self._has(session, base):
            try:
                entries = [*await self.read_history(base), *entries]
            except LookupError as error:
                raise ConversationConflict(record.conversation_id) from error
        if record.head_id not in {entry.id for entry in entries} and not await self._has(session, record.head_id):
            raise ConversationConflict(record.conversation_id)
        return entries

    async def _has(self, session: Session | None, entry_id: str | None) -> bool:
        """Say whether a session has an entry; no entry, with which a history begins, is in each."""
        return entry_id is None or (session is not None and await self._manager.contains_ref(session.key, entry_id))

    async def _place_of(self, entry_id: str) -> str:
        """Return the key of a session that has an entry."""
        hint = self._places.get(entry_id)
        if hint is not None and await self._manager.contains_ref(hint, entry_id):
            return hint
        for info in await self._manager.list_sessions(key_prefix(_CHANNEL)):
            if info.error is None and await self._manager.contains_ref(info.key, entry_id):
                return info.key
        raise _no(entry_id)

    def _remember(self, key: str, record: ConversationRecord) -> None:
        for entry_id in (record.head_id, *record.branches):
            if entry_id is not None:
                self._places.pop(entry_id, None)
                self._places[entry_id] = key
        while len(self._places) > _REMEMBERED:
            del self._places[next(iter(self._places))]


def _key(conversation_id: str) -> str:
    return join_key(_CHANNEL, quote_part(conversation_id))


def _no(entry_id: str) -> LookupError:
    return LookupError(f"no conversation has the entry {entry_id[:80]!a}")


def _record(session: Session | None) -> ConversationRecord | None:
    return None if session is None or _RECORD not in session.metadata else _parsed(session.metadata[_RECORD])


def _parsed(record: Any) -> ConversationRecord:
    return _records.validate_json(to_json(record))


def _items(entries: Sequence[ConversationEntry]) -> list[Item]:
    messages = from_json(ModelMessagesTypeAdapter.dump_json([entry.message for entry in entries]))
    return [
        Item({"id": entry.id, "parent_id": entry.parent_id, "kind": entry.kind, "message": message}, ref=entry.id)
        for entry, message in zip(entries, messages, strict=True)
    ]


def _entries(items: Iterable[Message]) -> list[ConversationEntry]:
    kept = [item.to_dict() for item in items]
    messages = ModelMessagesTypeAdapter.validate_json(to_json([one["message"] for one in kept]))
    return [
        ConversationEntry(id=one["id"], parent_id=one["parent_id"], message=message, kind=one["kind"])
        for one, message in zip(kept, messages, strict=True)
    ]
