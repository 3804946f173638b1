"""The programs and files of docs/deployment.md, started and stopped as the page says."""

from __future__ import annotations

import configparser
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from session_manager import SessionManager
from tests.support.places import ROOT
from tests.support.processes import DEADLINE

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")
#: Linux gives nobody else namespaces of mounts and processes.
needs_namespaces = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "pgrep"))),
    reason="needs root, unshare, setpriv and pgrep",
)


def block(first):
    """Return the block of the page that begins with a line."""
    (text,) = [text for text in re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL) if text.startswith(first)]
    return text


@pytest.fixture
def unit():
    parser = configparser.ConfigParser()
    parser.optionxform = str
    parser.read_string(block("# /etc/systemd/system/bot.service"))
    return parser["Service"]


@pytest.fixture
def start_bot():
    """Starts the page's program, at its first line's answer, behind the words of another command."""
    program = block("# bot.py")
    started = []

    def start(storage, *words):
        environment = {**os.environ, "SESSION_MANAGER_STORAGE": f"log:{storage}", "PYTHONPATH": str(ROOT)}
        command = [*words, sys.executable, "-c", program]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        bot = subprocess.Popen(command, env=environment, text=True, **pipes)
        started.append(bot)
        bot.stdin.write("hello\n")
        bot.stdin.flush()
        assert bot.stdout.readline() == "I see.\n", bot.stderr.read()
        return bot

    yield start
    for bot in started:
        if bot.poll() is None:
            bot.kill()
        bot.communicate()


def kept(storage):
    """Return how many messages are stored, and how many lines the metadata counts."""
    with SessionManager(f"log:{storage}") as manager:
        session = manager.get("console")
        return len(session.messages), session.metadata.get("lines")


def test_systemd_takes_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    text = block("# /etc/systemd/system/bot.service").replace("/opt/bot/.venv/bin/python", sys.executable)
    (tmp_path / "bot.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "bot.service")], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if "bot.service" in line] == []


def test_the_signal_of_the_unit_saves_everything_and_sigterm_the_turns(unit, start_bot, tmp_path):
    for number, (sent, lines) in enumerate([(signal.Signals[unit["KillSignal"]], 1), (signal.SIGTERM, None)]):
        bot = start_bot(tmp_path / f"chats{number}")
        bot.send_signal(sent)
        bot.wait(DEADLINE)
        assert kept(tmp_path / f"chats{number}") == (2, lines)


@needs_namespaces
def test_a_container_writes_its_volume_alone_and_stops_by_its_signal(start_bot):
    """As process 1 of its own namespace, with a root that cannot be written, as another user."""
    image = block("FROM")
    stop = signal.Signals[re.search(r"STOPSIGNAL (\w+)", image).group(1)]
    user = re.search(r"--uid (\d+)", image).group(1)
    as_user = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
    if subprocess.run([*as_user, sys.executable, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("another user cannot run this interpreter")
    with tempfile.TemporaryDirectory() as directory:  # others may pass through its parents
        os.chmod(directory, 0o711)
        volume = os.path.join(directory, "data")
        os.mkdir(volume, 0o700)
        os.chown(volume, int(user), int(user))
        read_only = [f"mount -o remount,bind,ro {place}" for place in ("/", "/dev/shm") if os.path.ismount(place)]
        script = " && ".join([f"mount --bind {volume} {volume}", *read_only, 'exec "$@"'])
        bot = start_bot(
            f"{volume}/chats",
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"),
            *as_user,
        )
        children = subprocess.run(["pgrep", "-P", str(bot.pid)], capture_output=True, text=True, check=True).stdout
        os.kill(int(children), signal.SIGTERM)
        bot.stdin.write("still there?\n")
        bot.stdin.flush()
        assert bot.stdout.readline() == "I see.\n"
        os.kill(int(children), stop)
        bot.wait(DEADLINE)
        assert kept(f"{volume}/chats") == (4, 2)


#: A worker that is stopped before it is ready loses the signal, and gunicorn waits for it.
READY = """
def post_worker_init(worker):
    os.write(2, b"ready\\n")
"""


#: A model that says when it is asked, and takes a while.
SLOW_MODEL = """
import asyncio, os

async def ask(messages):
    os.write(2, b"asked\\n")
    await asyncio.sleep(0.5)
    return "I see."
"""


def post(address, path, text):
    connection = http.client.HTTPConnection(address, timeout=DEADLINE)
    connection.request("POST", path, text, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


@pytest.mark.long
def test_workers_of_gunicorn_share_a_database(tmp_path):
    """Each delivery comes twice, at once, to two workers; they are stopped in the middle of it, and started again."""
    pytest.importorskip("gunicorn")
    for name in ("gunicorn.conf.py", "web.py"):
        (tmp_path / name).write_text(block(f"# {name}"))
    with (tmp_path / "gunicorn.conf.py").open("a") as hooks:
        hooks.write(READY)
    command = re.search(r"^gunicorn (.*)$", PAGE, re.MULTILINE).group(1).split()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SESSION_MANAGER_STORAGE": "sqlite:chats.db"}
    for first in (0, 20):
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *command],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            address = next(found.group(1) for line in server.stderr if (found := re.search(r"http://(\S+)", line)))
            for _ in range(2):
                next(line for line in server.stderr if line == "ready\n")
            deliveries = [number for number in range(first, first + 20) for _ in range(2)]
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(post, address, f"/chat/{number}", f"m{number}") for number in deliveries]
                answers = [one.result() for one in asked]
        finally:
            server.terminate()
            server.communicate(timeout=DEADLINE)
        assert answers == [(200, f'{{"answer": "you said \'m{number}\'"}}') for number in deliveries]
    with SessionManager(f"sqlite:{tmp_path / 'chats.db'}") as manager:
        texts = [message.content for message in manager.get_history("chat") if message.role == "user"]
        assert sorted(texts) == sorted(f"m{number}" for number in range(40))


@pytest.mark.long
def test_workers_of_uvicorn_finish_their_requests(tmp_path):
    """Two workers have the program of docs/async-how-to.md; they are stopped while both answer."""
    pytest.importorskip("uvicorn")
    page = (ROOT / "docs" / "async-how-to.md").read_text("utf-8")
    (section,) = [text for text in re.split(r"^## ", page, flags=re.MULTILINE) if "FastAPI(" in text]
    (tmp_path / "app.py").write_text(re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1) + SLOW_MODEL)
    options = re.search(r"`(--timeout-graceful-shutdown \d+)`", PAGE).group(1).split()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--workers", "2", "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    with ThreadPoolExecutor(8) as pool:
        try:
            address = next(found.group(1) for line in server.stderr if (found := re.search(r"http://(\S+)", line)))
            for _ in range(2):
                next(line for line in server.stderr if "startup complete" in line)
            bodies = [json.dumps({"id": f"d{number}", "text": f"m{number}"}) for number in range(8)]
            asked = [
                pool.submit(post, address, f"/chats/{number}/messages", body) for number, body in enumerate(bodies)
            ]
            for _ in bodies:
                next(line for line in server.stderr if line == "asked\n")
        finally:
            server.terminate()
            server.communicate(timeout=DEADLINE)
        assert [one.result()[0] for one in asked] == [200] * 8
    with SessionManager(f"sqlite:{tmp_path / 'web-chats.db'}") as manager:
        assert all(len(manager.get_history(f"web:{number}")) == 2 for number in range(8))
