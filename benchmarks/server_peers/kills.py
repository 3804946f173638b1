"""Workers of each library in the same chats of one server, as in ``examples/fleet.py``: ``python -m benchmarks.server_peers.kills``.

The platform of that example gives deliveries to workers at random, some of them to two at once, and kills workers. Each library is
asked to answer a delivery once, as well as it can: it reads the conversation, looks whether the question is there, asks the model, and
adds the question and its answer by one call, where it has such a call. A delivery that raises is delivered again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from benchmarks.report import aligned
from benchmarks.server import NoServerError, Server, serving
from benchmarks.server_peers.conversation import Conversation
from benchmarks.server_peers.worker import CONTENDERS

__all__ = ["main", "run", "work"]

_EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet.py"
_TAKING_PART = (
    "session_manager shared",
    "OpenAI Agents SQLAlchemySession",
    "LangChain PostgresChatMessageHistory",
    "LangGraph PostgresSaver",
    "Google ADK DatabaseSessionService",
)
_HEADINGS = ("contender", "acknowledged", "lost", "doubled", "torn", "answered twice", "paid twice", "blind")
#: How long a worker waits after an error, in seconds.
_PAUSE = 0.02


def example() -> ModuleType:
    """Return the module of the example, whose platform gives and kills here too."""
    if "fleet_example" not in sys.modules:
        found = importlib.util.spec_from_file_location("fleet_example", _EXAMPLE)
        if found is None or found.loader is None:
            raise FileNotFoundError(_EXAMPLE)
        sys.modules["fleet_example"] = module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
    return sys.modules["fleet_example"]


def work(name: str, url: str, thinking: float) -> None:
    """Answer deliveries that come in as lines of JSON, one after another, until no more come."""
    fleet = example()
    conversations: dict[str, Conversation] = {}
    for line in sys.stdin:
        delivery = fleet.Delivery(*json.loads(line))

        def ask(shown: int, delivery: object = delivery) -> str:
            fleet.report("asked", delivery)
            time.sleep(thinking)
            return f"answer {secrets.token_hex(4)} to {delivery.number}, after {shown // 2} turns"  # type: ignore[attr-defined]

        try:
            if delivery.chat not in conversations:
                conversations[delivery.chat] = CONTENDERS[name](url, delivery.chat)
            text = conversations[delivery.chat].answer(f"question {delivery.number}", ask)
        except Exception:  # noqa: BLE001 - each library has errors of its own
            time.sleep(_PAUSE)
            fleet.report("failed", delivery)
        else:
            fleet.report("answered", delivery, text)
    for conversation in conversations.values():
        conversation.close()


def run(server: Server, name: str, given: argparse.Namespace) -> tuple[str, ...]:
    """Run workers of a library, and return the row of the table."""
    fleet, chance = example(), random.Random(given.seed)
    chats = [f"chat-{number}" for number in range(given.chats)]
    deliveries = [fleet.Delivery(chance.choice(chats), number) for number in range(given.deliveries)]
    twice = set(chance.sample(deliveries, len(deliveries) * fleet.TWICE // 100))
    coming = [one for delivery in deliveries for one in [delivery] * (1 + (delivery in twice))]
    with server.database("fleet") as url:
        for chat in chats:
            one = CONTENDERS[name](url, chat)
            one.begin([])
            one.close()
        command = [sys.executable, "-m", "benchmarks.server_peers.kills", "--worker", name, url, str(given.thinking)]
        workers = fleet.Fleet(command, given.workers, chance, by_chat=False)
        with workers.ending():
            tally = workers.run(coming, given.kills)
        histories = []
        for chat in chats:
            one = CONTENDERS[name](url, chat)
            histories.append(one.read())
            one.close()
    fleet.judge(histories, tally)
    found = (
        len(tally.answers),
        tally.lost,
        tally.doubled,
        tally.torn,
        tally.answered_twice,
        tally.paid_twice,
        tally.blind,
    )
    return (name, *map(str, found))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command: print the table; libraries that are not installed are named."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.server_peers.kills",
        description="Run workers of each library that share chats on PostgreSQL, and are killed.",
    )
    parser.add_argument("--worker", nargs=3, metavar=("NAME", "URL", "THINKING"), help=argparse.SUPPRESS)
    parser.add_argument("--dir", default=".", help="where to put the server's files (default: here)")
    parser.add_argument("--only", help="one contender, by its name")
    parser.add_argument("--workers", type=int, default=4, help="how many workers there are (default: 4)")
    parser.add_argument("--chats", type=int, default=6, help="how many chats there are (default: 6)")
    parser.add_argument("--deliveries", type=int, default=300, help="how many messages come in (default: 300)")
    parser.add_argument("--kills", type=int, default=15, help="how often a worker is killed (default: 15)")
    parser.add_argument("--thinking", type=float, default=0.02, help="how long the model takes (default: 0.02 s)")
    parser.add_argument("--seed", type=int, default=1, help="what decides where deliveries go (default: 1)")
    given = parser.parse_args(arguments)
    if given.worker:
        name, url, thinking = given.worker
        work(name, url, float(thinking))
        return
    rows = []
    with tempfile.TemporaryDirectory(prefix=".benchmarks-", dir=os.path.abspath(given.dir)) as directory:
        try:
            with serving(directory, max_connections="300") as server:
                for name in [given.only] if given.only else _TAKING_PART:
                    print(f"{name}", file=sys.stderr, flush=True)
                    rows.append(_row(server, name, given))
        except NoServerError as error:
            sys.exit(f"no PostgreSQL: {error}")
    print(
        f"{given.workers} workers, {given.chats} chats, {given.deliveries} deliveries, "
        f"{given.deliveries * example().TWICE // 100} of them twice at once, {given.kills} kills\n"
    )
    print(aligned(_HEADINGS, rows, range(1, len(_HEADINGS))))


def _row(server: Server, name: str, given: argparse.Namespace) -> tuple[str, ...]:
    package = CONTENDERS[name].package
    try:
        release = f"{package} {version(package)}" if package else "this package"
    except PackageNotFoundError:
        return (f"{name}: {package} is not installed", *[""] * (len(_HEADINGS) - 1))
    told, *numbers = run(server, name, given)
    return (f"{told} ({release})", *numbers)


if __name__ == "__main__":
    main()
