"""Summarize many chats from many threads while they go on, and prove that no message was lost.

::

    python summarizer.py ../shared/data/airline_chats.jsonl --chats 4 --summarizers 4

Some threads play recorded conversations, turn by turn. Others summarize what is long enough meanwhile: all but the last
few messages become a summary, by a summarizer that picks the sentences whose words come up most, stands for a model, and
so is slow, and fails now and then. At the end a fresh manager reads everything: each message must be in its history, or
have been given once, in order, to a summarizer whose summary was taken, and then it must be in its archive.

A file has one conversation a line, ``{"key": ..., "messages": [...]}``. Without one, a few built-in conversations are
played. The last line says what came of it; the exit status is 1 if a message was lost or is there twice.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait

from replay import Conversations, Progress, ReplayError, read_conversations

from session_manager import Message, SessionManager, SessionManagerError, SummaryPolicy
from session_manager.history import problems, turns

#: How many messages stay behind a summary, at least.
KEEP = 4
#: From how many messages on a chat is summarized.
POLICY = SummaryPolicy(messages=12)
#: How many characters a summary has, at most.
LONGEST = 600
#: How often the built-in conversations, which are short, are played in one chat.
BUILT_IN = 5
#: How many seconds a model thinks about a summary, at most.
THINKING = 0.02


class ModelDownError(Exception):
    """The model gave no summary."""


# The summarizer


def summarize(previous: str, messages: list[Message]) -> str:
    """Pick the sentences whose words come up most, of the previous summary and of what was said since."""
    texts = [
        previous,
        *(f"{message.role}: {message.content}" for message in messages if isinstance(message.content, str)),
    ]
    sentences = [one.strip() for text in texts for one in re.split(r"(?<=[.!?。！？])\s+|\n+", text) if one.strip()]  # noqa: RUF001
    common = Counter(word for sentence in sentences for word in words(sentence))
    left, picked = LONGEST, set()
    for number in sorted(range(len(sentences)), key=lambda one: (-weight(sentences[one], common), one)):
        if len(sentences[number]) < left:
            left -= len(sentences[number]) + 1
            picked.add(number)
    return (
        "\n".join(sentences[number] for number in sorted(picked))
        or f"{len(messages)} messages without a short sentence."
    )


def words(text: str) -> list[str]:
    """Return the words of a text that may mean something."""
    return [word for word in re.findall(r"\w+", text.lower()) if len(word) > 3]


def weight(sentence: str, common: Counter[str]) -> float:
    """Return how much a sentence has of what comes up most."""
    found = words(sentence)
    return sum(common[word] for word in found) / (len(found) + 2)


# The pipeline


class Pipeline:
    """Plays conversations, and summarizes them meanwhile.

    :param manager: keeps the sessions.
    :param conversations: what is played.
    :param chance: decides how long a summarizer takes, and when it fails.
    """

    def __init__(self, manager: SessionManager, conversations: Conversations, chance: random.Random) -> None:
        self._manager = manager
        self._conversations = conversations
        self._chance = chance
        self._played = 0
        self._lock = threading.Lock()
        self._progress = Progress()
        #: What the summarizers were given whose summaries were taken, in order.
        self.summarized: dict[str, list[Message]] = {key: [] for key in conversations}
        #: How many summaries were taken, came too late because somebody was faster, and failed.
        self.taken = self.late = self.failed = 0

    def run(self, chats: int, summarizers: int) -> None:
        """Play everything, and then summarize what is left to.

        :param chats: how many conversations go on at once.
        :param summarizers: how many threads summarize.
        """
        over = threading.Event()
        with ThreadPoolExecutor(chats + summarizers) as pool:
            working = [pool.submit(self._keep_summarizing, number, over) for number in range(summarizers)]
            try:
                playing = [pool.submit(self._play, key) for key in self._conversations]
                self._show()
                while wait(playing, timeout=0.1).not_done:
                    self._show()
            finally:
                over.set()
            for one in [*playing, *working]:
                one.result()
        for key in self._conversations:
            while not self._summarize(key):
                pass
        self._progress.end()

    def _play(self, key: str) -> None:
        for number, said in enumerate(turns(self._conversations[key])):
            with self._manager.turn(key, f"turn:{number}") as turn:
                turn.add(*said)
            with self._lock:
                self._played += len(said)

    def _keep_summarizing(self, number: int, over: threading.Event) -> None:
        keys = sorted(self._conversations)
        chance = random.Random(number)
        while not over.is_set():
            self._summarize(chance.choice(keys))

    def _summarize(self, key: str) -> bool:
        """Summarize a chat, if it is long enough, and take down what was given for it; say whether the model was up."""
        given: list[Message] = []

        def ask_model(previous: str, messages: list[Message]) -> str:
            with self._lock:
                patience, is_down = self._chance.uniform(0, THINKING), self._chance.random() < 0.1
            time.sleep(patience)
            if is_down:
                raise ModelDownError
            given.extend(messages)
            return summarize(previous, messages)

        try:
            done = self._manager.summarize(key, ask_model, keep_last=KEEP, when=POLICY)
        except ModelDownError:
            with self._lock:
                self.failed += 1
            return False
        if done is not None:
            with self._lock:
                self.taken += done.applied
                self.late += not done.applied
                self.summarized[key] += given if done.applied else []
        return True

    def _show(self) -> None:
        total = sum(len(messages) for messages in self._conversations.values())
        self._progress.show(f"{self._played} of {total} messages, {self.taken} summaries, {self.failed} failed")


# The proof


def check(storage: str, conversations: Conversations, summarized: dict[str, list[Message]]) -> tuple[int, list[str]]:
    """Compare what a fresh manager reads with what was said; return how many messages are in histories, and what is wrong.

    The messages that lead a conversation, from the system, are never summarized.
    """
    count, wrong = 0, []
    with SessionManager(storage) as manager:
        for key, said in conversations.items():
            history, given = manager.get_history(key), summarized[key]
            count += len(history)
            lost, twice = difference(said, [*given, *history])
            if lost or twice:
                wrong.append(f"{key}: {lost} lost, {twice} twice")
            elif [one for one in said if one not in history] != [one for one in given if one not in history]:
                wrong.append(f"{key}: out of order")
            if list(manager.get_archive(key)) != given:
                wrong.append(f"{key}: not archived as it was summarized")
            if problems(history) or bool(given) != bool(manager.get_summary(key)):
                wrong.append(f"{key}: not a history with its summary")
    return count, wrong


def difference(said: list[Message], found: Iterable[Message]) -> tuple[int, int]:
    """Return how many messages are missing, and how many are there too often."""
    expected, there = (Counter(repr(message.to_dict()) for message in messages) for messages in (said, found))
    return (expected - there).total(), (there - expected).total()


# The command line


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description="Summarize many chats while they go on, and prove that nothing is lost."
    )
    parser.add_argument("file", nargs="?", metavar="CHATS.jsonl", help="the conversations (default: built-in ones)")
    parser.add_argument("--storage", help="where the sessions are kept; empty (default: for as long as all is well)")
    parser.add_argument("--chats", type=int, default=4, help="how many conversations go on at once (default: 4)")
    parser.add_argument("--summarizers", type=int, default=4, help="how many threads summarize (default: 4)")
    parser.add_argument("--seed", type=int, help="what decides when the model fails (default: a new one each time)")
    options = parser.parse_args()
    if options.chats < 1 or options.summarizers < 1:
        parser.error("--chats and --summarizers must be 1 or more")
    return options


def run(options: argparse.Namespace) -> bool:
    """Run the pipeline, print what came of it, and return whether all is well."""
    conversations = read_conversations(options.file)
    if options.file is None:
        conversations = {key: messages * BUILT_IN for key, messages in conversations.items()}
    seed = random.randrange(10**6) if options.seed is None else options.seed
    storage = options.storage or "sqlite:" + tempfile.mkdtemp(prefix="summarizer-") + "/chats.db"
    print(f"{len(conversations)} conversations, seed {seed}, storage {storage}", flush=True)
    with SessionManager(storage, archive=True) as manager:
        if len(manager):
            raise ReplayError(f"{storage} has sessions already: give an empty one")
        pipeline = Pipeline(manager, conversations, random.Random(seed))
        pipeline.run(options.chats, options.summarizers)
    count, wrong = check(storage, conversations, pipeline.summarized)
    total, given = (sum(map(len, one.values())) for one in (conversations, pipeline.summarized))
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{pipeline.taken} summaries were taken, {pipeline.late} came too late, {pipeline.failed} failed")
    print(
        f"{total} messages: {given} summarized, {count} in histories, {len(wrong)} chats with a message lost or twice"
    )
    if not wrong and not options.storage:
        shutil.rmtree(storage.removeprefix("sqlite:").removesuffix("/chats.db"))
    return not wrong and given + count == total


def main() -> None:
    """Run the command line."""
    options = arguments()
    try:
        if not run(options):
            sys.exit(1)
    except (ReplayError, SessionManagerError) as error:
        sys.exit(f"summarizer: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
