"""Transcripts of the Claude Agent SDK live in a storage, and it resumes them."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from session_manager import AsyncSessionManager, ConflictError, Item, SaveFailedError, SessionManager
from session_manager.stores.memory import MemoryStore
from session_manager.testing import AdapterContract, FaultyStore

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed")

import claude_agent_sdk as sdk
from claude_agent_sdk.testing import run_session_store_conformance

from examples.adapters import claude_agent as example
from session_manager.adapters.claude_agent import ClaudeSessionStore
from tests.support import adapted_claude_agent as driven
from tests.support.managers import put_in_conflict


class TestClaudeAgent(AdapterContract):
    adapted = driven.AdaptedClaudeAgent


@pytest.mark.faults
@pytest.mark.timeout(600)
class TestClaudeAgentKilledOften(AdapterContract):
    adapted = driven.AdaptedClaudeAgent
    kills = 5


@pytest.fixture(params=["log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


KEY = {"project_key": "-srv-bot", "session_id": "9b2c0c3e-0000-4000-8000-000000000001"}


def entry(text, **fields):
    message = {"role": "user", "content": text}
    return {
        "type": "user",
        "uuid": str(uuid.uuid4()),
        "message": message,
        "timestamp": "2026-01-01T00:00:00.000Z",
        **fields,
    }


def finish(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def test_the_sdks_own_contracts_hold(url):
    """All 14 that `claude_agent_sdk.testing` has, none of them skipped."""
    stores = []

    def new():
        stores.append(ClaudeSessionStore(f"{url}-{len(stores)}"))
        return stores[-1]

    async def run():
        try:
            await run_session_store_conformance(new)
        finally:
            for store in stores:
                await store.close()

    finish(run())
    assert len(stores) >= 14


def test_entries_come_back_exactly_and_once(url):
    entries = [
        entry("ä\u2028", toolUseResult={"deep": [1, 2.5, True, None]}),
        {"type": "summary", "summary": "A title", "leafUuid": "x"},
        {"type": "tag", "tag": ""},
        entry("two", uuid=""),
    ]

    async def run():
        async with ClaudeSessionStore(url) as store:
            assert await store.load(KEY) is None
            await store.append(KEY, [*entries, entries[0]])
            assert await store.load(KEY) == entries
            await store.append(KEY, entries[:1])  # it is tried again
            assert await store.load(KEY) == entries
            await store.append(KEY, [entries[1], entries[0], entry("three", uuid="3")])
            assert await store.load(KEY) == [*entries, entries[1], entry("three", uuid="3")]
            (await store.load(KEY)).clear()
        with SessionManager(url) as manager:
            history = manager.get_history(f"claude:-srv-bot:{KEY['session_id']}")
            assert {type(message) for message in history} == {Item}
            assert [message.ref for message in history] == [entries[0]["uuid"], None, None, None, None, "3"]
            assert [hit.key for hit in manager.search("three")] == [f"claude:-srv-bot:{KEY['session_id']}"]

    finish(run())


def test_parts_of_keys_are_never_mixed_up(url):
    keys = [
        {"project_key": "a", "session_id": "b"},
        {"project_key": "a:b", "session_id": "c"},
        {"project_key": "a", "session_id": "b:c"},
        {"project_key": "a", "session_id": "b", "subpath": "c"},
        {"project_key": "a", "session_id": "b", "subpath": "subagents/agent-1"},
        {"project_key": "a", "session_id": "b", "subpath": "c:d"},
        {"project_key": "a%3Ab", "session_id": "c"},
        {"project_key": "", "session_id": ""},
        {"project_key": "%", "session_id": ""},
        {"project_key": "ab", "session_id": "b"},
    ]

    async def run():
        async with ClaudeSessionStore(url) as store:
            for number, key in enumerate(keys):
                await store.append(key, [entry(str(number))])
            for number, key in enumerate(keys):
                assert [one["message"]["content"] for one in await store.load(key)] == [str(number)]
            assert sorted(one["session_id"] for one in await store.list_sessions("a")) == ["b", "b:c"]
            assert [one["session_id"] for one in await store.list_sessions("")] == [""]
            assert sorted(await store.list_subkeys(keys[0])) == ["c", "c:d", "subagents/agent-1"]
            await store.delete(keys[0])
            there = [await store.load(key) is not None for key in keys]
            assert there == [False, True, True, False, False, False, True, True, True, True]

    finish(run())


def test_a_summary_has_the_entries_of_all_writers(tmp_path):
    """Two managers of one database stand for two processes: none of them folds over an older summary."""

    async def run():
        async with (
            AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as one,
            AsyncSessionManager(f"sqlite:{tmp_path / 'chats.db'}") as other,
        ):
            stores = [ClaudeSessionStore(one), ClaudeSessionStore(other)]
            fields = ["customTitle", "aiTitle", "gitBranch", "lastPrompt", "summary", "cwd"]
            await asyncio.gather(
                *(
                    stores[number % 2].append(KEY, [entry("hi", **{field: field})])
                    for number, field in enumerate(fields)
                )
            )
            for store in stores:
                (summary,) = await store.list_session_summaries(KEY["project_key"])
                assert set(summary["data"].values()) >= set(fields)
                assert len(await store.load(KEY)) == len(fields)

    finish(run())


def test_tasks_that_append_to_one_transcript_take_their_turn():
    """However many they are: none of them is sent back by the others, as other writers are."""

    async def run():
        async with AsyncSessionManager(MemoryStore()) as manager:
            store = ClaudeSessionStore(manager)
            await asyncio.gather(*(store.append(KEY, [entry("hi")]) for _ in range(120)))
            assert len(await store.load(KEY)) == 120

    finish(run())


def test_a_conflict_that_stays_is_raised(tmp_path):
    """No try of an append gets over an unsaved edit of the program's own that another process has made impossible."""
    url = f"sqlite:{tmp_path / 'chats.db'}"
    manager = SessionManager(url)

    async def run():
        store = ClaudeSessionStore(manager)
        await store.append(KEY, [entry("one")])
        put_in_conflict(url, manager, next(iter(manager)))
        with pytest.raises(ConflictError):
            await asyncio.wait_for(store.append(KEY, [entry("two")]), 10)
        assert len(await store.load(KEY)) == 1

    finish(run())
    manager.close(save=False)


