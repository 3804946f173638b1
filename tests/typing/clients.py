"""What `get_context` returns, given to the SDKs as a user does: ``mypy --strict`` and ``pyright`` accept it without a cast."""

import anthropic
import openai

from session_manager import AsyncSessionManager, SessionManager


def ask(m: SessionManager, key: str) -> str:
    client, claude = openai.OpenAI(), anthropic.Anthropic()
    chat = client.chat.completions.create(model="gpt", messages=m.get_context(key, system="Be kind."))
    response = client.responses.create(model="gpt", input=m.get_context(key, system="Be kind."))
    message = claude.messages.create(
        model="claude", max_tokens=100, system="Be kind.", messages=m.get_context(key, summary_role="user")
    )
    with m.turn(key) as turn:
        chat = client.chat.completions.create(model="gpt", messages=turn.get_context())
    return f"{chat.choices[0].message.content} {response.output_text} {message.content}"


async def ask_later(m: AsyncSessionManager, key: str) -> str:
    client, claude = openai.AsyncOpenAI(), anthropic.AsyncAnthropic()
    chat = await client.chat.completions.create(model="gpt", messages=await m.get_context(key))
    response = await client.responses.create(model="gpt", input=await m.get_context(key))
    async with m.turn(key) as turn:
        context = await turn.get_context(summary_role="user")
        message = await claude.messages.create(model="claude", max_tokens=100, messages=context)
    return f"{chat.choices[0].message.content} {response.output_text} {message.content}"
