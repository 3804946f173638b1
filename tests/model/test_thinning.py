"""The laws of thinning: what is left of pending changes means the same, and is not more than it takes."""

from __future__ import annotations

import sys
import tempfile
import tracemalloc
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_manager import ConflictError, Message, SessionManager, open_store
from session_manager.manager.cache.eviction import measure
from session_manager.model.archive import dropped
from session_manager.model.changes import (
    UNCHANGED,
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    Witness,
    digest,
    fold,
)
from session_manager.model.rebase import rebase
from session_manager.model.thinning import thinned
from session_manager.stores.files.filesystem import Files
from session_manager.stores.log import LogStore
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from tests.support.counted import calls
from tests.support.laws import examples
from tests.support.small_sessions import AT, message, session_of
from tests.support.strategies import facts

KEY = "telegram:42"


def later(seconds):
    return AT + timedelta(seconds=seconds)


# What is left means the same

ats = st.integers(0, 4).map(later)
#: Few enough that two writers often make the very same message.
said = st.builds(
    lambda text, at, metadata, ref: Message("user", text, created_at=at, metadata=metadata, ref=ref),
    st.sampled_from("abc"),
    st.sampled_from([AT, later(1)]),
    st.sampled_from([None, None, {"m": 1}, {"m": 2}]),
    st.sampled_from([None, None, None, "r", "s"]),
)
few = st.lists(said, max_size=2).map(tuple)
notes = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2), max_size=2)


expiries = st.sampled_from([UNCHANGED, UNCHANGED, None, timedelta(days=1), timedelta(days=2)])
removals = st.lists(st.sampled_from("xyz"), max_size=2).map(tuple)
kinds = st.sampled_from([Edit, Edit, Edit, Edit, SetSummary, UpdateMetadata, Append, Append, Truncate, Remove, Replace])
kinds_and_ends = st.one_of(kinds, kinds, kinds, st.sampled_from([Clear, Summarize]))


@st.composite
def any_change(draw, over):
    """A change over a session: most are of those that are thinned out."""
    at, kind = draw(ats), draw(kinds_and_ends)
    position = draw(st.integers(0, 4)) % (over.end + 1)
    if kind is Edit:
        return Edit(at=at, position=position, message=draw(said))
    if kind is SetSummary:
        return SetSummary(at=at, text=draw(st.sampled_from("stu")))
    if kind is UpdateMetadata:
        return UpdateMetadata(at=at, items=draw(notes), removed=draw(removals), expires_after=draw(expiries))
    if kind is Append:
        turn, guard = draw(st.sampled_from([(None, None), (None, None), ("t", None), (None, "g"), (None, "h")]))
        return Append(at=at, messages=draw(few), turn=turn, guard=guard)
    if kind is Replace:
        return Replace(at=at, messages=draw(few))
    if kind is Clear:
        return Clear(at=at, generation=draw(st.sampled_from("gh")))
    if kind is Summarize:
        return Summarize(at=at, summary="f", start=0, stop=position, digest=digest(over, 0, position))
    return Truncate(at=at, start=position) if kind is Truncate else Remove(at=at, position=position)


@st.composite
def pendings(draw, over, longest=12):
    """Changes that each have an effect, as a manager makes them."""
    state, made = over, []
    for _ in range(draw(st.integers(0, longest))):
        change = draw(any_change(state))
        after = fold(state, [change])
        if after is not state:
            made.append(change)
            state = after
    return made


OLD = session_of("a", "b", revision=3)
GONE = [session_of("new life", generation="other", revision=1), session_of(generation="blank")]
CREATED = session_of()


def outcome(old, newer, pending):
    """What pending changes become over a newer state: all that can be seen of it."""
    try:
        result = rebase(old, newer, pending)
    except ConflictError as error:
        return str(error)
    archived = [(position, facts(one)) for position, one in dropped(newer, result.pending)]
    return facts(result.session), archived, facts(fold(newer, thinned(result.pending)))


def newer_than(old):
    saved = pendings(old, 4).map(lambda theirs: attrs.evolve(fold(old, theirs), revision=old.revision + 1))
    return st.one_of(saved, saved, st.sampled_from(GONE)) if old.revision else saved


BACK = [Edit(at=later(number), position=1, message=message(text)) for number, text in enumerate("abab", 1)]
ON = [Edit(at=later(number), position=1, message=message(text)) for number, text in enumerate("cde", 1)]
CLOCK = [SetSummary(at=later(at), text=text) for at, text in [(2, "t"), (4, "s"), (2, "u")]]
AS_THEY = fold(OLD, [*ON[:1], SetSummary(at=AT, text="theirs")])


