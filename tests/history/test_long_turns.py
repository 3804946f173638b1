"""A turn that is too long is cut inside: its question stays, and what stays is what every provider takes."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_manager import AsyncSessionManager, Message, SessionManager, SummaryPolicy
from session_manager.history import head, problems, safe_start
from session_manager.history.cuts import Cut, cut
from session_manager.history.shapes.items import is_reasoning
from session_manager.stores.memory import MemoryStore
from tests.support.evicting import evict
from tests.support.histories import _ROUNDS, SHAPES, conversations, damaged, refusals
from tests.support.laws import examples

KEY = "telegram:42"
ASKED = {"role": "user", "content": "Book a trip."}
SYSTEM = {"role": "system", "content": "Be brief."}


def chat_round(name):
    call = {"id": name, "type": "function", "function": {"name": "now", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": "12:00"},
    ]


def blocks_round(name):
    return [
        {"role": "assistant", "content": [{"type": "tool_use", "id": name, "name": "now", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": name, "content": "12:00"}]},
    ]


def items_round(name):
    return [
        {"type": "function_call", "call_id": name, "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": name, "output": "12:00"},
    ]


def reasoning_round(name):
    return [{"type": "reasoning", "id": f"rs_{name}", "summary": []}, *items_round(name)]


def function_round(_):
    return [
        {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "{}"}},
        {"role": "function", "name": "now", "content": "12:00"},
    ]


def said_round(name):
    return [{"role": "assistant", "content": f"Still at it: {name}."}]


KINDS = [chat_round, blocks_round, items_round, reasoning_round, function_round, said_round]


def long_turn(kind, rounds, *before):
    return [*before, ASKED, *(message for number in range(rounds) for message in kind(f"call_{number}"))]


def history(objects):
    return [Message.from_dict(value)._placed(number, None) for number, value in enumerate(objects)]


def without(objects, made):
    return [*objects[: made.start], *objects[made.stop :]]


# Where it is cut


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_turn_is_cut_before_one_of_its_rounds(kind):
    said, size = long_turn(kind, 300), len(kind("x"))
    made = cut(history(said), 10 * size)
    assert made == Cut(1, len(said) - 10 * size, in_turn=True)
    left = without(said, made)
    assert left == [ASKED, *said[-10 * size :]]
    assert refusals(left) == []
    assert problems(history(left)) == []
    assert cut(history(left), 10 * size) is None


@pytest.mark.parametrize("kind", KINDS)
def test_leading_system_messages_stay_with_the_question(kind):
    said = long_turn(kind, 20, SYSTEM)
    made = cut(history(said), 6)
    assert (made.start, made.in_turn) == (2, True)
    assert without(said, made)[:2] == [SYSTEM, ASKED]


def test_the_rest_of_a_turn_that_lost_its_question_is_cut():
    said = long_turn(chat_round, 20)[1:]
    assert cut(history(said), 4) == Cut(0, 36, in_turn=True)


def test_whole_turns_go_first():
    said = [ASKED, {"role": "assistant", "content": "Yes."}, *long_turn(chat_round, 20)]
    made = cut(history(said), 4)
    assert made == Cut(0, 2)
    assert cut(history(without(said, made)), 4) == Cut(1, 37, in_turn=True)


def test_a_call_is_never_parted_from_its_result():
    """Not by parallel calls, by a user who writes while a tool runs, nor by a result that comes late."""
    names = ["a", "b", "c"]
    made, told = zip(*(chat_round(name) for name in names), strict=True)
    parallel = {**made[0], "tool_calls": [one["tool_calls"][0] for one in made]}
    assert cut(history([ASKED, *chat_round("x"), parallel, *told]), 2) == Cut(1, 3, in_turn=True)
    wrote = [ASKED, *chat_round("x"), made[0], {"role": "user", "content": "Quick!"}, told[0], *chat_round("y")]
    assert cut(history(wrote), 4) == Cut(1, 3, in_turn=True)
    assert cut(history([ASKED, made[0], made[1], told[0], told[1]]), 1) is None


def test_reasoning_is_never_parted_from_what_it_led_to():
    """OpenAI refuses a call without the reasoning item that came before it, and such an item without its follower."""
    parallel = [*reasoning_round("a"), *items_round("b")]
    said = [ASKED, *reasoning_round("x"), *parallel, *reasoning_round("y")]
    assert cut(history(said), 4) == Cut(1, 4, in_turn=True)
    assert cut(history(said), 3) == Cut(1, 9, in_turn=True)
    assert cut(history([ASKED, *parallel]), 2) is None


rounds = st.sampled_from(SHAPES)


@st.composite
def long_turns(draw):
    """One turn of many rounds, of one shape or of several, with what else may be in it."""
    shape, said = draw(rounds), [*draw(st.sampled_from([[], [SYSTEM]])), *draw(st.sampled_from([[], [ASKED]]))]
    for number in range(draw(st.integers(1, 12))):
        shape = draw(st.sampled_from([shape, shape, shape, draw(rounds)]))
        names = [f"call_{number}.{one}" for one in range(1 if shape == "function" else draw(st.integers(1, 3)))]
        made = _ROUNDS[shape](draw, names)
        if draw(st.integers(0, 5)) == 0:
            made.insert(1, {"role": "user", "content": "Quick!"})
        said += made
        if draw(st.integers(0, 5)) == 0:
            said.append({"role": "assistant", "content": "Nearly there."})
    return said


@examples(20, many=300)
@given(long_turns() | conversations() | damaged(), st.integers(0, 12))
@example([ASKED, *reasoning_round("a"), *items_round("b")], 2)
def test_a_cut_makes_no_new_problem(objects, keep_last):
    given_ = history(objects)
    made = cut(given_, keep_last)
    if made is None:
        return
    assert len(objects) - made.stop >= keep_last
    assert made.start < made.stop
    gone, left = given_[made.start : made.stop], without(given_, made)
    before = {problem.position for problem in problems(given_)}
    assert {problem.position for problem in problems(left)} <= before
    if not refusals(objects):
        assert refusals(without(objects, made)) == []
    if made.in_turn:
        assert made.start == head(given_) or given_[made.start - 1].role == "user"
        assert not is_reasoning(gone[-1]._object)
        assert not any(is_reasoning(one._object) for one in gone) or is_reasoning(given_[made.stop]._object)
    else:
        assert made.stop == safe_start(given_, keep_last)


@given(
    st.sampled_from([chat_round, blocks_round, items_round, reasoning_round]), st.integers(1, 30), st.integers(1, 60)
)
def test_as_much_goes_as_may(kind, count, keep_last):
    said, size = long_turn(kind, count), len(kind("x"))
    made = cut(history(said), keep_last)
    kept = -(-keep_last // size) * size
    assert made == (Cut(1, len(said) - kept, in_turn=True) if kept < len(said) - 1 else None)


# What managers make of it


def talk(m, kind, count):
    m.add(KEY, *long_turn(kind, count))


def objects_of(m):
    return [one.to_dict() for one in m.get_history(KEY)]


def check_context(m):
    context = m.get_context(KEY)
    assert problems([Message.from_dict(value) for value in context]) == []
    assert refusals(context) == []


@pytest.fixture(params=["memory", "snapshot", "log", "sqlite"])
def m(request, tmp_path):
    storage = MemoryStore() if request.param == "memory" else f"{request.param}:{tmp_path / 'chats'}"
    with SessionManager(storage, archive=True) as manager:
        yield manager


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_with_300_calls_is_summarized(kind):
    """`summarize` returned `None` for ever: no turn ended."""
    with SessionManager() as m:
        talk(m, kind, 300)
        said, given_ = objects_of(m), []
        done = m.summarize(KEY, lambda _, messages: given_.extend(messages) or "the first calls", keep_last=20)
        assert done.applied
        assert done.cut_turn
        left = objects_of(m)
        assert left[0] == ASKED
        assert [one.to_dict() for one in given_] == said[1 : len(said) - len(left) + 1]
        assert left[1:] == said[len(said) - len(left) + 1 :]
        assert 20 <= len(left) <= 23
        check_context(m)
        m.add(KEY, *long_turn(kind, 50)[1:])
        assert m.summarize(KEY, lambda before, _: f"{before} and more", keep_last=20).cut_turn
        assert objects_of(m)[0] == ASKED
        check_context(m)


@pytest.mark.parametrize("kind", KINDS)
def test_one_request_with_300_calls_is_truncated(m, kind):
    """`truncate_history` dropped nothing with `whole_turns`: no turn ended."""
    talk(m, kind, 300)
    said = objects_of(m)
    dropped = m.truncate_history(KEY, 20, whole_turns=True)
    left = objects_of(m)
    assert left == [ASKED, *said[dropped + 1 :]]
    assert dropped == len(said) - len(left)
    check_context(m)
    assert m.truncate_history(KEY, 20, whole_turns=True) == 0
    m.save(KEY)
    evict(m, KEY)
    assert objects_of(m) == left
    assert [one.to_dict() for one in m.get_archive(KEY)] == said[1 : dropped + 1]
    assert m.verify(KEY) == []


def test_a_summary_of_whole_turns_cuts_none(m):
    m.add(KEY, ASKED, {"role": "assistant", "content": "Yes."}, ASKED)
    assert m.summarize(KEY, lambda *_: "summary", keep_last=1).cut_turn is False


def test_a_summary_of_a_turn_that_changed_meanwhile_says_so(m):
    talk(m, chat_round, 20)

    def clears(*_):
        m.clear(KEY)
        return "too late"

    done = m.summarize(KEY, clears, keep_last=4)
    assert (done.applied, done.cut_turn, done.count) == (False, True, 36)


def test_a_policy_counts_the_question(m):
    talk(m, chat_round, 5)
    assert m.summarize(KEY, pytest.fail, keep_last=4, when=SummaryPolicy(messages=12)) is None
    assert m.summarize(KEY, lambda *_: "summary", keep_last=4, when=SummaryPolicy(messages=11)).applied


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "unsaved"])
def test_a_cut_turn_meets_another_writer(saved):
    """The question stays, and so does what the other one has written."""
    store = MemoryStore()
    with SessionManager(store) as one, SessionManager(store) as other:
        one.add_message(KEY, "user", "before")
        one.save(KEY)
        talk(one, chat_round, 20)
        if saved:
            one.save(KEY)
        assert one.truncate_history(KEY, 4, whole_turns=True) == 1
        one.save(KEY) if saved else None
        assert one.truncate_history(KEY, 4, whole_turns=True) == 36
        other.add_message(KEY, "assistant", "from the other")
        other.save(KEY)
        one.save(KEY)
        left = objects_of(other)
        assert left.count(ASKED) == 1
        assert [value["content"] for value in left].count("from the other") == 1
        assert [value for value in left if value.get("tool_call_id") in ("call_18", "call_19")]
        if saved:
            assert len(left) == 6
        assert refusals(other.get_context(KEY)) == []


@pytest.mark.anyio
async def test_tasks_get_the_same(tmp_path):
    async with AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as m:
        await m.add(KEY, *long_turn(blocks_round, 60))

        async def summarizer(_, messages):
            return f"{len(messages)} messages"

        done = await m.summarize(KEY, summarizer, keep_last=10)
        assert (done.summary, done.cut_turn) == ("110 messages", True)
        assert await m.truncate_history(KEY, 4, whole_turns=True) == 6
        assert refusals(await m.get_context(KEY)) == []


def test_a_cut_turn_survives_a_log_that_is_read_again(tmp_path):
    with closing(SessionManager(f"log:{tmp_path}")) as m:
        talk(m, reasoning_round, 10)
        m.save(KEY)
        m.truncate_history(KEY, 6, whole_turns=True)
        m.add_message(KEY, "assistant", "Done.")
        left = objects_of(m)
    with SessionManager(f"log:{tmp_path}") as m:
        assert objects_of(m) == left
        assert left[0] == ASKED
