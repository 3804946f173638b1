"""Programs that end, or drop a manager, without `close`: what is unsaved is saved, in bounded time, and the log says so."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import textwrap
import time

import pytest

from session_manager import ConflictError, SessionManager
from session_manager.manager import ending
from session_manager.stores.memory import MemoryStore

DEADLINE = 60

PLAIN = """
    import sys
    from session_manager import SessionManager
    m = SessionManager(sys.argv[1])
    m.add_message("a", "user", "hi")
    m.add_message("b", "user", "hi")
"""
FUNCTION = """
    import sys
    from session_manager import SessionManager

    def main():
        m = SessionManager(sys.argv[1])
        m.add_message("a", "user", "hi")
        m.add_message("b", "user", "hi")

    main()
"""
ERROR = (
    PLAIN
    + """
    raise SystemExit(3)
"""
)
ASYNCIO = """
    import asyncio, sys
    from session_manager import AsyncSessionManager

    async def main():
        m = AsyncSessionManager(sys.argv[1])
        await m.add_message("a", "user", "hi")
        await m.add_message("b", "user", "hi")

    asyncio.run(main())
"""
GLOBAL = """
    import asyncio, sys
    from session_manager import AsyncSessionManager
    m = AsyncSessionManager(sys.argv[1])

    async def main():
        await m.add_message("a", "user", "hi")
        await m.add_message("b", "user", "hi")

    asyncio.run(main())
"""
TRIO = ASYNCIO.replace("asyncio.run(main())", "trio.run(main)").replace("asyncio", "trio")
DAEMON = """
    import sys, threading
    from session_manager import SessionManager
    added = threading.Event()

    def bot():
        m = SessionManager(sys.argv[1])
        m.add_message("a", "user", "hi")
        m.add_message("b", "user", "hi")
        added.set()
        threading.Event().wait()

    threading.Thread(target=bot, daemon=True).start()
    added.wait(30)
"""
THREAD = DAEMON.replace("threading.Event().wait()", "threading.main_thread().join()").replace(", daemon=True", "")
CHILD = """
    import multiprocessing, sys
    from session_manager import SessionManager
    kept = []

    def work(path):
        kept.append(SessionManager(path))
        kept[0].add_message("a", "user", "hi")
        kept[0].add_message("b", "user", "hi")

    if __name__ == "__main__":
        child = multiprocessing.get_context("fork").Process(target=work, args=sys.argv[1:2])
        child.start()
        child.join()
"""


def run(script, *arguments):
    """Run a script to its end, and return what it has written to stderr."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == (3 if "SystemExit(3)" in script else 0), done.stderr
    return done.stderr


def stored(storage):
    with SessionManager(storage, read_only=True) as m:
        return {key: [message.content for message in m.get_history(key)] for key in m}


@pytest.mark.parametrize("kind", ["snapshot", "log", "sqlite"])
def test_a_program_that_ends_without_close_saves(kind, tmp_path):
    """Its messages were lost, with exit code 0 and an empty stderr."""
    storage = f"{kind}:{tmp_path / 'chats'}"
    told = run(PLAIN, storage)
    assert "2 sessions were unsaved, and 0 of them could not be saved; close it" in told
    assert told.count("\n") == 1
    assert "hi" not in told.split()
    assert stored(storage) == {"a": ["hi"], "b": ["hi"]}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(FUNCTION, id="function"),
        pytest.param(ASYNCIO, id="asyncio"),
        pytest.param(DAEMON, id="daemon", marks=pytest.mark.long),
        pytest.param(CHILD, id="child"),
        pytest.param(ERROR, id="error", marks=pytest.mark.long),
        pytest.param(GLOBAL, id="global", marks=pytest.mark.long),
        pytest.param(TRIO, id="trio", marks=pytest.mark.long),
        pytest.param(THREAD, id="thread", marks=pytest.mark.long),
    ],
)
def test_wherever_the_manager_is_its_end_saves(script, tmp_path):
    told = run(script, tmp_path / "chats")
    assert "2 sessions were unsaved, and 0 of them could not be saved; close it" in told
    assert stored(tmp_path / "chats") == {"a": ["hi"], "b": ["hi"]}


@pytest.mark.parametrize(
    "last",
    [
        "m.close()",
        "m.close(save=False)",
        *(pytest.param(one, marks=pytest.mark.long) for one in ("m.save_all()", "os._exit(0)")),
    ],
)
def test_nothing_is_said_or_saved_if_nothing_is_left(last, tmp_path):
    assert run(PLAIN + f"    import os; {last}\n", tmp_path / "chats") == ""
    assert len(stored(tmp_path / "chats")) == (0 if last in ("m.close(save=False)", "os._exit(0)") else 2)


def test_a_forked_child_does_not_save_for_its_parent(tmp_path):
    fork = (
        PLAIN
        + """
    import os, warnings
    warnings.simplefilter("ignore")
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        from session_manager.stores.snapshot import SnapshotStore
        print(sorted(SnapshotStore(sys.argv[1], read_only=True).keys()), file=sys.stderr)
    """
    )
    assert run(fork, tmp_path / "chats").startswith("[]\n<SnapshotStore")
    assert len(stored(tmp_path / "chats")) == 2


