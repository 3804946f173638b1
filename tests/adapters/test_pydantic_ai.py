"""Conversations of Pydantic AI live in a storage, with their revisions, branches and forks."""

from __future__ import annotations

import asyncio
import random

import pytest

from session_manager import AsyncSessionManager, InvalidKeyError, SaveFailedError, SessionManager
from session_manager.stores.memory import MemoryStore
from session_manager.testing import AdapterContract, FaultyStore

pytest.importorskip("pydantic_ai.conversation_store", reason="pydantic-ai is not installed")

from pydantic_ai import Agent, BinaryContent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import FunctionModel

from examples.adapters import pydantic_ai_agent as example
from session_manager.adapters.pydantic_ai import PydanticAIStore
from tests.support import adapted_pydantic_ai as driven


class TestPydanticAI(AdapterContract):
    adapted = driven.AdaptedPydanticAI


@pytest.mark.faults
@pytest.mark.timeout(600)
class TestPydanticAIKilledOften(AdapterContract):
    adapted = driven.AdaptedPydanticAI
    kills = 5


class TestPydanticAIInThreads(AdapterContract):
    """By `Agent.run_sync`. Another process does the same as above."""

    adapted = driven.AdaptedPydanticAIInThreads
    test_a_runner_goes_on_after_a_kill = None
    test_two_processes_are_both_in_a_conversation = None


