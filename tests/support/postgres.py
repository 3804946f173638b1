"""A PostgreSQL server of the tests' own, on loopback, in a temporary directory, and schemas in it.

It is found by ``pg_ctl``, or by where Debian puts it, and runs as an unprivileged user. ``SESSION_MANAGER_TEST_POSTGRES`` names another
server, by its URL: its tests need the right to create schemas, and those that end the server are skipped.
"""

from __future__ import annotations

import atexit
import glob
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress

import attrs
import pytest

VARIABLE = "SESSION_MANAGER_TEST_POSTGRES"
DEADLINE = 60
#: The users that a server may run as if the tests are run by root, under which it does not start.
_USERS = ("postgres", "nobody")
_numbers = itertools.count()


def programs():
    """Return the directory of PostgreSQL's programs; `None` if there is none."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl"), key=lambda one: int(one.split("/")[4]))
    found = shutil.which("pg_ctl") or (places or [None])[-1]
    return None if found is None else os.path.dirname(os.path.realpath(found))


def _user():
    if os.getuid() != 0:
        return None
    for name in _USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def unprivileged():
    """Return what `subprocess.Popen` needs to run a program of a server that root may not run."""
    user = _user()
    options = {"env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    return options if user is None else {**options, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port():
    """Return a port that no server has; and no client: those that a system gives to clients begin at 32768 or later."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port


@attrs.define(eq=False)
class Server:
    """A server, which is stopped by its process id.

    :param settings: as in ``postgresql.conf``.
    """

    settings: dict = attrs.field(factory=dict)
    #: The server that it follows, as its standby.
    primary: Server | None = None
    path: str = attrs.field(init=False)
    port: int = attrs.field(factory=free_port, init=False)
    process: subprocess.Popen | None = attrs.field(default=None, init=False)
    _was_up: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self):
        self.path = tempfile.mkdtemp(prefix="postgres-")
        user = _user()
        if user is not None:
            os.chown(self.path, user.pw_uid, user.pw_gid)
        if self.primary is not None:
            self._run("pg_basebackup", "-D", self.data, "-R", "-d", f"{self.primary.url}?application_name=standby")
            return
        self._run("initdb", "-D", self.data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    @property
    def data(self):
        return os.path.join(self.path, "data")

    @property
    def url(self):
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def _run(self, name, *arguments):
        done = subprocess.run(
            [os.path.join(programs(), name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.path,
            **unprivileged(),
        )
        assert done.returncode == 0, done.stderr

    def start(self):
        """Start it, and wait until it takes connections. What an ended one has left may take a moment to go.

        Another program may have got the port since it was looked for: then it gets another one, unless it was up before.
        """
        settings = {
            "unix_socket_directories": "",
            "listen_addresses": "127.0.0.1",
            "max_connections": 60,
            **self.settings,
        }
        chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [os.path.join(programs(), "postgres"), "-D", self.data, *chosen]
        end = time.monotonic() + DEADLINE
        with open(os.path.join(self.path, "log"), "ab") as log:
            while True:
                self.process = subprocess.Popen(
                    [*command, "-p", str(self.port)], stdout=log, stderr=log, cwd=self.path, **unprivileged()
                )
                while self.process.poll() is None:
                    if self._answers():
                        self._was_up = True
                        return self
                    assert time.monotonic() < end, "the server does not start"
                    time.sleep(0.02)
                assert time.monotonic() < end, "the server does not stay"
                if not self._was_up:
                    self.port = free_port()
                time.sleep(0.05)

    def _answers(self):
        """Say whether it takes connections: it, and not another server that has its port."""
        import psycopg

        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                ((data,),) = connection.execute("SHOW data_directory").fetchall()
        except psycopg.Error:
            return False
        return os.path.realpath(data) == os.path.realpath(self.data)

    def kill(self):
        """End it without any farewell; its other processes notice it, and end."""
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGINT)

    def _end(self, number):
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(DEADLINE)
            self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)


def needs_driver():
    """Skip the tests of a module, or one test, without psycopg."""
    return pytest.importorskip("psycopg", reason="psycopg is not installed: PostgreSQL is not tested")


def needs_programs():
    """Skip a test without PostgreSQL's programs, or without a user that they may run as."""
    needs_driver()
    if programs() is None:
        pytest.skip("there is no pg_ctl: PostgreSQL is not tested")
    if os.getuid() == 0 and _user() is None:
        pytest.skip(f"root has no user for PostgreSQL, none of {_USERS}")


_shared: list[str] = []


def shared_url():
    """Return the URL of the one server of this process, which is started when it is first asked for."""
    needs_driver()
    if not _shared:
        given = os.environ.get(VARIABLE)
        if given:
            _shared.append(given)
        else:
            needs_programs()
            server = Server().start()
            atexit.register(server.remove)
            _shared.append(server.url)
    return _shared[0]


@attrs.define(eq=False)
class Place:
    """A schema of its own in a server: a storage."""

    url: str
    schema: str = attrs.field(factory=lambda: f"test_{os.getpid()}_{next(_numbers)}")

    def open(self, **options):
        from session_manager.stores.postgres import PostgresStore

        return PostgresStore(self.url, schema=self.schema, **options)

    def run(self, statement, *values):
        """Run a statement past the store; return its rows. ``{s}`` stands for the schema."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement.replace("{s}", self.schema), values)
            return done.fetchall() if done.description else []

    def remove(self):
        self.run("SET client_min_messages = error; DROP SCHEMA IF EXISTS {s} CASCADE")


@pytest.fixture
def place():
    """A storage of its own in the shared server."""
    one = Place(shared_url())
    yield one
    one.remove()
