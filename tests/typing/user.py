"""A user's file, as type checkers see it: ``mypy --strict`` and ``pyright`` must accept it as it is.

Every call of the public interface is here; `assert_type` holds what it returns.
A line with ``type: ignore`` is a mistake: both report a comment that hides nothing.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis.strategies import SearchStrategy

from session_manager import (
    AsyncSessionManager,
    Commit,
    Finding,
    Health,
    Item,
    Lease,
    LeaseLostError,
    Message,
    SaveFailedError,
    Session,
    SessionInfo,
    SessionManager,
    SessionManagerError,
    Store,
    Version,
    Write,
    converter,
    open_store,
)
from session_manager.exporters import ExportReport, export, export_sessions
from session_manager.history import ContextOptions
from session_manager.model import MessageParts
from session_manager.model.changes import Change
from session_manager.stores.memory import MemoryStore
from session_manager.stores.snapshot import SnapshotStore
from session_manager.testing import (
    Adapted,
    AdapterContract,
    Clock,
    FaultyStore,
    SessionMachine,
    StoreContract,
    crash,
    keys,
    messages,
    nasty_text,
    sessions,
)

if sys.version_info >= (3, 11):
    from typing import Unpack, assert_type
else:
    from typing_extensions import Unpack, assert_type


def clock() -> datetime:
    return datetime(2026, 1, 1, tzinfo=timezone.utc)


def use(path: Path) -> None:
    with SessionManager(path, clock=clock, random_id=lambda: uuid4().hex, max_message_bytes=1024) as m:
        assert_type(m, SessionManager)
        assert_type(m.get("k"), Session | None)
        assert_type(m.get_or_create("k"), Session)
        assert_type(m.add_message("k", "user", "hi", ref="tg:1", metadata={"a": 1}), Message)
        assert_type(m.add_message("k", "user", [{"type": "text", "text": "hi"}], created_at=clock()), Message)
        assert_type(m.add("k", {"role": "user"}, Message("user", None)), list[Message])
        assert_type(m.add("k", Item({"event": "vote"}, ref="poll:7", metadata={"a": 1})), list[Message])
        assert_type([one for one in m.get_history("k") if isinstance(one, Item)], list[Item])
        assert_type(Item({"event": "vote"}).to_dict(), dict[str, Any])
        assert_type(m.get_history("k"), list[Message])
        assert_type(m.get_history("k", limit=50, before="tg:1", after=3), list[Message])
        assert_type(m.get_message("k", 3), Message | None)
        assert_type(m.contains_ref("k", "tg:1"), bool)
        assert_type(m.get_summary("k"), str)
        assert_type(m.set_summary("k", "s"), bool)
        assert_type(m.set_history("k", [{"role": "user"}]), bool)
        assert_type(m.truncate_history("k", 3), int)
        assert_type(m.remove_last("k"), Message | None)
        assert_type(m.update_last("k", {"role": "user"}), bool)
        assert_type(m.update_message("k", "tg:1", {"role": "user"}), bool)
        assert_type(m.update_message("k", 0, Message("user", "x")), bool)
        assert_type(m.update_metadata("k", {"a": 1}, removed=["b"]), bool)
        assert_type(SessionManager.shared("memory:", archive=True), SessionManager)
        assert_type(AsyncSessionManager.shared("memory:", threads=4).sync, SessionManager)
        assert_type(m.add("k", Message("user", "x", ref="tg:1"), if_absent=True), list[Message])
        assert_type(m.get_state("k"), dict[str, Any])
        m.put_state("k", {"a": b"1"}, removed=["b"])
        assert_type(
            m.commit_together([Write("k", [Message("user", "x")], items={"a": b"1"}), Write("l", expected=None)]),
            list[Session],
        )
        assert_type(m.clear("k"), int)
        assert_type(m.delete("k"), bool)
        assert_type(m.fork("k", "l"), Session)
        assert_type(m.rename("l", "n", timeout=1.5), Session)
        assert_type(m.save("k"), bool)
        assert_type(m.save_all(), int)
        assert_type(m.reload("k"), list[Change])
        assert_type(m.list_sessions("telegram:"), list[SessionInfo])
        assert_type(m.verify(), list[Finding])
        assert_type(m.health(), Health)
        assert_type(m.health().to_dict(), dict[str, Any])
        assert_type(converter.structure(m.health().to_dict(), Health), Health)
        assert_type(converter.structure([], list[SessionInfo]), list[SessionInfo])
        assert_type(iter(m), Iterator[str])
        assert_type(len(m), int)
        assert_type("k" in m, bool)
        m.compact("k")
        m.close(save=False)


def say(m: SessionManager, text: str, **parts: Unpack[MessageParts]) -> Message:
    return m.add_message("k", "user", text, **parts)


def ask(m: SessionManager, **options: Unpack[ContextOptions]) -> list[dict[str, Any]]:
    return m.get_context("k", **options)


def name_parts(m: SessionManager) -> None:
    assert_type(m.get_context("k", system="Be kind.", max_messages=3, count=lambda message: 1), list[Any])
    assert_type(say(m, "hi", name="Ada", extra={"refusal": None}), Message)
    m.add_message("k", "user", "hi", reff="tg:1")  # type: ignore[call-arg]
    m.add_message("k", "user", "hi", ref=1)  # type: ignore[arg-type]
    m.get_context("k", max_message=3)  # type: ignore[call-arg]
    m.get_context("k", max_messages="3")  # type: ignore[arg-type]
    say(m, "hi", reff="tg:1")  # type: ignore[call-arg]
    ask(m, summary_role=1)  # type: ignore[arg-type]
    with m.turn("k") as turn:
        assert_type(turn.add_message("user", "hi", ref="tg:1", created_at=clock()), Message)
        assert_type(turn.get_context(system="Be kind.", max_tokens=100), list[Any])
        turn.add_message("user", "hi", reff="tg:1")  # type: ignore[call-arg]
        turn.add_message("user", "hi", created_at="now")  # type: ignore[arg-type]
        turn.get_context(key="k")  # type: ignore[call-arg]
        turn.get_context(count=3)  # type: ignore[arg-type]


async def name_parts_in_a_task(m: AsyncSessionManager) -> None:
    assert_type(await m.add_message("k", "user", "hi", ref="tg:1"), Message)
    assert_type(await m.get_context("k", max_messages=3), list[Any])
    await m.add_message("k", "user", "hi", reff="tg:1")  # type: ignore[call-arg]
    await m.add_message("k", "user", "hi", metadata=1)  # type: ignore[arg-type]
    await m.get_context("k", max_message=3)  # type: ignore[call-arg]
    await m.get_context("k", max_tokens="3")  # type: ignore[arg-type]
    async with m.turn("k") as turn:
        assert_type(turn.add_message("user", "hi", ref="tg:1"), Message)
        assert_type(await turn.get_context(max_messages=3), list[Any])
        turn.add_message("user", "hi", reff="tg:1")  # type: ignore[call-arg]
        turn.add_message("user", "hi", name=1)  # type: ignore[arg-type]
        await turn.get_context(max_message=3)  # type: ignore[call-arg]
        await turn.get_context(system=3)  # type: ignore[arg-type]


def look(session: Session, message: Message, info: SessionInfo) -> None:
    assert_type(session.messages[0], Message)
    assert_type(list(session.messages), list[Message])
    assert_type(session.metadata, Mapping[str, Any])
    assert_type(session.version, Version | None)
    assert_type(session.refs, tuple[str, ...])
    assert_type(message.role, str | None)
    assert_type(message.position, int | None)
    assert_type(message.created_at, datetime)
    assert_type(message.to_dict(), dict[str, Any])
    assert_type(Message.from_dict({"role": "user"}, ref="x"), Message)
    assert_type(Message.of({"role": "user"}), Message)
    assert_type(info.error, SessionManagerError | None)
    assert_type(info.last_message_at, datetime | None)


def fail(m: SessionManager) -> dict[str, Exception]:
    try:
        m.save_all()
    except SaveFailedError as error:
        return error.failures
    return {}


def move_out(path: Path, file: BinaryIO) -> None:
    assert_type(export("log:chats", "k", "md"), str)
    assert_type(export("log:chats", "k", "json", archive=False), str)
    export(MemoryStore(), "k", "html", path)
    export(path, "k", "jsonl", file)
    assert_type(export_sessions(path, file, "jsonl", prefix="telegram:"), ExportReport)
    assert_type(export_sessions(path, path, "json").damaged, dict[str, Exception])


def stores(commit: Commit) -> list[Store]:
    opened: list[Store] = [open_store("memory:"), MemoryStore(), SnapshotStore("chats", cache_bytes=0)]
    for store in opened:
        store.write(commit)
        assert_type(store.load("k"), Session | None)
    SessionManager(opened[0])
    SessionManager("snapshot:chats")
    try:
        SessionManager("sqlite:chats.db", lease=Lease(seconds=30))
    except LeaseLostError as error:
        assert_type(error.key, str)
    SessionManager()
    return opened


class MyAdapted(Adapted):
    def __init__(self, storage: str | SessionManager) -> None:
        self.storage = storage

    async def run(self, conversation: str, text: str) -> tuple[int, int]:
        return 1, 1

    async def add(self, conversation: str, text: str) -> None: ...

    async def texts(self, conversation: str) -> list[str]:
        return []

    async def close(self) -> None: ...


class TestMyAdapter(AdapterContract):
    adapted = MyAdapted
    kills = 2


class TestMyStore(StoreContract):
    durable = False
    tokens = False

    @pytest.fixture
    def open_store(self) -> Callable[[], Store]:
        return MemoryStore

    @pytest.fixture
    def damage(self, tmp_path: Path) -> Callable[[str], None]:
        return lambda key: None


class MyMachine(SessionMachine):
    session_keys = ("a", "b")

    def open_store(self) -> Store:
        return MemoryStore()


TestMyMachine = MyMachine.TestCase


@given(messages(), sessions(max_messages=2), keys(max_size=3), nasty_text(min_size=1))
def test_values(message: Message, session: Session, key: str, text: str) -> None:
    assert_type(messages(), SearchStrategy[Message])
    assert_type(sessions(), SearchStrategy[Session])
    assert_type(keys(), SearchStrategy[str])


def break_things() -> None:
    store, now = FaultyStore(MemoryStore()), Clock(datetime(2026, 1, 1, tzinfo=timezone.utc))
    store.fail_next(OSError("full"))
    store.lose_ack_next()
    store.delay = 1
    store.heal()
    assert_type(store.store, Store)
    assert_type(now.advance(timedelta(days=1)), datetime)
    assert_type(now(), datetime)
    now.set(now.advance(1.5))
    crash(SessionManager(store, clock=now))
