"""The programs of docs/async-how-to.md, run with the real packages, offline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal

import anyio
import pytest

from session_manager import AsyncSessionManager, ClosedError, SessionManager, open_store
from session_manager.history import problems
from session_manager.testing import FaultyStore
from tests.support.places import ROOT

PAGE = ROOT / "docs" / "async-how-to.md"
DEADLINE = 30

#: What packages say about themselves, or each other, when they are imported.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning:discord"),
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient` is deprecated"),
]


class Model:
    """What the programs ask: it answers at once, or when it is let."""

    def __init__(self):
        self.asked = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, messages):
        self.asked.append(messages)
        await self.may_answer.wait()
        return f"You said {messages[-1]['content']!r}."


def program(section):
    """Return the names that the programs of a section define; the model is one that can be made to wait."""
    first, *sections = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    (text,) = [one for one in sections if one.startswith(section + "\n")]
    names = {"__name__": "how_to"}
    for block in re.findall(r"```python\n(.*?)```", first + text, re.DOTALL):
        exec(compile(block, f"{PAGE}: {section}", "exec", dont_inherit=True), names)
    names["ask"] = Model()
    return names


async def until(condition):
    """Wait until something holds."""
    with anyio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110 - nobody says so
            await anyio.sleep(0.001)


def stored(storage, key):
    """Return what is stored of a session: (role, content) pairs."""
    with SessionManager(storage, read_only=True) as manager:
        history = manager.get_history(key)
    assert problems(history) == []
    return [(one.role, one.content) for one in history]


def turn_about(*texts):
    """Return the history of some turns."""
    return [one for text in texts for one in (("user", text), ("assistant", f"You said {text!r}."))]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_page_has_a_program_for_each_package():
    sections = re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sections == ["python-telegram-bot", "aiogram", "discord.py", "FastAPI"]


# python-telegram-bot


class Telegram:
    """Telegram's server, behind python-telegram-bot's own interface for requests."""

    def __init__(self, ext):
        self.waiting = []
        self.texts = []
        self.acknowledged = 0
        server = self

        class Request(ext.request.BaseRequest):
            read_timeout = 5

            async def initialize(self):
                pass

            async def shutdown(self):
                pass

            async def do_request(self, url, method, request_data=None, **timeouts):
                parameters = {} if request_data is None else request_data.parameters
                result = await getattr(server, url.rsplit("/", 1)[1].lower())(**parameters)
                return 200, json.dumps({"ok": True, "result": result}).encode()

        self.request = Request

    def builder(self, ext):
        return ext.ext.Application.builder().token("1:x").request(self.request()).get_updates_request(self.request())

    async def getme(self):
        return {"id": 1, "is_bot": True, "first_name": "Bot", "username": "a_bot"}

    async def deletewebhook(self, **_):
        return True

    async def sendmessage(self, chat_id, text, **_):
        self.texts.append(text)
        return {"message_id": 1, "date": 0, "chat": {"id": chat_id, "type": "private"}, "text": text}

    async def getupdates(self, offset=0, **_):
        if offset:
            self.acknowledged = max(self.acknowledged, offset - 1)
        self.waiting = [update for update in self.waiting if update["update_id"] > self.acknowledged]
        await (asyncio.sleep(0) if self.waiting else asyncio.sleep(0.01))
        return self.waiting


def update(number, text, chat=42):
    """What Telegram delivers for a message."""
    entities = [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}] if text.startswith("/") else []
    user = {"id": chat, "is_bot": False, "first_name": "Ada"}
    message = {"message_id": number, "date": 0, "chat": {"id": chat, "type": "private"}, "from": user}
    return {"update_id": number, "message": {**message, "text": text, "entities": entities}}


@pytest.fixture
def telegram():
    return pytest.importorskip("telegram", reason="python-telegram-bot is not installed")


@pytest.fixture
def tg(telegram):
    pytest.importorskip("telegram.ext")
    pytest.importorskip("telegram.request")
    return Telegram(telegram)


class Chat:
    """The program of python-telegram-bot, whose updates come one by one."""

    def __init__(self, telegram, tg):
        self.names = program("python-telegram-bot")
        self.application = self.names["build"](tg.builder(telegram))
        self._telegram = telegram

    async def __aenter__(self):
        await self.application.initialize()
        await self.application.post_init(self.application)
        return self

    async def __aexit__(self, *_):
        await self.application.shutdown()
        await self.application.post_shutdown(self.application)

    async def receive(self, *arguments):
        data = self._telegram.Update.de_json(update(*arguments), self.application.bot)
        await self.application.process_update(data)


def test_telegram_messages_are_answered_in_turns(telegram, tg):
    async def main():
        async with Chat(telegram, tg) as chat:
            await chat.receive(1, "Hello!")
            await asyncio.gather(chat.receive(2, "one"), chat.receive(3, "two"), chat.receive(4, "else", 43))
            return chat.names["ask"].asked

    asked = asyncio.run(main())
    assert [message["role"] for message in asked[0]] == ["system", "user"]
    assert sorted(tg.texts) == sorted(f"You said '{text}'." for text in ("Hello!", "one", "two", "else"))
    assert stored("telegram-chats", "telegram:42") == turn_about("Hello!", "one", "two")
    assert stored("telegram-chats", "telegram:43") == turn_about("else")


def test_telegram_updates_that_come_twice_are_answered_once(telegram, tg):
    async def main():
        async with Chat(telegram, tg) as chat:
            await asyncio.gather(*(chat.receive(1, "Hello!") for _ in range(3)))
        async with Chat(telegram, tg) as chat:
            await chat.receive(1, "Hello!")
            assert chat.names["ask"].asked == []

    asyncio.run(main())
    assert tg.texts == ["You said 'Hello!'."] * 4
    assert stored("telegram-chats", "telegram:42") == turn_about("Hello!")


def test_telegram_reset_clears_once_also_while_the_model_thinks(telegram, tg):
    async def main():
        async with Chat(telegram, tg) as chat:
            model = chat.names["ask"]
            await chat.receive(1, "Hello!")
            model.may_answer.clear()
            running = asyncio.create_task(chat.receive(2, "A long story!"))
            await until(lambda: len(model.asked) == 2)
            await chat.receive(3, "/reset")
            assert stored("telegram-chats", "telegram:42") == []
            model.may_answer.set()
            await running
            await chat.receive(4, "And now?")
            await chat.receive(3, "/reset")

    asyncio.run(main())
    forgotten = "I have forgotten everything."
    assert tg.texts == ["You said 'Hello!'.", forgotten, "You said 'And now?'.", forgotten]
    assert stored("telegram-chats", "telegram:42") == turn_about("And now?")


def test_telegram_search_sees_its_own_chat_only(telegram, tg):
    async def main():
        async with Chat(telegram, tg) as chat:
            await chat.receive(1, "A flight to Lisbon", 42)
            await chat.receive(2, "The secret of Lisbon", 43)
            tg.texts.clear()
            await chat.receive(3, "/search lisbon", 42)
            await chat.receive(4, "/search Kyoto", 42)

    asyncio.run(main())
    found, nothing = tg.texts
    assert nothing == "Nothing."
    assert "flight to **Lisbon**" in found
    assert "secret" not in found


def test_telegram_flood_is_refused(telegram, tg):
    async def main():
        async with Chat(telegram, tg) as chat:
            chat.names["ask"].may_answer.clear()
            flood = [asyncio.create_task(chat.receive(number, "Hello!")) for number in range(1, 21)]
            await until(lambda: len(tg.texts) == 14)
            chat.names["ask"].may_answer.set()
            await asyncio.gather(*flood)

    asyncio.run(main())
    assert tg.texts == ["One after another, please."] * 14 + ["You said 'Hello!'."] * 6
    assert len(stored("telegram-chats", "telegram:42")) == 2 * 6


def test_telegram_bot_that_is_stopped_answers_what_it_has_fetched(telegram, tg):
    async def main():
        chat = Chat(telegram, tg)
        application, model = chat.application, chat.names["ask"]
        model.may_answer.clear()
        tg.waiting = [update(1, "Hello!"), update(2, "Hello!", 43)]
        await application.initialize()
        await application.post_init(application)
        await application.updater.start_polling()
        await application.start()
        await until(lambda: len(model.asked) == 2)
        await application.updater.stop()  # from here on as run_polling does at a signal
        stopping = asyncio.create_task(application.stop())
        await asyncio.sleep(0)
        model.may_answer.set()
        await stopping
        await application.shutdown()
        await application.post_shutdown(application)

    asyncio.run(main())
    assert tg.texts == ["You said 'Hello!'."] * 2
    assert stored("telegram-chats", "telegram:42") == stored("telegram-chats", "telegram:43") == turn_about("Hello!")


def test_telegram_updates_are_acknowledged_after_they_are_durable(telegram, tg):
    async def main(until_when, *, thinking):
        chat = Chat(telegram, tg)
        if thinking:
            chat.names["ask"].may_answer.clear()
        running = asyncio.create_task(chat.names["run"](chat.application))
        await until(lambda: until_when(chat))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    tg.waiting = [update(number, f"number {number}", 40 + number % 3) for number in range(1, 7)]
    asyncio.run(main(lambda chat: len(chat.names["ask"].asked) == 3, thinking=True))
    assert tg.acknowledged == 0
    assert tg.texts == []
    asyncio.run(main(lambda _: tg.acknowledged == 6, thinking=False))
    assert len(tg.texts) == 6
    for chat in (1, 2, 3):
        said = [f"number {number}" for number in range(1, 7) if number % 3 == chat % 3]
        assert stored("telegram-chats", f"telegram:{40 + chat % 3}") == turn_about(*said)


# discord.py


class Discord:
    """Discord's server, behind the one method of discord.py that sends requests."""

    def __init__(self):
        self.texts = []

    async def request(self, route, *, json=None, **_):
        user = {"id": "1", "username": "bot", "discriminator": "0", "avatar": None, "bot": True}
        if route.path == "/users/@me":
            return user
        if route.path == "/oauth2/applications/@me":
            flags = {"bot_public": True, "bot_require_code_grant": False, "summary": "", "verify_key": "", "flags": 0}
            return {"id": "1", "name": "bot", "description": "", "icon": None, "owner": user, **flags}
        assert route.method == "POST"
        assert route.path == "/channels/{channel_id}/messages"
        self.texts.append(json["content"])
        return message(99, json["content"], author=user)


