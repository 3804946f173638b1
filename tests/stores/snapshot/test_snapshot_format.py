"""Snapshot format 1, byte for byte. The files in ``golden`` must load for ever; never write them anew."""

from __future__ import annotations

import json
import operator
import zlib
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from session_manager import CorruptSessionError, Message, Session, SessionManager, UnsupportedFormatError
from session_manager.codec.json import DecodeError
from session_manager.model.json_value import MAX_LEVELS
from session_manager.model.view import View
from session_manager.stores.snapshot.format import SUFFIX, Lines, decode, decode_header, encode
from tests.golden.sessions import AT, SESSIONS
from tests.support.laws import examples
from tests.support.places import GOLDEN
from tests.support.strategies import CANARY, facts, held_text, sessions, written


def lines_of(session: Session) -> Lines:
    return Lines().appended(session.messages, session.end)


def file_of(session: Session) -> bytes:
    return b"".join(encode(session, lines_of(session)))


def forged(header: bytes, lines: list[bytes]) -> bytes:
    """A file of these lines with right checksums: what the docstring of the format says, in code."""
    head, body = header[:-1] + b",", b",\n".join(lines)
    head += b'"header_crc32":"%08x","messages":[\n' % zlib.crc32(head)
    return head + body + (b"\n" if lines else b"") + b'],"crc32":"%08x"}\n' % zlib.crc32(body)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# The golden files


@pytest.mark.parametrize("name", SESSIONS)
def test_a_golden_file_loads_for_ever(name):
    session, (_, crc) = decode((GOLDEN / f"{name}{SUFFIX}").read_bytes(), "path")
    assert facts(session) == facts(SESSIONS[name])
    assert crc == lines_of(SESSIONS[name]).crc


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_written_as_the_same_bytes_for_ever(name):
    assert file_of(SESSIONS[name]) == (GOLDEN / f"{name}{SUFFIX}").read_bytes()


def test_a_file_of_a_later_version_loads_without_what_is_unknown():
    session, _ = decode((GOLDEN / f"unknown_fields{SUFFIX}").read_bytes(), "path")
    assert facts(session) == facts(SESSIONS["plain"])


def test_every_golden_file_is_looked_at_here():
    assert {path.name for path in GOLDEN.glob(f"*{SUFFIX}")} == {
        f"{name}{SUFFIX}" for name in [*SESSIONS, "unknown_fields"]
    }


PLAIN = (
    '{"format":"session_manager/1","key":"telegram:42","generation":"9f86d081884c7d659a2feaa0c55ad015","revision":1,'
    '"created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05.000006Z",'
    '"last_message_at":"2026-01-02T03:04:05.000006Z","start":0,"end":2,"refs":[],"summary":"","metadata":{},"count":2,'
    '"header_crc32":"93840aa1","messages":[\n'
    '{"position":0,"created_at":"2026-01-02T03:04:05Z","message":{"role":"user","content":"Hello!"}},\n'
    '{"position":1,"created_at":"2026-01-02T03:04:05.000006Z","message":{"role":"assistant","content":"Hi, Ada."}}\n'
    '],"crc32":"dde98bcd"}\n'
)
NO_MESSAGES = (
    '{"format":"session_manager/1","key":"Slack_C01","generation":"00000000000000000000000000000000","revision":12,'
    '"created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05Z",'
    '"last_message_at":null,"start":7,"end":7,"refs":[],"summary":"They said hello.","metadata":{},"count":0,'
    '"header_crc32":"d4a0379f","messages":[\n'
    '],"crc32":"00000000"}\n'
)


def test_the_layout_is_the_one_that_the_docstring_draws():
    assert file_of(SESSIONS["plain"]).decode() == PLAIN
    assert file_of(SESSIONS["no_messages"]).decode() == NO_MESSAGES


FIELDS = ["format", "key", "generation", "revision", "created", "updated", "last_message_at", "start", "end"]
FIELDS += ["refs", "summary", "metadata", "count", "header_crc32", "messages", "crc32"]