def test_the_sdk_lists_reads_names_tags_and_forks(url, tmp_path):
    async def run():
        async with ClaudeSessionStore(url) as store:
            chats = driven.AdaptedClaudeAgent(url)
            key = chats.key("chat")
            name, where = key["session_id"], {"directory": chats.home}
            first = entry("What time is it?", sessionId=name, cwd=chats.home, parentUuid=None)
            await store.append(key, [first])
            await sdk.rename_session_via_store(store, name, "About time", **where)
            await sdk.tag_session_via_store(store, name, "clocks", **where)
            fork = await sdk.fork_session_via_store(store, name, **where)
            infos = {info.session_id: info for info in await sdk.list_sessions_from_store(store, **where)}
            assert set(infos) == {name, fork.session_id}
            assert (infos[name].custom_title, infos[name].tag) == ("About time", "clocks")
            messages = await sdk.get_session_messages_from_store(store, name, **where)
            assert [message.message["content"] for message in messages] == ["What time is it?"]
            await sdk.delete_session_via_store(store, name, **where)
            assert [info.session_id for info in await sdk.list_sessions_from_store(store, **where)] == [fork.session_id]
            await chats.close()

    finish(run())


def test_subagents_are_mirrored_and_deleted_with_their_session(url):
    """The SDK's program runs a subagent, whose transcript comes in beside that of its session."""

    async def run():
        chats = driven.AdaptedClaudeAgent(url)
        chats.model = driven.ModelWithHelper()
        key = chats.key("chat")
        agents = {"helper": sdk.AgentDefinition(description="helps", prompt="Help.", tools=[])}
        options = chats.options(session_id=key["session_id"], tools=["Agent"], agents=agents)
        assert set(await chats.ran("help me", options)) == {"It is noon."}
        subpaths = await chats.store.list_subkeys(key)
        assert [path.startswith("subagents/agent-") for path in subpaths] == [True]
        there = await chats.store.load({**key, "subpath": subpaths[0]})
        assert "I help." in str(there)
        assert await sdk.list_subagents_from_store(chats.store, key["session_id"], directory=chats.home)
        await sdk.delete_session_via_store(chats.store, key["session_id"], directory=chats.home)
        assert await chats.store.list_subkeys(key) == []
        await chats.close()
        with SessionManager(url) as manager:
            assert list(manager) == []

    finish(run())


def test_a_failed_append_leaves_no_summary_and_is_tried_again():
    disk = FaultyStore(MemoryStore())

    async def run():
        with SessionManager(disk) as manager:
            async with ClaudeSessionStore(manager) as store:
                disk.fail_next(OSError(28, "No space left on device"))
                with pytest.raises(SaveFailedError):
                    await store.append(KEY, [entry("one", customTitle="One")])
                assert await store.list_session_summaries(KEY["project_key"]) == []
                assert await store.list_sessions(KEY["project_key"]) == []
                disk.lose_ack_next()
                await store.append(KEY, [entry("one", customTitle="One")])
                (summary,) = await store.list_session_summaries(KEY["project_key"])
                assert summary["data"]["custom_title"] == "One"
                assert len(await store.load(KEY)) == 1

    finish(run())


def test_the_example_answers_and_remembers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def run():
        chats = driven.AdaptedClaudeAgent(f"log:{tmp_path / 'chats'}")
        for text in ("What time is it?", "And now?"):
            assert await example.answer(KEY["session_id"], text, chats.options(), "log:chats") == "It is noon."
        said = [driven.said_in(message["content"]) for message in chats.model.given[-1] if message["role"] == "user"]
        assert [text for texts in said for text in texts] == ["What time is it?", "And now?"]
        await chats.close()

    finish(run())