@pytest.fixture(params=["log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


def finish(work):
    return asyncio.run(asyncio.wait_for(work, 60))


async def saved(store, name, *texts, **options):
    """Go on with a conversation, or begin one."""
    conversation = await store.load(name) or Conversation(conversation_id=name)
    conversation.messages += map(driven.user, texts)
    await store.save(conversation, **options)
    return conversation


async def said(store, name, **options):
    loaded = await store.load(name, **options)
    return None if loaded is None else driven.said(loaded.messages)


# One walk on Pydantic AI's own store in RAM, and on ours: they agree.


async def _say(store, name, number, held):
    held[name] = await store.load(name) or Conversation(conversation_id=name)
    held[name].messages.append(driven.user(f"text {number}"))
    return len(await store.save(held[name], scope=("a", "b")[number % 2] if held[name].revision is None else None))


async def _say_late(store, name, number, held):
    """Save over a revision that may be an older one."""
    conversation = held.setdefault(name, Conversation(conversation_id=name))
    conversation.messages.append(driven.user(f"late {number}"))
    return len(await store.save(conversation))


async def _rewrite(store, name, number, held):
    loaded = await store.load(name)
    if loaded is None or not loaded.messages:
        return None
    loaded.messages[number % len(loaded.messages)] = driven.user(f"rewritten {number}")
    return len(await store.save(loaded))


async def _branch(store, name, number, held):
    loaded = await store.load(name)
    revision = None if loaded is None else loaded.revision
    return driven.said((await store.branch(name, at=number % 4, expected_revision=revision)).messages)


async def _back(store, name, number, held):
    record = await store.read_record(name)
    if record is None or not record.branches:
        return None
    tip = record.branches[number % len(record.branches)]
    return driven.said((await store.branch(name, from_entry=tip, expected_revision=record.revision)).messages)


async def _fork(store, name, number, held):
    there = [record.conversation_id for record in await store.list_conversations()]
    new = f"fork {len(there)}"
    return driven.said((await store.fork(name, at=number % 3, new_conversation_id=new)).messages)


async def _delete(store, name, number, held):
    return await store.delete(name, scope=("a", None)[number % 2])


async def _told(step, store, name, number, held):
    try:
        return await step(store, name, number, held)
    except (UserError, ConversationConflict) as error:
        return type(error).__name__


async def _everything(store):
    records = await store.list_conversations()
    return [
        (
            record.conversation_id,
            record.scope,
            record.forked_from,
            [driven.said([entry.message for entry in await store.read_history(tip)]) for tip in record.branches],
            await said(store, record.conversation_id),
            await said(store, record.conversation_id, limit=2),
        )
        for record in records
    ]


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_the_store_that_pydantic_ai_brings(url, seed):
    """Every answer and every error is the same, whatever is called in which order, and after a restart."""
    steps = [_say, _say, _say, _say_late, _rewrite, _branch, _back, _fork, _delete]

    async def run():
        chance, model = random.Random(seed), InMemoryConversationStore()
        held = {}, {}
        ours = PydanticAIStore(url)
        for number in range(60):
            step, name = chance.choice(steps), chance.choice(["one", "two", "fork 1", "fork 2"])
            answers = [
                await _told(step, store, name, number, mine) for store, mine in zip((model, ours), held, strict=True)
            ]
            assert answers[0] == answers[1], (number, step.__name__, name)
            if number % 10 == 0:
                await ours.close()
                ours = PydanticAIStore(url)
                assert await _everything(ours) == await _everything(model)
        assert await _everything(ours) == await _everything(model)
        await ours.close()

    finish(run())


def test_a_fork_outlives_what_it_was_forked_from(url):
    async def run():
        async with PydanticAIStore(url) as store:
            await saved(store, "one", "a", "b", "c")
            await store.fork("one", at=2, new_conversation_id="two")
            await store.delete("one")
            assert await said(store, "one") is None
            await saved(store, "two", "d")
        async with PydanticAIStore(url) as store:
            assert await said(store, "two") == ["a", "b", "d"]
            await store.delete("two")
            assert await store.list_conversations() == []
        with SessionManager(url) as manager:
            assert list(manager) == []

    finish(run())


def test_an_entry_is_found_by_its_id_after_a_restart(url):
    async def run():
        async with PydanticAIStore(url) as store:
            conversation = Conversation(conversation_id="one", messages=[driven.user("a"), driven.user("b")])
            entries = await store.save(conversation)
            await saved(store, "two", "c")
        async with PydanticAIStore(url) as store:
            assert [await store.read_entry(entry.id) for entry in entries] == entries
            assert await store.read_history(entries[0].id) == entries[:1]
            assert await store.read_history(None) == []
            for call in (store.read_entry, store.read_history):
                with pytest.raises(LookupError):
                    await call("not there")

    finish(run())


def test_a_head_that_is_nowhere_is_a_conflict(url):
    async def run():
        async with PydanticAIStore(url) as store:
            nowhere = ConversationRecord(conversation_id="one", head_id="gone")
            entry = ConversationEntry(parent_id="gone", message=driven.user("a"))
            other = ConversationEntry(parent_id=None, message=driven.user("b"))
            for record, entries in [
                (nowhere, []),
                (ConversationRecord(conversation_id="one", head_id=entry.id), [entry]),
                (nowhere, [other]),
            ]:
                with pytest.raises(ConversationConflict):
                    await store.write_record(record, new_entries=entries, expected_revision=None)
            for revision in ("another", ""):
                with pytest.raises(ConversationConflict):
                    await store.delete_record("one", expected_revision=revision)
            assert await store.list_conversations() == []

    finish(run())


def test_two_managers_that_save_one_revision_are_a_conflict(tmp_path):
    """As two processes are: each save is over the revision that it was loaded with, or it has done nothing."""

    async def run():
        async with (
            AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as one,
            AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as other,
        ):
            stores = [PydanticAIStore(one), PydanticAIStore(other)]
            await saved(stores[0], "chat", "a")
            loaded = [await store.load("chat") for store in stores]
            for number, conversation in enumerate(loaded):
                conversation.messages.append(driven.user(f"from {number}"))
            results = await asyncio.gather(
                *(store.save(conversation) for store, conversation in zip(stores, loaded, strict=True)),
                return_exceptions=True,
            )
            assert sorted(type(result).__name__ for result in results) == ["ConversationConflict", "list"]
            winner = [type(result) for result in results].index(list)
            assert [await said(store, "chat") for store in stores] == [["a", f"from {winner}"]] * 2
            new = await asyncio.gather(
                *(store.save(Conversation(conversation_id="new", messages=[driven.user("x")])) for store in stores),
                return_exceptions=True,
            )
            assert sorted(type(result).__name__ for result in new) == ["ConversationConflict", "list"]

    finish(run())


def test_a_failed_save_can_be_made_again():
    disk = FaultyStore(MemoryStore())

    async def run():
        with SessionManager(disk) as manager:
            async with PydanticAIStore(manager) as store:
                conversation = await saved(store, "chat", "a")
                conversation.messages.append(driven.user("b"))
                disk.fail_next(OSError(28, "No space left on device"))
                with pytest.raises(SaveFailedError):
                    await store.save(conversation)
                assert await said(store, "chat") == ["a"]
                assert len(await store.save(conversation)) == 1
                assert await said(store, "chat") == ["a", "b"]

    finish(run())


def test_files_usage_and_open_calls_come_back(url):
    """Bytes, what a run has used, and the calls that it waits for."""
    pages = BinaryContent(b"\xff\x00\x80", media_type="application/pdf")

    def ask(messages, info):
        return ModelResponse(parts=[ToolCallPart("pay", {"euros": 3}, tool_call_id="call_1")])

    agent = Agent(FunctionModel(ask), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def pay(euros: int) -> str:
        return f"paid {euros}"

    async def run():
        async with PydanticAIStore(url) as store:
            conversation = Conversation(
                conversation_id="chat", messages=[ModelRequest(parts=[UserPromptPart(["look", pages])])]
            )
            result = await agent.run("Pay, please.", conversation=conversation)
            await store.save(result, scope="me")
        async with PydanticAIStore(url) as store:
            loaded = await store.load("chat", scope="me")
            assert loaded.messages[0].parts[0].content[1].data == pages.data
            assert loaded.messages == result.conversation.messages
            assert loaded.usage == result.conversation.usage
            assert loaded.usage.requests == 1
            assert loaded.deferred_tool_requests == result.conversation.deferred_tool_requests
            assert [call.tool_name for call in loaded.deferred_tool_requests.approvals] == ["pay"]
            assert await store.load("chat", scope="you") is None
            assert [record.scope for record in await store.list_conversations(scope="me")] == ["me"]
            assert await store.list_conversations(scope="you") == []

    finish(run())


@pytest.mark.parametrize("name", ["x" * 2000, "\ud800"])
def test_an_id_that_is_no_key_is_refused(name):
    async def run():
        async with PydanticAIStore("memory:") as store:
            with pytest.raises(InvalidKeyError):
                await store.load(name)

    finish(run())


def test_the_example_answers_and_remembers(tmp_path):
    async def run():
        for number, text in enumerate(("What time is it?", "And now?"), 1):
            script = driven.Script()
            with example.agent.override(model=FunctionModel(script)):
                assert await example.answer("42", text, f"log:{tmp_path}") == "It is noon."
            assert script.counts() == (number, number)

    finish(run())
