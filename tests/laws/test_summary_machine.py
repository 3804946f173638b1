"""The summary race as a state machine: two managers on one store, summarizers that are slow or fail, and everything else.

The model knows of each message where it is: in the history, given to a summarizer whose summary was taken, or dropped by a
call that saw it. A summarizer is a thread that waits until a rule lets it answer. With an archive, what summaries and truncations
took is there, each message once and in order, and nothing else is.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from session_manager import ConflictError, SessionManager
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from session_manager.testing import Clock

KEY = "telegram:42"
DEADLINE = 30

who = st.sampled_from([0, 1])


class SharedStore(MemoryStore):
    """Stands for a database that two processes share."""

    shared = True


class ModelDownError(Exception):
    """What a summarizer raises that fails."""


class Summary:
    """A summary under way, in a thread of its own."""

    def __init__(self, m, keep_last):
        self.given = None
        self.result = None
        self._previous = ""
        self._keep_last = keep_last
        self._answer = None
        self._called, self._answered = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(m,))
        self._thread.start()
        assert self._called.wait(DEADLINE)

    def _run(self, m):
        try:
            self.result = m.summarize(KEY, self._summarize, keep_last=self._keep_last)
        except (ModelDownError, ConflictError) as error:
            self.result = error
        finally:
            self._called.set()

    def _summarize(self, previous, messages):
        self._previous = previous
        self.given = [message.content for message in messages]
        self._called.set()
        assert self._answered.wait(DEADLINE)
        if self._answer is None:
            raise ModelDownError
        return self._answer

    @property
    def text(self):
        """The names of all messages that the summary stands for."""
        return " ".join([*self._previous.split(), *self.given])

    def finish(self, answer):
        """Let the summarizer answer, or raise if it is to be `None`; return the result of the call."""
        self._answer = answer
        self._answered.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self.result


class SummaryMachine(RuleBasedStateMachine):
    archive = False

    def __init__(self):
        super().__init__()
        self.store = self.open_store()
        clock, ids = Clock(), itertools.count()
        self.managers = [
            SessionManager(self.store, clock=clock, random_id=lambda: f"id-{next(ids)}", archive=self.archive)
            for _ in range(2)
        ]
        self.numbers = itertools.count()
        #: The messages that were added, those that a call dropped, and those that summaries were made of.
        self.added: set[str] = set()
        self.dropped: set[str] = set()
        self.folded: list[str] = []
        #: What an edit made of a message, and what that said first: whoever drops the one has dropped the other.
        self.edited: dict[str, str] = {}
        #: What other calls than truncations dropped: it may be gone from the archive, too.
        self.erased: set[str] = set()
        #: What edits replaced.
        self.replaced: set[str] = set()
        self.running: dict[int, Summary] = {}

    def open_store(self):
        return SharedStore()

    def teardown(self):
        for one in self.running.values():
            one.finish(None)
        for m in self.managers:
            self.save(m)
        self.account()
        self.account_for_the_archive()
        for m in self.managers:
            m.close()
        super().teardown()

    # What is where

    def texts(self, m):
        return [message.content for message in m.get_history(KEY)]

    def archived(self, m):
        return [message.content for message in m.get_archive(KEY)]

    def new(self):
        said = f"m{next(self.numbers)}"
        self.added.add(said)
        return said

    def save(self, m):
        """Save; what cannot be is given up: its messages are dropped knowingly."""
        try:
            m.save(KEY)
        except ConflictError:
            before, archive = self.texts(m), self.archived(m)
            m.reload(KEY)
            self.dropped.update(set(before) - set(self.texts(m)))
            self.erased.update({*before, *archive} - {*self.texts(m), *self.archived(m)})

    def dropping(self, m, call, *, erases=True):
        """Make a call that drops messages, and note which ones it dropped of those that its manager shows.

        :param erases: they do not go to the archive; neither does what it took from there.
        """
        session = m.get(KEY)
        before, archive = self.texts(m), self.archived(m)
        call()
        self.dropped.update(set(before) - set(self.texts(m)))
        if erases:
            self.erased.update({*before, *archive} - {*self.texts(m), *self.archived(m)})
        after = m.get(KEY)
        if session is not None and session.summary and (after is None or after.summary != session.summary):
            self.dropped.update(session.summary.split())

    def account(self):
        """Each message is somewhere, and nowhere twice."""
        session = self.store.load(KEY)
        history = [] if session is None else [message.content for message in session.messages]
        summary = [] if session is None else session.summary.split()
        unsaved = {text for m in self.managers for text in self.texts(m)}
        there = [*history, *summary]
        assert len(there) == len(set(there)), "a message is in the history and in the summary, or there twice"
        assert len(self.folded) == len(set(self.folded)), "a message was summarized twice"
        gone = {self.edited.get(text, text) for text in self.dropped}
        missing = self.added - set(there) - unsaved - self.dropped - self.replaced
        missing = {text for text in missing if self.edited.get(text, text) not in gone}
        assert not missing, f"neither in the history, nor summarized, nor dropped: {missing}"
        assert set(self.folded) <= {*summary, *self.dropped}, "what was summarized is not in the summary"
        assert not set(self.folded) & set(history), "what was summarized is in the history"

    def account_for_the_archive(self):
        """Nothing that was added is gone, unless somebody erased it; what was taken from the history is in order."""
        session = self.store.load(KEY)
        history = [] if session is None else session.messages.to_list()
        archive = list(self.store.archive(KEY))
        positions = [message.position for message in [*archive, *history]]
        assert len(positions) == len(set(positions)), "a message is archived twice, or archived and in the history"
        assert [message.position for message in archive] == sorted(message.position for message in archive)
        if not self.archive:
            assert not archive
            return
        there = [message.content for message in [*history, *archive]]
        assert len(there) == len(set(there)), "a message is there twice"
        unsaved = {text for m in self.managers for text in [*self.texts(m), *self.archived(m)]}
        gone = {self.edited.get(text, text) for text in self.erased}
        missing = self.added - set(there) - unsaved - self.erased - self.replaced
        missing = {text for text in missing if self.edited.get(text, text) not in gone}
        assert not missing, f"neither in the history, nor archived, nor erased: {missing}"
        assert set(self.folded) <= {*there, *self.erased}, "what was summarized is not archived"

    @invariant()
    def nothing_is_lost_or_there_twice(self):
        self.account()
        self.account_for_the_archive()

    # Summaries

    @rule(who=who, keep_last=st.integers(0, 4))
    def begin_summary(self, who, keep_last):
        m = self.managers[who]
        if who in self.running:
            assert m.summarize(KEY, lambda *_: self.fail(), keep_last=keep_last) is None
            return
        summary = Summary(m, keep_last)
        if summary.given is None:
            assert summary.result is None or isinstance(summary.result, ConflictError)
            if summary.result is not None:
                self.save(m)
            summary.finish(None)
            return
        self.running[who] = summary

    def fail(self):
        raise AssertionError("a second summary was begun")

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish_summary(self, data):
        number = data.draw(st.sampled_from(sorted(self.running)))
        summary = self.running.pop(number)
        before = self.store.load(KEY)
        result = summary.finish(summary.text)
        assert not isinstance(result, Exception) or isinstance(result, ConflictError)
        if isinstance(result, ConflictError):
            self.save(self.managers[number])
        elif result.applied:
            assert set(summary.given) <= {message.content for message in before.messages}, "they were not durable"
            assert self.store.load(KEY).summary == summary.text
            self.folded += summary.given
            event("a summary was taken, two under way" if self.running else "a summary was taken")
            gone = {*summary.given, *self.dropped, *self.replaced}  # what was dropped unsaved goes with it
            kept = [message.content for message in before.messages if message.content not in gone]
            now = [message.content for message in self.store.load(KEY).messages]
            assert [text for text in now if text in set(kept)] == kept, "it took what was not summarized, or its order"
        else:
            assert result.reason
            event("a summary came too late")

    @precondition(lambda self: self.running)
    @rule(data=st.data(), answer=st.sampled_from([None, "", 5]))
    def fail_summary(self, data, answer):
        number = data.draw(st.sampled_from(sorted(self.running)))
        before = self.store.load(KEY)
        result = self.running.pop(number).finish(answer)
        assert isinstance(result, ModelDownError) if answer is None else not result.applied
        after = self.store.load(KEY)
        assert (before and before.version) == (after and after.version), "it changed something"

    # Whatever else happens meanwhile

    def has_come_far(self):
        """Say whether there is something that is worth being thrown away: else little would ever be summarized."""
        session = self.store.load(KEY)
        return session is not None and session.end % 4 == 3

    @rule(who=who, size=st.integers(1, 6), save=st.booleans())
    def add(self, who, size, save):
        for _ in range(size):
            self.managers[who].add_message(KEY, "user", self.new())
        if save:
            self.save(self.managers[who])

    @rule(who=who, size=st.integers(1, 3))
    def turn(self, who, size):
        m = self.managers[who]
        said = [f"m{next(self.numbers)}" for _ in range(size)]
        try:
            with m.turn(KEY, said[0]) as turn:
                for number, text in enumerate(said):
                    turn.add_message("assistant" if number else "user", text)
        except ConflictError:
            self.added.update(said)
            self.save(m)
            return
        assert turn.applied
        self.added.update(said)
        history = [message.content for message in self.store.load(KEY).messages]
        first = history.index(said[0])
        assert history[first : first + size] == said

    @rule(who=who)
    def save_one(self, who):
        self.save(self.managers[who])

    @rule(who=who, keep_last=st.integers(0, 6), whole_turns=st.booleans(), save=st.booleans())
    def truncate(self, who, keep_last, whole_turns, save):
        m = self.managers[who]
        self.dropping(m, lambda: m.truncate_history(KEY, keep_last, whole_turns=whole_turns), erases=False)
        if save:
            self.save(m)

    @rule(who=who, save=st.booleans())
    def remove(self, who, save):
        m = self.managers[who]
        self.dropping(m, lambda: m.remove_last(KEY))
        if save:
            self.save(m)

    @rule(who=who, data=st.data(), save=st.booleans())
    def edit(self, who, data, save):
        m = self.managers[who]
        positions = [message.position for message in m.get_history(KEY)]
        if positions:
            position = data.draw(st.sampled_from(positions))
            new = {"role": "user", "content": self.new()}
            old = m.get(KEY).at(position).content
            self.edited[new["content"]] = self.edited.get(old, old)
            self.replaced.add(old)
            m.update_message(KEY, position, new)
        if save:
            self.save(m)

    @precondition(lambda self: self.has_come_far())
    @rule(who=who, size=st.integers(0, 3), save=st.booleans())
    def set_history(self, who, size, save):
        m = self.managers[who]
        if m.get(KEY) is not None:
            new = [{"role": "user", "content": self.new()} for _ in range(size)]
            self.dropping(m, lambda: m.set_history(KEY, new))
        if save:
            self.save(m)

    @precondition(lambda self: self.has_come_far())
    @rule(who=who)
    def clear(self, who):
        m = self.managers[who]
        self.save(m)
        self.dropping(m, lambda: m.clear(KEY))
        self.save(m)

    @precondition(lambda self: self.has_come_far())
    @rule(who=who)
    def delete(self, who):
        m = self.managers[who]
        self.save(m)
        self.dropping(m, lambda: m.delete(KEY))


class ArchivingMachine(SummaryMachine):
    archive = True


class ArchivingDirectoryMachine(ArchivingMachine):
    """Two managers on one open store, which the files do not notice."""

    kind: type

    def open_store(self):
        self.path = tempfile.mkdtemp()
        store = self.kind(os.path.join(self.path, "chats"))
        store.shared = True
        return store

    def teardown(self):
        super().teardown()
        self.store.close()
        shutil.rmtree(self.path)


class ArchivingSnapshots(ArchivingDirectoryMachine):
    kind = SnapshotStore


class ArchivingLogs(ArchivingDirectoryMachine):
    kind = LogStore


class ArchivingDatabase(ArchivingDirectoryMachine):
    kind = SQLiteStore


some = settings(stateful_step_count=30, max_examples=max(settings().max_examples // 3, 3))

TestSummaries = SummaryMachine.TestCase
TestSummaries.settings = settings(stateful_step_count=30)
TestArchivingInRAM = ArchivingMachine.TestCase
TestArchivingInRAM.settings = settings(stateful_step_count=30)
TestArchivingSnapshots = ArchivingSnapshots.TestCase
TestArchivingSnapshots.settings = some
TestArchivingLogs = ArchivingLogs.TestCase
TestArchivingLogs.settings = some
TestArchivingDatabase = ArchivingDatabase.TestCase
TestArchivingDatabase.settings = some
