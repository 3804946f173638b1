"""A turn changes a session besides adding to it: on condition, all of it or nothing."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest

from session_manager import (
    ANY,
    LAST,
    ConflictError,
    InvalidMessageError,
    Message,
    SaveFailedError,
    SaveOutcomeUnknownError,
    SessionManager,
    TurnNotFoundError,
    Version,
)
from session_manager.stores.memory import MemoryStore

KEY = "telegram:42"
KINDS = ["memory:", "snapshot:chats", "log:chats", "sqlite:chats.db"]
DISK = OSError(28, "No space left on device")


class Troubled(MemoryStore):
    """Fails the next write, or does not acknowledge it."""

    shared = True
    trouble = None
    deaf = False

    def write(self, commit):
        trouble, self.trouble = self.trouble, None
        if not isinstance(trouble, SaveFailedError) and trouble != "lost":
            super().write(commit)
        if trouble is not None:
            raise SaveOutcomeUnknownError(KEY, "no answer") if isinstance(trouble, str) else trouble

    def landed(self, commit):
        if self.deaf:
            raise SaveFailedError(KEY, "no answer")
        return super().landed(commit)


@pytest.fixture(params=KINDS)
def m(request, tmp_path, monkeypatch):
    """A manager on each kind of storage."""
    monkeypatch.chdir(tmp_path)
    with SessionManager(request.param, archive=True) as one:
        yield one


@pytest.fixture
def store():
    return Troubled()


@pytest.fixture
def pair(tmp_path):
    """Two managers, as two processes have them, on one database."""
    url = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(url) as one, SessionManager(url) as other:
        yield one, other


def texts(m, key=KEY):
    return [message.content for message in m.get_history(key)]


def say(m, *turns, key=KEY, number=0):
    """Take turns with refs ``t0``, ``t1``, …: each a question and an answer."""
    for offset, text in enumerate(turns):
        with m.turn(key, f"t{number + offset}") as turn:
            turn.add_message("user", text)
            turn.add_message("assistant", text.upper())


@contextmanager
def refused(error, m, *arguments, **options):
    """Take a turn whose block is left by an error."""
    with pytest.raises(error), m.turn(*arguments, **options) as turn:
        yield turn


# Every verb


def test_a_turn_carries_every_change_in_one_revision(m):
    say(m, "a", "b", "c")
    before = m.get(KEY).revision
    with m.turn(KEY, "all") as turn:
        assert turn.remove(0).content == "a"
        assert turn.edit(1, {"role": "assistant", "content": "A!"})
        turn.set_summary("so far")
        turn.set_metadata({"model": "x", "old": 1})
        turn.set_metadata({}, removed=["old"])
        turn.add_message("user", "d")
        assert texts(m) == ["a", "A", "b", "B", "c", "C"]
    assert turn.applied
    session = m.get(KEY)
    assert [one.content for one in session.messages] == ["A!", "b", "B", "c", "C", "d"]
    assert (session.summary, dict(session.metadata)) == ("so far", {"model": "x"})
    assert turn.version == session.version
    if not str(m).startswith("<SessionManager memory"):
        assert session.revision == before + 1
        m.reload(KEY)
        assert texts(m) == ["A!", "b", "B", "c", "C", "d"]
    assert session.messages[-1].position == 6


def test_an_exception_takes_every_change_with_it(m):
    """Metadata that a block had set stayed when the turn was refused."""
    say(m, "a")
    with refused(ZeroDivisionError, m, KEY) as turn:
        turn.set_metadata({"a": 1})
        turn.set_summary("no")
        turn.truncate(0)
        turn.replace_history([])
        1 / 0  # noqa: B018
    session = m.get(KEY)
    assert (texts(m), session.summary, dict(session.metadata)) == (["a", "A"], "", {})
    assert turn.version is None


def test_the_context_of_a_turn_shows_its_own_changes(m):
    say(m, "a", "b")
    with m.turn(KEY) as turn:
        turn.truncate(2)
        turn.add_message("user", "c")
        assert [one["content"] for one in turn.get_context()] == ["b", "B", "c"]
        turn.replace_history([{"role": "user", "content": "z"}])
        turn.add_message("assistant", "Z")
        assert [one["content"] for one in turn.get_context()] == ["z", "Z"]
        assert [one["content"] for one in m.get_context(KEY)] == ["a", "A", "b", "B"]
    assert texts(m) == ["z", "Z"]
    assert [one.content for one in m.get_archive(KEY)] == ["a", "A"]


@pytest.mark.parametrize(
    ("keep_last", "left"), [(0, []), (1, ["y"]), (2, ["x", "y"]), (3, ["A", "x", "y"]), (9, ["a", "A", "x", "y"])]
)
def test_truncate_in_a_turn_counts_what_it_adds(m, keep_last, left):
    say(m, "a")
    with m.turn(KEY) as turn:
        turn.add({"role": "user", "content": "x"}, {"role": "user", "content": "y"})
        assert turn.truncate(keep_last) == 4 - len(left)
    assert texts(m) == left


def test_a_turn_edits_and_removes_what_it_adds_by_ref(m):
    with m.turn(KEY) as turn:
        turn.add_message("user", "a", ref="1")
        turn.add_message("user", "b", ref="2")
        assert turn.edit("1", {"role": "user", "content": "a!"})
        assert turn.remove("2").content == "b"
        assert turn.remove("3") is None
        assert not turn.edit(7, {"role": "user", "content": "?"})
    (message,) = m.get_history(KEY)
    assert (message.content, message.ref) == ("a!", "1")


def test_bad_input_in_a_turn_raises_at_the_call_and_changes_nothing(m):
    say(m, "a")
    with m.turn(KEY) as turn:
        for call in (
            lambda: turn.set_metadata({"a": {1}}),
            lambda: turn.set_summary(5),
            lambda: turn.edit(0, {"role": "user", "content": {1}}),
            lambda: turn.replace_history([{"role": "user", "content": object()}]),
        ):
            with pytest.raises(InvalidMessageError):
                call()
        for call in (
            lambda: turn.set_metadata({}, removed="ab"),
            lambda: turn.remove(None),
            lambda: turn.edit(True, {}),
        ):
            with pytest.raises(TypeError):
                call()
        with pytest.raises(ValueError, match="keep_last"):
            turn.truncate(-1)
    assert not turn.applied
    assert texts(m) == ["a", "A"]
    for call in (lambda: turn.remove(0), lambda: turn.truncate(0), lambda: turn.set_summary("x")):
        with pytest.raises(RuntimeError, match="not open"):
            call()


def test_what_others_add_meanwhile_stays_whatever_the_turn_removes(m):
    """`set_history(f(get_history()))` lost what another task added in between."""
    for change in ("truncate", "replace"):
        say(m, "a")
        with m.turn(KEY) as turn:
            if change == "truncate":
                turn.truncate(0)
            else:
                turn.replace_history([Message("user", "new")])
            m.add_message(KEY, "user", "unseen")
            turn.add_message("user", "end")
        assert texts(m) == ["unseen", "end"] if change == "truncate" else ["unseen", "new", "end"]
        m.delete(KEY)


def test_what_others_left_unsaved_is_seen_by_the_first_change(m):
    m.add_message(KEY, "user", "unsaved")
    with m.turn(KEY) as turn:
        turn.replace_history([])
    assert texts(m) == []


def test_a_message_that_others_edit_meanwhile_is_a_conflict(m):
    say(m, "a")
    with refused(ConflictError, m, KEY, keep=False) as turn:
        turn.edit(0, Message("user", "mine"))
        turn.add_message("user", "b")
        m.update_message(KEY, 0, Message("user", "theirs"))
    assert texts(m) == ["theirs", "A"]
    m.save(KEY)


def test_a_message_that_others_remove_meanwhile_is_no_conflict(m):
    say(m, "a")
    with m.turn(KEY) as turn:
        turn.remove(0)
        turn.set_summary("x")
        assert m.remove_message(KEY, 0).content == "a"
    assert turn.applied
    assert texts(m) == ["A"]


@pytest.mark.parametrize("reset", ["clear", "delete"])
def test_a_reset_meanwhile_drops_the_whole_turn(m, reset):
    say(m, "a")
    with m.turn(KEY, "r") as turn:
        turn.set_metadata({"a": 1})
        turn.add_message("user", "b")
        getattr(m, reset)(KEY)
    assert not turn.applied
    assert not turn.done
    assert texts(m) == []
    assert KEY not in m or dict(m.get(KEY).metadata) == {}


def test_a_turn_on_a_missing_session_creates_it_for_any_change(m):
    with m.turn("new") as turn:
        turn.set_metadata({"a": 1})
        assert "new" not in m
        assert turn.remove(0) is None
    assert turn.applied
    assert dict(m.get("new").metadata) == {"a": 1}
    with m.turn("newer") as turn:
        turn.truncate(0)
    assert not turn.applied
    assert "newer" not in m


# On condition


def test_expected_writes_on_that_version_only(m):
    say(m, "a")
    m.save(KEY)
    version = m.get(KEY).version
    with m.turn(KEY, expected=version) as turn:
        turn.add_message("user", "b")
    assert turn.applied
    assert turn.version == m.get(KEY).version != version
    with pytest.raises(ConflictError) as raised, m.turn(KEY, expected=version):
        pass
    assert (raised.value.expected, raised.value.actual) == (version, m.get(KEY).version)
    assert texts(m) == ["a", "A", "b"]
    assert m.save_all() == 0


@pytest.mark.parametrize("call", ["add", "save", "clear", "delete", "metadata"])
def test_expected_is_looked_at_again_when_the_block_is_left(m, call):
    say(m, "a")
    m.save(KEY)
    with refused(ConflictError, m, KEY, "r", expected=m.get(KEY).version) as turn:
        turn.add_message("user", "never")
        if call in ("add", "save"):
            m.add_message(KEY, "user", "meanwhile")
        if call == "save":
            m.save(KEY)
        if call in ("clear", "delete"):
            getattr(m, call)(KEY)
        if call == "metadata":
            m.update_metadata(KEY, {"a": 1})
    assert "never" not in texts(m)
    assert not turn.applied
    m.save_all()
    with m.turn(KEY, "r") as turn:
        assert not turn.done


def test_expected_none_means_that_there_is_no_session(m):
    with m.turn(KEY, expected=None) as turn:
        turn.add_message("user", "a")
    assert turn.applied
    with pytest.raises(ConflictError), m.turn(KEY, expected=None):
        pass
    m.get_or_create("fresh")
    with pytest.raises(ConflictError), m.turn("fresh", expected=None):
        pass
    with refused(ConflictError, m, "late", expected=None) as turn:
        turn.add_message("user", "never")
        m.add_message("late", "user", "meanwhile")
    assert (texts(m), texts(m, "late")) == (["a"], ["meanwhile"])


def test_expected_of_a_missing_session_leaves_none(m):
    with pytest.raises(ConflictError), m.turn(KEY, expected=Version("9f", 3)):
        pass
    with pytest.raises(ConflictError):
        m.set_history(KEY, [], expected=Version("9f", 3))
    with pytest.raises(ConflictError):
        m.delete(KEY, expected=Version("9f", 3))
    assert KEY not in m


@pytest.mark.parametrize("expected", ["9f", 3, True, {"generation": "9f"}])
def test_expected_is_a_version(m, expected):
    for call in (
        lambda: m.turn(KEY, expected=expected),
        lambda: m.set_history(KEY, [], expected=expected),
        lambda: m.delete(KEY, expected=expected),
    ):
        with pytest.raises(TypeError, match="expected must be a Version"):
            call()


def test_a_delivery_that_is_answered_is_done_whatever_is_expected(m):
    say(m, "a")
    with m.turn(KEY, "t0", expected=Version("9f", 99)) as turn:
        assert turn.done


def test_set_history_with_expected_is_durable_or_refused(m):
    assert m.set_history(KEY, [Message("user", "a")], expected=None)
    version = m.get(KEY).version
    assert m.set_history(KEY, [Message("user", "b")], expected=version)
    for stale in (version, None):
        with pytest.raises(ConflictError):
            m.set_history(KEY, [], expected=stale)
    m.reload(KEY)
    assert texts(m) == ["b"]
    m.add_message(KEY, "user", "unsaved")
    with pytest.raises(ConflictError):
        m.set_history(KEY, [], expected=m.get(KEY).version if m.health().dirty else version)
    assert texts(m) == ["b", "unsaved"]


def test_delete_with_expected_is_refused_for_another_version(m):
    say(m, "a")
    version = m.get(KEY).version
    m.add_message(KEY, "user", "newer")
    with pytest.raises(ConflictError):
        m.delete(KEY, expected=version)  # dirty, or another state already
    m.save(KEY)
    with pytest.raises(ConflictError):
        m.delete(KEY, expected=version)
    with pytest.raises(ConflictError):
        m.delete(KEY, expected=None)
    assert texts(m) == ["a", "A", "newer"]
    assert m.delete(KEY, expected=m.get(KEY).version)
    assert not m.delete(KEY, expected=None)
    assert KEY not in m


# Kept, or taken back


@pytest.mark.parametrize("change", [None, "remove", "edit", "metadata"])
def test_a_turn_that_is_not_kept_is_taken_back_by_a_failed_save(store, change):
    """A framework that tried again after a failed save stored its item twice."""
    with SessionManager(store) as m:
        say(m, "a")
        before = m.get(KEY)
        for _ in range(2):
            with refused(SaveFailedError, m, KEY, "r", keep=False) as turn:
                if change == "remove":
                    turn.remove(0)
                elif change == "edit":
                    turn.edit(0, Message("user", "?"))
                elif change == "metadata":
                    turn.set_metadata({"a": 1})
                turn.add_message("user", "b")
                store.trouble = SaveFailedError(KEY, "no space")
            assert m.get(KEY) == before
            assert not m._residents.peek(KEY).dirty
            assert m.health().ok, "nothing is left that could not be saved"
        with m.turn(KEY, "r", keep=False) as turn:
            turn.add_message("user", "b")
        assert turn.applied
        assert texts(m) == ["a", "A", "b"]


def test_a_turn_that_is_kept_stays_and_the_same_ref_stores_it(store):
    with SessionManager(store) as m:
        with refused(SaveFailedError, m, KEY, "r") as turn:
            turn.set_metadata({"a": 1})
            turn.add_message("user", "b")
            store.trouble = SaveFailedError(KEY, "no space")
        assert texts(m) == ["b"]
        with m.turn(KEY, "r") as turn:
            assert turn.done
    assert [one.content for one in store.load(KEY).messages] == ["b"]
    assert dict(store.load(KEY).metadata) == {"a": 1}


def test_a_failed_first_turn_leaves_no_session(store):
    """`key in manager` stayed true."""
    with SessionManager(store) as m:
        for expected in (ANY, None):
            with refused(SaveFailedError, m, KEY, keep=False, expected=expected) as turn:
                turn.add_message("user", "b")
                store.trouble = SaveFailedError(KEY, "no space")
            assert KEY not in m
            assert len(m) == 0
        m.get_or_create(KEY)
        with refused(SaveFailedError, m, KEY, keep=False) as turn:
            turn.add_message("user", "b")
            store.trouble = SaveFailedError(KEY, "no space")
        assert KEY in m or m.save_all() == 0


class Meanwhile(Troubled):
    """Fails the next write, after calls of other threads."""

    call = None

    def write(self, commit):
        call, self.call = self.call, None
        if call is not None:
            call()
            raise SaveFailedError(KEY, "no space")
        super().write(commit)


def test_calls_that_others_make_during_a_failed_save_stay():
    """What they said about the messages of the turn goes with it; the rest is as if it had not been."""
    store = Meanwhile()
    with SessionManager(store) as m:
        say(m, "a")

        def others():
            m.add_message(KEY, "user", "others'")
            m.update_message(KEY, 2, Message("user", "of the turn"))
            m.update_message(KEY, 0, Message("user", "a!!"))
            m.update_message(KEY, 3, Message("user", "theirs"))
            m.update_metadata(KEY, {"b": 2})

        with refused(SaveFailedError, m, KEY, "r", keep=False) as turn:
            turn.edit(0, Message("user", "a!"))
            turn.add_message("user", "b")
            store.call = others
        session = m.get(KEY)
        assert [one.content for one in session.messages] == ["a!!", "A", "theirs"]
        assert [one.position for one in session.messages] == [0, 1, 2]
        assert dict(session.metadata) == {"b": 2}
        assert m.save(KEY)
        assert store.load(KEY) == m.get(KEY)


@pytest.mark.parametrize("trouble", ["lost", "unanswered"])
def test_an_unknown_outcome_is_asked_for_once(store, trouble):
    with SessionManager(store) as m:
        say(m, "a")
        lost = trouble == "lost"
        with refused(SaveFailedError, m, KEY, "r", keep=False) if lost else m.turn(KEY, "r", keep=False) as turn:
            turn.add_message("user", "b")
            store.trouble = trouble
        assert turn.applied == (not lost)
        assert texts(m) == (["a", "A"] if lost else ["a", "A", "b"])
        assert m.save_all() == 0


@pytest.mark.parametrize("trouble", ["lost", "unanswered"])
def test_a_turn_stays_while_its_outcome_cannot_be_told(store, trouble):
    with SessionManager(store) as m:
        say(m, "a")
        store.deaf = True
        with refused(SaveOutcomeUnknownError, m, KEY, "r", keep=False) as turn:
            turn.add_message("user", "b")
            store.trouble = trouble
        assert texts(m) == ["a", "A", "b"]
        store.deaf = False
        m.save(KEY)
        assert [one.content for one in store.load(KEY).messages] == ["a", "A", "b"]


# Undo


def test_undo_removes_the_last_whole_turns(m):
    m.add_message(KEY, "system", "Be brief.")
    say(m, "a", "b", "c")
    assert [one.content for one in m.undo(KEY)] == ["c", "C"]
    assert [one.content for one in m.undo(KEY, 2)] == ["a", "A", "b", "B"]
    assert m.undo(KEY) == []
    assert texts(m) == ["Be brief."]
    assert list(m.get_archive(KEY)) == []
    assert m.save_all() == 0
    assert m.undo("missing") == []
    assert "missing" not in m


def test_undo_takes_one_turn_however_often_it_is_delivered(m):
    """Without a ref of its own, a second delivery of /undo took the turn before, too."""
    say(m, "a", "b")
    assert [one.content for one in m.undo(KEY, ref="undo:1")] == ["b", "B"]
    assert m.undo(KEY, ref="undo:1") == []
    assert texts(m) == ["a", "A"]
    with m.turn(KEY, "t1") as turn:
        assert turn.done
        assert turn.messages == []
    assert m.undo("empty") == []


def test_an_undo_leaves_positions_and_what_others_add(m):
    """`set_history(history[:-n])` renumbered everything: an older delivery was done, with nothing."""
    say(m, "a", "b")
    m.undo(KEY)
    assert [one.position for one in m.get_history(KEY)] == [0, 1]
    with m.turn(KEY, "t0") as turn:
        assert [one.content for one in turn.messages] == ["a", "A"]
    say(m, "c", number=2)
    assert [one.position for one in m.get_history(KEY)] == [0, 1, 4, 5]


def test_undo_takes_a_tool_turn_and_a_turn_of_two_questions_whole(m):
    say(m, "a")
    with m.turn(KEY, "tools") as turn:
        turn.add_message("user", "weather?")
        turn.add_message(
            "assistant", None, tool_calls=[{"id": "1", "type": "function", "function": {"name": "w", "arguments": ""}}]
        )
        turn.add_message("tool", "rain", tool_call_id="1")
        turn.add_message("user", "and tomorrow?")
        turn.add_message("assistant", "Rain.")
    assert len(m.undo(KEY)) == 5
    assert texts(m) == ["a", "A"]


@pytest.mark.parametrize("turns", [0, -1, True, 1.0, "1"])
def test_undo_of_no_turns_is_refused(m, turns):
    with pytest.raises((TypeError, ValueError), match="turns"):
        m.undo(KEY, turns)


def test_two_processes_that_undo_the_same_turn_are_not_stuck(pair):
    """The removal of a message that was gone blocked every later save of the session until `reload`."""
    one, other = pair
    say(one, "a", "b")
    assert texts(other) == texts(one)
    one.remove_last(KEY)
    other.remove_last(KEY)
    other.save(KEY)
    one.save(KEY)
    assert texts(one) == texts(other) == ["a", "A", "b"]


def test_undo_in_two_processes_by_one_delivery_takes_one_turn(pair):
    one, other = pair
    say(one, "a", "b", "c")
    assert [one.content for one in one.undo(KEY, ref="u")] == ["c", "C"]
    assert other.undo(KEY, ref="u") == []
    assert [one.content for one in other.undo(KEY, ref="v")] == ["b", "B"]
    assert texts(one) == ["a", "A"]


def test_clear_takes_a_delivery_once(m):
    say(m, "a")
    assert m.clear(KEY, ref="c") == 2
    say(m, "b", number=1)
    assert m.clear(KEY, ref="c") == 0
    assert texts(m) == ["b", "B"]
    m.save(KEY)
    m.reload(KEY)
    assert m.clear(KEY, ref="c") == 0


# Replacing


def test_replacing_the_last_turn_is_regenerate(m):
    say(m, "a", "b")
    with m.turn(KEY, "again", replacing=LAST) as turn:
        assert [one.content for one in turn.replaced] == ["b", "B"]
        assert [one["content"] for one in turn.get_context()] == ["a", "A"]
        turn.add(turn.replaced[0])
        turn.add_message("assistant", "B2")
        assert texts(m) == ["a", "A", "b", "B"]
    assert turn.applied
    assert texts(m) == ["a", "A", "b", "B2"]
    assert [one.position for one in m.get_history(KEY)] == [0, 1, 4, 5]
    with m.turn(KEY, "again", replacing=LAST) as turn:
        assert turn.done
        assert [one.content for one in turn.messages] == ["b", "B2"]
    with m.turn(KEY, "t1") as turn:
        assert turn.done


def test_replacing_a_turn_takes_all_behind_it(m):
    say(m, "a", "b", "c")
    with m.turn(KEY, "edit:1", replacing="t1") as turn:
        turn.add_message("user", "b!")
    assert texts(m) == ["a", "A", "b!"]


def test_replacing_by_the_ref_of_a_message(m):
    say(m, "a")
    with m.turn(KEY, "delivery") as turn:
        turn.add_message("user", "b", ref="message:7")
        turn.add_message("assistant", "B")
    m.add_message(KEY, "user", "c", ref="message:8")
    m.add_message(KEY, "assistant", "C", ref="message:9")
    with m.turn(KEY, replacing="message:9") as turn:
        assert [one.content for one in turn.replaced] == ["c", "C"]
    with m.turn(KEY, replacing="message:7") as turn:
        assert [one.content for one in turn.replaced] == ["b", "B", "c", "C"]
        turn.add_message("user", "b!")
    assert texts(m) == ["a", "A", "b!"]


def test_a_block_that_adds_nothing_replaces_nothing(m):
    say(m, "a")
    with m.turn(KEY, "again", replacing=LAST) as turn:
        pass
    assert texts(m) == ["a", "A"]
    with refused(ZeroDivisionError, m, KEY, replacing=LAST) as turn:
        turn.add_message("user", "b")
        1 / 0  # noqa: B018
    assert texts(m) == ["a", "A"]


def test_replacing_what_is_not_there_is_refused(m):
    with pytest.raises(TurnNotFoundError), m.turn(KEY, replacing=LAST):
        pass
    say(m, "a")
    with pytest.raises(TurnNotFoundError, match="no turn 'gone'"), m.turn(KEY, replacing="gone"):
        pass
    with pytest.raises(ValueError, match="own ref"):
        m.turn(KEY, "t0", replacing="t0")
    for odd in ("", 5, True):
        with pytest.raises((ValueError, TypeError)):
            m.turn(KEY, replacing=odd)
    with m.turn(KEY) as turn:
        assert turn.replaced == []


def test_a_failed_replacement_is_taken_back(store):
    with SessionManager(store) as m:
        say(m, "a")
        with refused(SaveFailedError, m, KEY, "again", replacing=LAST) as turn:
            turn.add_message("user", "b")
            store.trouble = SaveFailedError(KEY, "no space")
        assert texts(m) == ["a", "A"]
        assert m.save_all() == 0


@pytest.mark.parametrize("how", ["regenerate", "undo", "remove", "edit"])
def test_what_two_replace_is_replaced_by_one(pair, how):
    """Both answers were there, or a question came back that was undone meanwhile."""
    one, other = pair
    say(one, "a")
    assert texts(other) == ["a", "A"]
    with refused(ConflictError, other, KEY, "mine", replacing=LAST) as turn:
        turn.add(turn.replaced[0], {"role": "assistant", "content": "mine"})
        if how == "regenerate":
            with one.turn(KEY, "theirs", replacing=LAST) as theirs:
                theirs.add(theirs.replaced[0], {"role": "assistant", "content": "theirs"})
        elif how == "undo":
            one.undo(KEY)
        elif how == "remove":
            other.remove_message(KEY, 1)
        else:
            one.update_message(KEY, 1, Message("assistant", "edited"))
            one.save(KEY)
    left = {"regenerate": ["a", "theirs"], "undo": [], "remove": ["a"], "edit": ["a", "edited"]}[how]
    assert texts(other) == left
    assert not turn.applied
    other.save_all()
    assert texts(one) == left


def test_a_first_turn_that_another_process_creates_under_is_applied(store):
    """Its generation was read before it was known which one would stand for it: the turn was lost, in silence."""
    with SessionManager(store) as one, SessionManager(store) as other:
        with one.turn(KEY, "r") as turn:
            turn.set_metadata({"a": 1})
            turn.add_message("user", "question")
            one.add_message(KEY, "system", "note")
            other.add_message(KEY, "user", "other")
            other.save(KEY)
        assert turn.applied
        assert texts(one) == texts(other) == ["other", "note", "question"]
        assert dict(other.get(KEY).metadata) == {"a": 1}


def not_kept(m):
    with m.turn(KEY, keep=False) as turn:
        turn.add_message("user", "b")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_any_error_of_a_save_takes_a_turn_back_that_is_not_kept(store, error):
    """Only errors of the library did: after Ctrl-C, a second try stored the item twice."""

    def write(commit):
        raise error

    with SessionManager(store) as m:
        say(m, "a")
        for call in (not_kept, lambda m: m.undo(KEY), lambda m: m.set_history(KEY, [], expected=m.get(KEY).version)):
            store.write = write
            with pytest.raises(error):
                call(m)
            del store.write
            assert texts(m) == ["a", "A"]
            assert m.save_all() == 0


def test_a_session_that_another_thread_saves_while_it_is_created(store):
    """All that expected no session were refused, and an empty one was left."""
    with SessionManager(store) as m:
        created = m._residents.created

        def saved_meanwhile(key, blank, **options):
            entry = created(key, blank, **options)
            m.save_all()
            return entry

        m._residents.created = saved_meanwhile
        assert m.set_history(KEY, [Message("user", "a")], expected=None)
        with m.turn("other", expected=None) as turn:
            turn.add_message("user", "b")
        assert turn.applied
        assert (texts(m), texts(m, "other")) == (["a"], ["b"])


def test_a_command_on_a_missing_session_is_remembered_too(m):
    """The second delivery of a first /reset dropped what was said since."""
    assert m.clear("one", ref="c") == 0
    assert m.undo("two", ref="u") == []
    for key in ("one", "two"):
        say(m, "a", key=key)
    assert m.clear("one", ref="c") == 0
    assert m.undo("two", ref="u") == []
    assert texts(m, "one") == texts(m, "two") == ["a", "A"]


def test_a_replacing_block_that_adds_nothing_but_changes_does_all_of_it(m):
    say(m, "a")
    with m.turn(KEY, "r", replacing=LAST) as turn:
        turn.set_metadata({"n": 1})
    assert (texts(m), dict(m.get(KEY).metadata), turn.applied) == ([], {"n": 1}, True)
    say(m, "b", number=5)
    with m.turn(KEY, "s", replacing=LAST) as turn:
        pass
    assert not turn.applied
    with m.turn(KEY, "s") as turn:
        assert not turn.done


# Single messages


def test_remove_message_by_position_and_by_ref(m):
    m.add_message(KEY, "user", "a")
    m.add_message(KEY, "user", "b", ref="tg:1")
    m.add_message(KEY, "user", "c")
    assert m.remove_message(KEY, "tg:1").content == "b"
    assert m.remove_message(KEY, 0).content == "a"
    assert m.remove_message(KEY, 0) is None
    assert m.remove_message(KEY, "tg:1") is None
    assert m.remove_message("missing", 0) is None
    assert texts(m) == ["c"]
    with pytest.raises(TypeError, match="where"):
        m.remove_message(KEY, True)


# Budget


def test_the_budget_counts_what_a_turn_leaves(tmp_path):
    from session_manager.manager.cache.eviction import measure

    with SessionManager(f"log:{tmp_path / 'chats'}", max_resident_bytes=10**9) as m:
        for number in itertools.count():
            with m.turn(KEY) as turn:
                turn.add_message("user", "x" * 1000)
                if number % 3 == 2:
                    turn.truncate(2)
                    turn.set_metadata({"n": number})
                    turn.set_summary("s" * number)
            if number == 30:
                break
        m.undo(KEY)
        assert abs(m._residents._budget.size - measure(m.get(KEY))) < 200
