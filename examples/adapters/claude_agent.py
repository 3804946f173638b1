"""A chat with the Claude Agent SDK that any machine can go on with: its transcript is in a storage of ours.

python examples/adapters/claude_agent.py 9b2c0c3e-0000-4000-8000-000000000001 "Hello!"
"""

import asyncio
import sys
from dataclasses import replace

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, list_sessions_from_store, query

from session_manager.adapters.claude_agent import ClaudeSessionStore


async def answer(chat: str, text: str, options: ClaudeAgentOptions, storage: str = "log:chats") -> str:
    async with ClaudeSessionStore(storage) as store:
        is_known = chat in [info.session_id for info in await list_sessions_from_store(store)]
        now = replace(
            options, session_store=store, resume=chat if is_known else None, session_id=None if is_known else chat
        )
        messages = [message async for message in query(prompt=text, options=now)]
        return next(message.result or "" for message in messages if isinstance(message, ResultMessage))


if __name__ == "__main__":
    options = ClaudeAgentOptions(system_prompt="Be kind.", tools=[])
    chat, text = sys.argv[1:3] or ("9b2c0c3e-0000-4000-8000-000000000001", "Hello!")
    print(asyncio.run(answer(chat, text, options)))
