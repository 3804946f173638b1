"""Log format 1, byte for byte. The files in ``golden`` must load for ever; never write them anew."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message, Session, UnsupportedFormatError
from session_manager.codec.changes import change_of
from session_manager.codec.json import DecodeError
from session_manager.model.changes import (
    Append,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
    digest,
    fold,
)
from session_manager.model.session import MAX_REFS
from session_manager.stores.log.format import SUFFIX, encode_first, key_in, next_fingerprint, state_at_end
from session_manager.stores.log.replay import _decode_record, decode
from tests.golden.sessions import AT, SESSIONS, TICK
from tests.support.laws import examples
from tests.support.log_lines import first_line, record
from tests.support.log_saves import chains, change_over
from tests.support.places import GOLDEN
from tests.support.strategies import (
    CANARY,
    facts,
    held_text,
    sessions,
)

LATER = AT + timedelta(minutes=1)


def file_of(session: Session, saves) -> tuple[bytes, list[Session]]:
    """A log of a session and the changes of each save after it, and the sessions that it was."""
    states, data = [session], first_line(session)
    for changes in saves:
        after = fold(states[-1], changes)._with(revision=states[-1].revision + 1)
        data += record(after, changes)
        states.append(after)
    return data, states


def forged(line: dict, state: dict) -> bytes:
    """A line with right checksums: what the docstring of the format says, in code."""
    head = json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    text = json.dumps(state, separators=(",", ":"), ensure_ascii=False).encode()
    head += b',\t"state":%b,"state_crc32":"%08x"' % (text, zlib.crc32(text))
    return head + b',"crc32":"%08x"}\n' % zlib.crc32(head)


def said(text="more", **fields):
    return Message("user", text, created_at=LATER, **fields)


START = attrs.evolve(SESSIONS["plain"], refs=("update-0",), summary="Greetings.", metadata={"tier": 1})

SAVES = [
    [Append(at=LATER, messages=(said("lone \ud800", ref="r", metadata={"é": [1.0]}), said("漢")))],
    [Append(at=LATER, messages=(said(),), turn="update-1", guard=START.generation), SetSummary(at=LATER, text=CANARY)],
    [Edit(at=LATER, position=2, message=said("edited")), Remove(at=LATER, position=3)],
    [Truncate(at=LATER + TICK, start=1, spare=(0, 1)), Truncate(at=LATER + TICK, start=1)],
    [UpdateMetadata(at=LATER, items={"tier": None, "\n": [2**64]}, removed=("a",))],
    [Replace(at=LATER, messages=(said("a"), said("b")), spare=(4, 5))],
    [Clear(at=LATER, generation="ff", spare=(5, 6)), Append(at=LATER, messages=(said(CANARY),))],
    [UpdateMetadata(at=LATER, items={"large": "x" * 1100})],
]

ALL = [*SAVES]
_data, _states = file_of(START, SAVES)
_last = _states[-1]
ALL.append([Summarize(at=LATER, summary="folded", start=0, stop=6, digest=digest(_last, 0, 6))])

WHOLE, STATES = file_of(START, ALL)


def test_the_golden_log_loads_for_ever():
    log = decode((GOLDEN / f"all{SUFFIX}").read_bytes(), "path")
    assert facts(log.session) == facts(STATES[-1])
    assert log.torn is None


def test_saves_are_written_as_the_same_bytes_for_ever():
    assert (GOLDEN / f"all{SUFFIX}").read_bytes() == WHOLE


@pytest.mark.parametrize("name", SESSIONS)
def test_a_golden_first_line_is_read_and_written_for_ever(name):
    data = (GOLDEN / f"{name}{SUFFIX}").read_bytes()
    assert facts(decode(data, "path").session) == facts(SESSIONS[name])
    assert first_line(SESSIONS[name]) == data


def test_a_log_of_a_later_version_loads_without_what_is_unknown():
    log = decode((GOLDEN / f"unknown_fields{SUFFIX}").read_bytes(), "path")
    assert facts(log.session) == facts(file_of(SESSIONS["plain"], SAVES[:1])[1][-1])


def test_every_golden_log_is_looked_at_here():
    names = {path.name for path in GOLDEN.glob(f"*{SUFFIX}")}
    assert names == {f"{name}{SUFFIX}" for name in ["all", "unknown_fields", *SESSIONS]}


def test_the_layout_is_the_one_that_the_docstring_draws():
    first, second, rest = b"".join(WHOLE.splitlines(keepends=True)[:2]).split(b"\n")
    assert rest == b""
    for line in (first, second):
        assert line.count(b"\t") == 1
        tail = line.partition(b",\t")[2]
        document = json.loads(line)
        assert list(document)[-3:] == ["state", "state_crc32", "crc32"]
        state = tail[len(b'"state":') : tail.index(b',"state_crc32"')]
        assert document["state_crc32"] == f"{zlib.crc32(state):08x}"
        covered = line[: line.rindex(b',"crc32"')]
        assert document["crc32"] == f"{zlib.crc32(covered):08x}"
    assert list(json.loads(first))[:6] == ["format", "key", "refs", "summary", "metadata", "messages"]
    assert list(json.loads(second))[:1] == ["changes"]
    fields = "generation revision created updated last_message_at start end count has_summary metadata"
    assert list(json.loads(second)["state"]) == fields.split()


@examples(7)
@given(sessions())
def test_any_session_comes_back_exactly_from_its_first_line(session):
    encoded = encode_first(session)
    data = b"".join(encoded.buffers)
    log = decode(data, "path")
    assert facts(log.session) == facts(session)
    assert (log.fingerprint, log.torn) == (encoded.fingerprint, None)
    assert data.count(b"\n") == data.count(b"\t") == 1
    assert encoded.size == len(data)
    assert key_in(data, "path") == session.key
    end = state_at_end(data)
    assert (end.generation, end.revision, end.start, end.end) == (
        session.generation,
        session.revision,
        session.start,
        session.end,
    )
    assert (end.count, end.has_summary) == (len(session.messages), bool(session.summary))
    assert (end.created, end.updated, end.last_message_at) == (
        session.created,
        session.updated,
        session.last_message_at,
    )


# Changes


def told(change) -> str:
    """All that a change holds."""
    fields = {name: getattr(change, name) for name in attrs.fields_dict(type(change)) if not name.startswith("_")}
    for name in ("messages", "message"):
        if name in fields:
            several = fields[name] if name == "messages" else (fields[name],)
            fields[name] = [facts(one._placed(None, None)) for one in several]
    return repr((type(change), fields, getattr(change, "items", None)))


@examples(7)
@given(st.data())
def test_any_change_comes_back_exactly(data):
    change = data.draw(change_over(data.draw(sessions(max_messages=2))))
    line = record(START, [change])
    assert told(change_of(_decode_record(line).changes[0])) == told(change)


@examples(7)
@given(chains())
def test_any_chain_of_saves_comes_back_exactly(chain):
    session, saves = chain
    data, states = file_of(session, saves)
    log = decode(data, "path")
    assert facts(log.session) == facts(states[-1])
    fingerprint = 0
    for line in data.splitlines(keepends=True):
        fingerprint = next_fingerprint(line, fingerprint)
    assert fingerprint == log.fingerprint


def test_refs_of_turns_come_back_also_when_the_session_has_forgotten_some():
    """Turns are gathered without a session for each: a ref that is one of the last 256 counts once, an older one again."""
    start, number = SESSIONS["plain"], MAX_REFS + 40
    turns = [f"u:{one}" for one in range(number)]
    again = ["u:0", f"u:{number - 1}", "u:0", "u:1", f"u:{number - 2}"]
    saves = [
        [Append(at=LATER, messages=(Message("user", turn, created_at=AT),), turn=turn, guard=start.generation)]
        for turn in [*turns, *again]
    ]
    saves.insert(number, [Append(at=LATER, turn="without messages")])
    data, states = file_of(start, saves)
    assert facts(decode(data, "path").session) == facts(states[-1])
    assert states[-1].refs[-3:] == ("without messages", "u:0", "u:1")


# Damage


def outcome(data: bytes) -> str:
    """What became of reading damaged bytes: the facts of a session, or the error's class, which shows no text."""
    failure = None
    try:
        log = decode(data, "path")
    except (DecodeError, UnsupportedFormatError) as error:
        failure = error
    if failure is None:
        assert log.torn is None or 0 < log.torn < len(data)
        return f"{log.torn} {facts(log.session)}"
    assert CANARY not in held_text(failure)
    assert not isinstance(failure, DecodeError) or 0 <= failure.offset <= len(data)
    return type(failure).__name__