@examples(7)
@given(sessions())
def test_any_session_comes_back_exactly_from_the_layout_of_the_docstring(session):
    data = file_of(session)
    again, (_, crc) = decode(data, "path")
    assert facts(again) == facts(session)
    assert data.count(b"\n") == 2 + len(session.messages)
    head, *lines, foot, rest = data.split(b"\n")
    body = b"\n".join(lines)
    header = head[: head.rindex(b'"header_crc32"')]
    assert forged(header[:-1] + b"}", body.split(b",\n") if lines else []) == data
    assert crc == zlib.crc32(body)
    assert (foot, rest) == (b'],"crc32":"%08x"}' % crc, b"")
    state = decode_header(head + b"\n", "path")
    assert (state.key, state.revision, state.count) == (session.key, session.revision, len(session.messages))
    whole = json.loads(data)
    assert list(whole) == FIELDS
    assert repr([line["message"] for line in whole["messages"]]) == repr([written(one) for one in session.messages])
    assert repr([whole["summary"], whole["metadata"]]) == repr([session.summary, session.metadata])


# Damage


def outcome(data: bytes) -> str:
    """What became of reading damaged bytes: the facts of a session, or the error's class, which shows no text."""
    failure = None
    try:
        session, _ = decode(data, "path")
    except (DecodeError, UnsupportedFormatError) as error:
        failure = error
    if failure is None:
        return facts(session)
    assert CANARY not in held_text(failure)
    assert not isinstance(failure, DecodeError) or 0 <= failure.offset <= len(data)
    return type(failure).__name__


@pytest.mark.parametrize("name", SESSIONS)
def test_every_byte_that_is_cut_off_or_added_is_noticed(name):
    data = (GOLDEN / f"{name}{SUFFIX}").read_bytes()
    for stop in range(len(data)):
        assert outcome(data[:stop]) == "DecodeError", stop
    for more in (b"\n", b" ", b"\x00", b"}", data, data[-23:]):
        assert outcome(data + more) == "DecodeError", more
        assert outcome(more + data) == "DecodeError", more


def test_every_line_that_is_lost_doubled_or_moved_is_noticed():
    lines = (GOLDEN / f"nasty{SUFFIX}").read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    for number, line in enumerate(lines):
        others = lines[:number] + lines[number + 1 :]
        assert outcome(b"".join(others)) == "DecodeError"
        for place in range(len(lines)):
            assert (outcome(b"".join([*others[:place], line, *others[place:]])) == "DecodeError") == (place != number)
            assert outcome(b"".join([*lines[:place], line, *lines[place:]])) == "DecodeError"


def test_blocks_that_were_never_written_are_noticed():
    data = (GOLDEN / f"nasty{SUFFIX}").read_bytes()
    for start in range(0, len(data), 64):
        for size in (64, 512, len(data)):
            zeroed = data[:start] + bytes(len(data[start : start + size])) + data[start + size :]
            assert outcome(zeroed) == "DecodeError"


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}", b"{}\n", b"null", b"[]", bytes(4096), b"\xff" * 100, b"SQLite format 3\0"]
)
def test_what_is_no_snapshot_is_damaged(data):
    assert outcome(data) == "DecodeError"


@given(st.binary(max_size=200))
def test_any_bytes_are_damage_and_nothing_worse(data):
    for damaged in (data, b'{"format":"session_manager/1"' + data, PLAIN.encode() + data[:1], forged(data, [data])):
        assert outcome(damaged) in ("DecodeError", facts(SESSIONS["plain"]))


# The format's number


@pytest.mark.parametrize("number", ["0", "2", "10", "999999999", "01"])
@pytest.mark.parametrize("rest", [",", "", "}\n", ',"key":5', PLAIN[29:], "\x00" * 50], ids=range(6))
def test_another_format_is_judged_first_whatever_else_is_in_the_file(number, rest):
    data = (f'{{"format":"session_manager/{number}"' + rest).encode()
    for read in (decode, decode_header):
        with pytest.raises(UnsupportedFormatError) as caught:
            read(data, "path")
        assert (caught.value.path, caught.value.found) == ("path", f"session_manager/{number}")
        assert caught.value.supported == "session_manager/1"


@pytest.mark.parametrize(
    "start",
    [
        '{"format":"session_manager/"',
        '{"format":"session_manager/x"',
        '{"format":"other/2"',
        '{"format": "session_manager/2"',
        '{"key":"k","format":"session_manager/2"',
        '{"format":"session_manager/1234567890"',
        '{"format":1',
    ],
)
def test_what_names_no_format_of_ours_is_damaged(start):
    assert outcome(start.encode() + PLAIN[29:].encode()) == "DecodeError"


# Bytes with right checksums