@examples(20)
@given(st.sampled_from([OLD, CREATED]).flatmap(lambda old: st.tuples(st.just(old), pendings(old), newer_than(old))))
@example((OLD, BACK, AS_THEY))
@example((OLD, CLOCK, attrs.evolve(fold(OLD, [SetSummary(at=AT, text="s")]), revision=4)))
@example((OLD, [*ON, Truncate(at=AT, start=2), Clear(at=AT, generation="h")], AS_THEY))
def test_what_is_left_means_the_same_over_every_state(case):
    """The fold, the archive, the rebased session and the conflict are those of all changes."""
    old, pending, newer = case
    left = thinned(pending)
    assert facts(fold(old, left)) == facts(fold(old, pending))
    assert list(fold(old, left)._metadata) == list(fold(old, pending)._metadata)
    assert [facts(one) for _, one in dropped(old, left)] == [facts(one) for _, one in dropped(old, pending)]
    assert outcome(old, newer, left) == outcome(old, newer, pending)


@given(pendings(OLD), st.data())
def test_a_thinning_in_steps_means_the_same(pending, data):
    """The manager thins out what it has, and goes on with what is left."""
    left = []
    for change in pending:
        left.append(change)
        if data.draw(st.booleans()):
            left = thinned(left)
    newer = data.draw(newer_than(OLD))
    assert outcome(OLD, newer, left) == outcome(OLD, newer, pending)


@given(pendings(OLD))
def test_each_that_is_left_still_has_an_effect(pending):
    state = OLD
    for change in thinned(pending):
        after = fold(state, [change])
        assert after is not state
        state = after


# What goes, and what stays


def edits(*texts, position=1):
    made = [message(text) for text in texts]
    return [Edit(at=later(number), position=position, message=one) for number, one in enumerate(made)]


def test_of_many_edits_of_a_message_the_last_two_stay():
    made = edits("c", "cd", "cde", "cdef")
    assert thinned(made) == made[-2:]


def test_edits_that_alternate_between_messages_go_as_well():
    one, other = edits("c", "cd", "cde", "cdef"), edits("x", "xy", "xyz", "xyz!", position=0)
    made = [change for pair in zip(one, other, strict=True) for change in pair]
    left = thinned(made)
    assert len(left) == 4
    assert fold(OLD, left) == fold(OLD, made)


def test_summaries_and_metadata_of_the_same_keys_go_as_well():
    summaries = [SetSummary(at=later(number), text="s" * number) for number in range(1, 5)]
    items = [UpdateMetadata(at=later(number), items={"xy"[number % 2]: number}) for number in range(9)]
    assert thinned(summaries) == summaries[-2:]
    assert len(thinned(items)) == 4
    assert len(thinned([UpdateMetadata(at=AT, items={str(number): 1}) for number in range(9)])) == 9


def between(*changes):
    made = edits("c", "cd", "cde", "cdef")
    return [made[0], *changes, *made[1:3]]


@pytest.mark.parametrize(
    "made",
    [
        between(Truncate(at=AT, start=1)),
        between(Remove(at=AT, position=0)),
        between(Clear(at=AT, generation="h", spare=(0, 2))),
        between(Replace(at=AT, spare=(1, 2))),
        between(Summarize(at=AT, summary="f", start=0, stop=1, digest="d")),
        list(reversed(edits("c", "cd", "cde"))),
        [attrs.evolve(edits("c")[0], witness=Witness()), *edits("c", "cd", "cde")[1:]],
        [Edit(at=AT, position=1, message=Message("user", "c", created_at=AT, ref="r")), *edits("c", "cd", "cde")[1:]],
    ],
    ids=["truncate", "remove", "clear", "replace", "fold", "clock set back", "awaited", "its ref"],
)
def test_what_would_mean_something_else_stays(made):
    assert thinned(made) == made


# What it costs

LONG = "x" * 50
#: What grows with each call: the call, given the text so far and its number.
GROWING = {
    "a reply": lambda m, text, _: m.update_last(KEY, {"role": "assistant", "content": text}),
    "two messages in turn": lambda m, text, number: m.update_message(
        KEY, number % 2, {"role": "assistant", "content": text}
    ),
    "the summary": lambda m, text, _: m.set_summary(KEY, text),
    "the metadata": lambda m, text, _: m.update_metadata(KEY, {"plan": text}),
    "two keys in turn": lambda m, text, number: m.update_metadata(KEY, {f"plan {number % 2}": text}),
}
URLS = ["memory:", "snapshot:{}/chats", "log:{}/chats", "sqlite:{}/chats.db"]


def begun(store):
    m = SessionManager(store)
    m.add_message(KEY, "user", "Tell me a story.")
    m.add_message(KEY, "assistant", "Once")
    m.save(KEY)
    return m


def grow(m, grown, count):
    for number in range(count):
        grown(m, LONG * (number + 1), number)


