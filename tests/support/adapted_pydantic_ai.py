"""Conversations of Pydantic AI, driven by an agent with a scripted model and a tool."""

from __future__ import annotations

import asyncio

from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import UsageLimits

from session_manager.adapters.pydantic_ai import PydanticAIStore
from session_manager.testing import Adapted

#: A conversation of more than 25 turns is over Pydantic AI's default.
ENDLESS = UsageLimits(request_limit=None)


class Script:
    """A model that calls the tool, and answers when it has the result."""

    def __init__(self):
        self.given = []

    def __call__(self, messages, info):
        self.given = messages
        told = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        return ModelResponse(parts=[TextPart("It is noon.") if told else ToolCallPart("clock", {})])

    def counts(self):
        parts = [part for message in self.given for part in message.parts]
        return tuple(sum(isinstance(part, kind) for part in parts) for kind in (UserPromptPart, ToolReturnPart))


def agent(script):
    one = Agent(FunctionModel(script))

    @one.tool_plain
    def clock() -> str:
        """Tell the time."""
        return "12:00"

    return one


def user(text):
    return ModelRequest(parts=[UserPromptPart(text)])


def said(messages):
    """Return what the user says in messages."""
    return [part.content for message in messages for part in message.parts if isinstance(part, UserPromptPart)]


class AdaptedPydanticAI(Adapted):
    """By `Agent.run`, in the event loop."""

    def __init__(self, storage):
        self.store = PydanticAIStore(storage)

    async def loaded(self, conversation):
        return await self.store.load(conversation) or Conversation(conversation_id=conversation)

    async def run(self, conversation, text):
        script = Script()
        result = await self.ran(agent(script), text, await self.loaded(conversation))
        assert result.output == "It is noon."
        await self.store.save(result)
        return script.counts()

    async def ran(self, one, text, conversation):
        return await one.run(text, conversation=conversation, usage_limits=ENDLESS)

    async def add(self, conversation, text):
        while True:
            loaded = await self.loaded(conversation)
            loaded.messages.append(user(text))
            try:
                await self.store.save(loaded)
            except ConversationConflict:
                continue
            return

    async def texts(self, conversation):
        return said((await self.loaded(conversation)).messages)

    async def close(self):
        await self.store.close()


class AdaptedPydanticAIInThreads(AdaptedPydanticAI):
    """By `Agent.run_sync`, in threads, each with an event loop of its own."""

    async def ran(self, one, text, conversation):
        return await asyncio.to_thread(in_a_loop_of_its_own, one, text, conversation)


def in_a_loop_of_its_own(one, text, conversation):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return one.run_sync(text, conversation=conversation, usage_limits=ENDLESS)
    finally:
        loop.close()
        asyncio.set_event_loop(None)
