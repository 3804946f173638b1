"""What importing the package imports, each time in a fresh process: little, and never while a session is read or saved."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from functools import cache

import pytest

import session_manager
from session_manager import errors, history, stores, testing

#: What the package needs in any case: attrs, and msgspec, which uses typing_extensions if that is there.
CORE = {"attr", "attrs", "msgspec", "typing_extensions"}
#: What is large, and of use to some stores or calls only.
LARGE = {"cattrs", "asyncio", "concurrent.futures", "sqlite3", "session_manager.aio", "session_manager.aio.workers"}
#: Of these, and of the dependencies, what a store needs.
NEEDED = {
    "memory:": set(),
    "snapshot:{}": {"filelock"},
    "log:{}": {"filelock"},
    "sqlite:{}/chats.db": {"sqlite3"},
}

NEW = "import sys\nbefore = set(sys.modules)\n{}\nprint(*sorted(set(sys.modules) - before))"


@cache
def imported(code: str) -> set[str]:
    """The modules that a fresh process imports for some code."""
    done = subprocess.run([sys.executable, "-c", NEW.format(code)], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def third_party(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"session_manager"}


def test_the_package_alone_imports_its_errors():
    modules = imported("import session_manager")
    assert {module for module in modules if module.startswith("session_manager")} == {
        "session_manager",
        "session_manager.errors",
        "session_manager.late",
    }
    assert third_party(modules) == set()


@pytest.mark.parametrize("storage", NEEDED)
def test_a_manager_imports_what_its_store_needs(tmp_path, storage):
    url = storage.format(tmp_path)
    modules = imported(f"from session_manager import SessionManager\nwith SessionManager({url!r}): pass")
    assert third_party(modules) <= CORE | NEEDED[storage]
    lock = imported("import filelock") if "filelock" in NEEDED[storage] else set()
    assert (modules - lock) & LARGE <= NEEDED[storage]
    assert not any(module.startswith("session_manager.testing") for module in modules)


@pytest.mark.parametrize("storage", ["log:{}", "sqlite:{}/chats.db"])
def test_salvage_is_imported_for_salvage_alone(tmp_path, storage):
    code = f"from session_manager import open_store\nstore = open_store({storage.format(tmp_path)!r})\n"
    needed = imported(code) - imported("import filelock")  # which imports `socket` in Python 3.10
    assert not any("salvag" in module or module == "socket" for module in needed)
    assert "session_manager.stores.salvaged" in imported(f"{code}store.salvage('k')")


def test_cattrs_is_imported_for_the_converter_alone():
    """Its import would make the manager's about a third slower, and most programs do not need it."""
    lists = "from session_manager import SessionManager\nwith SessionManager() as m: m.list_sessions()"
    assert "cattrs" not in imported(lists)
    assert "cattrs" in imported("from session_manager import converter")
    assert "cattrs" in imported("from session_manager import SessionManager\nSessionManager().health().to_dict()")


@pytest.mark.parametrize("storage", NEEDED)
def test_nothing_is_imported_while_sessions_are_written_and_read(tmp_path, storage):
    """An import there would be slow once, and could be what an interrupt, or a lack of memory, hits in a save."""
    code = f"""
from session_manager import SessionManager
m = SessionManager({storage.format(tmp_path)!r}, max_resident_bytes={None if storage == "memory:" else 1})
before = set(sys.modules)
m.add_message("k", "user", "hi", metadata={{"a": [1]}})
m.save("k")
m.add_message("k" * 300, "user", "\\ud800é")
m.set_summary("k", "short")
m.save_all()
m.get_history("k"), m.get_context("k"), m.list_sessions(), m.search("hi"), m.truncate_history("k", 0)
m.save("k")
m.remove_last("k" * 300), m.delete("k"), m.close()
"""
    assert {name for name in imported(code) if not name.startswith("encodings.")} == set()


CALLS = """
from datetime import timedelta
from session_manager import Message, SessionManager, Write
m = SessionManager({storage!r}, archive={archive})
before = set(sys.modules)
for key in "abc":
    with m.turn(key, ref="1") as turn:
        turn.add(Message("user", "hi"))
        turn.add(Message("assistant", "yes"))
m.fork("a", "d"), m.rename("b", "e"), m.undo("e"), m.put_state("a", dict(n=1)), m.get_state("a")
m.set_expiry("c", timedelta(days=1)), m.expire(), m.expire(dry_run=True)
m.summarize("a", lambda summary, messages: "short", keep_last=0), m.commit_together([Write("a", [Message("user", "hi")])])
m.update_message("c", 0, Message("user", "ho")), m.clear("c"), m.save_all(), m.reload("c"), m.health(), m.compact("a")
m.get_context("a", max_tokens=100), m.delete_prefix("c"), m.close()
"""


