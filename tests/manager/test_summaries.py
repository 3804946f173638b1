"""A summary takes the place of exactly what was summarized, or of nothing."""

from __future__ import annotations

import random
import threading

import pytest

from session_manager import Message, ReadOnlyError, SaveFailedError, SessionManager, SummaryPolicy, open_store
from session_manager.manager import summaries as summarize
from session_manager.manager.saving import Saving
from session_manager.model import changes
from session_manager.stores.memory import MemoryStore
from tests.support.evicting import evict

KEY = "telegram:42"
DEADLINE = 30


class SharedStore(MemoryStore):
    shared = True


@pytest.fixture
def store():
    return SharedStore()


@pytest.fixture
def m(store):
    with SessionManager(store) as one:
        yield one


def talk(m, *numbers, key=KEY):
    for number in numbers:
        m.add_message(key, "user", f"u{number}")
        m.add_message(key, "assistant", f"a{number}")


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def joined(previous, messages):
    return " ".join([*([previous] if previous else []), *(str(message.content) for message in messages)])


def test_old_messages_become_the_summary_as_one_revision(store, m):
    talk(m, 1, 2, 3)
    done = m.summarize(KEY, joined, keep_last=2)
    assert (done.applied, done.summary, done.count, done.reason) == (True, "u1 a1 u2 a2", 4, "")
    assert texts(m) == ["u3", "a3"]
    assert m.get_summary(KEY) == "u1 a1 u2 a2"
    assert store.load(KEY).revision == 2, "one to save the messages, one for the summary"
    assert m.health().dirty == ()


def test_the_previous_summary_is_part_of_what_the_summarizer_gets(m):
    talk(m, 1, 2)
    m.summarize(KEY, joined, keep_last=2)
    talk(m, 3)
    assert m.summarize(KEY, joined, keep_last=1).summary == "u1 a1 u2 a2"
    assert texts(m) == ["u3", "a3"]


def test_the_cut_parts_no_turn_and_no_tool_pair(m):
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    talk(m, 1)
    m.add(
        KEY,
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12:00", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Noon."},
    )
    given = []
    assert m.summarize(KEY, lambda previous, messages: given.extend(messages) or "s", keep_last=2).count == 2
    assert [message.content for message in given] == ["u1", "a1"]
    assert len(m.get_history(KEY)) == 4
    talk(m, 2)
    assert m.summarize(KEY, lambda previous, messages: given.extend(messages) or "s", keep_last=2).applied
    assert [message.role for message in given][-4:] == ["user", "assistant", "tool", "assistant"]


def test_leading_system_messages_stay(m):
    m.add_message(KEY, "system", "Be brief.")
    talk(m, 1, 2)
    assert m.summarize(KEY, joined, keep_last=2).summary == "u1 a1"
    assert texts(m) == ["Be brief.", "u2", "a2"]


@pytest.mark.parametrize("keep_last", [4, 5, 100])
def test_nothing_to_summarize_is_none_and_calls_nobody(m, keep_last):
    talk(m, 1, 2)
    assert m.summarize(KEY, pytest.fail, keep_last=keep_last) is None
    assert m.summarize("no:such", pytest.fail, keep_last=1) is None
    assert "no:such" not in m


def test_everything_can_be_summarized(m):
    talk(m, 1)
    assert m.summarize(KEY, joined, keep_last=0).applied
    assert texts(m) == []
    talk(m, 2)
    assert m.get_history(KEY)[0].position == 2


@pytest.mark.parametrize("given", ["", None, 5, ["text"], "\ud83d\ude00"])
def test_a_summarizer_that_returns_no_summary_changes_nothing(m, given):
    talk(m, 1, 2)
    done = m.summarize(KEY, lambda previous, messages: given, keep_last=2)
    assert not done.applied
    assert "no summary" in done.reason
    assert (texts(m), m.get_summary(KEY)) == (["u1", "a1", "u2", "a2"], "")


