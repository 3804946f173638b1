"""Items in sessions: taken by every call that takes a message, and kept by every storage."""

from __future__ import annotations

from contextlib import closing

import pytest

from session_manager import AsyncSessionManager, InvalidMessageError, Item, Message, SessionManager, open_store
from session_manager.stores import copy
from tests.support.strategies import facts

KEY = "k"
VOTE = {"event": "vote", "for": {"dish": "pizza", "at": None}, "weights": [1, 1.0, True]}
#: An object as files have an item; given by a user, it is one of theirs.
WRITTEN = {"type": "session_manager.item", "item": {"foo": 1}}
KINDS = ["snapshot", "log", "sqlite"]
kinds = pytest.mark.parametrize("kind", KINDS)


def shown(m, key=KEY):
    return [(type(one), one.to_dict()) for one in m.get_history(key)]


def opened(kind, path, **options):
    return SessionManager(f"{kind}:{path / 'chats'}{'.db' * (kind == 'sqlite')}", **options)


CALLS = {
    "add": lambda m, *given: m.add(KEY, *given),
    "set_history": lambda m, *given: m.set_history(KEY, given),
    "turn.add": lambda m, *given: in_turn(m, lambda turn: turn.add(*given)),
    "turn.replace_history": lambda m, *given: in_turn(m, lambda turn: turn.replace_history(given)),
    "update_last": lambda m, *given: [m.add_message(KEY, "user") and m.update_last(KEY, one) for one in given],
    "update_message": lambda m, *given: [
        m.update_message(KEY, m.add_message(KEY, "user").position, one) for one in given
    ],
    "turn.edit": lambda m, *given: [
        in_turn(m, lambda turn, one=one: turn.add_message("user", ref="r") and turn.edit("r", one)) for one in given
    ],
}


def in_turn(m, call):
    with m.turn(KEY) as turn:
        call(turn)


@kinds
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_that_takes_a_message_takes_an_item(kind, call, tmp_path):
    """In RAM, saved, and read by another manager: the same items, exactly."""
    given = [Item(VOTE, metadata={"a": 1}), {"role": "user", "content": "hi"}, WRITTEN, Item({}), Item({"role": "x"})]
    expected = [
        (Item, VOTE),
        (Message, {"role": "user", "content": "hi"}),
        (Item, WRITTEN),
        (Item, {}),
        (Item, {"role": "x"}),
    ]
    with opened(kind, tmp_path) as m:
        m.get_or_create(KEY)
        call(m, *given)
        assert shown(m) == expected
        before = m.get(KEY)
        m.save(KEY)
    with opened(kind, tmp_path) as m:
        assert shown(m) == expected
        assert list(map(facts, m.get_history(KEY))) == list(map(facts, before.messages))
        assert repr(m.get_history(KEY)[0].to_dict()) == repr(VOTE)


@pytest.mark.anyio
async def test_the_async_manager_takes_items():
    async with AsyncSessionManager() as m:
        await m.add(KEY, Item(VOTE))
        async with m.turn(KEY) as turn:
            turn.add(Item(WRITTEN, ref="r"))
            await turn.edit("r", Item({"role": "x"}))
        await m.update_message(KEY, 0, Item({}))
        history = await m.get_history(KEY)
        assert [(type(one), one.to_dict(), one.ref) for one in history] == [
            (Item, {}, None),
            (Item, {"role": "x"}, "r"),
        ]


@kinds
def test_an_item_is_counted_listed_and_found_by_its_ref_and_place(kind, tmp_path):
    with opened(kind, tmp_path) as m:
        m.add(KEY, Message("user", "hi"), Item(VOTE, ref="poll:7"))
        m.save(KEY)
        (info,) = m.list_sessions()
        assert (info.count, info.last_message_at) == (2, m.get_history(KEY)[1].created_at)
        assert m.contains_ref(KEY, "poll:7")
        assert m.get_message(KEY, "poll:7") == m.get_message(KEY, 1) == m.get_history(KEY, limit=1)[0] == Item(VOTE)
        assert m.get_history(KEY, after=0) == [Item(VOTE)]
        for saved in (False, True):
            (hit,) = m.search("PIZZA")
            assert (hit.role, hit.position, "**pizza**" in hit.snippet) == (None, 1, True)
            assert m.search("session_manager") == []
            if not saved:
                m.save(KEY)
        assert m.remove_message(KEY, "poll:7") == Item(VOTE)


@kinds
def test_archived_copied_and_forked_items_are_the_same(kind, tmp_path):
    with opened(kind, tmp_path, archive=True) as m:
        m.add(KEY, Item(VOTE, ref="a"), Message.from_dict(WRITTEN), Item({"b": 1}))
        m.truncate_history(KEY, 1)
        m.fork(KEY, "fork")
        m.compact(KEY)
    with opened(kind, tmp_path, archive=True) as m:
        archived = [(type(one), one.to_dict(), one.ref) for one in m.get_archive(KEY)]
        assert archived == [(Item, VOTE, "a"), (Item, WRITTEN, None)]
        assert shown(m, "fork") == shown(m) == [(Item, {"b": 1})]
        before = facts(m.get(KEY))
    for other in KINDS:
        target = f"{other}:{tmp_path / other}"
        with closing(opened_store(kind, tmp_path)) as source, closing(open_store(target)) as store:
            assert set(copy(source, store).copied) == {KEY, "fork"}
        with SessionManager(target, archive=True) as m:
            assert facts(m.get(KEY)) == before
            assert [(type(one), one.to_dict(), one.ref) for one in m.get_archive(KEY)] == archived


def opened_store(kind, path):
    return open_store(f"{kind}:{path / 'chats'}{'.db' * (kind == 'sqlite')}")


def test_a_summarizer_is_given_the_items_among_the_messages():
    """A message that a summary takes the place of was given to the summarizer, whatever it is."""
    seen = []
    with SessionManager() as m:
        for number in range(3):
            m.add(KEY, Message("user", f"{number}"), Item({"cost": number}), Message("assistant", "ok"))
        done = m.summarize(KEY, lambda previous, messages: seen.extend(messages) or "short", keep_last=3)
        assert done.applied
        assert done.count == len(seen) == 6
        assert [one.to_dict() for one in seen if isinstance(one, Item)] == [{"cost": 0}, {"cost": 1}]


def test_an_object_without_a_role_is_refused_and_the_hint_names_item():
    with SessionManager() as m:
        for call in CALLS.values():
            with pytest.raises(InvalidMessageError, match=r"Item\(object\)"):
                call(m, {"foo": 1})
        assert not [one for one in m.get_history(KEY) if isinstance(one, Item)]


@pytest.mark.parametrize("whole", [Item({"foo": 1}), Message("user", "hi"), {"role": "user", "content": "hi"}])
def test_a_whole_message_given_to_add_message_is_refused_with_a_hint(whole):
    with SessionManager() as m:
        with pytest.raises(InvalidMessageError, match=r"give it to add\(\)"):
            m.add_message(KEY, whole)
        with m.turn(KEY) as turn, pytest.raises(InvalidMessageError, match=r"give it to add\(\)"):
            turn.add_message(whole)
        assert KEY not in m
