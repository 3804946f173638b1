"""A worker that uses a storage at random, as a bot does, and says what it is about to do, and what is durable.

It is forked by `tests.faults.arena`, and killed. Each round it opens the storage with another configuration; each of its
threads has sessions of its own. `tests.faults.expected` says what its lines mean.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import traceback

import attrs

from session_manager import Autosave, SessionManager, SummaryPolicy, Write
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from tests.faults.expected import Chat, digest, shown

#: Keys of all kinds: an umlaut, capitals, one that is longer than a file name may be.
KEYS = ("telegram:42", "Slack_C01", "z\u00fcrich/../1", "k" * 300, "con", "discord:7:general")
FILES = {"snapshot": SnapshotStore, "log": LogStore}
DATABASE = "chats.db"
DIRECTORY = "chats"
LARGE = 30_000


@attrs.frozen
class Place:
    """A storage: where it is, and of which kind.

    :param files: by which `Files` it is written, if not by those of the library.
    :param early: acknowledge saves when they begin, to see that it is seen.
    """

    kind: str
    path: str
    files: type | None = None
    early: bool = False

    @property
    def where(self):
        return os.path.join(self.path, DATABASE if self.kind == "sqlite" else DIRECTORY)

    @property
    def url(self):
        return f"{self.kind}:{self.where}"

    @contextlib.contextmanager
    def opened(self, **options):
        """Open a manager on it; the manager is left open if the block raises, as by a crash."""
        store = FILES[self.kind](self.where, files=self.files) if self.files is not None else None
        m = SessionManager(self.url if store is None else store, **options)
        yield m
        m.close()
        if store is not None:
            store.close()


@attrs.frozen
class Configuration:
    """How a manager is opened, and used."""

    options: dict
    threads: int
    #: How many calls each thread makes.
    calls: int
    #: Whether others save, too: at any moment.
    loose: bool

    @classmethod
    def of(cls, chance):
        options = {"archive": chance.random() < 0.6}
        if chance.random() < 0.3:
            options["max_resident_bytes"] = chance.choice([1, 20_000, 200_000])
        loose = chance.random() < 0.3
        if loose:
            options["autosave"] = Autosave(interval=chance.choice([0.0005, 0.01]), messages=chance.choice([1, 5, 50]))
        return cls(options, chance.choice([1, 1, 2, 3]), chance.choice([3, 10, 40, 150]), loose)


class Pipe:
    """Says lines, by one system call for each call."""

    def __init__(self, fd):
        self._fd = fd

    def say(self, *lines):
        os.write(self._fd, "".join(f"{line}\n" for line in lines).encode())


class EarlyPipe(Pipe):
    """Says that a save is done when it begins."""

    def say(self, *lines):
        super().say(*lines, *(f"d{line[1:]}" for line in lines if line.startswith("b")))


class Hand:
    """Some sessions of a storage, and the thread that works on them.

    :param chats: what is in the storage, by the numbers of keys.
    :param numbers: how many states each has had; kept over the rounds of a worker.
    """

    def __init__(self, m, pipe, chance, mine, chats, numbers, *, archives):
        self.m, self.pipe, self.chance = m, pipe, chance
        self.mine, self.chats, self.numbers, self.archives = mine, chats, numbers, archives
        self.said = chance.getrandbits(32)
        #: How many states the call that is under way makes, of which sessions.
        self.making: dict[int, int] = {}

    def work(self, calls):
        names = list(WEIGHTS)
        for name in self.chance.choices(names, [WEIGHTS[name] for name in names], k=calls):
            number = self.chance.choice(self.mine)
            if self.chats[number] is None:
                name = self.chance.choice(["add", "turn"])
            getattr(self, f"do_{name}")(number, KEYS[number])
            self.making = {}

    # What is said

    def about(self, number, call, *, saved=False):
        """Say that a session is about to be as its chat is now, and whether that is saved at once."""
        self.making[number] = self.making.get(number, 0) + 1
        state = f"m {number} {self.numbers[number] + 1} {digest(self.chats[number])} {call}"
        self.pipe.say(state, *([f"b {number} {self.numbers[number] + 1}"] if saved else []))
        self.numbers[number] += 1

    def begin(self, number):
        self.pipe.say(f"b {number} {self.numbers[number]}")

    def done(self, number):
        self.pipe.say(f"d {number} {self.numbers[number]}")

    def close(self):
        """Close the manager, which saves all; of what was interrupted, any state that it has made, or the one before."""
        for number in self.mine:
            last = self.numbers[number]
            self.pipe.say(*(f"b {number} {state}" for state in range(self.sure(number), last + 1)))
        self.m.close()
        for number in self.mine:
            self.pipe.say(f"d {number} {self.sure(number)}")

    def sure(self, number):
        return max(self.numbers[number] - self.making.get(number, 0), 0)

    def text(self):
        self.said += 1
        size = self.chance.choices([0, 100, 2_000, LARGE], [60, 30, 8, 2])[0]
        return f"{self.said} \u00fc " + "x" * size

    def create(self, number):
        """Say that a session is about to be there, if it is not: before its first message comes, others may save it."""
        if self.chats[number] is None:
            self.chats[number] = Chat()
            self.about(number, "create")

    # What is done

    def do_add(self, number, key):
        said = [
            ("user", self.text(), f"ref-{self.said}" if self.chance.random() < 0.5 else None)
            for _ in range(self.chance.choice([1, 1, 2, 5]))
        ]
        self.create(number)
        self.chats[number].append(said)
        self.about(number, "add")
        for role, content, ref in said:
            if len(said) == 1:
                self.m.add_message(key, role, content, ref=ref)
        if len(said) > 1:
            self.m.add(key, *[_message(*one) for one in said])

    def do_save(self, number, key):
        self.begin(number)
        self.m.save(key)
        self.done(number)

    def do_turn(self, number, key):
        if self.chats[number] is not None:
            self.begin(number)
        self.create(number)
        chat = self.chats[number]
        said = [("user", self.text(), None), ("assistant", self.text(), None)]
        ref = f"turn-{self.said}" if self.chance.random() < 0.7 else None
        chat.append(said, ref)
        self.about(number, "turn", saved=True)
        with self.m.turn(key, ref) as turn:
            for role, content, _ in said:
                turn.add_message(role, content)
        assert turn.applied, "a turn of which nobody else knew was not applied"
        self.done(number)

    def do_together(self, number, key):
        """Two sessions in one commit; one, where the store cannot."""
        others = [one for one in self.mine if one != number] if self.m._residents.store.together else []
        both, writes = [number, *self.chance.sample(others, min(len(others), 1))], []
        for one in both:
            if self.chats[one] is None:
                self.chats[one] = Chat()
            said = ("user", self.text(), None)
            self.chats[one].append([said])
            self.chats[one].metadata["a"] = self.said
            self.about(one, "together", saved=True)
            writes.append(Write(KEYS[one], [_message(*said)], items={"a": self.said}))
        self.m.commit_together(writes)
        for one in both:
            self.done(one)

    def do_deliver(self, number, key):
        """The same delivery again: it is durable, so it is done."""
        if self.chats[number].refs:
            self.begin(number)
            with self.m.turn(key, self.chance.choice(self.chats[number].refs)) as turn:
                assert turn.done, "a delivery that was answered is not known"

    def do_truncate(self, number, key):
        chat = self.chats[number]
        keep = self.chance.randrange(12)
        if len(chat.messages) > keep:
            dropped = len(chat.messages) - keep
            chat.drop(dropped, archived=self.archives)
            self.about(number, "truncate")
            assert self.m.truncate_history(key, keep) == dropped

    def do_summarize(self, number, key):
        chat = self.chats[number]
        self.begin(number)

        def summarizer(previous, messages):
            assert previous == chat.summary
            assert [one.position for one in messages] == [one[0] for one in chat.messages[: len(messages)]]
            chat.drop(len(messages), archived=self.archives)
            chat.summary = f"{self.text()[:200]} of {len(messages)}"
            self.about(number, "summarize", saved=True)
            return chat.summary

        policy = SummaryPolicy(messages=8) if self.chance.random() < 0.5 else None
        summarized = self.m.summarize(key, summarizer, keep_last=self.chance.randrange(6), when=policy)
        assert summarized is None or summarized.applied, "nobody else changed it"
        if summarized is not None:
            self.done(number)

    def do_edit(self, number, key):
        chat = self.chats[number]
        if chat.messages:
            index = self.chance.randrange(len(chat.messages))
            chat.edit(index, self.text())
            position, role, content, *_ = chat.messages[index]
            self.about(number, "edit")
            assert self.m.update_message(key, position, {"role": role, "content": content})

    def do_update_last(self, number, key):
        chat = self.chats[number]
        if chat.messages:
            chat.edit(-1, self.text())
            _, role, content, *_ = chat.messages[-1]
            self.about(number, "update_last")
            assert self.m.update_last(key, {"role": role, "content": content})

    def do_remove_last(self, number, key):
        if self.chats[number].messages:
            self.chats[number].messages.pop()
            self.about(number, "remove_last")
            assert self.m.remove_last(key) is not None

    def do_set_history(self, number, key):
        said = [("user", self.text(), None) for _ in range(self.chance.randrange(4))]
        self.chats[number].messages = []
        self.chats[number].append(said)
        self.about(number, "set_history")
        assert self.m.set_history(key, [_message(*one) for one in said])

    def do_set_summary(self, number, key):
        self.chats[number].summary = self.text()[:300]
        self.about(number, "set_summary")
        assert self.m.set_summary(key, self.chats[number].summary)

    def do_metadata(self, number, key):
        name, gone = self.chance.sample("abcd", 2)
        self.chats[number].metadata.pop(gone, None)
        self.chats[number].metadata[name] = self.said
        self.about(number, "metadata")
        assert self.m.update_metadata(key, {name: self.said}, [gone])

    def do_clear(self, number, key):
        self.chats[number].clear()
        self.about(number, "clear")
        self.m.clear(key)

    def do_delete(self, number, key):
        self.chats[number] = None
        self.about(number, "delete", saved=True)
        assert self.m.delete(key)
        self.done(number)

    def do_fork(self, number, key):
        free = [other for other in self.mine if self.chats[other] is None]
        if free:
            other = self.chance.choice(free)
            self.chats[other] = self.chats[number].copied()
            self.about(other, "fork", saved=True)
            self.m.fork(key, KEYS[other])
            self.done(other)

    def do_compact(self, number, key):
        self.m.compact(key)

    def do_look(self, number, key):
        found = shown(self.m, key)
        assert digest(found) == digest(self.chats[number]), "what is shown is not what was said"


#: How often each call is made.
WEIGHTS = {
    "together": 5,
    "add": 30,
    "save": 25,
    "turn": 12,
    "deliver": 2,
    "truncate": 7,
    "summarize": 5,
    "edit": 3,
    "update_last": 3,
    "remove_last": 3,
    "set_history": 2,
    "set_summary": 3,
    "metadata": 3,
    "clear": 2,
    "delete": 4,
    "fork": 6,
    "compact": 2,
    "look": 2,
}


def _message(role, content, ref):
    from session_manager import Message

    return Message(role, content, ref=ref)


def work(place: Place, seed: int, chats: list[Chat | None], fd: int) -> None:
    """Work on a storage until a signal or an error ends it."""
    pipe = (EarlyPipe if place.early else Pipe)(fd)
    chance = random.Random(seed)
    numbers = [0] * len(KEYS)
    while True:
        try:
            play(place, pipe, chance, chats, numbers)
        except BaseException as error:
            report(pipe, error)
            raise


def work_until_told(place: Place, seed: int, chats: list[Chat | None], fd: int) -> None:
    """Work in one thread until SIGTERM or SIGINT comes, at any moment; then close the manager, as a program does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pipe, chance, numbers = Pipe(fd), random.Random(seed), [0] * len(KEYS)
    hand = None
    try:
        try:
            while True:
                configuration = Configuration.of(chance)
                if configuration.loose:
                    pipe.say("l")
                m = SessionManager(place.url, **configuration.options)
                archives = configuration.options["archive"]
                hand = Hand(m, pipe, chance, range(len(KEYS)), chats, numbers, archives=archives)
                pipe.say("o")
                hand.work(configuration.calls)
                hand.close()
                hand = None
        except (SystemExit, KeyboardInterrupt):
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
        if hand is not None:
            hand.close()
    except BaseException as error:
        report(pipe, error)
        raise


