"""Python processes that need not import the library again: each is a fork of one that has.

A fresh interpreter takes a sixth of a second until it has imported the library, and the tests start hundreds of processes.
A fork of a prepared one is as real: it has a process id, signals, locks and files of its own, and runs its program as
``__main__``. At its end threads are joined and `atexit` runs; only the interpreter's own memory is not tidied up.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from tests.support.places import ROOT


class Forked(subprocess.Popen[str]):
    """A process that the server of this process has forked: the server waits for it, and tells how it has ended.

    Its arguments are those of ``python -W error``: ``-c CODE``, ``-m MODULE`` or a script, and then the program's own.
    """

    def _execute_child(
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell, *rest
    ):
        pipes = rest[:6]
        theirs = [mine if given == -1 else given for mine, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._status, status = os.pipe()
        request = {"words": args, "cwd": str(cwd or os.getcwd()), "env": {**(os.environ if env is None else env)}}
        try:
            self.pid = _server().fork(request, [*theirs, status])
        finally:
            os.close(status)
            self._close_pipe_fds(*pipes)
        self._child_created = True

    def _internal_poll(self, _deadstate=None, **_):
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode

    def _try_wait(self, wait_flags):
        if self.returncode is not None or not select.select([self._status], [], [], 0 if wait_flags else None)[0]:
            return 0, 0
        told = os.read(self._status, 100)
        os.close(self._status)
        if not told:
            raise ChildProcessError("the process that forks the others has ended")
        return self.pid, int(told)


class _Server:
    """The process that forks the others, as this process sees it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", __name__, str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._connection = ours
        self._lock = threading.Lock()
        atexit.register(self._end, os.getpid())

    def _end(self, pid: int) -> None:
        if os.getpid() == pid:
            self._connection.close()
            self._process.wait()

    def fork(self, request: dict[str, object], descriptors: list[int]) -> int:
        """Have it fork a process, and return the process's id."""
        line = json.dumps(request).encode() + b"\n"
        with self._lock:
            sent = socket.send_fds(self._connection, [line], descriptors)
            self._connection.sendall(line[sent:])
            return int(self._connection.recv(100))


_servers: dict[int, _Server] = {}


def _server() -> _Server:
    """Return the server of this process, which ends with it."""
    if (pid := os.getpid()) not in _servers:
        _servers[pid] = _Server()
    return _servers[pid]


def _serve(connection: socket.socket) -> dict[str, Any]:
    """Fork a process for each request, and tell how it ends; return in each of them, with its request."""
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(ends)
    running: dict[int, int] = {}
    while True:
        ready = select.select([connection, ended], [], [])[0]
        if ended in ready:
            os.read(ended, 1000)
            for pid in [*running]:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    _tell(running.pop(pid), status)
        if connection in ready:
            line, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 4)
            while line and not line.endswith(b"\n"):
                line += connection.recv(1 << 20)
            if not line:
                os._exit(0)
            *streams, status = descriptors
            pid = os.fork()
            if not pid:
                _become_a_process(streams, [connection.detach(), ended, ends, status, *running.values()])
                return json.loads(line)
            running[pid] = status
            for descriptor in streams:
                os.close(descriptor)
            connection.sendall(b"%d" % pid)


def _tell(descriptor: int, status: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it
        os.write(descriptor, b"%d" % status)
    os.close(descriptor)


def _become_a_process(streams: list[int], servers: list[int]) -> None:
    """Give the forked process its own standard streams and signals, and close what belongs to the server."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for descriptor in [*streams, *servers]:
        os.close(descriptor)
    modes: list[dict[str, Any]] = [{}, {"mode": "w"}, {"mode": "w", "buffering": 1, "errors": "backslashreplace"}]
    files = [os.fdopen(number, closefd=False, **mode) for number, mode in enumerate(modes)]
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = files  # type: ignore[misc]


def _program(request: dict[str, Any]) -> Callable[[], object]:
    """Return the program that a process runs, after the process has got its arguments, directory and environment."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    first, *arguments = request["words"]
    if first == "-c":
        code, *arguments = arguments
        sys.path[0] = ""
        sys.argv[:] = ["-c", *arguments]
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        return lambda: exec(compile(code, "<string>", "exec"), main.__dict__)
    if first == "-m":
        module, *arguments = arguments
        sys.path[0] = request["cwd"]
        sys.argv[:] = [module, *arguments]
        return lambda: runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.path[0] = os.path.dirname(first)
    sys.argv[:] = [first, *arguments]
    return lambda: runpy.run_path(first, run_name="__main__")


def _prepare() -> None:
    """Import what nearly all processes need."""
    ours = ("stores.log", "stores.snapshot", "stores.sqlite", "manager", "cli.program", "operations")
    for module in ("argparse", "shutil", "tempfile", *(f"session_manager.{name}" for name in ours)):
        with contextlib.suppress(ModuleNotFoundError):  # without the extra of a module, its tests are skipped
            importlib.import_module(module)
    sys.path.append(str(ROOT))


_code = 0


def _run(program: Callable[[], object]) -> None:
    global _code
    try:
        program()
    except SystemExit as end:
        _code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException as error:
        _code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        raise


def _leave() -> None:
    """End the process with the exit code of its program."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if _code < 0:
        signal.signal(-_code, signal.SIG_DFL)
        os.kill(os.getpid(), -_code)
    os._exit(_code)


if __name__ == "__main__":
    atexit.register(_leave)  # the first, which is called last
    _prepare()
    _run(_program(_serve(socket.socket(fileno=int(sys.argv[1])))))
