"""A framework of a few lines, adapted to a manager, and adapters that break one clause of `AdapterContract` each."""

from __future__ import annotations

from session_manager import AsyncSessionManager, InvalidKeyError
from session_manager.testing.adapters import Adapted


class Notebook(Adapted):
    """Notes what the user says, what a tool returned, and an answer."""

    def __init__(self, storage):
        is_url = isinstance(storage, str)
        self.manager = AsyncSessionManager.shared(storage) if is_url else AsyncSessionManager.wrap(storage)

    def key(self, conversation):
        return f"notes:{conversation}"

    async def run(self, conversation, text):
        await self.add(conversation, text)
        async with self.manager.turn(self.key(conversation), keep=False) as turn:
            turn.add_message("tool", "12:00", tool_call_id="call_1")
        history = await self.manager.get_history(self.key(conversation))
        given = [sum(message.role == role for message in history) for role in ("user", "tool")]
        async with self.manager.turn(self.key(conversation), keep=False) as turn:
            turn.add_message("assistant", "It is noon.")
        return tuple(given)

    async def add(self, conversation, text):
        async with self.manager.turn(self.key(conversation), keep=False) as turn:
            turn.add_message("user", text)

    async def texts(self, conversation):
        history = await self.manager.get_history(self.key(conversation))
        return [message.content for message in history if message.role == "user"]

    async def close(self):
        await self.manager.close()


class FoldsIds(Notebook):
    def key(self, conversation):
        return super().key(conversation.lower())


class RefusesOddIds(Notebook):
    def key(self, conversation):
        if "/" in conversation:
            raise InvalidKeyError(conversation, "has a slash")
        return super().key(conversation)


class KeepsWhatFailed(Notebook):
    async def add(self, conversation, text):
        await self.manager.add_message(self.key(conversation), "user", text)
        await self.manager.save(self.key(conversation))


class NeverSaves(Notebook):
    async def run(self, conversation, text):
        await self.add(conversation, text)
        said = len(await self.texts(conversation))
        return said, said

    async def add(self, conversation, text):
        await self.manager.add_message(self.key(conversation), "user", text)

    async def close(self):
        await self.manager.close(save=False)


class Overwrites(Notebook):
    async def add(self, conversation, text):
        said = await self.texts(conversation)
        async with self.manager.turn(self.key(conversation), keep=False) as turn:
            await turn.replace_history([{"role": "user", "content": one} for one in (*said, text)])


class Forgets(Notebook):
    """Its runner is given nothing of what was before."""

    async def run(self, conversation, text):
        await super().run(conversation, text)
        return 1, 1
