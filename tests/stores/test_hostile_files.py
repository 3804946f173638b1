"""Files that somebody made to be expensive cost in proportion to their size; what has no right to its name is not read."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib
from contextlib import closing, suppress
from datetime import datetime, timezone

import attrs
import pytest

from session_manager import CorruptSessionError, Message, SessionManager, StorageLockedError
from session_manager.codec.json import DecodeError, decode_json
from session_manager.model import Session, Version
from session_manager.model.changes import Append, Edit, Summarize, UpdateMetadata, fold
from session_manager.stores.archive.format import decode as decode_archive
from session_manager.stores.archive.format import decode_bodies, encode_header, encode_lines
from session_manager.stores.files.recognition import Head
from session_manager.stores.log import LogStore
from session_manager.stores.log.format import encode_first, starts_whole
from session_manager.stores.log.replay import decode as decode_log
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.snapshot.format import decode as decode_snapshot
from session_manager.stores.snapshot.format import decode_header
from tests.support.log_lines import record
from tests.support.strategies import facts

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
KEY = "telegram:42"
STEM = "telegram~3a42"


# Time


def spent(read, data):
    """The processor's seconds that reading takes, at best."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        with suppress(DecodeError):
            read(data)
        best = min(best, time.process_time() - begun)
    return best


def chat(count):
    blank = Session(key=KEY, generation="g", created=AT, updated=AT, revision=1)
    return fold(blank, [Append(at=AT, messages=(Message("user", "hi", created_at=AT),) * count)])


def first(session):
    return b"".join(encode_first(session).buffers)


def with_changes(session, changes):
    """A log with one more record, which leads to a session of as many messages."""
    return first(session) + record(session._with(revision=session.revision + 1), changes)


def edits(count):
    new = Message("user", "ho", created_at=AT)
    return with_changes(chat(count), [Edit(at=AT, position=place, message=new) for place in range(count)])


def notes(count):
    session = attrs.evolve(chat(1), metadata={f"key {number}": 0 for number in range(count)})
    return with_changes(session, [UpdateMetadata(at=AT, items={f"key {number}": 1}) for number in range(count)])


def vain(count):
    return with_changes(
        chat(count), [Summarize(at=AT, summary="s", start=0, stop=count, digest="no") for _ in range(count)]
    )


LOG = first(chat(1))
CRC = b',"crc32":"1f2e3d4c"}'
SEED = zlib.crc32(KEY.encode())
LOGS = {
    "checksums in a torn record": lambda count: LOG + CRC * 10 * count,
    "checksums in a last line": lambda count: LOG + CRC * 10 * count + b"\n",
    "NULs after a torn record": lambda count: LOG + b"{" + b"\0" * 100 * count,
    "line feeds": lambda count: LOG + b"\n" * 20 * count,
    "deep nesting": lambda count: LOG + b"[" * 20 * count + b"\n",
    "digits": lambda count: LOG + b"1" * 20 * count + b"\n",
    "escapes": lambda count: LOG + b'"' + b"\\ud800" * 20 * count + b'"\n',
    "edits of a long history": lambda count: edits(4 * count),
    "notes among many": notes,
    "summaries of other messages": vain,
}
VALUES = {
    "deep nesting": lambda count: b'{"a":' * count,
    "closed nesting": lambda count: b"[" * count + b"]" * count,
    "many keys": lambda count: json.dumps({f"key {number}": None for number in range(count)}).encode(),
    "the same key": lambda count: b'{"a":0' + b',"a":0' * count + b"}",
    "digits": lambda count: b"1" * 20 * count,
    "digits of a fraction": lambda count: b"0." + b"1" * 20 * count,
    "an exponent": lambda count: b"1e" + b"1" * 20 * count,
    "escapes": lambda count: b'"' + b"\\u0041" * 20 * count + b'"',
    "lone surrogates": lambda count: b'"' + b"\\ud800" * 20 * count + b'"',
    "line feeds": lambda count: b"\n" * 20 * count,
    "NULs": lambda count: b"{" + b"\0" * 20 * count,
}
HEADER = encode_header(KEY)
ARCHIVES = {
    "line feeds": lambda count: HEADER + b"\n" * count,
    "NULs": lambda count: HEADER + b"\0\n" * count,
    "a torn end": lambda count: HEADER + b'{"number":0,"generation":"' + b"\\" * 20 * count,
    "a torn name": lambda count: HEADER + b'{"number":0,"generation":"' + b"\\" * 20 * count + b"\n",
    "checksums": lambda count: HEADER + CRC * 10 * count + b"\n",
    "lines that do not count": lambda count: HEADER + encode_lines(KEY, "h", 0, [(1, b'"position":0,')] * count),
    "one position": lambda count: HEADER + encode_lines(KEY, "g", 0, [(1, b'"position":0,"a":0')] * count),
}
SNAPSHOT = b'{"format":"session_manager/1",'
SNAPSHOTS = {
    "a long header": lambda count: SNAPSHOT + b'"key":"' + b"\\" * 20 * count,
    "line feeds": lambda count: SNAPSHOT + b"\n" * 20 * count,
    "checksums": lambda count: SNAPSHOT + b'"header_crc32":"00000000","messages":[\n' * count,
}


