"""Readers of a database where nothing can be written: a directory without permission, a file system that is read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import traceback

import pytest

from session_manager import SessionManager, StorageError
from session_manager.stores.sqlite import SQLiteStore
from tests.support.places import ROOT

NOBODY = 65534


def as_nobody(function):
    """Call a function in a child that has no rights of root; fail if it raises."""
    child = os.fork()
    if not child:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            function()
            code = 0
        except BaseException:  # noqa: BLE001 - of the child
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def path():
    """A database in a directory that cannot be written."""
    directory = tempfile.mkdtemp()
    path = os.path.join(directory, "chats.db")
    with SessionManager(f"sqlite:{path}") as m:
        m.add_message("k", "user", "hi")
    SQLiteStore(path, read_only=True).close()  # imports all that it needs, and leaves its files behind
    for end in ("-wal", "-shm"):
        os.remove(path + end)
    if os.getuid() == 0:
        for name in (directory, *(os.path.join(directory, one) for one in os.listdir(directory))):
            os.chown(name, NOBODY, NOBODY)
    os.chmod(directory, 0o555)
    yield path
    os.chmod(directory, 0o755)
    shutil.rmtree(directory)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("make", [SQLiteStore, SessionManager], ids=["store", "manager"])
def test_a_directory_that_cannot_be_written_is_named(make, path):
    """It was told `attempt to write a readonly database`."""

    def read():
        with pytest.raises(StorageError, match=r"must create its -shm beside it.*copy the database") as raised:
            make(path, read_only=True)
        assert os.path.dirname(path) in raised.value.reason

    as_nobody(read)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_beside_a_writer_it_can_be_read(path):
    """The writer's files are there, and need not be created."""

    def read():
        os.chmod(os.path.dirname(path), 0o755)
        with SessionManager(f"sqlite:{path}") as m:
            m.add_message("k", "user", "more")
            m.save("k")
            os.chmod(os.path.dirname(path), 0o555)
            with SessionManager(f"sqlite:{path}", read_only=True) as reader:
                assert len(reader.get_history("k")) == 2

    as_nobody(read)


MOUNTED = """
    import subprocess, sys
    from session_manager import SessionManager, StorageError
    place, how = sys.argv[1:]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    path = f"sqlite:{place}/chats.db"
    m = SessionManager(path)
    m.add_message("k", "user", "hi")
    m.save("k")
    if how == "closed":
        m.close()
    else:
        names = {name: open(f"{place}/{name}", "rb").read() for name in ("chats.db", "chats.db-wal")}
        m.close()
        for name, data in names.items():
            open(f"{place}/{name}", "wb").write(data)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    try:
        with SessionManager(path, read_only=True) as reader:
            print([message.content for message in reader.get_history("k")])
            print(reader.verify())
    except StorageError as error:
        print(error.reason)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize(
    ("how", "expected"),
    [("closed", "['hi']\n[]\n"), ("killed", "its -wal holds changes, which cannot be read on a read-only file system")],
)
def test_on_a_read_only_file_system(how, expected, tmp_path):
    command = ["unshare", "-m", sys.executable, "-W", "ignore", "-c", textwrap.dedent(MOUNTED), str(tmp_path), how]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("this system mounts nothing here")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.startswith(expected), done.stderr