def pending(m):
    return m._residents.peek(KEY).pending


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.partition(":")[0])
@pytest.mark.parametrize("grown", GROWING.values(), ids=GROWING)
def test_a_growing_text_takes_ram_in_proportion_to_its_length(grown, url, size, tmp_path):
    """Each piece was kept and written with all of the text before it: 8,000 pieces of a reply took 1.1 GB."""

    def peak(count):
        directory = Path(tempfile.mkdtemp(dir=tmp_path))
        with closing(open_store(url.format(directory))) as store, begun(store) as m:
            tracemalloc.start()
            try:
                grow(m, grown, count)
                assert len(pending(m)) <= 20
                m.save(KEY)
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak(10)
    count = size.of(150, 300, 300)
    quarter, whole = peak(count), peak(4 * count)
    assert whole < 8 * quarter  # 16 times as much, if it were the square
    assert whole < 40 * 4 * count * len(LONG)


class Counting(Files):
    """Files that count the bytes that are written to them."""

    written = 0

    def write(self, fd, buffers):
        count = super().write(fd, buffers)
        self.written += count
        return count


@pytest.mark.parametrize("grown", GROWING.values(), ids=GROWING)
@pytest.mark.parametrize("kind", [SnapshotStore, LogStore])
def test_a_growing_text_is_written_in_proportion_to_its_length(kind, grown, tmp_path):
    """At most the last two states of each text are written; a record of 72 KB of text had 288 MB."""
    with closing(kind(tmp_path, files=Counting)) as store, begun(store) as m:
        before = store._files.written
        grow(m, grown, 300)
        shown = m.get(KEY)
        m.save(KEY)
        assert store._files.written - before < 5 * 300 * len(LONG)
        again = store.load(KEY)
    assert facts(again) == facts(attrs.evolve(shown, revision=again.revision))


@pytest.mark.parametrize("grown", GROWING.values(), ids=GROWING)
def test_a_later_piece_is_as_much_work_as_an_earlier_one(grown):
    with begun(MemoryStore()) as m:
        first = calls(lambda: grow(m, grown, 300))
        rest = calls(lambda: [grown(m, LONG * number, number) for number in range(300, 900)])
    assert rest < 2.5 * first


@pytest.mark.parametrize("budget", [None, 10**9], ids=["unbounded", "bounded"])
def test_a_key_of_the_metadata_is_as_much_work_as_it_is_itself(budget, monkeypatch):
    """All keys were compared and weighed for each."""
    weighed = []
    monkeypatch.setattr(
        "session_manager.manager.cache.eviction.getsizeof", lambda value: weighed.append(value) or sys.getsizeof(value)
    )
    with SessionManager(MemoryStore(), max_resident_bytes=budget) as m:
        m.add_message(KEY, "user", "Tell me a story.")
        m.update_metadata(KEY, {f"key {number}": number for number in range(1000)})
        weighed.clear()
        assert calls(lambda: m.update_metadata(KEY, {"key 999": "another"})) < 200
        assert calls(lambda: m.update_metadata(KEY, {}, removed=["key 998"])) < 200
        assert len(weighed) < 40
        assert budget is None or m._residents._budget.size == measure(m.get(KEY))


def test_edits_of_many_messages_in_turn_are_thinned_out_in_one_pass_each():
    """A search for an earlier edit of the same message would look at all others each time."""

    def work(count):
        made = [
            change for number in range(6) for place in range(count) for change in edits(str(number), position=place)
        ]
        return calls(lambda: thinned(made))

    assert work(400) < 2.5 * work(200)


# What is being written

growths = st.lists(st.sampled_from([*GROWING]), min_size=1, max_size=40)


@given(growths, growths)
def test_changes_that_a_write_carries_stay_until_it_lands(before, after):
    """Frozen changes are a prefix of the pending ones, whatever is called during the write."""
    with begun(store := MemoryStore()) as m:
        for number, name in enumerate(before):
            GROWING[name](m, f"before {number}", number)
        entry = m._residents.peek(KEY)
        commit = entry.thinned().commit("token")
        entry = entry.thinned().writing(commit)
        m._residents.put(KEY, entry)
        for number, name in enumerate(after):
            GROWING[name](m, f"after {number}", number)
        entry = m._residents.peek(KEY)
        assert tuple(entry.pending[: len(commit.changes)]) == commit.changes
        landed, failed = entry.landed(commit), entry.not_landed()
        assert facts(fold(commit.session, landed.pending)) == facts(landed.session)
        assert facts(fold(entry.durable, failed.thinned().pending)) == facts(entry.session)
        m._residents.put(KEY, failed)
        m.save(KEY)
        assert facts(store.load(KEY)) == facts(m.get(KEY))