def archive(data):
    decode_bodies(body for _, body in decode_archive(data, KEY, Version("g", 1), "path").lines)


CASES = [
    pytest.param(read, make, id=f"{kind}: {name}")
    for kind, read, kinds in [
        ("log", lambda data: decode_log(data, "path"), LOGS),
        ("value", decode_json, VALUES),
        ("start of a file", lambda data: Head.of("a.json", data), VALUES),
        ("archive", archive, ARCHIVES),
        ("snapshot", lambda data: decode_snapshot(data, "path"), SNAPSHOTS),
        ("header", lambda data: decode_header(data, "path"), SNAPSHOTS),
    ]
    for name, make in kinds.items()
]


@pytest.mark.parametrize(("read", "make"), CASES)
def test_what_is_four_times_as_large_takes_about_four_times_as_long(read, make, size):
    """A torn record with many ``"crc32"`` took the square: 0.74 MB took 3.6 s, 16 MB would have taken half an hour."""
    count = size.of(400, 2000, 2000)
    assert spent(read, make(4 * count)) < 9 * spent(read, make(count)) + size.of(0.005, 0.02, 0.02)


def test_a_torn_record_starts_with_a_whole_one_if_that_is_what_was_written():
    """The checksum is carried on from one place to the next."""
    whole = record(chat(1), [UpdateMetadata(at=AT, items={"a": CRC.decode()})])[:-1]
    data = b"before" + whole + b" "
    assert starts_whole(data, 6, len(data))
    assert not starts_whole(data, 6, len(data) - 1)
    assert not starts_whole(data, 5, len(data))


def test_edits_and_notes_replayed_in_place_change_no_other_picture():
    """What is replayed is the fold of the changes, and the first line is decoded once more to find a wrong record."""
    session = attrs.evolve(chat(3), metadata={"a": 1})
    changes = [
        Edit(at=AT, position=1, message=Message("user", "ho", created_at=AT, ref="r")),
        UpdateMetadata(at=AT, items={"b": 2}, removed=["a"]),
        Edit(at=AT, position=1, message=Message("user", "ho", created_at=AT)),
        Edit(at=AT, position=7, message=Message("user", "ho", created_at=AT)),
    ]
    after = fold(session, changes)._with(revision=2)
    data = first(session) + record(after, changes)
    assert facts(decode_log(data, "path").session) == facts(after)
    with pytest.raises(DecodeError) as raised:
        decode_log(data + record(after, changes), "path")
    assert raised.value.offset == len(data)


# Memory


def peak(work):
    """The bytes of RAM that some work takes at the worst, besides what it returns, and that."""
    tracemalloc.start()
    try:
        held = work()
        now, most = tracemalloc.get_traced_memory()
        return most if held is None else most - now, held
    finally:
        tracemalloc.stop()


def sparse(path, size, start=b""):
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def refused(work):
    with pytest.raises(CorruptSessionError):
        work()


LARGE = 4 * 1024**3
READS = {
    "a snapshot": (SnapshotStore, ".session.json", lambda store: store.load(KEY)),
    "a snapshot's header": (SnapshotStore, ".session.json", lambda store: store.describe(KEY)),
    "a log": (LogStore, ".session.jsonl", lambda store: store.load(KEY)),
    "a log's end": (LogStore, ".session.jsonl", lambda store: store.describe(KEY)),
}


