"""Memories of LangGraph's agents live in a storage, and are found as LangGraph's own store finds them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import CorruptSessionError, InvalidKeyError, InvalidMessageError, SaveFailedError, SessionManager
from session_manager.stores.memory import MemoryStore
from session_manager.testing import Clock, FaultyStore

pytest.importorskip("langgraph", reason="langgraph is not installed")
pytest.importorskip("langchain.agents", reason="langchain is not installed")

from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langgraph.store.base import GetOp, InvalidNamespaceError, ListNamespacesOp, MatchCondition, PutOp, SearchOp
from langgraph.store.memory import InMemoryStore

from examples.adapters import langgraph_agent as example
from session_manager.adapters.langgraph import LangGraphSaver, LangGraphStore
from tests.support import adapted_langgraph as driven


@pytest.fixture(params=["log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


def test_memories_are_there_after_a_restart(url):
    clock = Clock()
    value = {"likes": ["pizza", {"deep": None}], "n": 1, "photo": b"\xff\x00"}
    with LangGraphStore(url, clock=clock) as store:
        store.put(("users", "a:b%"), "food", value)
        store.put(("users", "a"), "food", {"n": 0})
        clock.advance(timedelta(hours=1))
        store.put(("users", "a"), "food", {"n": 2})
        store.put(("users", "a"), "gone", {"n": 3})
        store.delete(("users", "a"), "gone")
    with LangGraphStore(url) as store:
        item = store.get(("users", "a:b%"), "food")
        assert (item.value, item.key, item.namespace) == (value, "food", ("users", "a:b%"))
        item.value["likes"].clear()
        assert store.get(("users", "a:b%"), "food").value == value
        changed = store.get(("users", "a"), "food")
        assert changed.value == {"n": 2}
        assert changed.updated_at - changed.created_at == timedelta(hours=1)
        assert store.get(("users", "a"), "gone") is None
        assert store.get(("nobody",), "food") is None


LABELS = st.sampled_from(["a", "b", "a:b", "%3A", "ä", " "])
NAMESPACES = st.lists(LABELS, min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from(["k", "", "x:y"])
VALUES = st.none() | st.fixed_dictionaries({"n": st.integers(0, 3), "deep": st.lists(st.integers(0, 1), max_size=1)})
FILTERS = st.sampled_from([None, {"n": 1}, {"n": {"$gte": 2}}, {"n": {"$ne": 0}, "deep": [1]}, {"deep": {"$eq": []}}])
CONDITIONS = st.builds(
    MatchCondition, st.sampled_from(["prefix", "suffix"]), st.lists(LABELS | st.just("*"), max_size=2).map(tuple)
)
PAGES = {"limit": st.integers(1, 4), "offset": st.integers(0, 2)}
OPS = st.one_of(
    st.builds(GetOp, NAMESPACES, KEYS),
    st.builds(PutOp, NAMESPACES, KEYS, VALUES),
    st.builds(PutOp, NAMESPACES, KEYS, VALUES),
    st.builds(SearchOp, st.lists(LABELS, max_size=2).map(tuple), filter=FILTERS, limit=st.just(100)),
    st.builds(
        ListNamespacesOp,
        match_conditions=st.none() | st.lists(CONDITIONS, max_size=2).map(tuple),
        max_depth=st.none() | st.integers(1, 2),
        **PAGES,
    ),
)


def shown(result):
    """Return what is compared of a result: the order of what a search finds is each store's own."""
    if isinstance(result, list):
        return sorted((shown(one) for one in result), key=repr)
    return (result.namespace, result.key, result.value) if hasattr(result, "key") else result


@given(st.lists(st.lists(OPS, max_size=4), max_size=8))
def test_it_finds_what_langgraphs_store_finds(batches):
    model, emptied = InMemoryStore(), set()
    with LangGraphStore(SessionManager()) as store:
        for ops in batches:
            touched = (op for op in ops if isinstance(op, GetOp) or (isinstance(op, PutOp) and op.value is None))
            emptied.update(op.namespace for op in touched)
            # LangGraph's store goes on to list a namespace that has become empty, or was looked at.
            ops = [op for op in ops if not (isinstance(op, ListNamespacesOp) and emptied)]  # noqa: PLW2901
            assert [shown(one) for one in store.batch(ops)] == [shown(one) for one in model.batch(ops)]


def test_searches_are_paged_and_the_async_calls_do_the_same(url):
    async def run():
        async with LangGraphStore(url) as store:
            for number in range(5):
                await store.aput(("docs", str(number % 2)), f"doc {number}", {"n": number})
            pages = [await store.asearch(("docs",), limit=2, offset=offset, query="is ignored") for offset in (0, 2, 4)]
            assert [[item.key for item in page] for page in pages] == [
                ["doc 0", "doc 2"],
                ["doc 4", "doc 1"],
                ["doc 3"],
            ]
            assert {item.score for page in pages for item in page} == {None}
            assert await store.alist_namespaces(prefix=("docs",)) == [("docs", "0"), ("docs", "1")]
            await store.adelete(("docs", "1"), "doc 1")
            assert await store.aget(("docs", "1"), "doc 1") is None
            assert store.get(("docs", "1"), "doc 3").value == {"n": 3}

    asyncio.run(run())