def play(place, pipe, chance, chats, numbers):
    """One round: open the storage, work, close it."""
    configuration = Configuration.of(chance)
    if configuration.loose:
        pipe.say("l")
    with place.opened(**configuration.options) as m:
        pipe.say("o")
        hands = []
        for first in range(configuration.threads):
            mine = list(range(first, len(KEYS), configuration.threads))
            own = random.Random(chance.getrandbits(64))
            archives = configuration.options["archive"]
            hands.append(Hand(m, pipe, own, mine, chats, numbers, archives=archives))
        hands[0].do_look(hands[0].mine[0], KEYS[hands[0].mine[0]])
        together(pipe, hands, configuration.calls)
        for hand in hands:
            for number in hand.mine:
                hand.begin(number)
    for hand in hands:
        for number in hand.mine:
            hand.done(number)


def together(pipe, hands, calls):
    """Let all of them work, each in a thread; the first one here."""
    failures = []

    def one(hand):
        try:
            hand.work(calls)
        except BaseException as error:
            report(pipe, error)
            failures.append(error)

    threads = [threading.Thread(target=one, args=(hand,), daemon=True) for hand in hands[1:]]
    for thread in threads:
        thread.start()
    one(hands[0])
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def report(pipe, error):
    """Say what went wrong, on one line."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    lines += [repr(one) for one in getattr(error, "failures", {}).values()]
    pipe.say("e " + "".join(lines[-4:]).replace("\n", " | ")[-1500:])
