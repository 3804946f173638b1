"""Threads of LangGraph, driven by LangChain's agent with a scripted model and a tool."""

from __future__ import annotations

import asyncio

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import Field

from session_manager.adapters.langgraph import LangGraphSaver
from session_manager.testing import Adapted


@tool
def clock() -> str:
    """Tell the time."""
    return "12:00"


class Scripted(BaseChatModel):
    """Calls the tool, and then answers. It notes what it was given."""

    given: list = Field(default_factory=list)

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **options):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **options):
        self.given[:] = messages
        if isinstance(messages[-1], ToolMessage):
            answer = AIMessage("It is noon.")
        else:
            answer = AIMessage("", tool_calls=[{"name": "clock", "args": {}, "id": f"call_{len(messages)}"}])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def thread(conversation):
    return {"configurable": {"thread_id": conversation}}


class AdaptedLangGraph(Adapted):
    """By `ainvoke` and `aupdate_state`, in the event loop."""

    def __init__(self, storage, **options):
        self.saver = LangGraphSaver(storage, **options)
        self.model = Scripted()
        self.agent = create_agent(self.model, [clock], checkpointer=self.saver)

    async def run(self, conversation, text):
        result = await self.agent.ainvoke({"messages": [("user", text)]}, thread(conversation))
        assert result["messages"][-1].content == "It is noon."
        return self.counts()

    def counts(self):
        """Return how many messages of the user, and results of the tool, the model was given in its last call."""
        given = self.model.given
        return tuple(sum(isinstance(message, kind) for message in given) for kind in (HumanMessage, ToolMessage))

    async def add(self, conversation, text):
        await self.agent.aupdate_state(thread(conversation), {"messages": [("user", text)]})

    async def texts(self, conversation):
        return said(await self.agent.aget_state(thread(conversation)))

    async def close(self):
        await self.saver.aclose()


class AdaptedLangGraphInThreads(AdaptedLangGraph):
    """By `invoke` and `update_state`, in threads."""

    async def run(self, conversation, text):
        await asyncio.to_thread(self.agent.invoke, {"messages": [("user", text)]}, thread(conversation))
        return self.counts()

    async def add(self, conversation, text):
        await asyncio.to_thread(self.agent.update_state, thread(conversation), {"messages": [("user", text)]})

    async def texts(self, conversation):
        return said(await asyncio.to_thread(self.agent.get_state, thread(conversation)))

    async def close(self):
        await asyncio.to_thread(self.saver.close)


def said(state):
    """Return what the user said, of the state of a thread."""
    return [message.content for message in state.values.get("messages", ()) if isinstance(message, HumanMessage)]