def test_what_cannot_be_carried_out_is_refused(url):
    with LangGraphStore(url) as store:
        for op in (PutOp(("a.b",), "k", {}), GetOp(("",), "k"), SearchOp(("a", "b.c"))):
            with pytest.raises(InvalidNamespaceError):
                store.batch([PutOp(("a",), "k", {"n": 1}), op])
        with pytest.raises(InvalidMessageError, match="set"):
            store.put(("a",), "k", {"n": {1}})
        store.put(("b",), "k", {"n": 1})
        with pytest.raises(ValueError, match="in a filter"):
            store.search(("b",), filter={"n": {"$regex": "x"}})
        with pytest.raises(TypeError, match="unknown operation: str"):
            store.batch(["get"])
        assert store.search(("a",)) == []
        with pytest.raises(InvalidKeyError):
            LangGraphStore(url, prefix="a:b")


def test_damage_under_another_prefix_is_no_hindrance(tmp_path):
    """A storage may hold the memories of several programs, whose prefixes start alike."""
    url = f"log:{tmp_path / 'chats'}"
    with LangGraphStore(url, prefix="memories") as store, LangGraphStore(url, prefix="memories-2") as other:
        store.put(("a",), "k", {"n": 1})
        other.put(("a",), "k", {"n": 2})
    (file,) = [one for one in (tmp_path / "chats").iterdir() if "memories-2" in one.name]
    file.write_bytes(b"no record\n" + file.read_bytes())
    with LangGraphStore(url, prefix="memories") as store, LangGraphStore(url, prefix="memories-2") as other:
        assert [item.value for item in store.search(("a",))] == [{"n": 1}]
        assert store.list_namespaces() == [("a",)]
        with pytest.raises(CorruptSessionError):
            other.search(("a",))


def test_a_failed_put_has_done_nothing():
    disk = FaultyStore(MemoryStore())
    with SessionManager(disk) as manager:
        store = LangGraphStore(manager)
        store.put(("a",), "k", {"n": 1})
        for namespace in (("a",), ("b",)):
            disk.fail_next(OSError(28, "No space left on device"))
            with pytest.raises(SaveFailedError):
                store.put(namespace, "k", {"n": 2})
        assert [item.value for item in store.search(())] == [{"n": 1}]
        assert store.list_namespaces() == [("a",)]


def test_several_namespaces_are_written_in_one_commit():
    disk = FaultyStore(MemoryStore())
    with SessionManager(disk) as manager:
        store = LangGraphStore(manager)
        ops = [PutOp((label,), "k", {"n": 1}) for label in "abc"]
        disk.fail_next(OSError(28, "No space left on device"))
        with pytest.raises(SaveFailedError):
            store.batch(ops)
        assert store.search(()) == []
        with pytest.raises(InvalidMessageError):
            store.batch([*ops, PutOp(("d",), "k", {"n": {1}})])
        assert store.search(()) == []
        store.batch(ops)
        assert len(store.search(())) == 3


def test_two_processes_write_to_one_namespace(tmp_path):
    """As two managers of one database do: each memory is there, whoever wrote it."""
    url = f"sqlite:{tmp_path / 'chats.db'}"

    async def run(stores):
        await asyncio.gather(*(stores[number % 2].aput(("a",), f"key {number}", {"n": number}) for number in range(20)))

    with SessionManager(url) as one, SessionManager(url) as other:
        stores = LangGraphStore(one), LangGraphStore(other)
        asyncio.run(run(stores))
        for store in stores:
            assert sorted(item.value["n"] for item in store.search(("a",), limit=100)) == list(range(20))


@tool
def remember(fact: str, runtime: ToolRuntime) -> str:
    """Remember something."""
    known = runtime.store.search(("facts",))
    runtime.store.put(("facts",), f"fact {len(known)}", {"is": fact})
    return f"I know {len(known) + 1}."


class Remembering(driven.Scripted):
    """Calls the tool `remember` with what the user says."""

    def _generate(self, messages, stop=None, run_manager=None, **options):
        result = super()._generate(messages, stop, run_manager, **options)
        for call in result.generations[0].message.tool_calls:
            call["name"], call["args"] = "remember", {"fact": messages[-1].content}
        return result


def test_an_agent_remembers_across_threads_and_restarts(url):
    """LangChain's ``create_agent(checkpointer=, store=)`` on one storage."""
    for life in range(2):
        with SessionManager(url) as manager:
            agent = create_agent(
                Remembering(), [remember], checkpointer=LangGraphSaver(manager), store=LangGraphStore(manager)
            )
            for chat in "ab":
                said = agent.invoke({"messages": [("user", f"{life} {chat}")]}, driven.thread(chat))["messages"]
                assert len(said) == 4 * (life + 1)
    with LangGraphStore(url) as store:
        assert [item.value["is"] for item in store.search(("facts",))] == ["0 a", "0 b", "1 a", "1 b"]


def test_the_example_answers_and_remembers(tmp_path):
    class Noting(driven.Scripted):
        def _generate(self, messages, stop=None, run_manager=None, **options):
            result = super()._generate(messages, stop, run_manager, **options)
            for call in result.generations[0].message.tool_calls:
                call["name"], call["args"] = "remember", {"name": "food", "fact": messages[-1].content}
            return result

    url = f"sqlite:{tmp_path / 'chats.db'}"
    for text in ("I like pizza.", "I like soup."):
        assert example.answer("42", text, Noting(), url) == "It is noon."
    with LangGraphStore(url) as store:
        assert store.get(("facts",), "food").value == {"is": "I like soup."}
