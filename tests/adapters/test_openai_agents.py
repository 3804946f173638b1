"""Conversations of the OpenAI Agents SDK live in a storage, and its runner goes on with them."""

from __future__ import annotations

import asyncio
import threading
import types

import pytest

from session_manager import (
    AsyncSessionManager,
    ConflictError,
    InvalidKeyError,
    InvalidMessageError,
    Item,
    SaveFailedError,
    SessionManager,
)
from session_manager.stores.memory import MemoryStore
from session_manager.testing import AdapterContract, FaultyStore

pytest.importorskip("agents", reason="openai-agents is not installed")

from agents import OpenAIResponsesCompactionSession, RunConfig, Runner, SessionSettings
from agents.extensions.memory import EncryptedSession
from agents.memory import Session

from benchmarks.adapters import openai_agents as benchmark
from examples.adapters import openai_agents as example
from session_manager.adapters.openai_agents import OpenAIAgentsSession
from tests.support import adapted_openai_agents as driven
from tests.support.managers import put_in_conflict


class TestOpenAIAgents(AdapterContract):
    adapted = driven.AdaptedOpenAIAgents


@pytest.mark.faults
@pytest.mark.timeout(600)
class TestOpenAIAgentsKilledOften(AdapterContract):
    adapted = driven.AdaptedOpenAIAgents
    kills = 5


class TestOpenAIAgentsInThreads(AdapterContract):
    """By `Runner.run_sync`. Another process does the same as above."""

    adapted = driven.AdaptedOpenAIAgentsInThreads
    test_a_runner_goes_on_after_a_kill = None
    test_two_processes_are_both_in_a_conversation = None


