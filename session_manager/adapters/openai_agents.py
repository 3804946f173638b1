"""OpenAI Agents SDK: its `Session`, in a storage of this library.

>>> from agents import Agent, Runner  # doctest: +SKIP
>>> async with OpenAIAgentsSession("telegram:42", "log:chats") as session:  # doctest: +SKIP
...     result = await Runner.run(agent, "Hello!", session=session)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from session_manager.adapters.attempts import ATTEMPTS, retried
from session_manager.adapters.opening import Storage, UsesStorage, missing
from session_manager.errors import ConflictError
from session_manager.model.key import check_key
from session_manager.model.message import Item, Message

try:
    from agents import SessionSettings
except ModuleNotFoundError as error:
    raise missing("openai-agents", error) from error

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

__all__ = ["OpenAIAgentsSession"]


class OpenAIAgentsSession(UsesStorage):
    """One conversation of the OpenAI Agents SDK, as its runner takes it by ``session=``.

    The id is the key of a session: your bot reads and writes the same conversation by the manager, such as
    ``manager.get_history("telegram:42")``. An item of the SDK is a message of the session, exactly as the SDK gave it. One without a
    role and a type, such as an envelope of `EncryptedSession`, is an `Item`.

    Each call is one commit. It is durable when it returns, and has done nothing if it raises. A task that is cancelled in a call
    gets its cancellation when the call has ended. Several objects, tasks, event loops and threads may use one conversation at once,
    and so may several processes, if the storage lets them. Do not run the runner inside of a turn of the same session.

    :param session_id: the key of the session: 1 to 1,024 bytes of UTF-8.
    :param storage: a URL or path, as for `SessionManager.shared`; or a manager of yours.
    :param session_settings: the SDK's settings, or a dict of them: ``limit``, how many of the newest items the runner gets; by
        default all.
    :raises InvalidKeyError: if the id cannot be a key.
    :raises TypeError: if the storage is something else.
    :raises InvalidStorageError: if the URL or path cannot be what it says.
    """

    def __init__(
        self, session_id: str, storage: Storage, session_settings: SessionSettings | dict[str, Any] | None = None
    ) -> None:
        #: The key of the session.
        self.session_id: str = check_key(session_id)
        #: The SDK's settings for this conversation; may be set at any time.
        self.session_settings: SessionSettings | None = (
            session_settings
            if isinstance(session_settings, SessionSettings)
            else SessionSettings(**session_settings or {})
        )
        super().__init__(storage)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the newest items, oldest first, as fresh dicts; ``[]`` if there is no such conversation.

        :param limit: how many at most, from 0; `None`: as the settings say.
        :raises ValueError: if it is negative.
        :raises CorruptSessionError: if what is stored is damaged.
        """
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        return [_item(message) for message in await self._manager.get_history(self.session_id, limit=limit)]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items, all or none, durably.

        :raises InvalidMessageError: with the place of what is not JSON; nothing has changed.
        :raises SaveError: if they could not be saved; nothing has changed.
        """
        messages = [_message(item) for item in items]
        async with self._manager.turn(self.session_id, keep=False) as turn:
            turn.add(*messages)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item, durably, and return it; `None` if there is none. Of several callers each gets another one.

        :raises SaveError: if it could not be saved; the item is still there.
        :raises ConflictError: if other writers are in the way each time, or an unsaved change of yours is; the item is still there.
        """
        for attempt in range(ATTEMPTS):
            with retried(attempt):  # another process has removed it
                async with self._manager.turn(self.session_id, keep=False) as turn:
                    newest = await self._manager.get_history(self.session_id, limit=1)
                    where = newest[0].position if newest else None
                    removed = None if where is None else await turn.remove(where)
                if where is None:
                    return None
                if removed is not None and turn.applied:
                    return _item(removed)
        raise ConflictError(self.session_id, None, None, "other writers remove the newest item all the time")

    async def clear_session(self) -> None:
        """Delete the conversation, durably: items, summary, archive and metadata.

        :raises SaveError: if it could not be deleted; it is still there.
        """
        await self._manager.delete(self.session_id)


def _message(item: object) -> Message:
    if not isinstance(item, dict):
        return Message.of(item)
    kind = item["role"] if "role" in item else item.get("type")
    return Message.from_dict(item) if isinstance(kind, str) and kind else Item(item)


def _item(message: Message) -> TResponseInputItem:
    return cast("TResponseInputItem", message.to_dict())
