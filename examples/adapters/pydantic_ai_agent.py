"""An agent of Pydantic AI whose chats survive a kill: ``python examples/adapters/pydantic_ai_agent.py 42 "Hello!"``."""

import asyncio
import sys
from datetime import datetime, timezone

from pydantic_ai import Agent, Conversation

from session_manager.adapters.pydantic_ai import PydanticAIStore

agent = Agent(instructions="Be kind.")


@agent.tool_plain
def clock() -> str:
    """Tell the time."""
    return datetime.now(timezone.utc).isoformat()


async def answer(chat: str, text: str, storage: str = "log:chats") -> str:
    async with PydanticAIStore(storage) as store:
        result = await agent.run(text, conversation=await store.load(chat) or Conversation(conversation_id=chat))
        await store.save(result)
        return result.output


if __name__ == "__main__":
    agent.model = "openai:gpt-6-luna"
    print(asyncio.run(answer(*sys.argv[1:] or ("42", "Hello!"))))