@pytest.fixture(params=["log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


def user(*texts):
    return [{"role": "user", "content": text} for text in texts]


def finish(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def test_it_is_a_session_of_the_sdk(url):
    session = OpenAIAgentsSession("telegram:42", url)
    assert isinstance(session, Session)
    assert session.session_id == "telegram:42"
    finish(session.close())


def test_items_come_back_exactly_and_the_newest_are_cut_off(url):
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "ä\u2028"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x", "status": None},
        {"type": "function_call", "call_id": "c", "name": "clock", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c", "output": "12:00"},
        {"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": "…"},
        {"role": None, "type": "message"},
        {"role": "assistant", "content": "noon", "extra": {"deep": [1, 2.5, True, None]}},
    ]

    async def run():
        session = OpenAIAgentsSession("chat", url)
        assert await session.get_items() == []
        await session.add_items([])
        await session.add_items(items[:3])
        await session.add_items(items[3:])
        assert await session.get_items() == items
        assert await session.get_items(0) == []
        assert await session.get_items(2) == items[-2:]
        assert await session.get_items(100) == items
        with pytest.raises(ValueError, match="limit"):
            await session.get_items(-1)
        session.session_settings = SessionSettings(limit=3)
        assert await session.get_items() == items[-3:]
        assert await session.get_items(1) == items[-1:]
        session.session_settings = None
        assert await session.get_items() == items
        items_again = await session.get_items()
        items_again[0]["content"].clear()
        assert await session.get_items() == items
        await session.close()

    finish(run())


def test_the_runner_gets_as_many_items_as_the_settings_say(url):
    async def run():
        session = OpenAIAgentsSession("chat", url, SessionSettings(limit=2))
        await session.add_items(user("one", "two", "three"))
        agent, model = driven.agent(0)
        await Runner.run(agent, "four", session=session, run_config=driven.QUIET)
        assert driven.given(model) == (3, 1)
        agent, model = driven.agent(1)
        settings = RunConfig(tracing_disabled=True, session_settings=SessionSettings(limit=0))
        await Runner.run(agent, "five", session=session, run_config=settings)
        assert driven.given(model) == (1, 1)
        await session.close()

    finish(run())


def test_items_are_popped_last_in_first_out_each_once(url):
    async def run():
        session, other = OpenAIAgentsSession("chat", url), OpenAIAgentsSession("chat", url)
        assert await session.pop_item() is None
        await session.add_items(user("one", "two"))
        await session.add_items(user("three"))
        assert [await session.pop_item(), await other.pop_item()] == [*user("three"), *user("two")]
        await session.add_items(user(*map(str, range(8))))
        popped = await asyncio.gather(*(one.pop_item() for one in (session, other) * 4))
        assert sorted(item["content"] for item in popped) == [str(number) for number in range(8)]
        assert await other.get_items() == user("one")
        assert [await session.pop_item(), await session.pop_item()] == [*user("one"), None]
        await session.close()
        await other.close()
        with SessionManager(url) as manager:
            assert manager.get_history("chat") == []

    finish(run())


def test_two_managers_of_a_database_pop_each_item_once(tmp_path):
    """As two processes do: one finds out that the other one was there first."""

    async def run():
        async with (
            AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as one,
            AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as other,
        ):
            sessions = OpenAIAgentsSession("chat", one), OpenAIAgentsSession("chat", other)
            await sessions[0].add_items(user(*map(str, range(10))))
            popped = await asyncio.gather(*(session.pop_item() for session in sessions * 6))
            assert sorted(item["content"] for item in popped if item) == [str(number) for number in range(10)]

    finish(run())


def test_a_conflict_that_stays_is_raised(tmp_path):
    """No try of a call gets over an unsaved edit of the program's own that another process has made impossible."""
    url = f"sqlite:{tmp_path / 'chats.db'}"
    manager = SessionManager(url)

    async def run():
        session = OpenAIAgentsSession("chat", manager)
        await session.add_items(user("one", "two"))
        put_in_conflict(url, manager, "chat")
        for call in (session.pop_item, lambda: session.add_items(user("three"))):
            with pytest.raises(ConflictError):
                await asyncio.wait_for(call(), 10)
        assert await session.get_items() == [{"said": "mine"}, *user("two")]

    finish(run())
    manager.close(save=False)


def test_a_failed_pop_has_done_nothing():
    disk = FaultyStore(MemoryStore())

    async def run():
        with SessionManager(disk) as manager:
            session = OpenAIAgentsSession("chat", manager)
            await session.add_items(user("one", "two"))
            disk.fail_next(OSError(28, "No space left on device"))
            with pytest.raises(SaveFailedError, match="No space left"):
                await session.pop_item()
            assert await session.get_items() == user("one", "two")
            disk.lose_ack_next()
            assert await session.pop_item() == user("two")[0]
            with pytest.raises(InvalidMessageError):
                await session.add_items([*user("three"), {"role": "user", "content": {1, 2}}])
            assert await session.get_items() == user("one")
            await session.close()
            assert len(manager.get_history("chat")) == 1, "the manager is still open"

    finish(run())


def test_clearing_deletes_the_session(url):
    async def run():
        session = OpenAIAgentsSession("chat", url)
        await session.clear_session()
        await session.add_items(user("one"))
        await session.clear_session()
        assert await session.get_items() == []
        await session.add_items(user("two"))
        assert await session.get_items() == user("two")
        await session.clear_session()
        await session.close()
        with SessionManager(url) as manager:
            assert list(manager) == []

    finish(run())


def test_a_cancelled_call_has_happened_or_has_not():
    """A call that has begun to write ends first; one that waits for its turn has done nothing."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(MemoryStore):
        def write(self, commit):
            begun.set()
            assert go_on.wait(60)
            super().write(commit)

    disk = Slow()

    async def run():
        async with AsyncSessionManager(disk) as manager:
            session = OpenAIAgentsSession("chat", manager)
            writing = asyncio.create_task(session.add_items(user("one")))
            assert await asyncio.to_thread(begun.wait, 60)
            waiting = asyncio.create_task(session.add_items(user("two")))
            await asyncio.sleep(0.05)
            for task in (waiting, writing):
                task.cancel()
            go_on.set()
            results = await asyncio.gather(writing, waiting, return_exceptions=True)
            assert [type(result) for result in results] == [asyncio.CancelledError] * 2
            assert await session.get_items() == user("one")
            assert [message.content for message in disk.load("chat").messages] == ["one"]

    finish(run())


@pytest.mark.parametrize("session_id", ["", ".", "x" * 2000, "\ud800", 42, None])
def test_an_id_that_is_no_key_is_refused(session_id):
    with pytest.raises(InvalidKeyError):
        OpenAIAgentsSession(session_id, "memory:")


@pytest.mark.parametrize("items", ["Hello!", [1], [None], ["Hello!"], {"role": "user"}, [{"role": "user", "x": {1}}]])
def test_what_is_no_list_of_items_is_refused_at_the_call(items, tmp_path):
    async def run():
        async with OpenAIAgentsSession("chat", f"log:{tmp_path}") as session:
            with pytest.raises(InvalidMessageError):
                await session.add_items(items)
            assert await session.get_items() == []

    finish(run())


def test_settings_may_be_a_dict(url):
    async def run():
        async with OpenAIAgentsSession("chat", url, {"limit": 1}) as session:
            await session.add_items(user("one", "two"))
            assert await session.get_items() == user("two")

    finish(run())


@pytest.mark.parametrize("storage", [None, 42, MemoryStore()])
def test_what_is_no_storage_is_refused(storage):
    with pytest.raises(TypeError):
        OpenAIAgentsSession("chat", storage)


def test_a_bot_and_an_agent_share_a_conversation(url):
    async def run():
        session = OpenAIAgentsSession("telegram:42", url)
        async with AsyncSessionManager.shared(url) as manager:
            async with manager.turn("telegram:42", "tg:1") as turn:
                turn.add_message("user", "Hello!")
                turn.add_message("assistant", "Hi.")
            agent, model = driven.agent(0)
            await Runner.run(agent, "What time is it?", session=session, run_config=driven.QUIET)
            assert driven.given(model) == (2, 1)
            assert len(await manager.get_history("telegram:42")) == 6
            context = await manager.get_context("telegram:42")
            assert [item.get("role") or item["type"] for item in context][-2:] == ["function_call_output", "assistant"]
        await session.close()

    finish(run())


def test_a_run_inside_of_a_turn_of_the_session_is_refused(url):
    """It would wait for its own caller."""

    async def run():
        async with AsyncSessionManager.shared(url) as manager, OpenAIAgentsSession("chat", manager) as session:
            async with manager.turn("chat") as turn:
                turn.add_message("user", "Hello!")
                with pytest.raises(RuntimeError, match="turn"):
                    await session.add_items(user("one"))
            assert await session.get_items() == user("Hello!")

    finish(run())


def test_a_call_whose_result_a_kill_took_is_not_sent_again(url):
    """The SDK leaves it out of what the model is given; it stays in the history."""
    call = {"type": "function_call", "call_id": "lost", "name": "clock", "arguments": "{}"}

    async def run():
        async with OpenAIAgentsSession("chat", url) as session:
            await session.add_items([*user("one"), call])
            agent, model = driven.agent(0)
            await Runner.run(agent, "two", session=session, run_config=driven.QUIET)
            assert driven.given(model) == (2, 1)
            assert call not in model.last_call.input
            assert (await session.get_items())[1] == call

    finish(run())


def test_encrypted_sessions_keep_envelopes_as_items(url):
    async def run():
        inner = OpenAIAgentsSession("chat", url)
        session = EncryptedSession("chat", inner, encryption_key="a key of some length")
        agent, model = driven.agent(0)
        await Runner.run(agent, "What time is it?", session=session, run_config=driven.QUIET)
        assert driven.given(model) == (1, 1)
        assert [item.get("role") or item["type"] for item in await session.get_items()] == [
            "user",
            "function_call",
            "function_call_output",
            "assistant",
        ]
        assert [item.get("role") for item in await session.get_items(1)] == ["assistant"]
        assert (await session.pop_item())["role"] == "assistant"
        await inner.close()
        with SessionManager(url) as manager:
            history = manager.get_history("chat")
            assert [type(message) for message in history] == [Item] * 3
            assert "time" not in str([message.to_dict() for message in history])

    finish(run())


def test_the_benchmark_times_each_session(tmp_path, capsys):
    asyncio.run(benchmark(str(tmp_path), 1))
    assert capsys.readouterr().out.count("ours, log") == 8


class Compacting:
    """What the SDK's session calls of OpenAI's client: it keeps the user's messages, and one item for the rest."""

    def __init__(self):
        self.responses, self.called = self, 0

    async def compact(self, *, model, input=None, **rest):
        self.called += 1
        output = [item for item in input if item.get("role") == "user"]
        output.append({"type": "compaction", "id": "cmp_1", "encrypted_content": "…"})
        return types.SimpleNamespace(output=output, usage=None, id="resp_1")


def test_the_sdks_compaction_works_on_top(url):
    client = Compacting()

    async def run():
        inner = OpenAIAgentsSession("chat", url)
        session = OpenAIResponsesCompactionSession(
            "chat", inner, client=client, compaction_mode="input", should_trigger_compaction=lambda context: True
        )
        for number, text in enumerate(("one", "two")):
            agent, _ = driven.agent(number)
            await Runner.run(agent, text, session=session, run_config=driven.QUIET)
        assert client.called == 2
        items = await inner.get_items()
        assert [item.get("role") or item["type"] for item in items] == ["user", "user", "compaction"]
        await inner.close()

    finish(run())


def test_the_example_answers_and_remembers(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")

    async def run():
        given = []
        for number, text in enumerate(("What time is it?", "And now?")):
            _, model = driven.agent(number)
            monkeypatch.setattr(example.agent, "model", model)
            assert await example.answer("42", text, f"log:{tmp_path}") == "It is noon."
            given.append(driven.given(model))
        assert given == [(1, 1), (2, 2)]

    finish(run())
