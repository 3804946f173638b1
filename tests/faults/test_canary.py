"""A marker in every text field: nothing that the library logs, shows or raises contains it, whatever fails.

The whole suite is watched for it, too: every line of the log at DEBUG, and every error that is made (`tests/conftest.py`).
Keys, paths and names of fields may be shown; refs are texts like the others.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import sqlite3
import traceback
from contextlib import closing
from datetime import timedelta
from random import Random

import pytest

from session_manager import Message, SessionManager, SessionManagerError, Write
from session_manager.stores.files.names import file_name
from session_manager.stores.log import LogStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.stores.sqlite import SQLiteStore
from tests.support.faulty_files import FaultyFiles
from tests.support.strategies import CANARY, held_text

KINDS = ["snapshot", "log", "sqlite"]
KEY = "telegram:42"
LONG = f"{KEY}:long"
#: Text that is none, of which no error may quote the rest.
HALF = CANARY + "\ud83d\ude00"


class Odd:
    """No JSON, and its repr is nobody's business."""

    def __repr__(self):
        return CANARY

    __str__ = __repr__


def said(role="user", **fields):
    """A message with the marker in every text."""
    call = {"id": CANARY, "type": "function", "function": {"name": CANARY, "arguments": f'{{"a": "{CANARY}"}}'}}
    return Message(
        role,
        [{"type": "text", "text": CANARY}, {"type": "image_url", "image_url": {"url": CANARY}}],
        name=CANARY,
        tool_calls=[call],
        extra={"reasoning": CANARY, "nested": {"deep": [[CANARY]]}, **fields},
        metadata={"note": CANARY, "list": [CANARY]},
        ref=CANARY,
    )


def turn(m):
    with m.turn(KEY, ref=f"turn {CANARY}") as one:
        one.add_message("user", CANARY)
        one.add_message("assistant", CANARY)
    with m.turn(KEY, ref=f"turn {CANARY}") as one:
        return repr(one)


def failing_turn(m):
    with m.turn(KEY) as one:
        one.add_message("user", CANARY)
        one.add_message("user", HALF)


#: Every public call, with texts that are good and with such that are not.
CALLS = {
    "add": lambda m: m.add(KEY, said(), {"role": "assistant", "content": CANARY, "tool_calls": []}),
    "add_message": lambda m: m.add_message(KEY, "user", CANARY, name=CANARY, metadata={"a": CANARY}, ref=f"{CANARY} 2"),
    "save": lambda m: m.save(KEY),
    "get": lambda m: m.get(KEY),
    "get_or_create": lambda m: m.get_or_create(f"{KEY}:new"),
    "get_history": lambda m: m.get_history(KEY),
    "get a page": lambda m: m.get_history(KEY, limit=2),
    "get_message": lambda m: m.get_message(KEY, f"{CANARY} 2"),
    "contains_ref": lambda m: m.contains_ref(KEY, f"{CANARY} of nobody"),
    "get_context": lambda m: len(m.get_context(KEY, max_tokens=10**6)),
    "get_summary": lambda m: len(m.get_summary(KEY)),
    "set_summary": lambda m: m.set_summary(KEY, CANARY),
    "update_metadata": lambda m: m.update_metadata(KEY, {"tier": CANARY, "list": [CANARY]}, ["nothing"]),
    "put_state": lambda m: m.put_state(KEY, {"tier": CANARY, "bytes": CANARY.encode()}),
    "get_state": lambda m: len(m.get_state(KEY)),
    "commit_together": lambda m: m.commit_together([Write(KEY, [said()], items={"tier": CANARY})]),
    "update_last": lambda m: m.update_last(KEY, said("assistant")),
    "update_message": lambda m: m.update_message(KEY, CANARY, said()),
    "turn": turn,
    "failing turn": failing_turn,
    "save_all": lambda m: m.save_all(),
    "list_sessions": lambda m: m.list_sessions(),
    "search": lambda m: m.search("canary"),
    "search one": lambda m: m.search(f'"{CANARY}" OR', key=KEY),
    "add to a long one": lambda m: m.add(
        LONG, *[{"role": role, "content": CANARY} for role in ("user", "assistant") * 3]
    ),
    "summarize to half a pair": lambda m: m.summarize(LONG, lambda _, __: HALF, keep_last=4),
    "summarize": lambda m: m.summarize(LONG, lambda _, __: CANARY, keep_last=4),
    "truncate_history": lambda m: m.truncate_history(KEY, 2),
    "save what was truncated": lambda m: m.save(KEY),
    "get_archive": lambda m: list(m.get_archive(KEY)),
    "remove_last": lambda m: m.remove_last(KEY),
    "fork": lambda m: m.fork(KEY, f"{KEY}:fork"),
    "fork over": lambda m: m.fork(KEY, f"{KEY}:fork"),
    "rename": lambda m: m.rename(f"{KEY}:fork", f"{KEY}:moved"),
    "rename back": lambda m: m.rename(f"{KEY}:moved", f"{KEY}:fork"),
    "compact": lambda m: m.compact(KEY),
    "verify": lambda m: m.verify(),
    "verify one": lambda m: m.verify(KEY),
    "health": lambda m: m.health(),
    "set_history": lambda m: m.set_history(KEY, [said(), said("assistant")]),
    "reload": lambda m: m.reload(KEY),
    "half a pair": lambda m: m.add_message(KEY, "user", HALF),
    "half a pair deep inside": lambda m: m.add(KEY, {"role": "user", "content": [{"text": HALF}]}),
    "one of several": lambda m: m.add(KEY, said(), {"role": "user", "content": CANARY, "odd": Odd()}),
    "no object": lambda m: m.add(KEY, CANARY),
    "an odd object": lambda m: m.add(KEY, Odd()),
    "bytes": lambda m: m.add_message(KEY, "user", CANARY.encode()),
    "a set": lambda m: m.add_message(KEY, "user", {CANARY}),
    "an odd role": lambda m: m.add_message(KEY, Odd(), CANARY),
    "an odd ref": lambda m: m.add_message(KEY, "user", CANARY, ref=Odd()),
    "a ref of half a pair": lambda m: m.add_message(KEY, "user", "x", ref=HALF),
    "odd metadata": lambda m: m.update_metadata(KEY, {"a": Odd(), "b": CANARY}),
    "an odd state": lambda m: m.put_state(KEY, {"a": Odd(), "b": CANARY}),
    "an odd write": lambda m: m.commit_together([Write(KEY, [said(), Odd()], items={"b": CANARY})]),
    "an odd summary": lambda m: m.set_summary(KEY, [CANARY]),
    "a summary of half a pair": lambda m: m.set_summary(KEY, HALF),
    "an odd history": lambda m: m.set_history(KEY, [said(), Odd()]),
    "an odd search": lambda m: m.search(HALF),
    "a page before a ref that nobody has": lambda m: m.get_history(KEY, before=f"{CANARY} of nobody"),
    "a ref that nobody has": lambda m: m.update_message(KEY, f"{CANARY} of nobody", said()),
    "an odd key": lambda m: m.get(Odd()),
    "expire": lambda m: m.expire(timedelta(days=20_000)),
    "clear": lambda m: m.clear(KEY),
    "delete": lambda m: m.delete(KEY),
    "again": lambda m: [m.add(KEY, said()), m.save(KEY)],
}
#: What raises ours in the best of cases.
REFUSED = {"failing turn", "fork over", *list(CALLS)[list(CALLS).index("half a pair") :]}
REFUSED -= {"a ref that nobody has", "expire", "clear", "delete", "again"}


