"""The contract through pgbouncer in transaction mode: each transaction may have another connection to the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from session_manager import SessionManager
from session_manager.testing import StoreContract
from tests.support.postgres import Place, free_port, needs_driver, shared_url, unprivileged

psycopg = needs_driver()

pytestmark = pytest.mark.long

DEADLINE = 30

SETTINGS = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 100
unix_socket_dir =
"""


def is_up(url):
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def pooler():
    """The URL of a pgbouncer before the shared server."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("there is no pgbouncer")
    told = psycopg.conninfo.conninfo_to_dict(shared_url())
    path, own = tempfile.mkdtemp(), free_port()
    options = unprivileged()
    if "user" in options:
        os.chown(path, options["user"], options["group"])
    file = os.path.join(path, "pgbouncer.ini")
    with open(file, "w") as settings:
        settings.write(
            SETTINGS.format(host=told["host"], port=told["port"], own=own).replace(
                "* =", f"{told['dbname']} = user={told['user']}"
            )
        )
    os.chmod(file, 0o644)
    with open(os.path.join(path, "log"), "wb") as log:
        process = subprocess.Popen([program, file], stdout=log, stderr=log, cwd=path, **options)
    url = psycopg.conninfo.make_conninfo(**{**told, "host": "127.0.0.1", "port": str(own)})
    end = time.monotonic() + DEADLINE
    while not is_up(url):
        assert process.poll() is None, "pgbouncer has ended"
        assert time.monotonic() < end
        time.sleep(0.02)
    yield url
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE)
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.once
def test_a_pooler_that_is_not_named_is_noticed(pooler):
    """Statements that a store had prepared were another program's on the next connection, and its settings stayed there."""
    places = [Place(pooler) for _ in range(3)]

    def take_turns(place):
        with closing(place.open(statement_timeout=9)) as store, SessionManager(store) as m:
            for number in range(30):
                with m.turn("k") as turn:
                    turn.add_message("user", f"{place.schema} {number}")
            m.search("1")
            m.compact("k")
            return [message.content for message in m.get_history("k")]

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(take_turns, places))
    assert found == [[f"{place.schema} {number}" for number in range(30)] for place in places]
    timeouts = {tuple(Place(pooler).run("SHOW statement_timeout")) for _ in range(20)}
    assert timeouts == {(("0",),)}
    for place in places:
        place.remove()


class TestThroughAPooler(StoreContract):
    @pytest.fixture
    def place(self):
        one = Place(shared_url())
        yield one
        one.remove()

    @pytest.fixture
    def open_store(self, place, pooler):
        through = Place(pooler, place.schema)
        return lambda: through.open(pooled=True)

    @pytest.fixture
    def damage(self, place):
        def overwrite(key):
            place.run("UPDATE {s}.sessions SET checksum = '' WHERE key = %b", key.encode())
            place.run("UPDATE {s}.messages SET checksum = checksum + 1 WHERE session = 1")

        return overwrite
