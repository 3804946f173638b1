"""The program for aiogram in docs/async-how-to.md, run with the real package, offline."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timezone

import pytest

from session_manager import AsyncSessionManager, SessionManager
from tests.support.places import ROOT

pytest.importorskip("aiogram", reason="aiogram is not installed")

from aiogram import Bot
from aiogram.client.session.base import BaseSession
from aiogram.methods import GetMe, GetUpdates, SendMessage
from aiogram.types import Chat, Message, MessageEntity, Update, User

PAGE = ROOT / "docs" / "async-how-to.md"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Telegram(BaseSession):
    """Telegram's server, behind aiogram's own interface for requests."""

    def __init__(self):
        super().__init__()
        self.texts, self.waiting, self.acknowledged = [], [], 0

    async def make_request(self, bot, method, timeout=None):
        if isinstance(method, GetMe):
            return User(id=1, is_bot=True, first_name="Bot", username="a_bot")
        if isinstance(method, SendMessage):
            self.texts.append(method.text)
            return Message(message_id=1, date=NOW, chat=Chat(id=method.chat_id, type="private"))
        if isinstance(method, GetUpdates):
            self.acknowledged = max(self.acknowledged, (method.offset or 1) - 1)
            await asyncio.sleep(0.001)
            return [one for one in self.waiting if one.update_id > self.acknowledged]
        return True

    async def stream_content(self, *_, **__):
        raise NotImplementedError
        yield

    async def close(self):
        pass


class Model:
    """What the program asks: it answers when it is let."""

    def __init__(self):
        self.asked, self.is_asked, self.may_answer = [], asyncio.Event(), asyncio.Event()

    async def __call__(self, messages):
        self.asked.append(messages)
        self.is_asked.set()
        await self.may_answer.wait()
        return f"You said {messages[-1]['content']!r}."


def program():
    """Return the names that the program defines; the model is one that can be made to wait."""
    first, *sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    (text,) = [one for one in sections if one.startswith("aiogram\n")]
    names = {"__name__": "how_to"}
    for block in re.findall(r"```python\n(.*?)```", first + text, re.DOTALL):
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    names["ask"] = Model()
    return names


def update(number, text, chat=42):
    """What Telegram delivers for a message."""
    command = (
        [MessageEntity(type="bot_command", offset=0, length=len(text.split()[0]))] if text.startswith("/") else None
    )
    sender = User(id=chat, is_bot=False, first_name="Ada")
    said = Message(
        message_id=number, date=NOW, chat=Chat(id=chat, type="private"), from_user=sender, text=text, entities=command
    )
    return Update(update_id=number, message=said)


def stored(storage, chat=42):
    with SessionManager(storage, read_only=True) as manager:
        return [message.content for message in manager.get_history(f"telegram:{chat}")]


def test_a_delivery_is_answered_once_and_a_reset_clears_once(tmp_path):
    storage = f"log:{tmp_path}"

    async def run():
        telegram = Telegram()
        bot = Bot("42:TOKEN", session=telegram)
        async with AsyncSessionManager(storage) as manager:
            names = program()
            names["ask"].may_answer.set()
            dispatcher = names["build"](manager)
            numbers = (1, 2, 2, 3, 3)
            texts = ("one", "/reset", "/reset", "two", "two")
            for number, text in zip(numbers, texts, strict=True):
                await dispatcher.feed_update(bot, update(number, text))
            await dispatcher.feed_update(bot, update(2, "/reset"))
            await dispatcher.feed_update(bot, update(5, "/search two"))
            await asyncio.gather(
                *(dispatcher.feed_update(bot, update(10 + one, f"at once {one}", 43)) for one in range(4))
            )
        return telegram.texts, len(names["ask"].asked)

    texts, asked = asyncio.run(run())
    assert asked == 6
    assert texts[:5] == ["You said 'one'.", *["I have forgotten everything."] * 2, *["You said 'two'."] * 2]
    assert "**two**" in texts[6]
    assert stored(storage) == ["two", "You said 'two'."]
    assert sorted(stored(storage, 43)[::2]) == [f"at once {number}" for number in range(4)]


def test_the_end_waits_for_what_is_being_answered(tmp_path):
    """Polling stops while a model is asked: the answer is stored and sent before the storage is closed."""
    storage = f"log:{tmp_path}"

    async def run():
        telegram, names = Telegram(), program()
        telegram.waiting = [update(1, "one")]
        dispatchers, build = [], names["build"]
        names["build"] = lambda manager: dispatchers.append(build(manager)) or dispatchers[-1]
        polling = asyncio.create_task(names["main"](Bot("42:TOKEN", session=telegram), storage))
        await asyncio.wait_for(names["ask"].is_asked.wait(), 30)
        stopping = asyncio.create_task(dispatchers[0].stop_polling())
        await asyncio.sleep(0)
        names["ask"].may_answer.set()
        await asyncio.wait_for(asyncio.gather(stopping, polling), 30)
        return telegram.texts

    assert asyncio.run(run()) == ["You said 'one'."]
    assert stored(storage) == ["one", "You said 'one'."]