SMALL, SMALL_STATES = file_of(SESSIONS["plain"], [SAVES[0], SAVES[1], [SetSummary(at=LATER, text="end")]])


def ends(data):
    """Where each line ends."""
    return [number + 1 for number, byte in enumerate(data) if byte == 10]


def test_a_log_that_is_cut_off_anywhere_is_the_one_of_its_whole_lines():
    for stop in range(len(SMALL)):
        whole = [end for end in ends(SMALL) if end <= stop]
        if not whole:
            assert outcome(SMALL[:stop]) == "DecodeError"
            continue
        torn = None if whole[-1] == stop else whole[-1]
        assert outcome(SMALL[:stop]) == f"{torn} {facts(SMALL_STATES[len(whole) - 1])}"


def test_a_line_feed_that_is_lost_takes_no_acknowledged_record_with_it():
    for end in ends(SMALL):
        for other in (b"", b" ", b"\x00", b"\x0b", b"\r"):
            data = SMALL[: end - 1] + other + SMALL[end:]
            torn = f"{ends(SMALL)[-2]} {facts(SMALL_STATES[-2])}"
            cut_short = end == len(SMALL) and other in (b"", b"\x00")  # a power cut leaves that of a save, too
            assert outcome(data) == (torn if cut_short else "DecodeError")