def message(number, text, channel=7, author=None):
    """What Discord sends for a message."""
    author = author or {"id": "5", "username": "ada", "discriminator": "0", "avatar": None}
    lists = {name: [] for name in ("mentions", "mention_roles", "attachments", "embeds", "reactions", "components")}
    flags = {"tts": False, "mention_everyone": False, "pinned": False, "type": 0, "edited_timestamp": None}
    ids = {"id": str(number), "channel_id": str(channel), "author": author}
    return {**ids, **lists, **flags, "content": text, "timestamp": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def discord():
    return pytest.importorskip("discord", reason="discord.py is not installed")


class Channel:
    """The program of discord.py, logged in, whose messages come as they do from the gateway."""

    def __init__(self, server):
        self.names = program("discord.py")
        self.server = server
        self.client = None

    async def __aenter__(self):
        self.client = self.names["ChatBot"]("log:discord-chats")
        self.client.http.request = self.server.request
        await self.client.login("token")
        return self

    async def __aexit__(self, *_):
        await self.client.close()

    def receive(self, *arguments, **options):
        self.client._connection.parse_message_create(message(*arguments, **options))

    async def hear(self, count):
        await until(lambda: len(self.server.texts) == count and not self.client.answering)


def test_discord_messages_are_answered_in_turns(discord):
    server = Discord()

    async def main():
        async with Channel(server) as channel:
            channel.receive(1, "one")
            channel.receive(2, "two")
            channel.receive(3, "else", 8)
            await channel.hear(3)
            channel.receive(4, "I am a bot", author={"id": "6", "username": "b", "discriminator": "0", "bot": True})
            channel.receive(1, "one")
            channel.receive(5, "three")
            await channel.hear(4)

    asyncio.run(main())
    assert sorted(server.texts) == sorted(f"You said '{text}'." for text in ("one", "two", "three", "else"))
    assert stored("discord-chats", "discord:7") == turn_about("one", "two", "three")
    assert stored("discord-chats", "discord:8") == turn_about("else")


def test_discord_reset_and_search(discord):
    server = Discord()

    async def main():
        async with Channel(server) as channel:
            model = channel.names["ask"]
            channel.receive(1, "A flight to Lisbon")
            channel.receive(2, "The secret of Lisbon", 8)
            await channel.hear(2)
            channel.receive(3, "!search lisbon")
            await channel.hear(3)
            model.may_answer.clear()
            channel.receive(4, "A long story!")
            await until(lambda: len(model.asked) == 3)
            channel.receive(5, "!reset")
            await until(lambda: len(server.texts) == 4)
            assert stored("discord-chats", "discord:7") == []
            model.may_answer.set()
            await channel.hear(4)

    asyncio.run(main())
    assert "flight to **Lisbon**" in server.texts[2]
    assert "secret" not in server.texts[2]
    assert server.texts[3] == "I have forgotten everything."
    assert stored("discord-chats", "discord:7") == []


def test_discord_flood_is_refused(discord):
    server = Discord()

    async def main():
        async with Channel(server) as channel:
            channel.names["ask"].may_answer.clear()
            for number in range(10):
                channel.receive(number, "Hello!")
            await until(lambda: len(server.texts) == 4)
            channel.names["ask"].may_answer.set()
            await channel.hear(10)

    asyncio.run(main())
    assert server.texts == ["One after another, please."] * 4 + ["You said 'Hello!'."] * 6


def test_discord_bot_that_is_stopped_answers_first(discord):
    server = Discord()

    async def main():
        async with Channel(server) as channel:
            channel.names["ask"].may_answer.clear()
            channel.receive(1, "Hello!")
            await until(lambda: channel.names["ask"].asked)
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: any("ChatBot.close" in repr(task) for task in asyncio.all_tasks()))
            assert not channel.client.is_closed()
            channel.names["ask"].may_answer.set()
            await until(channel.client.is_closed)
            with pytest.raises(ClosedError):
                await channel.client.manager.health()

    asyncio.run(main())
    assert server.texts == ["You said 'Hello!'."]
    assert stored("discord-chats", "discord:7") == turn_about("Hello!")


