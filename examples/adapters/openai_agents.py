"""An agent of the OpenAI Agents SDK whose chats survive a kill.

python examples/adapters/openai_agents.py 42 "What time is it?"
"""

import asyncio
import sys
from datetime import datetime, timezone

from agents import Agent, Runner, function_tool

from session_manager.adapters.openai_agents import OpenAIAgentsSession


@function_tool
def clock() -> str:
    """Tell the time."""
    return datetime.now(timezone.utc).isoformat()


agent = Agent("clockmaker", instructions="Be kind.", tools=[clock])


async def answer(chat: str, text: str, storage: str = "log:chats") -> str:
    async with OpenAIAgentsSession(f"telegram:{chat}", storage) as session:
        return str((await Runner.run(agent, text, session=session)).final_output)


if __name__ == "__main__":
    print(asyncio.run(answer(*sys.argv[1:] or ("42", "What time is it?"))))