HEADER = {
    "format": "session_manager/1",
    "key": "telegram:42",
    "generation": "9f",
    "revision": 1,
    "created": "2026-01-02T03:04:05Z",
    "updated": "2026-01-02T03:04:05Z",
    "last_message_at": "2026-01-02T03:04:05Z",
    "start": 0,
    "end": 2,
    "refs": [],
    "summary": CANARY,
    "metadata": {CANARY: [CANARY]},
    "count": 2,
}


def line(position: int, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": CANARY}
    return {"position": position, "created_at": "2026-01-02T03:04:05Z", "message": message, **fields}


TWO = [compact(line(0)), compact(line(1))]


def deep(levels: int) -> Any:
    value: Any = CANARY
    for _ in range(levels):
        value = [value]
    return value


def header(**fields: Any) -> bytes:
    return compact({**HEADER, **fields})


HOSTILE = {
    "header of another type": forged(b'["session_manager/1"]', TWO),
    "header of nothing but the format": forged(b'{"format":"session_manager/1"}', []),
    "header with two ends": forged(header() + b"}", TWO),
    "header that is cut off": forged(header()[:-20], TWO),
    "header with NaN": forged(header().replace(b'"revision":1', b'"revision":NaN'), TWO),
    "header with 900 levels": forged(header(metadata={"a": deep(900)}), TWO),
    "header with one level too many": forged(header(metadata={"a": deep(MAX_LEVELS)}), TWO),
    "header with 50,000 levels": forged(
        header().replace(b'"refs":[]', b'"refs":' + b"[" * 50_000 + b"]" * 50_000), TWO
    ),
    "header with a huge int": forged(header().replace(b'"revision":1', b'"revision":' + b"1" * 5000), TWO),
    "header that is not UTF-8": forged(header().replace(b'"9f"', b'"\xff"'), TWO),
    "header with a summary of another type": forged(header(summary=[CANARY]), TWO),
    "header with a text in the place of metadata": forged(header(metadata=CANARY), TWO),
    "revision 0": forged(header(revision=0), TWO),
    "one message too few": forged(header(), TWO[:1]),
    "no message": forged(header(), []),
    "one message too many": forged(header(count=1, end=9), TWO),
    "messages although there are none": forged(header(count=0, start=2), TWO),
    "messages before the start": forged(header(start=1, end=3), TWO),
    "messages behind the end": forged(header(), [compact(line(0)), compact(line(2))]),
    "positions that fall": forged(header(start=1, end=9), TWO[::-1]),
    "a position twice": forged(header(), [TWO[0], TWO[0]]),
    "an empty line": forged(header(), [TWO[0], b""]),
    "a line of another type": forged(header(), [TWO[0], b'"' + CANARY.encode() + b'"']),
    "a line that closes the list": forged(header(), [TWO[0] + b'],"more":[' + TWO[1]]),
    "a message with NaN": forged(header(), [TWO[0], TWO[1].replace(b"1", b"NaN", 1)]),
    "a message of one level too many": forged(
        header(), [TWO[0], compact(line(1, message={"role": "x", "a": deep(200)}))]
    ),
    "a message of 900 levels": forged(header(), [TWO[0], compact(line(1, message={"role": "x", "a": deep(900)}))]),
    "a message of a text": forged(header(), [TWO[0], compact(line(1, message=CANARY))]),
    "a message without a role": forged(header(), [TWO[0], compact(line(1, message={"content": CANARY}))]),
    "metadata of a text": forged(header(), [TWO[0], compact(line(1, metadata=CANARY))]),
    "metadata of 900 levels": forged(header(), [TWO[0], compact(line(1, metadata={"a": deep(900)}))]),
    "a ref of a list": forged(header(), [TWO[0], compact(line(1, ref=[CANARY]))]),
    "a naive time": forged(header(), [TWO[0], compact(line(1, created_at="2026-01-02T03:04:05"))]),
}


def test_the_hostile_files_are_good_but_for_what_is_wrong_with_them():
    session, _ = decode(forged(header(), TWO), "path")
    assert [message.content for message in session.messages] == [CANARY, CANARY]


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_bytes_with_right_checksums_that_are_no_session_are_damaged(data):
    assert outcome(data) == "DecodeError"


def test_the_place_of_a_bad_line_is_where_it_starts_in_the_file():
    for number, reason in [(0, "a message without a role or type"), (1, "positions do not increase")]:
        lines = [*TWO[:number], compact(line(0, message={} if number == 0 else {"role": "user"})), *TWO[number + 1 :]]
        data = forged(header(), lines)
        with pytest.raises(DecodeError) as caught:
            decode(data, "path")
        assert (caught.value.offset, caught.value.reason) == (data.rindex(lines[number]), reason)


@pytest.mark.parametrize(
    "data",
    [
        forged(header().replace(b'"key"', b'"key":"other","key"'), TWO),
        forged(header(), [TWO[0], TWO[1].replace(b'"role"', b'"role":"other","role"')]),
        forged(header(), [TWO[0], TWO[1].replace(b'"position"', b'"position":77,"position"')]),
    ],
    ids=["header", "message", "line"],
)
def test_the_last_of_two_equal_fields_counts_as_in_the_standard_library(data):
    session, _ = decode(data, "path")
    assert session.key == json.loads(data)["key"] == "telegram:42"
    assert [message.to_dict() for message in session.messages] == [
        one["message"] for one in json.loads(data)["messages"]
    ]
    assert [message.position for message in session.messages] == [0, 1]


# Lines


def sized(position: int, size: int) -> Message:
    return Message("user", "x" * size, created_at=AT)._placed(position, None)


@examples(7)
@given(st.lists(st.tuples(st.sampled_from([1, 100, 30_000, 65_000, 200_000]), st.booleans()), max_size=8))
def test_appending_in_pieces_is_appending_at_once(parts):
    messages = [sized(2 * number, size) for number, (size, _) in enumerate(parts)]
    session = attrs.evolve(SESSIONS["plain"], messages=View(messages), end=2 * len(parts))
    steps, batch = [Lines()], []
    for message, (_, ends) in zip(messages, parts, strict=True):
        batch.append(message)
        if ends:
            steps.append(steps[-1].appended(batch, message.position + 1))
            batch = []
    steps.append(steps[-1].appended(batch, session.end))
    pieces, whole = steps[-1], lines_of(session)
    bodies = [b"".join([*step.segments, step.tail]) for step in steps]
    assert bodies[-1] == b"".join([*whole.segments, whole.tail])
    assert [(step.crc, step.size) for step in steps] == [(zlib.crc32(body), len(body)) for body in bodies]
    assert (pieces.crc, pieces.size, pieces.end) == (whole.crc, whole.size, session.end)
    assert b"".join(encode(session, pieces)) == file_of(session)
    assert facts(decode(file_of(session), "path")[0]) == facts(session)
    for one, other in pairwise(steps):
        assert all(map(operator.is_, one.segments, other.segments))
        assert len(one.tail) < 64 * 1024
        assert min(map(len, one.segments), default=64 * 1024) >= 64 * 1024


def test_a_sealed_segment_is_never_copied_again():
    lines = Lines()
    for number in range(300):
        lines = lines.appended([sized(number, 1000)], number + 1)
    session = attrs.evolve(SESSIONS["plain"], messages=View(sized(number, 1000) for number in range(300)), end=300)
    assert len(lines.segments) == 4
    assert {id(segment) for segment in lines.segments} <= {id(piece) for piece in encode(session, lines)}


def test_appending_nothing_changes_no_byte():
    lines = lines_of(SESSIONS["plain"])
    for same in (lines.appended([], 9), lines.appended(View(), 9)):
        assert replace(same, end=lines.end) == lines
        assert same.end == 9
    assert Lines().appended([], 0) == Lines()


def test_a_repr_shows_nothing_of_the_lines():
    assert CANARY not in repr(lines_of(SESSIONS["nasty"]))


# In a directory


def test_a_damaged_file_is_an_error_that_names_its_path_and_place(tmp_path):
    """The error shows nothing of the file's text."""
    path = tmp_path / f"telegram~3a42{SUFFIX}"
    good = forged(header(), TWO)
    path.write_bytes(good.replace(b"user", b"uzer"))
    with SessionManager(tmp_path) as m:
        with pytest.raises(CorruptSessionError) as caught:
            m.get("telegram:42")
        assert caught.value.path == str(path)
        assert good.index(b"\n") < caught.value.offset <= len(good)
        assert CANARY not in held_text(caught.value)
        assert "telegram:42" in m
        assert [str(info.error) for info in m.list_sessions()] == ["None"]  # the header is whole
    assert path.read_bytes() == good.replace(b"user", b"uzer")
