"""A bot of many chats in one event loop, shaped like one of python-telegram-bot, which loses no update to ``kill -9``.

Try ``python async_bot.py --demo`` first, then talk to it yourself::

    python async_bot.py                     # type CHAT: TEXT; keeps its chats in ./async-bot-chats
    python async_bot.py --storage log:DIR   # keeps them elsewhere
    python async_bot.py --trio              # asyncio or trio, through anyio

Every update is handled in a task of its own, as fast as updates come. The handler answers in a turn of the chat's session:
those of one chat one after another, those of many chats at once, while the event loop never waits for the disk. The model is
slow, offline, and calls a tool now and then. Each turn is durable, whole, before its update is acknowledged. Until then the
platform delivers the update again, and an update that comes twice gets the answer that it got before.

Ctrl-C and SIGTERM let the turns that run come to their end, for some seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.from_thread import BlockingPortal

from session_manager import (
    LAST,
    AsyncSessionManager,
    AsyncTurn,
    Message,
    SessionBusyError,
    SessionManager,
    SessionManagerError,
    TurnNotFoundError,
)
from session_manager.history import problems

CHANNEL = "telegram:"
HELP = (
    "Type CHAT: TEXT, such as 'ada: How is the weather in Lisbon?', or CHAT: and /undo, /regenerate, /edit TEXT (your last "
    "message), /history [BEFORE], /forget DAYS (without a message), /reset. Ctrl-C ends."
)
SYSTEM = "You are a cheerful bot. Ask the tool for the weather."
#: How many messages of a chat the model is shown at most.
RECENT = 40
#: How many messages are on a page of ``/history``.
PAGE = 5
#: How often chats that are too old are deleted.
HOUR = timedelta(hours=1)
#: How many updates of one chat wait for their turn at most.
WAITING = 20

#: Makes an update of a line of input, unless it is none.
Parse = Callable[[str], "Update | None"]


class Update(NamedTuple):
    """What a user sent, as the platform delivers it: until it is acknowledged."""

    update_id: int
    chat: str
    text: str

    @property
    def key(self) -> str:
        """The chat's session."""
        return CHANNEL + self.chat

    @property
    def ref(self) -> str:
        """The name of the delivery: the same when it comes again."""
        return f"tg:{self.update_id}"


class Reply(NamedTuple):
    """What the bot says to an update, which acknowledges it."""

    update_id: int
    chat: str
    text: str
    #: Whether question and answer are in the history now.
    is_kept: bool


# The model


