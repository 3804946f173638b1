"""A PostgreSQL server for a run: one of its own on the disk to be measured, or one that is given by its URL.

Its programs are found by ``pg_ctl``, or where Debian puts them. It runs as an unprivileged user, on loopback, with the settings that it
has by default: a commit is durable when it is acknowledged.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import attrs

__all__ = ["NoServerError", "Server", "serving"]

#: Names a server to use, by its URL: the benchmark creates databases there, and drops them.
VARIABLE = "SESSION_MANAGER_TEST_POSTGRES"
_DEADLINE = 60
#: The users that it runs as for root, under whom it does not start.
_USERS = ("postgres", "nobody")


class NoServerError(Exception):
    """There is no server, and no programs to start one."""


@attrs.frozen
class Server:
    """A server that takes connections."""

    url: str
    #: The first of its processes; `None` if it was given by its URL.
    pid: int | None = None

    def of(self, database: str) -> str:
        """Return the URL of another database of it."""
        base, question, options = self.url.partition("?")
        return f"{base.rpartition('/')[0]}/{database}{question}{options}"

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """Create a database for a block, and give its URL; drop it behind the block."""
        self.run(f'CREATE DATABASE "{name}"')
        try:
            yield self.of(name)
        finally:
            self.run(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement; return its rows."""
        import psycopg  # noqa: PLC0415 - most workloads need no server

        with psycopg.connect(self.url, autocommit=True) as connection:
            done = connection.execute(statement.encode())
            return done.fetchall() if done.description else []


@contextmanager
def serving(path: str, **settings: str) -> Iterator[Server]:
    """Give a server for a block: the one of `VARIABLE`, or one of its own in a directory, which is stopped and removed.

    :param settings: of one of its own, as in ``postgresql.conf``.
    :raises NoServerError: without psycopg, or if there is none, and its programs are missing.
    """
    try:
        import psycopg  # noqa: F401, PLC0415 - see whether it is there
    except ImportError as error:
        raise NoServerError(f"psycopg: {error}") from None
    if given := os.environ.get(VARIABLE):
        yield Server(given)
        return
    programs = _programs()
    user = _user()
    where = tempfile.mkdtemp(prefix="postgres-", dir=path)
    data = os.path.join(where, "data")
    try:
        if user is not None:
            os.chmod(path, 0o711)  # noqa: S103 - its user has to get there
            os.chown(where, user.pw_uid, user.pw_gid)
        run = _as(user, where)
        made = subprocess.run(  # noqa: S603 - the server's own program
            [os.path.join(programs, "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C"],
            capture_output=True,
            text=True,
            check=False,
            **run,
        )
        if made.returncode:
            raise NoServerError(f"initdb: {made.stderr.strip()[-500:]}")
        with _started(os.path.join(programs, "postgres"), data, run, settings) as server:
            yield server
    finally:
        shutil.rmtree(where)
        os.sync()


@contextmanager
def _started(program: str, data: str, run: dict[str, object], settings: Mapping[str, str]) -> Iterator[Server]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    ours = {"unix_socket_directories": "", "listen_addresses": "127.0.0.1", **settings}
    chosen = [part for name, value in ours.items() for part in ("-c", f"{name}={value}")]
    with open(f"{data}.log", "ab") as log:
        process = subprocess.Popen([program, "-D", data, "-p", str(port), *chosen], stdout=log, stderr=log, **run)  # type: ignore[call-overload] # noqa: S603 - the same
    try:
        server = Server(f"postgresql://tester@127.0.0.1:{port}/postgres", process.pid)
        _wait_for(server, process, f"{data}.log")
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_DEADLINE)


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: str) -> None:
    import psycopg  # noqa: PLC0415 - most workloads need no server

    end = time.monotonic() + _DEADLINE
    while True:
        try:
            psycopg.connect(server.url, connect_timeout=2).close()
            break
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > end:
                with open(log, encoding="utf-8", errors="replace") as file:
                    raise NoServerError(f"it does not start: {file.read()[-500:]}") from error
            time.sleep(0.02)


def _programs() -> str:
    """Return the directory of the server's programs."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin/pg_ctl"), key=lambda one: int(one.split("/")[4]))
    found = shutil.which("pg_ctl") or (places or [None])[-1]
    if found is None:
        raise NoServerError("there is no pg_ctl")
    return os.path.dirname(os.path.realpath(found))


def _user() -> pwd.struct_passwd | None:
    """Return the user that it runs as; `None`: the one of this process."""
    if os.getuid() != 0:
        return None
    for name in _USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServerError(f"root has no user for it, none of {_USERS}")


def _as(user: pwd.struct_passwd | None, where: str) -> dict[str, object]:
    """Return what `subprocess` needs to run its programs."""
    options: dict[str, object] = {"env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}, "cwd": where}
    return options if user is None else {**options, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
