"""An agent of Google's ADK whose sessions survive a kill: ``python examples/adapters/google_adk.py 42 "Hello!"``."""

import asyncio
import sys
from datetime import datetime, timezone

from google.adk.agents import LlmAgent
from google.adk.runners import Runner
from google.genai.types import UserContent

from session_manager.adapters.google_adk import AdkSessionService


def clock() -> str:
    """Tell the time."""
    return datetime.now(timezone.utc).isoformat()


async def answer(user: str, text: str, agent: LlmAgent, storage: str = "sqlite:chats.db") -> str:
    async with AdkSessionService(storage) as service:
        runner = Runner(app_name="clock", agent=agent, session_service=service, auto_create_session=True)
        events = [one async for one in runner.run_async(user_id=user, session_id="1", new_message=UserContent(text))]
    return "".join(part.text or "" for part in (events[-1].content or UserContent("")).parts or ())


if __name__ == "__main__":
    user, text = sys.argv[1:3] or ("42", "Hello!")
    print(asyncio.run(answer(user, text, LlmAgent(name="c", model="gemini-2.5-flash", tools=[clock]))))
