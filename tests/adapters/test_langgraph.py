"""Threads of LangGraph live in a storage, and its graphs go on with them."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import (
    AsyncSessionManager,
    InvalidKeyError,
    InvalidMessageError,
    SaveFailedError,
    SessionExistsError,
    SessionManager,
)
from session_manager.stores.memory import MemoryStore
from session_manager.testing import AdapterContract, FaultyStore

pytest.importorskip("langgraph.checkpoint.conformance", reason="langgraph-checkpoint-conformance is not installed")
pytest.importorskip("langchain.agents", reason="langchain is not installed")

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from session_manager.adapters.langgraph import LangGraphSaver
from tests.support import adapted_langgraph as driven

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


class TestLangGraph(AdapterContract):
    adapted = driven.AdaptedLangGraph
    appends = False  # a state is written over the state before


class TestLangGraphInThreads(AdapterContract):
    """By `invoke`. Another process does the same as above."""

    adapted = driven.AdaptedLangGraphInThreads
    appends = False
    test_a_runner_goes_on_after_a_kill = None


@pytest.fixture(params=["log", "sqlite"])
def url(request, tmp_path):
    return f"{request.param}:{tmp_path / 'chats'}"


def config(thread="t", ns="", id=None):
    named = {"thread_id": thread, "checkpoint_ns": ns}
    return {"configurable": named if id is None else {**named, "checkpoint_id": id}}


def put(saver, values, *, parent=None, thread="t", ns="", run=None, **metadata):
    """Store a checkpoint with new values for channels, behind another one; return its config."""
    before = None if parent is None else saver.get_tuple(parent).checkpoint
    versions = {} if before is None else dict(before["channel_versions"])
    new = {channel: saver.get_next_version(versions.get(channel), None) for channel in values}
    held = {**({} if before is None else before["channel_values"]), **values}
    checkpoint = {**empty_checkpoint(), "channel_values": held, "channel_versions": {**versions, **new}}
    where = config(thread, ns, None if parent is None else parent["configurable"]["checkpoint_id"])
    about = metadata if run is None else {"run_id": run, **metadata}
    return saver.put(where, checkpoint, {"source": "loop", "step": 1, **about}, new)


def values(saver, where):
    return saver.get_tuple(where).checkpoint["channel_values"]


def count_items(saver_or_manager, thread="t"):
    return len(saver_or_manager.get_history(f"langgraph:{thread}"))


@pytest.mark.parametrize("options", [{}, {"keep": 100}])
def test_the_conformance_suite_of_langgraph(url, options):
    """All eight capabilities of ``langgraph-checkpoint-conformance``."""

    @checkpointer_test(name=url)
    async def saver():
        async with LangGraphSaver(url, **options) as opened:
            yield opened

    results = asyncio.run(validate(saver)).results
    assert len(results) == 8
    assert {name: result.failures for name, result in results.items() if not result.passed} == {}


def test_a_list_is_stored_by_what_it_has_more(url):
    with SessionManager(url) as manager:
        saver, said, at = LangGraphSaver(manager), [], None
        for number in range(60):
            said = [*said, f"message {number} " + "x" * 1000]
            at = put(saver, {"messages": said}, parent=at)
        assert values(saver, at) == {"messages": said}
        stored = sum(len(str(item.to_dict())) for item in manager.get_history("langgraph:t"))
        assert stored < 3 * sum(map(len, said))
        branch = put(saver, {"messages": [*said[:10], "another"]}, parent=at)
        assert values(saver, branch)["messages"] == [*said[:10], "another"]
    with LangGraphSaver(url) as saver:
        assert values(saver, at)["messages"] == said
        assert values(saver, branch)["messages"] == [*said[:10], "another"]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.text(max_size=3) | st.binary(max_size=3) | st.none(), max_size=5)),
        max_size=8,
    ),
    st.integers(1, 3),
)
def test_every_checkpoint_keeps_its_values(steps, keep):
    """Whatever a list becomes, on whichever branch, each checkpoint has it as it was; pruned threads, too."""
    with SessionManager() as manager:
        saver, model = LangGraphSaver(manager), []
        for start, more in steps:
            parent = None if not model else model[start % len(model)][0]
            before = [] if parent is None else values(saver, parent)["list"]
            after = before[: start * 2] + more
            model.append((put(saver, {"list": after, "other": len(model)}, parent=parent), after))
        for where, wanted in model:
            assert values(saver, where)["list"] == wanted
        saver.prune(["t"], keep=keep)
        assert [one.config for one in saver.list(config())] == [where for where, _ in reversed(model[-keep:])]
        for where, wanted in model[-keep:]:
            assert values(LangGraphSaver(manager), where)["list"] == wanted


def test_one_version_with_two_values_is_two_values(url):
    """As savers with versions that count up have it: two branches give a channel one version, and each its value."""
    with LangGraphSaver(url) as saver:
        first = put(saver, {"list": ["a"]})
        checkpoints = []
        for value in (["a", "one"], ["a", "two"]):
            checkpoint = {**empty_checkpoint(), "channel_values": {"list": value}, "channel_versions": {"list": 2}}
            checkpoints.append(saver.put(first, checkpoint, {}, {"list": 2}))
        assert [values(saver, one)["list"] for one in checkpoints] == [["a", "one"], ["a", "two"]]


def test_pruning_leaves_what_kept_checkpoints_need(url):
    with SessionManager(url) as manager:
        saver, at = LangGraphSaver(manager), None
        for number in range(30):
            at = put(saver, {"list": [str(one) for one in range(number % 7)], "n": {"is": number}}, parent=at)
            saver.put_writes(at, [("n", number)], f"task {number}")
        late = config(id=f"ffff{at['configurable']['checkpoint_id'][4:]}")
        saver.put_writes(late, [("n", "early")], "of a checkpoint that is not there yet")
        before = count_items(manager)
        saver.prune(["t", "missing"], keep=2)
        found = list(saver.list(config()))
        assert [one.checkpoint["channel_values"]["n"] for one in found] == [{"is": 29}, {"is": 28}]
        assert [one.pending_writes for one in found] == [[("task 29", "n", 29)], [("task 28", "n", 28)]]
        assert count_items(manager) <= 12 < before
        for bad in ({"strategy": "keep_all"}, {"keep": 0}):
            with pytest.raises(ValueError, match=r"strategy|keep"):
                saver.prune(["t"], **bad)


def test_old_checkpoints_go_by_themselves(url):
    """With ``keep=3`` there are never more than six of a namespace, and each put goes on from the newest."""
    with SessionManager(url) as manager:
        saver, at = LangGraphSaver(manager, keep=3), None
        for number in range(40):
            at = put(saver, {"list": [str(one) for one in range(number)]}, parent=at)
            assert len(list(saver.list(config()))) <= 6
        assert values(saver, at)["list"] == [str(one) for one in range(39)]
        assert count_items(manager) < 60


def test_runs_are_deleted_and_the_values_of_others_stay(url):
    with LangGraphSaver(url) as saver:
        first = put(saver, {"list": ["one"], "n": "of run 1"}, run="1")
        second = put(saver, {"list": ["one", "two"]}, parent=first, run="2")
        other = put(saver, {"n": 1}, thread="other", run="1")
        saver.delete_for_runs(["1"])
        assert saver.get_tuple(first) is None
        assert saver.get_tuple(other) is None
        assert values(saver, second) == {"list": ["one", "two"], "n": "of run 1"}


def test_a_thread_is_copied_whole_and_never_over_another(url):
    with LangGraphSaver(url) as saver:
        at = put(saver, {"list": ["one"]}, thread="a")
        saver.put_writes(at, [("x", 1)], "task")
        put(saver, {"list": ["other"]}, thread="b")
        saver.copy_thread("a", "c")
        saver.copy_thread("missing", "d")
        copied = saver.get_tuple(config("c"))
        assert copied.config["configurable"]["thread_id"] == "c"
        assert copied.pending_writes == [("task", "x", 1)]
        with pytest.raises(SessionExistsError):
            saver.copy_thread("a", "b")
        saver.delete_thread("a")
        assert saver.get_tuple(config("a")) is None
        assert saver.get_tuple(config("d")) is None
        assert values(saver, config("c"))["list"] == ["one"]


class State(TypedDict):
    said: Annotated[list, operator.add]


def graph_of(saver, steps=3):
    """Return a graph whose steps each say something; the second one asks a person."""
    graph = StateGraph(State)
    for number in range(steps):
        graph.add_node(
            str(number), lambda state, number=number: {"said": [(number, interrupt("may I?") if number == 1 else "")]}
        )
        graph.add_edge(START if not number else str(number - 1), str(number))
    graph.add_edge(str(steps - 1), END)
    return graph.compile(checkpointer=saver)


def test_a_graph_waits_for_a_person_in_another_process_life(url):
    """An interrupt is there after a restart, goes on by its answer, and the past can be branched off."""
    where = {"configurable": {"thread_id": "t"}}
    with LangGraphSaver(url) as saver:
        paused = graph_of(saver).invoke({"said": []}, where)
        assert paused["__interrupt__"][0].value == "may I?"
    with LangGraphSaver(url) as saver:
        done = graph_of(saver).invoke(Command(resume="yes"), where)
        assert [tuple(one) for one in done["said"]] == [(0, ""), (1, "yes"), (2, "")]
    with LangGraphSaver(url) as saver:
        graph = graph_of(saver)
        past = next(one for one in graph.get_state_history(where) if one.next == ("1",))
        graph.invoke(None, past.config)
        again = graph.invoke(Command(resume="no"), where)
        assert [tuple(one) for one in again["said"]] == [(0, ""), (1, "no"), (2, "")]


def test_channels_that_are_rebuilt_survive_pruning(url):
    """LangGraph's `DeltaChannel` has a value in a few checkpoints only: pruning leaves those that the newest one needs."""

    class Delta(TypedDict):
        said: Annotated[
            list,
            DeltaChannel(lambda state, writes: state + [one for more in writes for one in more], snapshot_frequency=5),
        ]

    graph = StateGraph(Delta)
    graph.add_node("echo", lambda state: {"said": [f"after {len(state['said'])}"]})
    graph.add_edge(START, "echo")
    graph.add_edge("echo", END)
    where = {"configurable": {"thread_id": "t"}}
    with SessionManager(url) as manager:
        saver = LangGraphSaver(manager)
        compiled = graph.compile(checkpointer=saver)
        for number in range(9):
            said = compiled.invoke({"said": [f"text {number}"]}, where)["said"]
            compiled.invoke({"said": [f"text {number}"]}, {"configurable": {"thread_id": "whole"}})
            saver.prune(["t"])
            assert compiled.get_state(where).values["said"] == said
        assert len(said) == 18
        assert count_items(manager) < count_items(manager, "whole") / 2