@pytest.mark.parametrize(("kind", "suffix", "read"), READS.values(), ids=READS)
def test_a_sparse_file_in_a_sessions_place_is_not_read(kind, suffix, read, tmp_path):
    """400 MB took 800 MB of RAM before they were refused."""
    sparse(tmp_path / (STEM + suffix), LARGE)
    assert peak(lambda: closed(kind, tmp_path, lambda store: refused(lambda: read(store))))[0] < 2_000_000


def closed(kind, path, work):
    with closing(kind(path)) as store:
        return work(store)


def test_a_sparse_file_in_an_archives_place_is_not_read(tmp_path):
    with SessionManager(f"log:{tmp_path}", archive=True) as m:
        m.add_message(KEY, "user", "hi")
        m.save(KEY)
    sparse(tmp_path / f"{STEM}.archive.jsonl", LARGE)
    assert (
        peak(lambda: closed(LogStore, tmp_path, lambda store: refused(lambda: list(store.archive(KEY)))))[0] < 2_000_000
    )


@pytest.mark.parametrize(("kind", "suffix"), [(SnapshotStore, ".session.json"), (LogStore, ".session.jsonl")])
def test_a_sparse_file_of_another_name_is_not_read(kind, suffix, tmp_path):
    """The holder of a lock is named in an error, and a key over 200 bytes is looked for in its file."""
    hashed = "k" * 120 + "~~" + "0" * 64
    sparse(tmp_path / (hashed + suffix), LARGE, b'{"format":"session_manager/1","key":')

    def opened_twice():
        with closing(kind(tmp_path)):
            sparse(tmp_path / ".holder", LARGE, b'{"pid":')
            with pytest.raises(StorageLockedError):
                kind(tmp_path)

    assert peak(opened_twice)[0] < 2_000_000


SIZE = 16 * 1024 * 1024
STARTS = {
    "a snapshot": (SnapshotStore, ".session.json", SNAPSHOT + b'"key":'),
    "a snapshot's lines": (SnapshotStore, ".session.json", SNAPSHOT + b'"key":0}\n{"position":0,'),
    "a log": (LogStore, ".session.jsonl", b'{"format":"session_manager-log/1","key":'),
}


@pytest.mark.parametrize(("kind", "suffix", "start"), STARTS.values(), ids=STARTS)
def test_a_sparse_file_that_begins_well_is_read_once(kind, suffix, start, tmp_path):
    sparse(tmp_path / (STEM + suffix), SIZE, start)
    assert peak(lambda: closed(kind, tmp_path, lambda store: refused(lambda: store.load(KEY))))[0] < 1.25 * SIZE


def test_a_log_whose_end_is_sparse_is_read_once(tmp_path):
    """A power cut may leave a file's length, and zeros: that is a torn record."""
    sparse(tmp_path / f"{STEM}.session.jsonl", SIZE, LOG + b"{")
    most, session = peak(lambda: closed(LogStore, tmp_path, lambda store: store.load(KEY)))
    assert most < 1.25 * SIZE
    assert facts(session) == facts(chat(1))


@pytest.mark.parametrize("kind", [SnapshotStore, LogStore])
def test_a_session_that_is_read_takes_its_file_once_besides(kind, tmp_path):
    """A log took three to four times its size: the file, its lines, what was decoded, and the messages."""
    with closing(kind(tmp_path)) as store, SessionManager(store) as m:
        for _ in range(12):
            m.add(KEY, *[{"role": "user", "content": "x" * 1000}] * 400)
            m.save(KEY)
        shown = m.get(KEY)
    size = sum(file.stat().st_size for file in tmp_path.glob("*.session.json*"))
    most, session = peak(lambda: closed(kind, tmp_path, lambda store: store.load(KEY)))
    assert most < 1.4 * size
    assert facts(session) == facts(shown)


def test_an_archive_that_is_read_takes_its_file_twice_besides(tmp_path):
    with SessionManager(f"log:{tmp_path}", archive=True) as m:
        m.add(KEY, *[{"role": "user", "content": "x" * 1000}] * 4000)
        m.truncate_history(KEY, 1)
        m.save(KEY)
    size = (tmp_path / f"{STEM}.archive.jsonl").stat().st_size
    most, messages = peak(lambda: closed(LogStore, tmp_path, lambda store: list(store.archive(KEY))))
    assert most < 2.5 * size
    assert len(messages) == 3999
