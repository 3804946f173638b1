"""The state machine's turns that do more than add: edits, removals, undo, replaced turns, expected versions."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import rule

from session_manager.errors import ConflictError, TurnNotFoundError
from session_manager.history.cuts import behind_reasoning
from session_manager.history.last_turns import last_turns
from session_manager.manager.draft import LAST
from session_manager.manager.turn import Turn
from session_manager.model.changes import (
    Append,
    Change,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Truncate,
    UpdateMetadata,
    apply,
)
from session_manager.model.message import Message
from session_manager.model.session import ANY, Anything, Session, Version
from session_manager.testing.comparison import message_difference
from session_manager.testing.known import known_key
from session_manager.testing.machine_base import MachineBase
from session_manager.testing.strategies import message_objects, nasty_text, refs

__all__ = ["TurnMachine"]

_keys = known_key()
_VERBS = ["add", "edit", "remove", "truncate", "replace", "summary", "metadata"]
_steps = st.lists(st.tuples(st.sampled_from(_VERBS), st.integers(0, 6)), max_size=4)


@attrs.define(eq=False)
class _Draft:
    """What a turn means: the model of `session_manager.manager.draft.Draft`."""

    session: Session
    changes: list[Change] = attrs.field(factory=list)
    added: list[Message] = attrs.field(factory=list)

    def did(self, change: Change) -> None:
        """Note a change, if it has an effect."""
        after = apply(self.session, change)
        if after is not self.session:
            self.session = after
            self.changes.append(change)


class TurnMachine(MachineBase):
    """The rules of turns that change a session besides adding to it."""

    @rule(
        key=_keys,
        ref=st.none() | refs(),
        steps=_steps,
        value=message_objects(),
        text=nasty_text(),
        expected=st.sampled_from(["any", "right", "stale"]),
    )
    def changing_turn(
        self,
        key: str,
        ref: str | None,
        steps: list[tuple[str, int]],
        value: dict[str, Any],
        text: str,
        expected: str,
    ) -> None:
        """Take a `SessionManager.turn` that edits, removes and sets, on condition."""
        known = self.known.get(key)
        if known is not None and ref in known.session.refs:
            return
        version: Version | Anything | None = ANY
        if expected == "stale":
            version = Version("stale", 1)
        elif expected == "right":
            self.manager.save(key)
            self.expected(key).saved()
            version = self.expected(key).durable.version if known is not None else None
        if expected != "any" and known is not None:
            known.saved()
        draft = _Draft(self.expected(key).session)
        try:
            with self.manager.turn(key, ref, expected=version) as turn:
                for verb, number in steps:
                    self._step(turn, draft, verb, number, value, text)
        except ConflictError:
            assert expected == "stale"
            return
        assert expected != "stale"
        if known is not None and any(verb != "add" for verb, _ in steps):
            known.saved()
        assert turn.applied == bool(draft.changes or draft.added or ref is not None)
        self._applied(key, turn, [*draft.changes], draft.added, ref)

    def _applied(self, key: str, turn: Turn, changes: list[Change], added: list[Message], ref: str | None) -> None:
        """Note what a turn that was applied has done, as one revision."""
        if not turn.applied:
            assert turn.version is None
            return
        for change in changes:
            self.did(key, change)
        self.did(key, Append(at=self.clock(), messages=tuple(added), turn=ref))
        self.expected(key).saved()
        assert not self.manager._residents.is_stored or turn.version == self.expected(key).durable.version

    def _step(self, turn: Turn, draft: _Draft, verb: str, number: int, value: dict[str, Any], text: str) -> None:
        """Make one call of a turn."""
        at = self.clock()
        target = draft.session.at(number)
        match verb:
            case "add":
                turn.add_message("user", text)
                draft.added.append(Message("user", text, created_at=at))
            case "edit":
                assert turn.edit(number, value) == (target is not None)
                if target is not None:
                    message = Message.from_dict(
                        value, created_at=target.created_at, metadata=target.metadata, ref=target.ref
                    )
                    draft.did(Edit(at=at, position=number, message=message))
            case "remove":
                removed = turn.remove(number)
                assert (removed is None) == (target is None)
                assert removed is None or target is None or not message_difference(removed, target)
                draft.did(Remove(at=at, position=number))
            case "truncate":
                self._truncate(turn, draft, number)
            case "replace":
                turn.replace_history([value])
                draft.did(Replace(at=at, messages=(Message.from_dict(value, created_at=at),)))
                draft.added = []
            case "summary":
                turn.set_summary(text)
                draft.did(SetSummary(at=at, text=text))
            case _:
                turn.set_metadata({"a": number}, ["b"])
                draft.did(UpdateMetadata(at=at, items={"a": number}, removed=("b",)))

    def _truncate(self, turn: Turn, draft: _Draft, keep_last: int) -> None:
        messages, added = draft.session.messages, len(draft.added)
        drop = behind_reasoning(messages, max(len(messages) - max(keep_last - added, 0), 0))
        assert turn.truncate(keep_last) == drop + max(added - keep_last, 0)
        if drop:
            start = messages[drop].position if drop < len(messages) else draft.session.end
            assert start is not None
            draft.did(Truncate(at=self.clock(), start=start))
        draft.added = draft.added[max(added - keep_last, 0) :]

    @rule(key=_keys, turns=st.integers(1, 3), ref=st.none() | refs())
    def undo(self, key: str, turns: int, ref: str | None) -> None:
        """Call `SessionManager.undo`."""
        known = self.known.get(key)
        removed = self.manager.undo(key, turns, ref=ref)
        if known is None:
            assert removed == []
            if ref is not None:
                self.did(key, Append(at=self.clock(), turn=ref))
                self.expected(key).saved()
            return
        if ref is not None and ref in known.session.refs:
            assert removed == []
            self._settled(key, ref)
            return
        known.saved()
        gone = known.messages[last_turns(known.messages, turns) :]
        assert [one.position for one in removed] == [one.position for one in gone]
        self._take_away(key, gone)
        if ref is not None:
            self.did(key, Append(at=self.clock(), turn=ref))
        known.saved()

    @rule(key=_keys, ref=st.none() | refs(), text=nasty_text(), adds=st.booleans())
    def regenerate(self, key: str, ref: str | None, text: str, adds: bool) -> None:  # noqa: FBT001 - drawn
        """Take a `SessionManager.turn` in the place of the last one."""
        known = self.known.get(key)
        if known is not None and ref in known.session.refs:
            return
        try:
            with self.manager.turn(key, ref, replacing=LAST) as turn:
                if adds:
                    turn.add_message("user", text)
        except TurnNotFoundError:
            assert known is None or last_turns(known.messages, 1) == len(known.messages)
            if known is not None:
                known.saved()
            return
        assert known is not None
        known.saved()
        gone = known.messages[last_turns(known.messages, 1) :]
        assert [one.position for one in turn.replaced] == [one.position for one in gone]
        if adds:
            self._take_away(key, gone)
        added = [Message("user", text, created_at=self.clock())] if adds else []
        assert turn.applied == adds
        self._applied(key, turn, [], added, ref)

    @rule(key=_keys, position=st.integers(0, 8))
    def remove_message(self, key: str, position: int) -> None:
        """Call `SessionManager.remove_message`."""
        target = self.expected(key).session.at(position)
        removed = self.manager.remove_message(key, position)
        assert (removed is None) == (target is None)
        if target is not None:
            self.did(key, Remove(at=self.clock(), position=position))

    @rule(
        key=_keys, expected=st.sampled_from(["right", "stale", "none"]), value=message_objects(), deletes=st.booleans()
    )
    def compare_and_set(self, key: str, expected: str, value: dict[str, Any], deletes: bool) -> None:  # noqa: FBT001 - drawn
        """Call `SessionManager.set_history` or `SessionManager.delete` with an expected version."""
        known = self.known.get(key)
        if known is not None:
            self.manager.save(key)
            known.saved()
        right = None if known is None else known.durable.version
        version = {"right": right, "stale": Version("stale", 1), "none": None}[expected]
        try:
            if deletes:
                assert self.manager.delete(key, expected=version) == (known is not None)
            else:
                assert self.manager.set_history(key, [value], expected=version)
        except ConflictError:
            assert version != right
            return
        assert version == right
        self._touched.add(key)
        if deletes:
            self.known.pop(key, None)
        else:
            self.did(key, Replace(at=self.clock(), messages=(Message.from_dict(value, created_at=self.clock()),)))
            self.expected(key).saved()

    def _take_away(self, key: str, messages: list[Message]) -> None:
        for message in reversed(messages):
            assert message.position is not None
            self.did(key, Remove(at=self.clock(), position=message.position))

    def _settled(self, key: str, ref: str) -> None:
        """Note that a turn looks at a session that has answered its delivery: durably, or it is saved first."""
        known = self.known[key]
        if self.manager._residents.is_stored and ref not in known.durable.refs:
            known.saved()