def test_random_tails_are_torn_or_damage_and_never_data(size):
    chance = random.Random(5)
    torn = f"{len(SMALL)} {facts(SMALL_STATES[-1])}"
    alphabet = b'{}[]":,\\ \t\x00\xff0a'
    for _ in range(size.of(800, 3000, 30_000)):
        tail = bytes(chance.choices(alphabet, k=chance.randrange(1, 40)))
        tail = chance.choice([tail, bytes(len(tail)), chance.randbytes(len(tail))])
        ending = chance.choice([b"", b"\n"])
        found = outcome(SMALL + tail + ending)
        assert found in (torn, "DecodeError")
        assert found == torn or b"\n" in tail or ending


def test_every_line_that_is_lost_doubled_or_moved_is_noticed():
    lines = WHOLE.splitlines(keepends=True)
    good = {facts(state) for state in STATES}
    for number, line in enumerate(lines[:-1]):
        others = lines[:number] + lines[number + 1 :]
        assert outcome(b"".join(others)) == "DecodeError"
        for place in range(len(lines)):
            moved = outcome(b"".join([*others[:place], line, *others[place:]]))
            assert (moved == "DecodeError") == (place != number)
            assert outcome(b"".join([*lines[:place], line, *lines[place:]])) == "DecodeError"
    assert outcome(b"".join(lines[:-1])).removeprefix("None ") in good


def test_an_unparsable_line_before_another_is_damage():
    lines = SMALL.splitlines(keepends=True)
    for number in range(len(lines) - 1):
        cut = [*lines[:number], lines[number][:-9] + b"\n", *lines[number + 1 :]]
        assert outcome(b"".join(cut)) == "DecodeError"
    assert outcome(SMALL + b"{\n{") == "DecodeError"
    assert outcome(SMALL + b"\n\n") == "DecodeError"
    assert outcome(SMALL + b"{}\n") == "DecodeError"


