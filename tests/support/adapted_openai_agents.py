"""Conversations of the OpenAI Agents SDK, driven by its runner with a scripted model and a tool."""

from __future__ import annotations

import asyncio

from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from session_manager.adapters.openai_agents import OpenAIAgentsSession
from session_manager.testing import Adapted

#: Nothing is sent to OpenAI.
QUIET = RunConfig(tracing_disabled=True)


@function_tool
def clock() -> str:
    """Tell the time."""
    return "12:00"


def agent(number):
    """Return an agent whose model calls the tool, and then answers."""
    steps = [
        [function_call("clock", {}, call_id=f"call_{number}")],
        [assistant_message("It is noon.", item_id=f"msg_{number}")],
    ]
    model = ScriptedModel(steps)
    return Agent("clockmaker", model=model, tools=[clock]), model


def given(model):
    """Return how many messages of the user, and results of the tool, the model was given in its last call."""
    items = model.last_call.input
    return (
        sum(item.get("role") == "user" for item in items),
        sum(item.get("type") == "function_call_output" for item in items),
    )


class AdaptedOpenAIAgents(Adapted):
    """By `Runner.run`, in the event loop."""

    def __init__(self, storage):
        self.storage, self.sessions = storage, {}
        self.session("first")  # keeps the storage open

    def session(self, conversation):
        if conversation not in self.sessions:
            self.sessions[conversation] = OpenAIAgentsSession(conversation, self.storage)
        return self.sessions[conversation]

    async def run(self, conversation, text):
        session = self.session(conversation)
        one, model = agent(len(await session.get_items()))
        await self.ran(one, text, session)
        return given(model)

    async def ran(self, one, text, session):
        result = await Runner.run(one, text, session=session, run_config=QUIET)
        assert result.final_output == "It is noon."

    async def add(self, conversation, text):
        await self.session(conversation).add_items([{"role": "user", "content": text}])

    async def texts(self, conversation):
        items = await self.session(conversation).get_items()
        return [item["content"] for item in items if item.get("role") == "user"]

    async def close(self):
        for session in self.sessions.values():
            await session.close()


class AdaptedOpenAIAgentsInThreads(AdaptedOpenAIAgents):
    """By `Runner.run_sync`, in threads, each with an event loop of its own."""

    async def ran(self, one, text, session):
        result = await asyncio.to_thread(in_a_loop_of_its_own, one, text, session)
        assert result.final_output == "It is noon."


def in_a_loop_of_its_own(one, text, session):
    """Run synchronously. The runner takes the thread's event loop, and leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return Runner.run_sync(one, text, session=session, run_config=QUIET)
    finally:
        loop.close()
        asyncio.set_event_loop(None)