@pytest.mark.parametrize("storage", NEEDED)
def test_no_call_of_an_open_manager_imports_anything(tmp_path, storage):
    """A bot that has run for weeks may have no free descriptor for it, and another version may have been installed meanwhile."""
    code = CALLS.format(storage=storage.format(tmp_path), archive=storage != "memory:")
    assert {name for name in imported(code) if not name.startswith("encodings.")} == set()


FACES = [session_manager, history, testing, stores]


@pytest.mark.parametrize("face", FACES)
def test_every_name_that_is_imported_late_is_its_homes(face):
    for name, home in face._HOMES.items():
        module = importlib.import_module(f"{face.__name__}.{home}")
        assert getattr(face, name) is getattr(module, name)
        assert name in module.__all__
    assert not {name for name in face._HOMES if name.endswith("Error")}


@pytest.mark.parametrize("face", FACES)
def test_type_checkers_see_the_names_that_are_imported_late(face):
    """They know no table: they follow ``import name as name``, which says that the name is public."""
    tree = ast.parse(inspect.getsource(face))
    (block,) = (one for one in tree.body if isinstance(one, ast.If) and isinstance(one.test, ast.Attribute))
    assert block.test.attr == "TYPE_CHECKING"
    seen = {alias.name: (one.module, alias.asname) for one in block.body for alias in one.names}
    assert seen.keys() == face._HOMES.keys()
    for name, (module, public) in seen.items():
        assert public == name
        assert getattr(importlib.import_module(module), name) is getattr(face, name)


def test_a_face_lists_each_name_once_and_sorted():
    assert session_manager.__all__ == sorted({*errors.__all__, *session_manager._HOMES})
    assert testing.__all__ == sorted({"Clock", "FaultyStore", "crash", *testing._HOMES})


RACE = """
import importlib.abc, importlib.machinery, sys, threading, time
import session_manager

errors, other = [], threading.Thread(target=lambda: ask("Write"), daemon=True)

def ask(name):
    try:
        getattr(session_manager, name)
    except BaseException as error:
        errors.append(repr(error))

def waits():
    return sys._current_frames()[other.ident].f_code.co_name in ("acquire", "late")

class Racing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "session_manager.manager":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader.create_module = create
        return spec

def create(spec):
    other.start()
    deadline = time.monotonic() + 30
    while not waits() and time.monotonic() < deadline:
        time.sleep(0.001)

sys.meta_path.insert(0, Racing())
try:
    {}
except BaseException as error:
    errors.append(repr(error))
other.join(30)
print(*errors, other.is_alive())
"""


@pytest.mark.parametrize("first", ['ask("SessionManager")', "import session_manager.manager"])
def test_threads_may_ask_for_different_names_first(first):
    """One imported a package, another a part of it: the lock of the one was what the other had, and Python raised `_DeadlockError`."""
    done = subprocess.run(
        [sys.executable, "-c", RACE.format(first)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n", done.stdout


FORK = """
import os, threading
import session_manager
from session_manager import late

def slow(name, import_module=late.import_module):
    if threading.current_thread() is other:
        importing.set()
        go_on.wait(30)
    return import_module(name)

late.import_module = slow
importing, go_on = threading.Event(), threading.Event()
other = threading.Thread(target=lambda: session_manager.SessionManager)
other.start()
importing.wait(30)
child = os.fork()
if not child:
    session_manager.Message
    os._exit(7)
try:
    for _ in range(3_000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        threading.Event().wait(0.01)
    else:
        os.kill(child, 9)
        ended, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status))
finally:
    go_on.set()
    other.join(30)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_may_import_although_a_thread_of_its_parent_was_importing():
    """The thread that held the lock is not in the child, which waited for it for ever."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "7\n", done.stdout


def test_what_rare_calls_need_is_imported_by_the_first_manager():
    """Many programs import the class, and make no manager: most never summarize, rename or fork."""
    rare = {f"session_manager.manager.{name}" for name in ("events", "forking", "renaming", "retention", "sharing")}
    rare |= {"session_manager.manager.summaries", "session_manager.manager.together", "_hashlib"}
    names = "from session_manager import SessionManager"
    assert not imported(names) & rare
    assert rare <= imported(f"{names}\nSessionManager()")