# FastAPI


@pytest.fixture
def web():
    pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    from fastapi.testclient import TestClient

    names = program("FastAPI")
    return names, lambda: TestClient(names["app"])


def test_webhook_that_comes_again_gets_the_same_answer(web):
    names, client = web
    delivery = {"id": "evt_1", "text": "Hello!"}
    for _ in range(2):  # the second time in another run of the application
        with client() as http:
            answers = [http.post("/chats/42/messages", json=delivery) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert [answer.json() for answer in answers] == [{"answers": ["You said 'Hello!'."]}] * 2
    assert len(names["ask"].asked) == 1
    assert stored("sqlite:web-chats.db", "web:42") == turn_about("Hello!")


def test_web_chats_are_searched_alone_and_forgotten(web):
    _, client = web
    with client() as http:
        http.post("/chats/42/messages", json={"id": "evt_1", "text": "A flight to Lisbon"})
        http.post("/chats/43/messages", json={"id": "evt_2", "text": "The secret of Lisbon"})
        found = http.get("/chats/42/search", params={"text": "lisbon"}).json()
        assert len(found) == 2
        assert "secret" not in str(found)
        assert http.delete("/chats/42").json() == {"forgotten": 2}
        assert http.get("/chats/42/search", params={"text": "lisbon"}).json() == []
        assert http.post("/chats/42/messages", json={"id": "evt_1", "text": "A flight"}).json() == {"answers": []}
        assert http.post("/chats/42/messages", json={"text": "no id"}).status_code == 422
    assert stored("sqlite:web-chats.db", "web:42") == []


@contextlib.asynccontextmanager
async def running(app):
    """Run an application in this event loop, so that several requests are in it at once; yield its client."""
    from httpx import ASGITransport, AsyncClient

    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://test") as http,
    ):
        yield http