def test_a_summarizer_that_raises_changes_nothing_and_the_next_one_works(m):
    talk(m, 1, 2)
    with pytest.raises(ZeroDivisionError):
        m.summarize(KEY, lambda previous, messages: 1 // 0, keep_last=2)
    assert texts(m) == ["u1", "a1", "u2", "a2"]
    assert m.summarize(KEY, joined, keep_last=2).applied


def test_a_policy_decides_when(m):
    talk(m, 1, 2)
    assert m.summarize(KEY, pytest.fail, keep_last=0, when=SummaryPolicy(messages=5)) is None
    assert m.summarize(KEY, pytest.fail, keep_last=0, when=SummaryPolicy(tokens=5, count=lambda one: 1)) is None
    assert m.summarize(KEY, joined, keep_last=2, when=SummaryPolicy(messages=4, tokens=10**6)).applied
    assert m.summarize(KEY, joined, keep_last=0, when=SummaryPolicy(tokens=2, count=lambda one: 1)).applied


@pytest.mark.parametrize("arguments", [{}, {"messages": 0}, {"tokens": -1}, {"messages": True}, {"tokens": 1.5}])
def test_a_policy_without_a_sensible_threshold_is_refused(arguments):
    error = TypeError if {True, 1.5} & set(arguments.values()) else ValueError
    with pytest.raises(error, match=r"messages|tokens"):
        SummaryPolicy(**arguments)


def test_a_reader_does_not_summarize(store, m):
    talk(m, 1, 2)
    m.save(KEY)
    with SessionManager(store, read_only=True) as reader, pytest.raises(ReadOnlyError):
        reader.summarize(KEY, pytest.fail, keep_last=0)


def test_it_works_in_ram_only():
    with SessionManager() as m:
        talk(m, 1, 2)
        assert m.summarize(KEY, joined, keep_last=2).applied
        assert texts(m) == ["u2", "a2"]


def test_a_save_that_fails_comes_out_and_the_summary_is_in_ram(store, m):
    talk(m, 1, 2)
    m.save(KEY)
    real = store.write

    def fail(commit):
        raise SaveFailedError(KEY, "injected")

    def summarizer(previous, messages):
        store.write = fail
        return joined(previous, messages)

    with pytest.raises(SaveFailedError):
        m.summarize(KEY, summarizer, keep_last=2)
    store.write = real
    assert texts(m) == ["u2", "a2"]
    assert m.save(KEY)
    assert store.load(KEY).summary == "u1 a1"


# What happens meanwhile


def while_summarizing(m, action, keep_last=2):
    """Summarize, and do something while the summarizer runs."""

    def summarizer(previous, messages):
        action()
        return joined(previous, messages)

    return m.summarize(KEY, summarizer, keep_last=keep_last)


HARMLESS = {
    "add": lambda m: m.add_message(KEY, "user", "new"),
    "edit what stays": lambda m: m.update_last(KEY, {"role": "assistant", "content": "edited"}),
    "metadata": lambda m: m.update_metadata(KEY, {"a": 1}),
    "truncate nothing": lambda m: m.truncate_history(KEY, 100),
}
HARMFUL = {
    "clear": lambda m: m.clear(KEY),
    "delete": lambda m: m.delete(KEY),
    "replace": lambda m: m.set_history(KEY, [{"role": "user", "content": "other"}]),
    "edit what goes": lambda m: m.update_message(KEY, 0, {"role": "user", "content": "edited"}),
    "truncate into it": lambda m: m.truncate_history(KEY, 3),
    "truncate past it": lambda m: m.truncate_history(KEY, 1),
    "another summary": lambda m: m.set_summary(KEY, "theirs"),
}


@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("name", HARMLESS)
def test_what_does_not_touch_the_summarized_messages_stays(store, m, name, where):
    talk(m, 1, 2)
    m.save(KEY)
    with SessionManager(store) as other:
        by = m if where == "here" else other

        def act():
            HARMLESS[name](by)
            by.save(KEY)

        done = while_summarizing(m, act)
        assert done.applied
        assert m.get_summary(KEY) == other.get_summary(KEY) == "u1 a1"
        assert texts(m) == texts(other)
        assert texts(m)[0] == "u2"
        assert ("new" in texts(m)) == (name == "add")


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize("name", HARMFUL)
def test_what_touches_them_makes_the_summary_void(store, m, name, where, saved):
    talk(m, 1, 2)
    m.save(KEY)
    with SessionManager(store) as other:
        by = m if where == "here" else other

        def act():
            HARMFUL[name](by)
            if saved:
                by.save(KEY)

        done = while_summarizing(m, act)
        if where == "elsewhere" and not saved and name != "delete":
            assert done.applied, "nobody could know of it; the other one's save meets the summary"
            other.close(save=False)
            return
        assert not done.applied
        assert "meanwhile" in done.reason
        m.save_all()
        assert m.get_summary(KEY) != "u1 a1"
        assert other.get_summary(KEY) != "u1 a1"


CALLS = {
    "save": lambda m: m.save(KEY),
    "turn": lambda m: add_in_a_turn(m),
    "summarize": lambda m: m.summarize(KEY, pytest.fail, keep_last=0),
    "save all": lambda m: m.save_all(),
    "get_context": lambda m: m.get_context(KEY),
    "verify": lambda m: m.verify(KEY),
    "fork": lambda m: m.fork(KEY, "other:1"),
}


def add_in_a_turn(m):
    with m.turn(KEY) as turn:
        turn.add_message("user", "new")
    assert turn.applied


@pytest.mark.parametrize("name", CALLS)
def test_a_summarizer_may_call_the_manager(m, name):
    talk(m, 1, 2)
    assert while_summarizing(m, lambda: CALLS[name](m)).applied
    assert texts(m) == ["u2", "a2", *(["new"] if name == "turn" else [])]


def test_a_summary_in_a_turn_and_a_turn_that_sees_it(m):
    talk(m, 1, 2)
    with m.turn(KEY) as turn:
        turn.add_message("user", "new")
        assert m.summarize(KEY, joined, keep_last=2).applied
        assert [one["content"] for one in turn.get_context()][1:] == ["u2", "a2", "new"]
    assert turn.applied
    assert texts(m) == ["u2", "a2", "new"]


def test_without_anything_to_keep_everything_is_summarized_but_the_head(m):
    m.add_message(KEY, "system", "s")
    assert m.summarize(KEY, pytest.fail, keep_last=0) is None
    talk(m, 1)
    assert m.summarize(KEY, joined, keep_last=0).summary == "u1 a1"
    assert texts(m) == ["s"]
    assert m.summarize(KEY, pytest.fail, keep_last=0) is None


AFTERWARDS = {
    "read again": lambda m, other: (talk(other, 9), other.save(KEY), m.get(KEY)),
    "another summary": lambda m, other: other.set_summary(KEY, "theirs"),
    "cleared": lambda m, other: m.clear(KEY),
    "deleted": lambda m, other: other.delete(KEY),
    "evicted": lambda m, other: evict(m, KEY),
}


@pytest.mark.parametrize("name", AFTERWARDS)
def test_a_summary_that_was_saved_was_applied_whatever_happens_right_after(store, m, monkeypatch, name):
    """It was looked for in the session once more, where it may be gone."""
    talk(m, 1, 2)
    m.save(KEY)
    real = Saving.save

    def save(self, key):
        monkeypatch.setattr(Saving, "save", real)
        written = self.save(key)
        AFTERWARDS[name](m, other)
        return written

    with SessionManager(store) as other:
        done = while_summarizing(m, lambda: monkeypatch.setattr(Saving, "save", save))
        assert done.applied
        m.save_all()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_no_digest_is_made_while_the_lock_is_held(store, m, monkeypatch, where):
    """Of 10,000 messages it takes 100 ms, and everybody would wait."""
    talk(m, *range(20))
    m.save(KEY)
    real, held = changes.digest, []

    def digest(*arguments):
        held.append(m._residents.lock.is_mine)
        return real(*arguments)

    for module in (changes, summarize):
        monkeypatch.setattr(module, "digest", digest)
    with SessionManager(store) as other:
        by = m if where == "here" else other
        assert while_summarizing(m, lambda: (talk(by, 99), by.save(KEY))).applied
    assert held
    assert not any(held)


def test_what_is_changed_during_the_save_is_saved_before_it_is_summarized(store, m):
    """The summary of a message that no process can read again would be all that is left of it."""
    talk(m, 1, 2)
    write, edits = store.write, ["first", "second"]

    def edit(text):
        m.update_message(KEY, 0, {"role": "user", "content": text})

    def interfere(commit):
        if edits:
            thread = threading.Thread(target=edit, args=(edits.pop(0),))
            thread.start()
            thread.join(DEADLINE)
        write(commit)

    def summarizer(previous, messages):
        assert [one.content for one in messages] == [one.content for one in store.load(KEY).messages[:2]]
        return joined(previous, messages)

    store.write = interfere
    assert m.summarize(KEY, summarizer, keep_last=2).summary == "second a1"
    assert texts(m) == ["u2", "a2"]


def test_two_summarizers_in_two_processes_and_one_wins(store, m):
    talk(m, 1, 2, 3)
    m.save(KEY)
    with SessionManager(store) as other:
        results = []
        done = while_summarizing(m, lambda: results.append(other.summarize(KEY, lambda *_: "theirs", keep_last=2)))
        assert results[0].applied
        assert not done.applied
        assert m.get_summary(KEY) == "theirs"
        assert texts(m) == ["u3", "a3"]


def test_a_second_summary_of_a_session_meanwhile_returns_at_once(m):
    talk(m, 1, 2)
    results = []
    done = while_summarizing(m, lambda: results.append(m.summarize(KEY, pytest.fail, keep_last=0)))
    assert results == [None]
    assert done.applied
    assert m.summarize(KEY, joined, keep_last=0).applied


def test_no_lock_is_held_while_the_summarizer_runs(m):
    talk(m, 1, 2)
    inside, leave = threading.Event(), threading.Event()
    results = []

    def slow(previous, messages):
        inside.set()
        assert leave.wait(DEADLINE)
        return joined(previous, messages)

    thread = threading.Thread(target=lambda: results.append(m.summarize(KEY, slow, keep_last=2)))
    thread.start()
    assert inside.wait(DEADLINE)
    talk(m, 3)
    assert m.save(KEY)
    with m.turn(KEY) as turn:
        turn.add_message("user", "in a turn")
    assert turn.applied
    leave.set()
    thread.join(DEADLINE)
    assert results[0].applied
    assert texts(m) == ["u2", "a2", "u3", "a3", "in a turn"]


@pytest.fixture(params=["memory", "snapshot", "log", "sqlite"])
def any_store(request, tmp_path):
    """A store of each kind; several managers may write to those in RAM and in SQLite."""
    store = SharedStore() if request.param == "memory" else open_store(f"{request.param}:{tmp_path / 'chats'}")
    yield store
    store.close()


def test_every_message_is_in_the_history_or_in_the_summary_or_was_dropped(any_store):
    """Threads add and drop, while others summarize; an observer counts, and finds in the archive what is in the summary."""
    store = any_store
    one = SessionManager(store, archive=True)
    managers = [one, SessionManager(store, archive=True) if store.shared else one]
    added: set[str] = set()
    dropped: set[str] = set()
    lock = threading.Lock()

    def chat(number, seed):
        chance = random.Random(seed)
        m = managers[number % 2]
        for count in range(30):
            said = f"w{seed}-{count}"
            with m.turn(KEY) as turn:
                turn.add_message("user", said)
            if turn.applied:
                with lock:
                    added.add(said)
            if chance.random() < 0.1:
                with lock:
                    last = m.remove_last(KEY)
                    m.save(KEY)
                    dropped.update([str(last.content)] if last is not None else [])

    ended = threading.Event()

    def summarize(number):
        while not ended.wait(0.0005):
            managers[number].summarize(KEY, joined, keep_last=3)

    chats = [threading.Thread(target=chat, args=(number, number)) for number in range(4)]
    summarizers = [threading.Thread(target=summarize, args=(number,)) for number in range(2)]
    for thread in chats + summarizers:
        thread.start()
    for thread in chats:
        thread.join(DEADLINE)
    ended.set()
    for thread in summarizers:
        thread.join(DEADLINE)
    managers[0].summarize(KEY, joined, keep_last=3)
    for one in managers:
        one.close(save=False)
    with SessionManager(store) as m:
        history, summarized = texts(m), m.get_summary(KEY).split()
        archive = [message.content for message in m.get_archive(KEY)]
        assert m.verify() == []
    seen = [*history, *summarized]
    assert len(seen) == len(set(seen)), "a message is in both"
    assert added - dropped <= set(seen), "a message is in neither"
    assert not set(history) & set(summarized)
    assert archive
    assert archive == summarized, "what was summarized is archived, once and in order"


def test_values_say_nothing_of_the_text():
    with SessionManager() as m:
        talk(m, 1)
        assert "u1" not in repr(m.summarize(KEY, joined, keep_last=0))
    assert "secret" not in repr(Message("user", "secret"))