def test_after_a_conflict_or_damage_the_end_leaves_a_session_alone(tmp_path):
    """Such a save needs a decision: the end must not take it, although another save would work by now."""
    told = run(
        """
        import sys
        from session_manager import ConflictError, CorruptSessionError, SessionManager
        from session_manager.stores.sqlite import SQLiteStore
        m, other = SessionManager(f"sqlite:{sys.argv[1]}"), SessionManager(f"sqlite:{sys.argv[1]}")
        for key in ("conflict", "damage", "well"):
            m.add_message(key, "user", "one")
            m.save(key)
        m.update_last("conflict", {"role": "user", "content": "mine"})
        other.update_last("conflict", {"role": "user", "content": "theirs"})
        other.close()
        try:
            m.save("conflict")
        except ConflictError:
            m.add_message("well", "user", "two")
        m.add_message("damage", "user", "two")
        write = SQLiteStore.write
        def broken(self, commit):
            raise CorruptSessionError("damage", "chats.db", None, "torn")
        SQLiteStore.write = broken
        try:
            m.save("damage")
        except CorruptSessionError:
            SQLiteStore.write = write
        """,
        tmp_path / "chats.db",
    )
    assert "3 sessions were unsaved, and 2 of them could not be saved" in told
    expected = {"conflict": ["theirs"], "damage": ["one"], "well": ["one", "two"]}
    assert stored(f"sqlite:{tmp_path / 'chats.db'}") == expected


def test_a_conflict_stands_among_the_failures_until_it_is_settled():
    store = MemoryStore()
    m, other = SessionManager(store), SessionManager(store)
    m.add_message("k", "user", "one")
    m.save("k")
    m.update_last("k", {"role": "user", "content": "mine"})
    other.update_last("k", {"role": "user", "content": "theirs"})
    other.close()
    with pytest.raises(ConflictError):
        m.save("k")
    assert isinstance(m.health().failures["k"], ConflictError)
    m.reload("k")
    assert m.health().ok
    m.close()


HANGS = """
    import sys, threading
    from session_manager import SessionManager
    from session_manager.manager import ending
    from session_manager.stores.memory import MemoryStore
    ending._EXIT_PATIENCE = 0.3

    class Hanging(MemoryStore):
        def write(self, commit):
            threading.Event().wait()
        def write_many(self, commits):
            threading.Event().wait()

    hanging = [SessionManager(Hanging()) for _ in range(2)]
    for m in hanging:
        m.add_message("k", "user", "x")
    well = SessionManager(sys.argv[1])
    well.add_message("k", "user", "x")
"""


def test_a_disk_that_hangs_holds_up_neither_the_end_nor_other_saves(tmp_path):
    began = time.monotonic()
    told = run(HANGS, tmp_path / "chats")
    assert time.monotonic() - began < 20
    assert told.count("did not answer within 0.3 s") == 2
    assert stored(tmp_path / "chats") == {"k": ["x"]}


def test_a_daemon_thread_that_holds_a_lock_does_not_hold_up_the_end(tmp_path):
    script = """
        import sys, threading
        from session_manager import SessionManager
        from session_manager.manager import ending
        ending._EXIT_PATIENCE = 0.5
        m = SessionManager(sys.argv[1])
        m.add_message("a", "user", "hi")
        m.add_message("b", "user", "hi")
        held = threading.Event()

        def hold():
            with m._residents.lock_of("a"):
                held.set()
                threading.Event().wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait(30)
    """
    assert "did not answer within 0.5 s" in run(script, tmp_path / "chats")


def test_a_store_that_breaks_in_its_own_way_keeps_no_other_session(tmp_path, caplog):
    class Broken(MemoryStore):
        def write(self, commit):
            if commit.session.key == "bad":
                raise ZeroDivisionError
            super().write(commit)

    store = Broken()
    m = SessionManager(store)
    for key in ("a", "bad", "c"):
        m.add_message(key, "user", "hi")
    m._ending.end()
    assert sorted(store.keys()) == ["a", "c"]
    assert "3 sessions were unsaved, and 1 of them could not be saved" in caplog.text


def test_a_manager_that_is_collected_saves_and_warns(tmp_path, caplog):
    """A local manager of a coroutine is collected long before the end of the interpreter."""
    m = SessionManager(tmp_path / "chats")
    m.add_message("k", "user", "hi")
    with caplog.at_level(logging.WARNING), pytest.warns(ResourceWarning, match="1 unsaved sessions"):
        del m
        gc.collect()
    assert "1 sessions were unsaved, and 0 of them could not be saved" in caplog.text
    with SessionManager(tmp_path / "chats") as again:
        assert len(again.get_history("k")) == 1


def test_an_open_manager_can_be_collected():
    before = set(ending._open)  # and managers of earlier tests may be collected as well
    for _ in range(5):
        SessionManager(MemoryStore()).get("k")
    gc.collect()
    assert set(ending._open) <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_without_threads_the_end_is_bounded_by_an_alarm(monkeypatch, caplog):
    """Python 3.12.0 and 3.12.1 start no thread once the main thread has ended."""

    class Hanging(MemoryStore):
        def write_many(self, commits):
            time.sleep(DEADLINE)

    slow, well = SessionManager(Hanging()), SessionManager(MemoryStore())
    for m in (slow, well):
        m.add_message("k", "user", "hi")
    monkeypatch.setattr(ending, "_EXIT_PATIENCE", 0.2)
    ending._end_here([slow._ending, well._ending])
    assert "did not answer" in caplog.text
    assert "1 sessions were unsaved, and 0 of them" in caplog.text
    slow.close(save=False)