def test_web_flood_is_told_to_come_again(web):
    names, _ = web

    async def main():
        async with running(names["app"]) as http:
            names["ask"].may_answer.clear()

            async def post(number):
                return await http.post("/chats/42/messages", json={"id": f"evt_{number}", "text": "Hello!"})

            flood = [asyncio.create_task(post(number)) for number in range(10)]
            await until(lambda: sum(one.done() for one in flood) == 4)
            names["ask"].may_answer.set()
            answers = await asyncio.gather(*flood)
            refused = [number for number, answer in enumerate(answers) if answer.status_code == 503]
            assert len(refused) == 4
            assert answers[refused[0]].headers["Retry-After"] == "5"
            assert [(await post(number)).status_code for number in refused] == [200] * 4

    asyncio.run(main())
    assert stored("sqlite:web-chats.db", "web:42") == turn_about(*["Hello!"] * 10)


def test_web_chat_that_is_reset_while_the_model_thinks_gets_no_answer(web):
    names, _ = web
    model = names["ask"]

    async def main():
        async with running(names["app"]) as http:
            await http.post("/chats/42/messages", json={"id": "evt_1", "text": "Hello!"})
            model.may_answer.clear()
            story = asyncio.create_task(http.post("/chats/42/messages", json={"id": "evt_2", "text": "A long story!"}))
            await until(lambda: len(model.asked) == 2)
            assert (await http.delete("/chats/42")).json() == {"forgotten": 2}
            assert stored("sqlite:web-chats.db", "web:42") == []
            model.may_answer.set()
            assert (await story).json() == {"answers": []}

    asyncio.run(main())
    assert stored("sqlite:web-chats.db", "web:42") == []


def test_webhook_whose_save_fails_is_acknowledged_when_it_comes_again(web):
    names, client = web
    store = FaultyStore(open_store("sqlite:web-chats.db"))
    names["AsyncSessionManager"] = lambda _: AsyncSessionManager(store)
    delivery = {"id": "evt_1", "text": "Hello!"}
    with client() as http:
        store.fail_next(OSError("No space left on device"))
        answer = http.post("/chats/42/messages", json=delivery)
        assert (answer.status_code, answer.json()) == (503, {"detail": "SaveFailedError"})
        assert http.post("/chats/42/messages", json=delivery).json() == {"answers": ["You said 'Hello!'."]}
    store.close()
    assert len(names["ask"].asked) == 1
    assert stored("sqlite:web-chats.db", "web:42") == turn_about("Hello!")