def shown_by(error):
    """All that an error can show: itself, pickled, and with all that it came from, but for the locals of frames."""
    texts = [
        held_text(error),
        "".join(traceback.format_exception(error)),
        ascii(pickle.loads(pickle.dumps(error)).args),
    ]
    return "\n".join([*texts, pickle.dumps(error).decode("latin-1"), str(error), repr(getattr(error, "failures", ""))])


def run(m, count):
    """Call everything; see that nothing of the marker is shown. Return the names of the calls that raised."""
    raised = set()
    for name, call in CALLS.items():
        failure = found = None
        try:
            found = call(m)
        except (SessionManagerError, TypeError, ValueError) as error:
            failure = error
        if failure is not None:
            raised.add(name)
            assert isinstance(failure, SessionManagerError) or name in REFUSED, name
            assert CANARY not in shown_by(failure), name
            count[type(failure).__name__] += 1
        assert CANARY not in repr(found), name
        assert CANARY not in repr([*m._residents.entries().values()]), name
        count["calls"] += 1
    shown = [repr(m), repr(m._residents.store)]
    assert CANARY not in "".join(shown)
    return raised


def settled(caplog, leaks):
    assert leaks == []
    assert CANARY not in caplog.text
    assert not [record for record in caplog.records if CANARY in repr(vars(record))]


@pytest.fixture(autouse=True)
def _watched(caplog, leaks):
    caplog.set_level(logging.DEBUG)
    yield
    settled(caplog, leaks)


def url_of(kind, path):
    return f"{kind}:{path / 'chats.db' if kind == 'sqlite' else path}"


@pytest.mark.parametrize("kind", [*KINDS, "memory"])
def test_no_call_shows_a_text(kind, tmp_path, count):
    with SessionManager(
        "memory:" if kind == "memory" else url_of(kind, tmp_path / "chats"), archive=kind != "memory"
    ) as m:
        assert run(m, count) == REFUSED
    closed = run(m, count)
    assert len(closed) > len(CALLS) - 5
    count.check(calls=2 * len(CALLS), InvalidMessageError=10)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_read_only_shows_a_text(kind, tmp_path, count):
    with SessionManager(url_of(kind, tmp_path / "chats"), archive=True) as m:
        m.add(KEY, said(), said("assistant"))
    with SessionManager(url_of(kind, tmp_path / "chats"), read_only=True) as m:
        run(m, count)
    count.check(ReadOnlyError=10)


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
@pytest.mark.parametrize("kind", ["snapshot", "log"])
def test_no_failure_of_a_file_operation_shows_a_text(kind, sticky, tmp_path, count, size):
    """Each operation of the run of all calls fails, one after the other."""
    numbers = size.of(range(1, 400, 90), range(1, 400, 13), range(1, 2000))
    for number in numbers:
        path = tmp_path / str(number)
        with closing({"snapshot": SnapshotStore, "log": LogStore}[kind](path, files=FaultyFiles)) as store:
            m = SessionManager(store, archive=True)
            m.add(KEY, said(), said("assistant"))
            m.save(KEY)
            files = FaultyFiles.opened
            files.fail(
                number, OSError(errno.EIO, os.strerror(errno.EIO), CANARY.replace("CANARY", "path")), sticky=sticky
            )
            run(m, count)
            struck = files.struck
            files.heal()
            m.close(save=False)
        count["faults"] += struck
        if not struck:
            break
    least = size.of(2, 10, 10)
    count.check(faults=least, calls=least * len(CALLS))