def test_blocks_that_were_never_written_are_noticed_or_torn_and_never_data():
    states = {f"{end} {facts(state)}" for end, state in zip(ends(SMALL), SMALL_STATES, strict=True)}
    last = ends(SMALL)[-2]
    for start in range(0, len(SMALL), 64):
        for size in (64, 512, len(SMALL)):
            zeroed = SMALL[:start] + bytes(len(SMALL[start : start + size])) + SMALL[start + size :]
            found = outcome(zeroed)
            reaches_the_last_line = start + size > last
            assert found == "DecodeError" or (reaches_the_last_line and found in states)


@pytest.mark.parametrize("data", [b"", b"\n", b"{}\n", b"null", bytes(4096), b"\xff" * 100, b"SQLite format 3\0"])
def test_what_is_no_log_is_damaged(data):
    assert outcome(data) == "DecodeError"
    with pytest.raises(DecodeError):
        key_in(data, "path")
    assert state_at_end(data) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_damage_and_nothing_worse(data):
    assert outcome(data) == outcome(b'{"format":"session_manager-log/1"' + data) == "DecodeError"
    state_at_end(data)
    state_at_end(b',\t"state":' + data + b"\n")


@pytest.mark.parametrize("number", ["0", "2", "10", "999999999", "01"])
@pytest.mark.parametrize("rest", [",", "", "}\n", ',"key":5', "\x00" * 50], ids=range(5))
def test_another_format_is_judged_first_whatever_else_is_in_the_file(number, rest):
    data = (f'{{"format":"session_manager-log/{number}"' + rest).encode()
    for read in (decode, key_in):
        with pytest.raises(UnsupportedFormatError) as caught:
            read(data, "path")
        assert (caught.value.found, caught.value.supported) == (
            f"session_manager-log/{number}",
            "session_manager-log/1",
        )


# Bytes with right checksums

STATE = {
    "generation": "9f",
    "revision": 1,
    "created": "2026-01-02T03:04:05Z",
    "updated": "2026-01-02T03:04:05Z",
    "last_message_at": None,
    "start": 0,
    "end": 0,
    "count": 0,
    "has_summary": False,
    "metadata": {},
}
FIRST = {"format": "session_manager-log/1", "key": "k", "refs": [], "summary": CANARY, "metadata": {}, "messages": []}
GOOD = forged(FIRST, STATE)
NEW = {"created_at": "2026-01-02T03:04:05Z", "message": {"role": "user", "content": CANARY}}


def appended(new=NEW, *, state=None, **fields):
    change = {"change": "append", "at": "2026-01-02T03:04:05Z", "messages": [new], **fields}
    return forged({"changes": [change]}, {**STATE, "revision": 2, "end": 1, "count": 1, **(state or {})})


def deep(levels):
    value = CANARY
    for _ in range(levels):
        value = [value]
    return value


