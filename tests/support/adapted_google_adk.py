"""Sessions of Google's ADK, driven by its runner with a scripted model and a tool."""

from __future__ import annotations

from google.adk.agents import LlmAgent
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types

from session_manager.adapters.google_adk import AdkSessionService
from session_manager.testing import Adapted

APP, USER = "app", "user"


class Scripted(BaseLlm):
    """Calls the tool, and then answers. It notes what it was given."""

    model: str = "scripted"
    given: list = []  # noqa: RUF012 - pydantic copies it

    async def generate_content_async(self, llm_request, stream=False):  # noqa: FBT002 - as ADK has it
        self.given[:] = parts = [part for content in llm_request.contents for part in content.parts]
        if parts[-1].function_response is None:
            part = types.Part(function_call=types.FunctionCall(name="clock", args={}, id=f"call_{len(parts)}"))
        else:
            part = types.Part(text="It is noon.")
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


def clock() -> str:
    """Tell the time."""
    return "12:00"


def content(text):
    return types.Content(role="user", parts=[types.Part(text=text)])


def named(conversation):
    return {"app_name": APP, "user_id": USER, "session_id": conversation}


class AdaptedGoogleAdk(Adapted):
    """By `Runner.run_async` and `append_event`."""

    def __init__(self, storage):
        self.service = AdkSessionService(storage)
        self.model = Scripted()
        agent = LlmAgent(name="clockmaker", model=self.model, tools=[clock])
        self.runner = Runner(app_name=APP, agent=agent, session_service=self.service)

    async def session(self, conversation):
        """Return a session, created if it is missing."""
        found = await self.service.get_session(**named(conversation))
        if found is None:
            try:
                return await self.service.create_session(**named(conversation))
            except AlreadyExistsError:
                found = await self.service.get_session(**named(conversation))
        return found

    async def run(self, conversation, text):
        await self.session(conversation)
        stream = self.runner.run_async(user_id=USER, session_id=conversation, new_message=content(text))
        events = [event async for event in stream]
        assert events[-1].content.parts[0].text == "It is noon."
        given = self.model.given
        asked = sum(part.text is not None and part.text != "It is noon." for part in given)
        return asked, sum(part.function_response is not None for part in given)

    async def add(self, conversation, text):
        while True:
            try:
                session = await self.session(conversation)
                await self.service.append_event(session, Event(author="user", content=content(text)))
            except StaleSessionError:
                continue
            return

    async def texts(self, conversation):
        session = await self.service.get_session(**named(conversation))
        events = [] if session is None else session.events
        return [event.content.parts[0].text for event in events if event.author == "user"]

    async def close(self):
        await self.service.close()