class Model:
    """Stands for a model: ``await model(messages)`` gives its next message, a tool call now and then.

    :param thinking: how many seconds it takes at most.
    """

    def __init__(self, thinking: float) -> None:
        self._thinking = thinking

    async def __call__(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Go on with a conversation."""
        await anyio.sleep(random.uniform(self._thinking / 2, self._thinking))
        last = messages[-1]["content"]
        if messages[-1]["role"] == "tool":
            return {"role": "assistant", "content": f"I have asked: {last}."}
        if city := re.search(r"weather in (\w+)", last):
            function = {"name": "weather", "arguments": json.dumps({"city": city[1]})}
            call = {"id": f"call_{secrets.token_hex(4)}", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        count = sum(message["role"] == "user" for message in messages)
        return {"role": "assistant", "content": f"I remember {count} of your messages."}


async def weather(city: str) -> str:
    """Stand for a tool that asks somebody else."""
    await anyio.lowlevel.checkpoint()
    sky = ("sunny", "cloudy", "windy", "full of stars")
    return f"it is {sky[zlib.crc32(city.encode()) % len(sky)]} in {city}"


# The bot


class Bot:
    """Handles updates, many at once.

    :param reply: sends a reply to the platform, and thereby acknowledges the update.
    """

    def __init__(self, manager: AsyncSessionManager, model: Model, reply: Callable[[Reply], None]) -> None:
        self._manager = manager
        self._model = model
        self._reply = reply
        #: How many updates came, and were not answered yet.
        self.unanswered = 0

    async def on_update(self, update: Update) -> None:
        """Handle an update. If that fails it is not acknowledged, and will be delivered again."""
        self.unanswered += 1
        try:
            text, is_kept = await self._handle(update)
        except SessionManagerError as error:
            print(f"update {update.update_id}: {error}", file=sys.stderr)
            return
        self._reply(Reply(update.update_id, update.chat, text, is_kept))
        self.unanswered -= 1

    async def _handle(self, update: Update) -> tuple[str, bool]:
        """Return what to say, and whether the turn of the update is in the history."""
        command, _, rest = update.text.partition(" ")
        match command:
            case "/reset":
                return await self.on_reset(update)
            case "/undo":
                return await self.on_undo(update)
            case "/history":
                return await self.on_history(update, rest)
            case "/forget":
                return await self.on_forget(update, rest)
            case "/regenerate":
                return await self.on_message(update, replacing=True)
            case "/edit":
                return await self.on_message(update, rest, replacing=True)
        return await self.on_message(update, update.text)

    async def on_message(self, update: Update, text: str | None = None, *, replacing: bool = False) -> tuple[str, bool]:
        """Answer a message in a turn.

        :param text: the message; `None`: the one that was there, which gets another answer.
        :param replacing: the turn takes the place of the last one. Until it is written the old one is there.
        """
        which = LAST if replacing else None
        try:
            async with self._manager.turn(update.key, update.ref, max_waiting=WAITING, replacing=which) as turn:
                if not turn.done:
                    turn.add(turn.replaced[0] if text is None else {"role": "user", "content": text})
                    await self._answer(turn)
        except SessionBusyError:
            return "One after another, please: I am still busy with what you said before.", False
        except TurnNotFoundError:
            return "There is nothing to answer again.", False
        if not (turn.applied or turn.done):
            return "This chat was reset meanwhile.", False
        answers = [message.content for message in turn.messages if message.role == "assistant"]
        return (answers[-1], True) if answers else ("I have answered that before.", False)

    async def _answer(self, turn: AsyncTurn) -> None:
        while True:
            said = await self._model(await turn.get_context(system=SYSTEM, max_messages=RECENT))
            turn.add(said)
            if not said.get("tool_calls"):
                return
            for call in said["tool_calls"]:
                result = await weather(**json.loads(call["function"]["arguments"]))
                turn.add_message("tool", result, tool_call_id=call["id"])

    async def on_reset(self, update: Update) -> tuple[str, bool]:
        """Clear the chat at once, without waiting for a turn that is open, and then writes nothing.

        A reset that comes twice does not clear what was said after the first time: the session knows its ref.
        """
        await self._manager.clear(update.key, ref=update.ref)
        await self._manager.save(update.key)
        return "This chat is empty now.", False

    async def on_undo(self, update: Update) -> tuple[str, bool]:
        """Take the last turn away, and the one that is being answered if there is one; once, however often it comes."""
        await self._manager.undo(update.key, ref=update.ref)
        return "The last question and its answer are gone.", False

    async def on_forget(self, update: Update, days: str) -> tuple[str, bool]:
        """Have the chat deleted when nothing was said for so many days: the manager looks once an hour."""
        after = timedelta(days=int(days)) if days.isdecimal() and len(days) <= 5 else None
        await self._manager.get_or_create(update.key)
        await self._manager.set_expiry(update.key, after)
        await self._manager.save(update.key)
        return (
            "This chat stays." if after is None else f"This chat goes {after.days} days after its last message."
        ), False

    async def on_history(self, update: Update, before: str) -> tuple[str, bool]:
        """Show a page of the chat: the last messages, or the last before a position."""
        position = int(before) if before.isdecimal() else None
        page = await self._manager.get_history(update.key, limit=PAGE, before=position)
        lines = [f"{message.position} {message.role}: {message.content}" for message in page]
        if page and page[0].position:
            lines.append(f"/history {page[0].position} shows more")
        return "\n".join(lines) or "There is nothing more.", False


async def serve(options: argparse.Namespace, parse: Parse, reply: Callable[[Reply], None]) -> None:
    """Handle the updates of the standard input, until it ends or a signal comes."""
    sending, updates = anyio.create_memory_object_stream[Update](100)
    async with (
        sending,
        updates,
        AsyncSessionManager(options.storage, expire_every=HOUR) as manager,
        BlockingPortal() as portal,
    ):
        bot = Bot(manager, Model(options.thinking), reply)
        threading.Thread(target=read_updates, args=(parse, portal, sending), daemon=True).start()
        async with anyio.create_task_group() as signals:
            async with anyio.create_task_group() as handlers:
                with anyio.CancelScope() as reading:
                    signals.start_soon(stop_on_signal, manager, reading, handlers.cancel_scope, options.grace)
                    async for update in updates:
                        handlers.start_soon(bot.on_update, update)
            signals.cancel_scope.cancel()
    if bot.unanswered:
        print(f"{bot.unanswered} updates are not answered; they have to be delivered again.", file=sys.stderr)


async def stop_on_signal(
    manager: AsyncSessionManager, reading: anyio.CancelScope, handlers: anyio.CancelScope, grace: float
) -> None:
    """Wait for Ctrl-C or SIGTERM; then take no more updates, and give those that came some time, or until a second signal."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        await anext(received)
        print("Stopping; once more to stop at once.", file=sys.stderr, flush=True)
        reading.cancel()
        with anyio.move_on_after(grace):  # all of this is cancelled when the last one is answered
            await anext(received)
        await manager.close()  # a turn that is still open writes nothing
        handlers.cancel()


def read_updates(parse: Parse, portal: BlockingPortal, sending: anyio.abc.ObjectSendStream[Update]) -> None:
    """Feed the event loop from a thread, which may still wait for the standard input when the program ends."""
    with contextlib.suppress(RuntimeError, anyio.BrokenResourceError):  # the loop has ended, or takes no more
        for line in read_lines(0):
            if (update := parse(line)) is not None:
                portal.call(sending.send, update)
        portal.call(sending.aclose)


def read_lines(descriptor: int) -> Iterator[str]:
    """Yield the lines of a file, without the locks of Python's own files: who waits keeps nobody else waiting."""
    rest = b""
    while chunk := os.read(descriptor, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    yield rest.decode(errors="replace")


# The console, and JSON lines


def from_person() -> Parse:
    """Return what makes updates of the lines that a person types."""
    numbers = itertools.count(time.time_ns() // 1000)  # of no run before

    def parse(line: str) -> Update | None:
        chat, colon, text = line.strip().partition(":")
        if chat and not colon:
            say(HELP)
        return Update(next(numbers), chat, text.strip()) if colon else None

    return parse


def to_person(reply: Reply) -> None:
    """Write a reply for a person."""
    say(f"{reply.chat}: {reply.text}")


def from_json(line: str) -> Update | None:
    """Make an update of a JSON object in a line."""
    return Update(**json.loads(line)) if line.strip() else None


def to_json(reply: Reply) -> None:
    """Write a reply as a JSON object in a line."""
    say(json.dumps(reply._asdict()))


def say(line: str) -> None:
    """Print a line in one piece: the thread that reads may print at the same time."""
    print(f"{line}\n", end="", flush=True)


# The demo


CITIES = ("Lisbon", "Kyoto", "Accra", "Oslo", "Quito")
CHATS, MESSAGES = 12, 12
#: How many of the replies before a kill are lost on their way to the platform.
UNHEARD = 3
#: How many seconds later it is killed, at most.
DELAY = 0.05


def make_up() -> dict[str, list[Update]]:
    """Return what is sent in each chat, no text twice. Some people give commands; they wait for each answer."""
    numbers = itertools.count(time.time_ns() // 1000)  # of no run before
    said: dict[str, list[Update]] = {}
    for who in range(CHATS):
        chat = f"user{who}-{next(numbers)}" if who % 2 else f"user{who}"
        said[chat] = []
        for place in range(MESSAGES):
            number = next(numbers)
            text = f"{number}: how is the weather in {random.choice(CITIES)}?" if place % 3 else f"{number}: hello!"
            if place == MESSAGES // 2 and who % 4 == 0:
                text = "/reset"
            elif who % 2 and place % 2:
                text = random.choice(("/undo", "/regenerate", f"/edit {text}", "/history", "/history 5", text))
            said[chat].append(Update(number, chat, text))
    return said


def are_commands(updates: list[Update]) -> bool:
    """Say whether a person gives commands about their last turn, and so waits for each answer."""
    return any(update.text.startswith("/") and update.text != "/reset" for update in updates)


class Platform:
    """Stands for Telegram: delivers updates to a bot until they are acknowledged, whatever becomes of the bot."""

    def __init__(self, said: dict[str, list[Update]], command: list[str]) -> None:
        self.said = said
        self._command = command
        #: The replies that came: they acknowledge their updates.
        self.replies: dict[int, Reply] = {}
        #: The texts that were sent, and lost on their way.
        self.unheard: dict[int, set[str]] = {}

    def due(self) -> list[Update]:
        """Return what waits to be acknowledged; nobody writes on before their command is."""
        due: list[Update] = []
        for updates in self.said.values():
            for update in updates:
                if update.update_id not in self.replies:
                    due.append(update)
                    if update.text == "/reset" or are_commands(updates):
                        break
        return due

    def play(self, until: int | None = None) -> None:
        """Run a bot until everything is acknowledged, or kill it after so many replies.

        :raises SystemExit: if it ends by itself.
        """
        delivered: set[int] = set()
        with subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bot:  # noqa: S603 - this very program
            assert bot.stdin is not None
            assert bot.stdout is not None
            try:
                for count in itertools.count(1):
                    due = [update for update in self.due() if update.update_id not in delivered]
                    bot.stdin.writelines(json.dumps(update._asdict()) + "\n" for update in due)
                    bot.stdin.flush()
                    delivered |= {update.update_id for update in due}
                    reply = Reply(**json.loads(bot.stdout.readline() or "{}"))
                    if until is None or count <= until - UNHEARD:
                        self.replies[reply.update_id] = reply
                    else:
                        self.unheard.setdefault(reply.update_id, set()).add(reply.text)
                    if count == until:
                        time.sleep(random.uniform(0, DELAY))
                    if count == until or not self.due():
                        return
            except (OSError, TypeError):
                sys.exit("The bot ended by itself.")
            finally:
                bot.kill()


def lasting(updates: list[Update]) -> list[Update]:
    """Return the turns that must be there in the end: the last update of each, with the user's message as its text."""
    left: list[Update] = []
    for update in updates:
        command, _, rest = update.text.partition(" ")
        if command == "/reset":
            left.clear()
        elif command in ("/undo", "/regenerate", "/edit") and left:
            old = left.pop()
            if command != "/undo":
                left.append(update._replace(text=rest or old.text))
        elif not command.startswith("/"):
            left.append(update)
    return left


def check(storage: str, said: dict[str, list[Update]], platform: Platform) -> tuple[int, int, int]:
    """Return how many acknowledged updates are lost, how many are there twice, and how many histories are broken."""
    lost = doubled = broken = 0
    with SessionManager(storage) as manager:
        for updates in said.values():
            history = manager.get_history(updates[0].key)
            turns = [(ref, list(messages)) for ref, messages in itertools.groupby(history, lambda one: one.turn)]
            there = {(ref, messages[0].content, messages[-1].content) for ref, messages in turns}
            left = lasting(updates)
            for update in left:
                told = {platform.replies[update.update_id].text, *platform.unheard.get(update.update_id, ())}
                lost += any((update.ref, update.text, text) not in there for text in told)
            doubled += sum(history.count(Message("user", update.text)) > 1 for update in left)
            if are_commands(updates):  # else messages before a reset may come behind it
                doubled += max(len(turns) - len(left), 0)  # undone and replaced turns that are back
            are_apart = len({ref for ref, _ in turns}) < len(turns)
            broken += are_apart or bool(problems(history)) or any(turn[-1].role != "assistant" for _, turn in turns)
    return lost, doubled, broken


def demo(options: argparse.Namespace) -> bool:
    """Play many chats with a bot that is killed all the time; return whether nothing was lost."""
    said = make_up()
    count = sum(map(len, said.values()))
    command = [sys.executable, __file__, "--json", "--storage", options.storage, "--thinking", str(options.thinking)]
    platform = Platform(said, [*command, "--trio"] if options.trio else command)
    print(f"{len(said)} people send {count} updates to a bot, many at once.", flush=True)
    for kill in range(1, options.kills + 1):
        platform.play(random.randint(4, max(4, 2 * (count - len(platform.replies)) // (options.kills + 1))))
        print(f"    $ kill -9    # number {kill}, {len(platform.replies)} updates are acknowledged", flush=True)
    platform.play()
    print(f"{len(platform.unheard)} answers were lost on their way, and asked for again.")
    lost, doubled, broken = check(options.storage, said, platform)
    print(f"{count} updates, {options.kills} kills, {lost} lost, {doubled} doubled, {broken} broken histories")
    return not (lost or doubled or broken)


# The command line


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="A bot of many chats at once whose memory survives kill -9.")
    parser.add_argument(
        "--storage", help="where the chats are kept (default: ./async-bot-chats; --demo: nowhere for long)"
    )
    parser.add_argument("--trio", action="store_true", help="run on trio (default: on asyncio)")
    parser.add_argument("--json", action="store_true", help="take updates as JSON lines, and reply so: for programs")
    parser.add_argument(
        "--thinking", type=float, metavar="S", help="how long the model thinks (default: 1.0; --demo: 0.1)"
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=5.0,
        metavar="S",
        help="how long turns may go on when it is stopped (default: 5.0)",
    )
    parser.add_argument("--demo", action="store_true", help="show a bot that is killed while it answers")
    parser.add_argument("--kills", type=int, default=5, help="how often the bot of --demo is killed (default: 5)")
    options = parser.parse_args()
    if options.thinking is None:
        options.thinking = 0.1 if options.demo else 1.0
    if options.thinking < 0 or options.grace < 0 or options.kills < 0:
        parser.error("--thinking, --grace and --kills must be 0 or more")
    return options


def main() -> None:
    """Run the command line."""
    options = arguments()
    try:
        if options.demo:
            with tempfile.TemporaryDirectory() as directory:
                options.storage = options.storage or directory
                sys.exit(0 if demo(options) else 1)
        options.storage = options.storage or "async-bot-chats"
        if not options.json:
            print(HELP, flush=True)
        talk = (from_json, to_json) if options.json else (from_person(), to_person)
        anyio.run(serve, options, *talk, backend="trio" if options.trio else "asyncio")
    except SessionManagerError as error:
        sys.exit(f"async_bot: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