HOSTILE = {
    "a change of another kind": forged({"changes": [{"change": "other", "at": "2026-01-02T03:04:05Z"}]}, STATE),
    "a change without a kind": forged({"changes": [{"at": "2026-01-02T03:04:05Z"}]}, STATE),
    "no changes": forged({"more": 1}, {**STATE, "revision": 2}),
    "a gap in the revisions": appended(state={"revision": 3}),
    "a revision twice": appended(state={"revision": 1}),
    "another generation": appended(state={"generation": "9e"}),
    "another end": appended(state={"end": 2}),
    "another count": appended(state={"count": 0}),
    "another start": appended(state={"start": 1}),
    "a naive time of a message": appended({**NEW, "created_at": "2026-01-02T03:04:05"}),
    "a naive time": appended(at="2026-01-02T03:04:05"),
    "a naive time of a summary": forged(
        {"changes": [{"change": "set_summary", "at": "2026-01-02T03:04:05", "text": ""}]}, {**STATE, "revision": 2}
    ),
    "a message without a role": appended({**NEW, "message": {"content": CANARY}}),
    "a message with an empty role": appended({**NEW, "message": {"role": "", "type": "x"}}),
    "a message of 201 levels": appended({**NEW, "message": {"role": "x", "a": deep(200)}}),
    "a message of 900 levels": appended({**NEW, "message": {"role": "x", "a": deep(900)}}),
    "notes of 201 levels": appended({**NEW, "metadata": {"a": deep(200)}}),
    "metadata of 201 levels": forged(
        {"changes": [{"change": "update_metadata", "at": "2026-01-02T03:04:05Z", "items": {"a": deep(200)}}]},
        {**STATE, "revision": 2},
    ),
    "a message of a text": appended({**NEW, "message": CANARY}),
    "a turn without a role": appended({**NEW, "message": {}}, turn="t"),
    "a first line again": GOOD,
}


def test_the_hostile_records_are_good_but_for_what_is_wrong_with_them():
    assert decode(GOOD, "path").session.summary == CANARY
    log = decode(GOOD + appended(), "path")
    assert [message.content for message in log.session.messages] == [CANARY]


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_records_that_do_not_follow_are_damage_at_their_place(line):
    """Their checksums are right."""
    assert outcome(GOOD + line) == "DecodeError"
    with pytest.raises(DecodeError) as caught:
        decode(GOOD + line, "path")
    assert caught.value.offset == len(GOOD)


@pytest.mark.parametrize(
    "line",
    [
        forged({**FIRST, "metadata": {"a": deep(200)}}, STATE),
        forged(FIRST, {**STATE, "revision": 0}),
        forged(FIRST, {**STATE, "end": -1}),
        forged(FIRST, {**STATE, "count": 1, "end": 1}),
        forged(FIRST, {**STATE, "created": "2026-01-02T03:04:05"}),
        forged({**FIRST, "messages": [NEW]}, STATE),
        forged({**FIRST, "messages": [{**NEW, "position": 0, "message": {}}]}, {**STATE, "count": 1, "end": 1}),
        forged({"format": "session_manager-log/1"}, STATE),
    ],
    ids=range(8),
)
def test_first_lines_with_right_checksums_that_are_no_session_are_damage(line):
    assert outcome(line) == "DecodeError"


def test_the_end_of_a_file_tells_its_state_or_nothing():
    states = [state_at_end(WHOLE[:end]) for end in ends(WHOLE)]
    assert [state.revision for state in states] == [state.revision for state in STATES]
    assert [state.metadata is None for state in states] == [False] * (len(STATES) - 2) + [True, True]
    torn = WHOLE + b'{"changes":['
    assert state_at_end(torn).revision == STATES[-1].revision
    assert state_at_end(WHOLE[-40:]) is None
    last = ends(WHOLE)[-2]
    for place in range(WHOLE.rindex(b"\t"), len(WHOLE) - 22):
        damaged = bytearray(WHOLE[last:])
        damaged[place - last] ^= 4
        assert state_at_end(bytes(damaged)) is None


def test_millions_of_lines_that_are_none_take_no_memory():
    """A file of eight megabytes of line feeds took more than a gigabyte to be called damaged."""
    data = SMALL + b"\n" * 8_000_000
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as raised:
            decode(data, "path")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert (raised.value.offset, raised.value.reason) == (len(SMALL), "a line is damaged")


def test_a_repr_shows_nothing_of_a_session():
    line = record(STATES[2], ALL[1])
    parts = [_decode_record(line), *_decode_record(line).changes, encode_first(STATES[2]), state_at_end(WHOLE)]
    assert not any(CANARY in repr(part) for part in parts)
