"""A chat bot in the console, standing for one on Telegram or Discord, whose memory survives ``kill -9``.

Try ``python bot.py --demo`` first, then talk to it yourself::

    python bot.py                   # keeps its chats in ./bot-chats
    python bot.py --storage DIR     # keeps them elsewhere

It answers offline, by a few rules. With ``OPENAI_BASE_URL`` or ``OPENAI_API_KEY`` set it asks an OpenAI-compatible
endpoint instead (``OPENAI_MODEL`` names the model). Every chat is a session of one `SessionManager`, and every line is
answered in a turn of it, which is saved before the answer is shown: what you have seen is never lost.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO

from session_manager import LAST, SessionManager, SessionManagerError, Turn, TurnNotFoundError

CHANNEL = "console:"
FIRST_CHAT = "main"
HELP = (
    "/chat NAME switches to another chat, /chats lists them, /history shows this one, /undo takes the last answer back, "
    "/regenerate asks again, /reset clears it, /quit ends."
)

#: What a model is told first. It is no part of a session, so that it can be another one tomorrow.
SYSTEM = "You are a cheerful bot in a console. Answer in a sentence or two, as plain text."
#: How many messages of a chat a model is shown at most.
RECENT = 40

#: Gives the answer to a turn, whose last message is the user's question.
Responder = Callable[[Turn], str]


class NoAnswerError(Exception):
    """The responder could not answer."""


# Answering offline


NAME = re.compile(r"\b(?:my name is|call me)\s+([\w'-]+)", re.IGNORECASE)
LIKING = re.compile(r"\bi (?:like|love|enjoy)\s+([^.!?,]+)", re.IGNORECASE)
JOKES = (
    "A process walks into a bar. kill -9. It walks in again and says: the usual, please.",
    "I had a joke about buffered writes, but you would not get it until much later.",
    "My two threads met for a drink. Neither would let go of its glass before it had the other's.",
)


def answer_by_rules(turn: Turn) -> str:
    """Answer offline. All that is remembered comes from the history, so it lasts as long as the history does."""
    said = [message["content"] for message in turn.get_context() if message["role"] == "user"]
    question = said[-1].lower()
    names, likings = found(NAME, said), found(LIKING, said)
    if found(NAME, said[-1:]):
        return f"Nice to meet you, {names[-1]}!"
    if found(LIKING, said[-1:]):
        return f"{likings[-1].capitalize()}? I will remember that."
    if "my name" in question or "who am i" in question:
        return f"You are {names[-1]}." if names else "You have not told me your name yet."
    if "i like" in question or "i love" in question:
        return f"You like {' and '.join(likings)}." if likings else "You have not told me what you like yet."
    if "joke" in question:
        told = sum("joke" in text.lower() for text in said[:-1])
        return JOKES[told % len(JOKES)]
    if re.search(r"\b(hello|hi|hey)\b", question):
        return f"Hello{', ' + names[-1] if names else ''}! What is on your mind?"
    if len(said) == 1:
        return "Tell me more! What is your name, what do you like? I also know jokes."
    return f'I see. Has it to do with "{said[-2]}", which you said before?'


def found(pattern: re.Pattern[str], texts: list[str]) -> list[str]:
    """Return what a pattern finds in the texts that are no questions, oldest first."""
    return [match.group(1).strip() for text in texts if "?" not in text for match in pattern.finditer(text)]


# Answering by a model


class Endpoint:
    """Answers by an OpenAI-compatible endpoint.

    :param base: such as ``https://api.openai.com/v1``.
    :param key: the API key; many local servers need none.
    :param model: the model's name there.
    """

    TIMEOUT = 60

    def __init__(self, base: str, key: str, model: str) -> None:
        self.url = f"{base.rstrip('/')}/chat/completions"
        self.model = model
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def __call__(self, turn: Turn) -> str:
        """Answer the last message, given the turns before it.

        :raises NoAnswerError: if there is no answer, and why.
        """
        messages = turn.get_context(system=SYSTEM, max_messages=RECENT)
        reply = self._post(json.dumps({"model": self.model, "messages": messages}).encode())
        try:
            answer = json.loads(reply)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            answer = None
        if not isinstance(answer, str):
            raise NoAnswerError(f"{self.url} sent something else than a chat completion")
        return answer

    def _post(self, body: bytes) -> bytes:
        try:
            request = urllib.request.Request(self.url, body, self._headers)  # noqa: S310 - the user's own URL
            with urllib.request.urlopen(request, timeout=self.TIMEOUT) as response:  # noqa: S310
                reply: bytes = response.read()
                return reply
        except urllib.error.HTTPError as error:
            with error:
                detail = " ".join(error.read(300).decode(errors="replace").split())
            raise NoAnswerError(f"{self.url} answered {error.code} {error.reason}: {detail}") from error
        except (OSError, ValueError, HTTPException) as error:
            raise NoAnswerError(f"{self.url} cannot be asked: {error}") from error


def choose_responder() -> tuple[Responder, str]:
    """Return what answers, as the environment says, and a name for it."""
    base, key = os.environ.get("OPENAI_BASE_URL", ""), os.environ.get("OPENAI_API_KEY", "")
    if not base and not key:
        return answer_by_rules, "a few rules, offline"
    endpoint = Endpoint(base or "https://api.openai.com/v1", key, os.environ.get("OPENAI_MODEL") or "gpt-4o-mini")
    return endpoint, f"{endpoint.model} at {endpoint.url}"


# The bot


class Bot:
    """Talks to one user in several chats, each a session of its own.

    It goes on in the chat that was used last.

    :param run: what names this run of the bot. A platform names each message that it delivers; here it is a line of a run.
    """

    def __init__(self, manager: SessionManager, responder: Responder, run: str) -> None:
        self._manager = manager
        self._responder = responder
        self._run = run
        self._lines = 0
        chats = manager.list_sessions(CHANNEL)
        self.chat = chats[0].key.removeprefix(CHANNEL) if chats else FIRST_CHAT

    @property
    def key(self) -> str:
        """The session of the current chat."""
        return CHANNEL + self.chat

    def reply(self, line: str) -> str:
        """Return the reply to what the user typed: a command, or something to answer."""
        command, _, rest = line.partition(" ")
        match command:
            case "/chat" if rest.strip():
                return self._switch(rest.strip())
            case "/chats":
                return self._list_chats()
            case "/history":
                return self._show_history()
            case "/reset":
                return self._reset()
        self._lines += 1
        ref = f"{self._run}:{self._lines}"
        match command:
            case "/undo":
                return self.undo(ref)
            case "/regenerate":
                return self.regenerate(ref)
        return HELP if command.startswith("/") else self.answer(line, ref)

    def answer(self, text: str, ref: str) -> str:
        """Take a turn: question and answer are written together, and durable before the answer is shown.

        :param ref: names the delivery. One that comes twice, as with Telegram's after a crash, is answered once, and the same
            answer is shown again.
        """
        with self._manager.turn(self.key, ref) as turn:
            if not turn.done:
                turn.add_message("user", text)
                turn.add_message("assistant", self._responder(turn))
        if not (turn.applied or turn.done):
            return f"Chat {self.chat} was reset meanwhile."
        answers = [message.content for message in turn.messages if message.role == "assistant"]
        return f"bot: {answers[-1]}" if answers else "bot: I have answered that before."

    def undo(self, ref: str) -> str:
        """Take the last question and its answer away; once, however often the delivery comes."""
        undone = self._manager.undo(self.key, ref=ref)
        return f"{counted(len(undone))} forgotten." if undone else "There is nothing to take back."

    def regenerate(self, ref: str) -> str:
        """Ask the last question again. Until the new answer is written the old one is there."""
        try:
            with self._manager.turn(self.key, ref, replacing=LAST) as turn:
                if not turn.done:
                    turn.add(turn.replaced[0])
                    turn.add_message("assistant", self._responder(turn))
        except TurnNotFoundError:
            return "There is nothing to answer again."
        return f"bot: {turn.messages[-1].content}" if turn.messages else "bot: I have answered that before."

    def _switch(self, name: str) -> str:
        count = len(self._manager.get_history(CHANNEL + name))
        self.chat = name
        return f"This is chat {name}, {counted(count)} so far."

    def _reset(self) -> str:
        count = self._manager.clear(self.key)
        self._manager.save(self.key)
        return f"Chat {self.chat} is empty again, {counted(count)} forgotten."

    def _list_chats(self) -> str:
        chats = self._manager.list_sessions(CHANNEL)
        lines = [f"  {chat.key.removeprefix(CHANNEL)}: {chat.error or counted(chat.count)}" for chat in chats]
        return "\n".join(lines) or "There are no chats yet."

    def _show_history(self) -> str:
        history = self._manager.get_history(self.key)
        lines = [f"  {message.created_at:%Y-%m-%d %H:%M} {message.role}: {message.content}" for message in history]
        return "\n".join(lines) or f"Chat {self.chat} is empty."


def counted(messages: int) -> str:
    """Return such as ``3 messages``."""
    return "1 message" if messages == 1 else f"{messages} messages"


def talk(storage: str) -> None:
    """Talk to the user until they have enough."""
    responder, name = choose_responder()
    with SessionManager(storage) as manager:
        bot = Bot(manager, responder, secrets.token_hex(4))
        count = len(manager.get_history(bot.key))
        print(f"This is chat {bot.chat}, {counted(count)} so far. Answers come from {name}. /help helps.", flush=True)
        while (line := read_line(bot.chat)) != "/quit":
            if line:
                try:
                    print(bot.reply(line), flush=True)
                except (NoAnswerError, SessionManagerError) as error:
                    print(f"Sorry: {error}", flush=True)


def read_line(chat: str) -> str:
    """Return what the user typed; ``/quit`` at the end of the input."""
    try:
        return input(f"{chat}> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return "/quit"


# The demo


#: What is typed in the demo before the kill, and after it.
BEFORE = (
    ("/chat ada", "Hello!", "My name is Ada.", "I like chess.", "Tell me a joke."),
    ("/chat grace", "My name is Grace, and I love sailing.", "Do you know a joke?"),
)
AFTER = (
    ("/chat ada", "What is my name?", "What do I like?", "Tell me another joke!"),
    ("/chat grace", "Who am I?", "What do I love?"),
)

#: What was said in each chat: (role, content) pairs.
Transcript = dict[str, list[tuple[str, str]]]


def demo(storage: str) -> bool:
    """Play a conversation with a bot that is killed half way; return whether nothing was lost."""
    expected = stored(storage)

    print("A bot in a process of its own, and two people who chat with it:\n")
    with start_bot(storage) as bot:
        play(bot, BEFORE, expected)
        bot.kill()
    print(f"\n    $ kill -9 {bot.pid}\n")
    kept = compare(expected, stored(storage))

    print("\nThe bot is started again, and remembers:\n")
    with start_bot(storage) as bot:
        play(bot, AFTER, expected)
        type_line(bot, "/quit")
    print()
    kept = compare(expected, stored(storage)) and kept
    if kept:
        show_files(storage)
    return kept


def start_bot(storage: str) -> subprocess.Popen[str]:
    """Start this program as a child process, to be talked to through pipes; it answers offline."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    command = [sys.executable, __file__, "--storage", storage]
    return subprocess.Popen(  # noqa: S603 - this very program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def play(bot: subprocess.Popen[str], chats: tuple[tuple[str, ...], ...], transcript: Transcript) -> None:
    """Type the lines, show what is said, and take it down."""
    print(f"    {read_answer(bot)}")
    for command, *questions in chats:
        type_line(bot, command)
        print(f"\n    you: {command}\n    {read_answer(bot)}")
        said = transcript.setdefault(CHANNEL + command.removeprefix("/chat "), [])
        for question in questions:
            type_line(bot, question)
            answer = read_answer(bot)
            print(f"    you: {question}\n    {answer}")
            said += [("user", question), ("assistant", answer.removeprefix("bot: "))]


def type_line(bot: subprocess.Popen[str], line: str) -> None:
    """Type a line to the bot."""
    print(line, file=pipe(bot.stdin), flush=True)


def read_answer(bot: subprocess.Popen[str]) -> str:
    """Wait for the bot's next line."""
    answer = pipe(bot.stdout).readline()
    if not answer:
        bot.kill()
        sys.exit("The bot ended by itself.")
    return answer.rstrip("\n")


def pipe(stream: IO[str] | None) -> IO[str]:
    """Return a stream that is known to be a pipe."""
    assert stream is not None
    return stream


def stored(storage: str) -> Transcript:
    """Return what the storage holds, as a fresh manager reads it."""
    with SessionManager(storage) as manager:
        return {
            key: [(message.role or "", message.content) for message in manager.get_history(key)]
            for key in manager
            if key.startswith(CHANNEL)
        }


def compare(expected: Transcript, found: Transcript) -> bool:
    """Say whether the storage holds exactly what was said, and return that."""
    count = sum(len(said) for said in expected.values())
    if found == expected:
        print(f"Compared {count} messages of {len(expected)} chats with the storage: nothing was lost.")
        return True
    print(f"SOMETHING IS WRONG: the storage does not hold the {count} messages that were said:")
    for key in sorted(expected.keys() | found.keys()):
        print(f"    {key}: {counted(len(found.get(key, [])))}, not the {len(expected.get(key, []))} that were said")
    return False


def show_files(storage: str) -> None:
    """Show where the files are, and what one of them looks like."""
    path = Path(re.sub(r"^[a-z]+:", "", storage)).resolve()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    print(f"\nThe files in {path}:\n")
    for file in files:
        status = file.stat()
        print(f"    {stat.filemode(status.st_mode)} {status.st_size:6} {file.name}")
    texts = [file for file in files if ".session." in file.name]
    if texts:
        print(f"\n{texts[0].name} (long lines are cut):\n")
        for line in texts[0].read_text("utf-8").splitlines()[:6]:
            print(f"    {line if len(line) <= 100 else line[:97] + '...'}")


# The command line


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="A chat bot whose memory survives kill -9.")
    parser.add_argument("--storage", help="where the chats are kept (default: ./bot-chats; --demo: nowhere for long)")
    parser.add_argument("--demo", action="store_true", help="show a bot that is killed in the middle of a conversation")
    options = parser.parse_args()
    try:
        if not options.demo:
            talk(options.storage or "bot-chats")
        elif options.storage:
            sys.exit(0 if demo(options.storage) else 1)
        else:
            with tempfile.TemporaryDirectory() as directory:
                kept = demo(directory)
            print("\nThis was a temporary directory, and is removed now: --storage DIR keeps it.")
            sys.exit(0 if kept else 1)
    except SessionManagerError as error:
        sys.exit(f"bot: {error}")


if __name__ == "__main__":
    main()