def test_writes_of_many_threads_are_all_there(url):
    """Tasks of one step write at once. Each write is there once, in LangGraph's order, also if a task comes twice."""
    with LangGraphSaver(url) as saver:
        at = put(saver, {"n": 1})
        tasks = [(f"task {number}", f"path {9 - number}") for number in range(10)] * 2

        def write(task, path):
            saver.put_writes(at, [("a", task), ("b", path)], task, path)

        threads = [threading.Thread(target=write, args=task) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = [
            (f"task {number}", *one)
            for number in reversed(range(10))
            for one in (("a", f"task {number}"), ("b", f"path {9 - number}"))
        ]
        assert saver.get_tuple(at).pending_writes == wanted


def test_two_managers_of_a_database_write_to_one_thread(tmp_path):
    """As two processes do, one of which removes what the other one is about to build on."""
    url = f"sqlite:{tmp_path / 'chats.db'}"

    async def run():
        async with AsyncSessionManager(url) as first, AsyncSessionManager(url) as second:
            savers = LangGraphSaver(first), LangGraphSaver(second)

            async def work(saver, name):
                at = None
                for number in range(10):
                    said = [f"{name} {one}" for one in range(number)]
                    at = await asyncio.to_thread(put, saver, {"list": said}, parent=at, ns=name)
                    await saver.aput_writes(at, [("x", number)], name)
                    await saver.aprune(["t"])
                return at

            ends = await asyncio.gather(*(work(saver, name) for saver, name in zip(savers, "ab", strict=True)))
            for saver in savers:
                for end, name in zip(ends, "ab", strict=True):
                    assert values(saver, end)["list"] == [f"{name} {one}" for one in range(9)]

    asyncio.run(run())


def test_a_base_that_is_gone_is_stored_again(tmp_path):
    """Another process prunes the thread between the look at it and the commit: the checkpoint is whole all the same."""
    url = f"sqlite:{tmp_path / 'chats.db'}"
    with SessionManager(url) as one, SessionManager(url) as other:
        saver, pruning = LangGraphSaver(one), LangGraphSaver(other)
        first = put(saver, {"list": ["a", "b"]})
        serde = saver.serde

        class Serde:
            """While it writes a value, the other process removes what that is to be based on."""

            def dumps_typed(self, value):
                if value == "late":
                    pruning.delete_for_runs(["gone"])
                return serde.dumps_typed(value)

            loads_typed = staticmethod(serde.loads_typed)

        saver.serde = Serde()
        gone = put(pruning, {"list": ["a", "b", "c"]}, parent=first, run="gone")
        assert saver.get_tuple(gone) is not None
        late = put(saver, {"list": ["a", "b", "c", "late"]}, parent=first)
        assert values(LangGraphSaver(one), late)["list"] == ["a", "b", "c", "late"]


def test_a_failed_put_has_done_nothing():
    disk = FaultyStore(MemoryStore())
    with SessionManager(disk) as manager:
        saver = LangGraphSaver(manager)
        at = put(saver, {"list": ["a"]})
        before = count_items(manager)
        for call in (
            lambda: put(saver, {"list": ["b"]}, parent=at),
            lambda: saver.put_writes(at, [("x", 1)], "task"),
            lambda: saver.prune(["t"], keep=1),
        ):
            put(saver, {"n": 1}, parent=at)
            before = count_items(manager)
            disk.fail_next(OSError(28, "No space left on device"))
            with pytest.raises(SaveFailedError):
                call()
            assert count_items(manager) == before
            assert manager.health().dirty == ()
        with pytest.raises(InvalidMessageError):
            put(saver, {"list": ["x" * 2**24]}, parent=at)
        assert count_items(manager) == before


class Reversing:
    """A cipher for tests, with something random in what it returns."""

    def __init__(self):
        self.count = 0

    def encrypt(self, plaintext):
        self.count += 1
        return "reversed", plaintext[::-1] + self.count.to_bytes(4, "big")

    def decrypt(self, ciphername, ciphertext):
        return ciphertext[:-4][::-1]


def test_a_serializer_that_encrypts_is_used_for_all_of_it(url):
    with SessionManager(url) as manager:
        saver = LangGraphSaver(manager, serde=EncryptedSerializer(Reversing()))
        at = put(saver, {"list": ["a secret"]}, own="a secret of the metadata")
        at = put(saver, {"list": ["a secret", "another"]}, parent=at)
        saver.put_writes(at, [("x", "a secret")], "task")
        assert values(saver, at)["list"] == ["a secret", "another"]
        assert saver.get_tuple(at).pending_writes == [("task", "x", "a secret")]
        assert manager.search("secret") == []


def test_prefixes_keep_applications_apart(url):
    with SessionManager(url) as manager:
        savers = LangGraphSaver(manager, prefix="a"), LangGraphSaver(manager, prefix="b")
        put(savers[0], {"n": 1}, thread="t")
        put(savers[1], {"n": 2}, thread="t")
        assert [one.checkpoint["channel_values"]["n"] for one in savers[1].list(None)] == [2]
        manager.add_message("langgraph:chat", "user", "a chat of your own")
        assert list(LangGraphSaver(manager).list(None)) == []
        assert isinstance(savers[0], BaseCheckpointSaver)
    with pytest.raises(ValueError, match="keep"):
        LangGraphSaver("memory:", keep=0)
    with pytest.raises(InvalidKeyError):
        LangGraphSaver("memory:", prefix="a:b")
