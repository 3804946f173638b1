"""The codec of changes: the exact bytes of each kind, and that no kind is without."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import attrs
import pytest

from session_manager import Message
from session_manager.codec.changes import encode_changes
from session_manager.model import changes
from session_manager.model.changes import (
    Append,
    Change,
    Clear,
    Edit,
    Remove,
    Replace,
    SetSummary,
    Summarize,
    Truncate,
    UpdateMetadata,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
PLAIN = Message("user", "a", created_at=AT)
FULL = Message("user", "b", created_at=AT, metadata={"n": 1}, ref="r")
PLAIN_JSON = b'{"created_at":"2026-01-02T03:04:05Z","message":{"role":"user","content":"a"}}'
FULL_JSON = PLAIN_JSON.replace(b'"a"', b'"b"')[:-1] + b',"metadata":{"n":1},"ref":"r"}'

#: Each kind at its largest and at its smallest, and what follows its time in a file.
WRITTEN = [
    (
        Append(at=AT, messages=(PLAIN, FULL), turn="t", guard="g"),
        b"append",
        b',"messages":[%b,%b],"turn":"t","guard":"g"',
    ),
    (Append(at=AT), b"append", b""),
    (Truncate(at=AT, start=7, spare=(3, 9)), b"truncate", b',"start":7,"spare":[3,9]'),
    (Truncate(at=AT, start=0), b"truncate", b',"start":0'),
    (Remove(at=AT, position=7), b"remove", b',"position":7'),
    (Edit(at=AT, position=7, message=FULL), b"edit", b',"position":7,"message":%b'),
    (Replace(at=AT, messages=(PLAIN, FULL), spare=(3, 9)), b"replace", b',"messages":[%b,%b],"spare":[3,9]'),
    (Replace(at=AT), b"replace", b""),
    (Clear(at=AT, generation="g", spare=(3, 9)), b"clear", b',"generation":"g","spare":[3,9]'),
    (Clear(at=AT, generation=""), b"clear", b',"generation":""'),
    (
        Summarize(at=AT, summary="s", start=3, stop=7, digest="d"),
        b"fold",
        b',"summary":"s","start":3,"stop":7,"digest":"d"',
    ),
    (SetSummary(at=AT, text=""), b"set_summary", b',"text":""'),
    (
        UpdateMetadata(at=AT, items={"a": [1]}, removed=("b",), expires_after=timedelta(days=90)),
        b"update_metadata",
        b',"items":{"a":[1]},"removed":["b"],"expires_after":"P90D"',
    ),
    (UpdateMetadata(at=AT, items={"a": 1}), b"update_metadata", b',"items":{"a":1}'),
    (UpdateMetadata(at=AT, expires_after=None), b"update_metadata", b',"expires_after":null'),
    (UpdateMetadata(at=AT, expires_after=timedelta(0, 90.5)), b"update_metadata", b',"expires_after":"PT90.5S"'),
    (UpdateMetadata(at=AT), b"update_metadata", b""),
]


@pytest.mark.parametrize(("change", "tag", "fields"), WRITTEN)
def test_a_change_is_written_in_these_bytes(change, tag, fields):
    messages = {0: (), 1: (FULL_JSON,), 2: (PLAIN_JSON, FULL_JSON)}[fields.count(b"%b")]
    start = b'[{"change":"%b","at":"2026-01-02T03:04:05Z"' % tag
    assert encode_changes([change]) == start + fields % messages + b"}]"


def test_the_bytes_of_every_field_of_every_kind_are_tested():
    """A new change, or a new field, needs a name in files that stays: the structs are derived from the classes."""
    public = [getattr(changes, name) for name in changes.__all__]
    kinds = {one for one in public if isinstance(one, type) and issubclass(one, Change)} - {Change}
    assert {type(change) for change, _, _ in WRITTEN} == kinds
    for kind in kinds:
        largest = next(fields for change, _, fields in WRITTEN if type(change) is kind)
        names = [field.alias.encode() for field in attrs.fields(kind) if field.eq and field.name != "at"]
        assert [name for name in names if b'"%b":' % name not in largest] == []