@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT", "SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA", "ROLLBACK"])
def test_no_failure_of_a_statement_shows_a_text(statement, tmp_path, count):
    class Faulty(sqlite3.Connection):
        failing = False

        def execute(self, text, *parameters):
            if Faulty.failing and text.strip().startswith(statement):
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(text, *parameters)

    def connect(*arguments, **options):
        return sqlite3.connect(*arguments, factory=Faulty, **options)

    with closing(SQLiteStore(tmp_path / "chats.db", connect=connect)) as store:
        m = SessionManager(store, archive=True)
        m.add(KEY, said(), said("assistant"))
        m.save(KEY)
        Faulty.failing = True
        run(m, count)
        Faulty.failing = False
        m.close(save=False)
    count.check(calls=len(CALLS), InvalidMessageError=10)


def damaged(kind, path, chance):
    """Damage a storage somewhere, in a session or in its archive."""
    if kind == "sqlite":
        columns = ["messages.line", "messages.checksum", "messages.position", "sessions.state", "sessions.generation"]
        columns += ["sessions.revision", "archive.line", "archive.position", "archive.session"]
        table, _, column = chance.choice(columns).partition(".")
        with closing(sqlite3.connect(path / "chats.db")) as connection, connection:
            value = chance.choice(["{}", CANARY, f'{{"position":0,"{CANARY}":', b"\xff" + CANARY.encode(), -1, 2**62])
            connection.execute(
                f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT max(rowid) FROM {table})", (value,)
            )
        return
    suffix = chance.choice([".session.json" if kind == "snapshot" else ".session.jsonl", ".archive.jsonl"])
    file = path / file_name(KEY, suffix)
    data = bytearray(file.read_bytes())
    place = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            data[place] ^= 1 << chance.randrange(8)
        case 1:
            del data[place:]
        case 2:
            data[place:place] = CANARY.encode()
        case _:
            data[:0] = f'{{"format":"session_manager/{CANARY}"'.encode()
    file.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_shows_a_text(kind, tmp_path, count, size):
    chance = Random(f"damage {kind}")
    damages = size.of(4, 12, 600)
    for number in range(damages):
        path = tmp_path / str(number)
        with SessionManager(url_of(kind, path), archive=True) as m:
            m.add(KEY, *[said(number=number) for number in range(4)])
            m.set_summary(KEY, CANARY)
            m.save(KEY)
            m.truncate_history(KEY, 2)
        damaged(kind, path, chance)
        failure = None
        try:
            with SessionManager(url_of(kind, path), archive=True) as m:
                run(m, count)
        except SessionManagerError as error:
            failure = error
        assert failure is None or CANARY not in shown_by(failure)
        count["damages"] += 1
    count.check(damages=damages, CorruptSessionError=size.of(2, 20, 20))


@pytest.mark.parametrize("kind", KINDS)
def test_no_conflict_shows_a_text(kind, tmp_path, count):
    """Another program changes, removes and replaces what is in RAM."""
    path = tmp_path / "chats"
    with SessionManager(url_of(kind, path), archive=True) as m:
        m.add(KEY, said(), said("assistant"))
        m.save(KEY)
        m.update_last(KEY, said("assistant", changed=CANARY))
        if kind == "sqlite":
            with SessionManager(url_of(kind, path), archive=True) as other:
                other.update_last(KEY, said("assistant", otherwise=CANARY))
        else:
            with SessionManager(url_of(kind, tmp_path / "other"), archive=True) as other:
                other.add(KEY, said("system"), said("assistant"))
            name = file_name(KEY, ".session.json" if kind == "snapshot" else ".session.jsonl")
            os.replace(tmp_path / "other" / name, path / name)
        run(m, count)
        m.close(save=False)
    count.check(calls=len(CALLS))


def test_the_watch_sees_what_leaks(leaks):
    """A negative control."""
    import logging  # noqa: PLC0415

    logging.getLogger("session_manager").debug("here it is: %s", CANARY)
    logging.getLogger("session_manager.x").info("here it is", extra={"a": 1}, exc_info=ValueError(CANARY))
    from session_manager import SaveFailedError  # noqa: PLC0415

    SaveFailedError("k", CANARY)
    assert len(leaks) == 3
    leaks.clear()
