"""The examples, in a directory of their own: in this process, or in one of theirs if that is what matters."""

import contextlib
import importlib
import io
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from session_manager import SessionManager
from session_manager.history import problems
from tests.support.places import ROOT
from tests.support.postgres import shared_url
from tests.support.processes import python, run_python

pytestmark = pytest.mark.once

EXAMPLES = ROOT / "examples"
AIRLINE = ROOT.parent / "shared" / "data" / "airline_chats.jsonl"

DEADLINE = 60


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Run what is started in an empty directory, with warnings as errors, and without the user's endpoint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONUTF8", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@contextlib.contextmanager
def standard_input(text):
    """Have a text be typed: by the descriptor, which some examples read, and as a file."""
    before = os.dup(0)
    try:
        with tempfile.TemporaryFile() as typed, io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8") as file:
            typed.write(text.encode())
            typed.seek(0)
            os.dup2(typed.fileno(), 0)
            yield file
    finally:
        os.dup2(before, 0)
        os.close(before)


def execute(name, *arguments, stdin=""):
    """Run an example's command line in this process, to its end; what it starts are processes."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    with standard_input(stdin) as typed, pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(EXAMPLES)
        patched.setattr(sys, "argv", [name, *map(str, arguments)])
        patched.setattr(sys, "stdin", typed)
        example = importlib.import_module(name.removesuffix(".py"))
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                example.main()
            except SystemExit as end:
                code = end.code or 0
                if isinstance(code, str):
                    print(code, file=sys.stderr)
                    code = 1
    return subprocess.CompletedProcess([name, *arguments], code, output.getvalue(), errors.getvalue())


def execute_apart(name, *arguments, stdin=""):
    """Run an example in a process of its own, to its end."""
    done = run_python(EXAMPLES / name, *arguments, input=stdin, encoding="utf-8")
    assert "Traceback" not in done.stderr
    return done


def run(name, *arguments, stdin="", by=execute):
    """Run an example that is to succeed, and return what it printed."""
    done = by(name, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def probe_examples(code):
    """Run some code that imports the examples, and return what it printed."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(output):
        patched.syspath_prepend(EXAMPLES)
        exec(code, {"__name__": "probe"})
    return output.getvalue()


def temporary_files_in(path, monkeypatch):
    """Have the examples make their temporary files there: in this process, and in those that it starts."""
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))


def last_line(output):
    return output.splitlines()[-1]


class Conversation:
    """A running bot, to be talked to line by line."""

    def __init__(self, *arguments, name="bot.py", stderr=None):
        self.process = python(
            EXAMPLES / name,
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
        )
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.greeting = ""

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def hear(self):
        return self._lines.get(timeout=DEADLINE)

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line):
        self.say(line)
        return self.hear()

    def kill(self):
        self.process.kill()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        self.process.stdout.close()
        if self.process.stderr:
            self.process.stderr.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


@contextlib.contextmanager
def conversation(*arguments, **options) -> Iterator[Conversation]:
    talk = Conversation(*arguments, **options)
    try:
        talk.greeting = talk.hear()
        yield talk
    finally:
        talk.kill()


# The quick start


def test_quickstart_is_short():
    assert len((EXAMPLES / "quickstart.py").read_text("utf-8").splitlines()) <= 20


def test_quickstart_answers_each_delivery_once(tmp_path):
    """Also when it runs again: the first run's answers are sent again."""
    first = run("quickstart.py", by=execute_apart).splitlines()
    assert first == ["tg:1 I have read 2 messages.", "tg:1 I have read 2 messages.", "tg:2 I have read 4 messages."]
    assert run("quickstart.py", by=execute_apart).splitlines() == first
    assert os.listdir(tmp_path) == ["quickstart-chats"]
    with SessionManager("quickstart-chats") as manager:
        assert len(manager.get_history("telegram:42")) == 4


# The bot


def test_demo(endpoint, tmp_path, monkeypatch):
    """It asks no endpoint, and leaves nothing behind."""
    temporary_files_in(tmp_path, monkeypatch)
    output = run("bot.py", "--demo")
    assert endpoint.requests == []
    assert os.listdir(tmp_path) == []
    assert output.count("nothing was lost") == 2
    assert "kill -9" in output
    assert "bot: You are Ada." in output
    assert "console~3aada.session.json" in output
    assert '{"format":"session_manager/' in output


def test_a_delivery_that_comes_twice_is_answered_once():
    probe = """
import bot
from session_manager import SessionManager
with SessionManager("chats") as manager:
    one = bot.Bot(manager, bot.answer_by_rules, "run")
    for _ in range(2):
        print(one.answer("My name is Ada.", "tg:1"))
    print(len(manager.get_history(one.key)))
    manager.clear(one.key)
    print(one.answer("My name is Ada.", "tg:1"))
    def reset(turn):
        manager.clear(one.key)
        return "late"
    print(bot.Bot(manager, reset, "run").answer("Hi", "tg:2"))
    print(len(manager.get_history(one.key)))
"""
    assert probe_examples(probe).splitlines() == [
        "bot: Nice to meet you, Ada!",
        "bot: Nice to meet you, Ada!",
        "2",
        "bot: I have answered that before.",
        "Chat main was reset meanwhile.",
        "0",
    ]


@pytest.mark.long
def test_demo_goes_on_in_a_storage():
    run("bot.py", "--demo", "--storage", "kept")
    output = run("bot.py", "--demo", "--storage", "kept")
    assert output.count("nothing was lost") == 2
    with SessionManager("kept") as manager:
        assert len(manager.get_history("console:ada")) == 2 * 14


@pytest.mark.long
def test_demo_says_when_something_is_lost():
    process = execute("bot.py", "--demo", "--storage", "memory:")
    assert process.returncode == 1
    assert "SOMETHING IS WRONG" in process.stdout
    assert process.stderr == ""


def test_bot_remembers_after_a_kill():
    with conversation("--storage", "kept") as bot:
        assert bot.greeting.startswith("This is chat main, 0 messages so far.")
        assert bot.ask("My name is Grace.") == "bot: Nice to meet you, Grace!"
        assert bot.ask("/chat work") == "This is chat work, 0 messages so far."
        assert bot.ask("I like sailing!") == "bot: Sailing? I will remember that."
    with conversation("--storage", "kept") as bot:
        assert bot.greeting.startswith("This is chat work, 2 messages so far.")
        assert bot.ask("What do I like?") == "bot: You like sailing."
        assert bot.ask("/chat main") == "This is chat main, 2 messages so far."
        assert bot.ask("Who am I?") == "bot: You are Grace."


def test_every_answer_that_was_seen_survives_a_kill_among_turns():
    with conversation("--storage", "kept") as bot:
        bot.say("\n".join(f"This is number {number}" for number in range(500)))
        heard = [bot.hear() for _ in range(20)]
    with SessionManager("kept") as manager:
        history = [(message.role, message.content) for message in manager.get_history("console:main")]
    assert len(history) % 2 == 0
    assert [f"bot: {content}" for role, content in history if role == "assistant"][: len(heard)] == heard
    questions = [content for role, content in history if role == "user"]
    assert questions == [f"This is number {number}" for number in range(len(questions))]


def test_bot_keeps_its_chats_beside_it_by_default(tmp_path):
    run("bot.py", stdin="Hello\n/quit\n")
    assert os.listdir(tmp_path) == ["bot-chats"]


def test_bot_commands():
    typed = ["Hello", "/history", "/chat b", "/history", "Hi", "", "/chats", "/reset", "/history", "/chat", "/what"]
    output = run("bot.py", stdin="\n".join([*typed, "/quit", "never"])).splitlines()
    assert output[1] == "bot: Hello! What is on your mind?"
    assert re.fullmatch(r"  \d{4}-\d\d-\d\d \d\d:\d\d user: Hello", output[2])
    assert re.fullmatch(r"  .* assistant: Hello! What is on your mind\?", output[3])
    assert output[4:6] == ["This is chat b, 0 messages so far.", "Chat b is empty."]
    assert output[7:9] == ["  b: 2 messages", "  main: 2 messages"]
    assert output[9:11] == ["Chat b is empty again, 2 messages forgotten.", "Chat b is empty."]
    assert output[11] == output[12]
    assert "/reset" in output[11]
    assert len(output) == 13


def test_reset_is_durable():
    with conversation() as bot:
        bot.ask("My name is Ada.")
        bot.ask("/reset")
    with conversation() as bot:
        assert bot.greeting.startswith("This is chat main, 0 messages")
        assert bot.ask("What is my name?") == "bot: You have not told me your name yet."


def test_bot_takes_an_answer_back_and_asks_again():
    lines = run("bot.py", stdin="/undo\n/regenerate\nA joke!\nAnother joke!\n/undo\n/regenerate\n").splitlines()
    assert lines[1:3] == ["There is nothing to take back.", "There is nothing to answer again."]
    assert lines[5] == "2 messages forgotten."
    assert lines[6] == lines[3]
    with SessionManager("bot-chats") as manager:
        assert [one.content for one in manager.get_history("console:main")] == [
            "A joke!",
            lines[3].removeprefix("bot: "),
        ]


def test_bot_does_not_tell_a_joke_twice_in_a_row():
    lines = run("bot.py", stdin="A joke!\nAnother joke!\n").splitlines()
    assert lines[1] != lines[2]


def test_bot_takes_a_question_for_no_statement():
    lines = run("bot.py", stdin="What do I like most?\nDo I like tea?\nI like tea.\nWhat do I like?\n").splitlines()
    assert lines[1] == lines[2] == "bot: You have not told me what you like yet."
    assert lines[4] == "bot: You like tea."


def test_a_second_bot_is_refused():
    with conversation() as bot:
        process = execute("bot.py")
        assert process.returncode == 1
        assert f"process {bot.process.pid} " in process.stderr
        assert "Traceback" not in process.stderr


def test_an_impossible_chat_is_refused_and_the_bot_goes_on():
    lines = run("bot.py", stdin=f"/chat {'x' * 2000}\nHello\n").splitlines()
    assert lines[1].startswith("Sorry: invalid session key")
    assert lines[2] == "bot: Hello! What is on your mind?"


# The bot, answering by an endpoint


class Endpoint(HTTPServer):
    """An OpenAI-compatible endpoint that answers what it is told to, and notes what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), EndpointHandler)
        self.requests = []
        self.status = 200
        self.reply = b""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, content):
        self.status = 200
        self.reply = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


class EndpointHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.reply)))
        self.end_headers()
        self.wfile.write(self.server.reply)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(DEADLINE)


def test_endpoint_is_asked_with_the_history(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_MODEL", "some-model")
    with conversation() as bot:
        assert f"some-model at {endpoint.url}/chat/completions" in bot.greeting
        endpoint.answer("Grüß Gott! 😀")
        assert bot.ask("Hello") == "bot: Grüß Gott! 😀"
    with conversation() as bot:
        endpoint.answer("Again!")
        assert bot.ask("And again") == "bot: Again!"
    path, authorization, body = endpoint.requests[1]
    assert path == "/v1/chat/completions"
    assert authorization == "Bearer sk-test"
    assert body["model"] == "some-model"
    assert body["messages"][0]["role"] == "system"
    assert body["messages"][1:] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Grüß Gott! 😀"},
        {"role": "user", "content": "And again"},
    ]


def test_endpoint_gets_the_last_turns_of_a_long_history(endpoint):
    with SessionManager("bot-chats") as manager:
        for number in range(100):
            manager.add_message("console:main", "user", f"question {number}")
            manager.add_message("console:main", "assistant", f"answer {number}")
    endpoint.answer("fine")
    run("bot.py", stdin="Hello\n")
    (_, authorization, body) = endpoint.requests[0]
    assert authorization is None
    assert [message["role"] for message in body["messages"][:2]] == ["system", "user"]
    assert body["messages"][-2]["content"] == "answer 99"
    assert len(body["messages"]) < 50


BROKEN_REPLIES = [
    (500, b'{"error": "out of\n order"}', '500 Internal Server Error: {"error": "out of order"}'),
    (401, b"", "401 Unauthorized"),
    (200, b"<html>", "something else than a chat completion"),
    (200, b'{"choices": []}', "something else than a chat completion"),
    (200, b'{"choices": [{"message": {"content": null}}]}', "something else than a chat completion"),
    (200, b"[]", "something else than a chat completion"),
    (200, b"\xff", "something else than a chat completion"),
]


def test_endpoint_that_fails_is_reported_and_changes_nothing(endpoint):
    with conversation() as bot:
        for endpoint.status, endpoint.reply, said in BROKEN_REPLIES:
            answer = bot.ask("Hello")
            assert answer.startswith("Sorry: ")
            assert said in answer
            assert bot.ask("/history") == "Chat main is empty."
        endpoint.answer("now it works")
        assert bot.ask("Hello") == "bot: now it works"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "nonsense", "file:///nowhere"])
def test_endpoint_that_is_not_there(monkeypatch, url):
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    lines = run("bot.py", stdin="Hello\n/chats\n").splitlines()
    assert lines[1].startswith(f"Sorry: {url}/chat/completions cannot be asked")
    assert lines[2] == "There are no chats yet."


# The bot in an event loop


@pytest.fixture(params=[None, pytest.param("--trio", marks=pytest.mark.long)], ids=["asyncio", "trio"])
def loop(request):
    """The options that choose the event loop."""
    return [request.param] if request.param else []


def deliver(*updates, options=()):
    """Deliver updates, (id, text) pairs, to one chat of an async bot that runs until they are answered."""
    lines = [json.dumps({"update_id": number, "chat": "ada", "text": text}) + "\n" for number, text in updates]
    output = run("async_bot.py", "--json", "--thinking=0", *options, stdin="".join(lines))
    replies = [json.loads(line) for line in output.splitlines()]
    assert sorted(reply["update_id"] for reply in replies) == sorted(number for number, _ in updates)
    return {reply["update_id"]: (reply["text"], reply["is_kept"]) for reply in replies}


def history_of_ada(storage="async-bot-chats"):
    with SessionManager(storage) as manager:
        history = manager.get_history("telegram:ada")
    assert problems(history) == []
    return history


@pytest.mark.long
def test_async_demo_loses_nothing(tmp_path, monkeypatch, loop):
    temporary_files_in(tmp_path, monkeypatch)
    output = run("async_bot.py", "--demo", "--kills=3", *loop)
    assert output.count("kill -9") == 3
    assert last_line(output) == "144 updates, 3 kills, 0 lost, 0 doubled, 0 broken histories"
    assert os.listdir(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("storage", ["kept", "log:kept", "sqlite:kept.db"])
def test_async_demo_goes_on_in_a_storage(storage):
    for _ in range(2):
        output = run("async_bot.py", "--demo", "--kills=1", "--thinking=0.02", f"--storage={storage}")
        assert last_line(output) == "144 updates, 1 kills, 0 lost, 0 doubled, 0 broken histories"
    with SessionManager(storage) as manager:
        assert len({one.turn for one in manager.get_history("telegram:user2")}) == 2 * 12


@pytest.mark.long
def test_async_demo_says_when_something_is_lost():
    process = execute("async_bot.py", "--demo", "--storage=memory:", "--kills=2", "--thinking=0.02")
    assert process.returncode == 1
    assert re.fullmatch(r"144 updates, 2 kills, \d\d+ lost, 0 doubled, 0 broken histories", last_line(process.stdout))
    assert process.stderr == ""


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        ("pass", (0, 0, 0)),
        ("manager.remove_last(key)", (1, 0, 1)),
        ("manager.update_last(key, {'role': 'assistant', 'content': 'Something else.'})", (1, 0, 0)),
        ("manager.set_history(key, [])", (2, 0, 0)),
        ("manager.add(key, *manager.get_history(key))", (0, 2, 0)),
        ("turn('tg:9', 'one', 'ho!')", (0, 1, 0)),
        ("manager.add(key, {'role': 'tool', 'content': '', 'tool_call_id': 'x'})", (0, 0, 1)),
        ("platform.unheard[2] = {'Something else.'}", (1, 0, 0)),
    ],
)
def test_async_demo_notices_what_is_wrong(tamper, found):
    probe = f"""
import async_bot
from session_manager import SessionManager
key = "telegram:ada"
manager = SessionManager("kept")
def turn(ref, *texts):
    with manager.turn(key, ref) as turn:
        turn.add(*({{"role": role, "content": text}} for role, text in zip(("user", "assistant"), texts)))
said = [async_bot.Update(number, "ada", text) for number, text in enumerate(["zero", "/reset", "one", "two"])]
platform = async_bot.Platform({{"ada": said}}, [])
platform.replies = {{one.update_id: async_bot.Reply(one.update_id, "ada", one.text + "!", True) for one in said}}
turn("tg:2", "one", "one!")
turn("tg:3", "two", "two!")
{tamper}
manager.close()
print(async_bot.check("kept", platform.said, platform))
"""
    assert probe_examples(probe) == f"{found}\n"


def test_async_bot_answers_many_chats_at_once(loop):
    typed = "ada: How is the weather in Lisbon?\nada: Hello!\nbob: Hello!\nwhat\n\n"
    greeting, *said = run("async_bot.py", "--thinking=0.01", *loop, stdin=typed, by=execute_apart).splitlines()
    assert said.count(greeting) == 1
    assert "bob: I remember 1 of your messages." in said
    assert [line for line in said if line.startswith("ada: ")] == [
        "ada: I have asked: it is full of stars in Lisbon.",
        "ada: I remember 2 of your messages.",
    ]
    turn = history_of_ada()[:4]
    assert [one.role for one in turn] == ["user", "assistant", "tool", "assistant"]
    assert len({one.turn for one in turn}) == 1


def test_async_bot_answers_a_delivery_that_comes_twice_once():
    question = (1, "How is the weather in Oslo?")
    first = deliver(question, (2, "Hello!"))
    assert deliver((3, "Hi."), question, (2, "Hello!")) == {**first, 3: ("I remember 3 of your messages.", True)}
    assert deliver((4, "Hi."), (4, "Hi.")) == {4: ("I remember 4 of your messages.", True)}
    assert len(history_of_ada()) == 4 + 2 + 2 + 2


def test_async_bot_resets_a_chat_once():
    deliver((1, "Hello!"))
    assert deliver((2, "/reset")) == {2: ("This chat is empty now.", False)}
    assert history_of_ada() == []
    deliver((3, "Hello again!"))
    assert deliver((2, "/reset")) == {2: ("This chat is empty now.", False)}
    assert deliver((1, "Hello!")) == {1: ("I have answered that before.", False)}
    assert [one.content for one in history_of_ada()] == ["Hello again!", "I remember 1 of your messages."]


def test_async_bot_commands_happen_once():
    """Each command is delivered twice, as Telegram does after a crash."""

    def twice(number, text):
        first = deliver((number, text))
        assert deliver((number, text)) == first
        return first[number]

    assert deliver((1, "/regenerate")) == {1: ("There is nothing to answer again.", False)}
    deliver((2, "Hello!"))
    deliver((3, "How is the weather in Oslo?"))
    assert twice(4, "/undo")[1] is False
    assert [one.content for one in history_of_ada()] == ["Hello!", "I remember 1 of your messages."]
    assert twice(5, "/edit How is the weather in Quito?") == ("I have asked: it is sunny in Quito.", True)
    assert twice(6, "/regenerate") == ("I have asked: it is sunny in Quito.", True)
    assert [one.turn for one in history_of_ada()] == ["tg:6"] * 4
    assert deliver((2, "Hello!"), (5, "/edit Again?")) == dict.fromkeys((2, 5), ("I have answered that before.", False))


def test_async_bot_shows_a_history_by_pages():
    deliver(*((number, f"number {number}") for number in range(4)))
    ((page, _),) = deliver((5, "/history")).values()
    assert page.splitlines()[0].startswith("3 assistant: ")
    assert page.splitlines()[-1] == "/history 3 shows more"
    ((page, _),) = deliver((6, "/history 3")).values()
    assert [line.split()[0] for line in page.splitlines()] == ["0", "1", "2"]
    assert deliver((7, "/history 0")) == {7: ("There is nothing more.", False)}


def test_async_bot_forgets_a_chat_when_its_user_says_so():
    assert deliver((1, "/forget 90")) == {1: ("This chat goes 90 days after its last message.", False)}
    with SessionManager("async-bot-chats") as manager:
        assert manager.get("telegram:ada").expires_after == timedelta(days=90)
    assert deliver((2, "/forget never")) == {2: ("This chat stays.", False)}


@pytest.mark.long
def test_async_bot_is_reset_while_it_thinks(loop):
    with conversation("--thinking=2", *loop, name="async_bot.py") as bot:
        assert bot.ask("ada: Hello!") == "ada: I remember 1 of your messages."
        bot.say("ada: How is the weather in Oslo?\nada: /reset")
        assert bot.hear() == "ada: This chat is empty now."
        assert bot.hear() == "ada: This chat was reset meanwhile."
    assert history_of_ada() == []


def test_async_bot_refuses_a_flood():
    replies = deliver(*((number, "Hello!") for number in range(40)), options=["--thinking=0.1"])
    busy = [number for number, (text, is_kept) in replies.items() if "still busy" in text and not is_kept]
    assert 0 < len(busy) < 20  # a busy machine answers some while the others come in
    history = history_of_ada()
    assert len(history) == 2 * (40 - len(busy))


def test_async_bot_leaves_what_it_cannot_save_unanswered():
    lines = [json.dumps({"update_id": 1, "chat": "x" * 2000, "text": "Hello!"}), json.dumps([2]), "", "nonsense"]
    update = json.dumps({"update_id": 2, "chat": "ada", "text": "Hello!"})
    process = execute_apart("async_bot.py", "--json", "--thinking=0", stdin="\n".join([lines[0], update]))
    assert json.loads(process.stdout)["update_id"] == 2
    assert process.stderr.startswith("update 1: invalid session key")
    assert process.stderr.endswith("1 updates are not answered; they have to be delivered again.\n")


@contextlib.contextmanager
def stopped_async_bot(number, *arguments):
    """Have an async bot be stopped by a signal while it answers a message."""
    with conversation(*arguments, name="async_bot.py", stderr=subprocess.PIPE) as bot:
        assert bot.ask("what") == bot.greeting
        bot.say("ada: How is the weather in Oslo?\nbob: Hello!\nwhat")
        assert bot.hear() == bot.greeting  # so the others have come in
        bot.process.send_signal(number)
        assert bot.process.stderr.readline().startswith("Stopping")
        yield bot
        bot.process.wait(DEADLINE)
        assert bot.process.returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_async_bot_lets_turns_end_when_it_is_stopped(loop, number):
    with stopped_async_bot(number, "--thinking=1", *loop) as bot:
        assert min(bot.hear(), bot.hear()).startswith("ada: I have asked")
        assert bot.process.stderr.read() == ""
    assert len(history_of_ada()) == 4


@pytest.mark.parametrize("grace", ["--grace=0.1", "--grace=3600"])
def test_async_bot_gives_up_turns_that_take_too_long_when_it_is_stopped(loop, grace):
    with stopped_async_bot(signal.SIGINT, "--thinking=3600", grace, *loop) as bot:
        if grace == "--grace=3600":
            bot.process.send_signal(signal.SIGINT)
        *others, said = bot.process.stderr.read().splitlines()
        assert said == "2 updates are not answered; they have to be delivered again."
        assert all(one.endswith("this session manager is closed") for one in others)  # of a turn that was not open yet
    assert history_of_ada() == []


@pytest.mark.long
def test_a_second_async_bot_is_refused():
    with conversation(name="async_bot.py") as bot:
        bot.ask("ada: Hello!")
        process = execute_apart("async_bot.py")
    assert process.returncode == 1
    assert f"process {bot.process.pid} " in process.stderr


@pytest.mark.parametrize("option", ["--kills=-1", "--thinking=-1", "--grace=-1", "--kills=x"])
def test_async_bot_refuses_an_impossible_option(option):
    assert execute("async_bot.py", option).returncode == 2


# The replay


def test_replay_of_the_built_in_conversations(tmp_path, monkeypatch):
    """Its temporary storage is removed at its end."""
    temporary_files_in(tmp_path, monkeypatch)
    output = run("replay.py", "--kills", "2", "--threads", "3", "--seed", "1")
    assert os.listdir(tmp_path) == []
    assert last_line(output) == "60 sessions, 300 messages, 2 kills, 0 lost, 0 duplicated"


@pytest.mark.long
def test_replay_of_recorded_conversations():
    if not AIRLINE.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not there")
    output = run("replay.py", str(AIRLINE), "--storage", "kept", "--kills", "5")
    assert last_line(output) == "100 sessions, 2526 messages, 5 kills, 0 lost, 0 duplicated"
    with AIRLINE.open(encoding="utf-8") as file:
        recorded = {chat["key"]: chat["messages"] for chat in map(json.loads, file)}
    with SessionManager("kept") as manager:
        assert {key: [message.to_dict() for message in manager.get_history(key)] for key in manager} == recorded


CHATS = {
    "a:1": [{"role": "user", "content": f"number {number}"} for number in range(6)],
    "b:2": [{"role": "user", "content": "the same"}] * 6,
}


@pytest.fixture
def chats(tmp_path):
    """A file of conversations."""
    file = tmp_path / "chats.jsonl"
    lines = [json.dumps({"key": key, "messages": messages}) + "\n" for key, messages in CHATS.items()]
    file.write_text("".join(lines), encoding="utf-8")
    return str(file)


@pytest.mark.long
def test_replay_kills_at_every_message(chats):
    output = run("replay.py", chats, "--kills", "11")
    assert last_line(output) == "2 sessions, 12 messages, 11 kills, 0 lost, 0 duplicated"


@pytest.mark.long
def test_replay_goes_on_with_what_is_there(chats):
    with SessionManager("kept") as manager:
        manager.add("a:1", *CHATS["a:1"][:5])
    output = run("replay.py", chats, "--storage", "kept", "--kills", "2")
    assert last_line(output) == "2 sessions, 12 messages, 2 kills, 0 lost, 0 duplicated"
    process = execute("replay.py", chats, "--storage", "kept", "--kills", "1")
    assert process.returncode == 1
    assert process.stderr == "replay: 0 messages are left to replay, too few for 1 kills\n"


def add_one_too_many(manager):
    manager.add("a:1", CHATS["a:1"][-1])


def add_one_twice(manager):
    manager.set_history("a:1", [*CHATS["a:1"][:4], *CHATS["a:1"][3:]])


def leave_one_out(manager):
    manager.set_history("a:1", [*CHATS["a:1"][:3], *CHATS["a:1"][4:]])


def change_one(manager):
    manager.update_message("a:1", 3, {"role": "user", "content": "something else"})


def add_a_session(manager):
    manager.add_message("c:3", "user", "hi")


@pytest.mark.long
@pytest.mark.parametrize(
    ("tamper", "result"),
    [
        (add_one_too_many, "2 sessions, 13 messages, 0 kills, 0 lost, 1 duplicated"),
        (add_one_twice, "2 sessions, 13 messages, 0 kills, 0 lost, 1 duplicated"),
        (leave_one_out, "2 sessions, 11 messages, 0 kills, 1 lost, 0 duplicated"),
        (change_one, "2 sessions, 12 messages, 0 kills, 1 lost, 1 duplicated"),
        (add_a_session, "3 sessions, 13 messages, 0 kills, 0 lost, 1 duplicated"),
    ],
)
def test_replay_notices_a_storage_that_was_tampered_with(chats, tamper, result):
    run("replay.py", chats, "--storage", "kept", "--kills", "0")
    with SessionManager("kept") as manager:
        tamper(manager)
    process = execute("replay.py", chats, "--storage", "kept")
    assert process.returncode == 1
    assert last_line(process.stdout) == result


def test_replay_notices_what_was_acknowledged_and_is_gone(chats):
    process = execute("replay.py", chats, "--storage", "memory:", "--kills", "1")
    assert process.returncode == 1
    assert re.fullmatch(r"0 sessions, 0 messages, 1 kills, [1-9]\d* lost, 0 duplicated", last_line(process.stdout))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "FileNotFoundError"),
        ('{"key": "a:1", "messages": []}\n' * 2, "a:1 is there twice"),
        ('{"key": "a:1"', "JSONDecodeError"),
        ('{"key": "a:1"}', "KeyError"),
        ("[]", "TypeError"),
        ('{"key": "a:1", "messages": [{}]}', "InvalidMessageError"),
    ],
)
def test_replay_says_what_is_wrong_with_its_file(tmp_path, text, said):
    if text is not None:
        (tmp_path / "chats.jsonl").write_text(text, "utf-8")
    process = execute("replay.py", "chats.jsonl")
    assert process.returncode == 1
    assert process.stderr.startswith("replay: chats.jsonl: ")
    assert said in process.stderr


@pytest.mark.parametrize("option", ["--threads=0", "--kills=-1"])
def test_replay_refuses_an_impossible_option(option):
    assert execute("replay.py", option).returncode == 2


# The summarizer


@pytest.mark.parametrize(
    "storage", [None, *(pytest.param(url, marks=pytest.mark.long) for url in ("log:kept", "sqlite:kept.db"))]
)
def test_summarizer_loses_nothing(tmp_path, monkeypatch, storage):
    temporary_files_in(tmp_path, monkeypatch)
    output = run("summarizer.py", "--seed=1", *([f"--storage={storage}"] if storage else []))
    assert re.search(r"\d+ of 1500 messages, \d+ summaries", output)
    summarized, left = map(int, re.search(r"1500 messages: (\d+) summarized, (\d+) in histories", output).groups())
    assert summarized + left == 1500
    assert summarized > left
    assert ", 0 chats with a message lost or twice" in last_line(output)
    if storage is None:
        assert os.listdir(tmp_path) == []
        return
    with SessionManager(storage) as manager:
        assert sum(info.count for info in manager.list_sessions()) == left
        assert sum(len(list(manager.get_archive(key))) for key in manager) == summarized
        assert all(manager.get_summary(key) for key in manager)
    again = execute("summarizer.py", f"--storage={storage}")
    assert again.returncode == 1
    assert "has sessions already" in again.stderr


@pytest.mark.long
def test_summarizer_of_the_recorded_conversations():
    if not AIRLINE.exists():
        pytest.skip("../shared/data/airline_chats.jsonl is not here")
    output = run("summarizer.py", AIRLINE, "--chats=8", "--summarizers=4")
    assert re.match(r"2526 messages: \d{4} summarized, .* 0 chats with", last_line(output))


@pytest.mark.parametrize(("found", "said"), [([], "2 lost, 0 twice"), ([0, 0, 1], "0 lost, 1 twice")])
def test_summarizer_notices_what_is_lost_or_there_twice(tmp_path, found, said):
    probe = f"""
import summarizer
from session_manager import Message, SessionManager
said = [Message("user", "a"), Message("assistant", "b")]
with SessionManager("kept") as manager:
    manager.get_or_create("a:1")
    manager.add("a:1", *[said[number] for number in {found}])
print(summarizer.check("kept", {{"a:1": said}}, {{"a:1": []}})[1])
"""
    assert f"a:1: {said}" in probe_examples(probe)


def test_summarizer_notices_what_is_not_archived():
    probe = """
import summarizer
from session_manager import Message, SessionManager
said = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
with SessionManager("kept") as manager:
    manager.add("a:1", *said)
    manager.summarize("a:1", lambda previous, messages: "s", keep_last=1)
print(summarizer.check("kept", {"a:1": said}, {"a:1": said[:2]})[1])
"""
    assert "a:1: not archived as it was summarized" in probe_examples(probe)


@pytest.mark.parametrize("option", ["--chats=0", "--summarizers=0"])
def test_summarizer_refuses_an_impossible_option(option):
    assert execute("summarizer.py", option).returncode == 2


# metrics.py


def test_the_metrics_are_counted_for_prometheus():
    pytest.importorskip("prometheus_client")
    done = execute("metrics.py")
    assert (done.returncode, done.stderr) == (0, "")
    output = done.stdout
    assert 'sessions_events_total{event="Saved"} 20.0' in output
    assert "sessions_save_seconds_count 20.0" in output
    assert "sessions_dirty 1.0" in output
    assert "sessions_resident 5.0" in output


# The fleet

KEPT = "deliveries acknowledged: 0 lost, 0 doubled, 0 torn, 0 answered twice"


def test_fleet_loses_nothing_and_answers_once(tmp_path, monkeypatch):
    temporary_files_in(tmp_path, monkeypatch)
    output = run("fleet.py", "--workers=2", "--chats=2", "--deliveries=20", "--kills=1", "--thinking=0.01", "--seed=1")
    assert output.startswith("2 workers, 1 kills, routing any, 4 delivered twice at once\n")
    assert last_line(output).startswith(f"20 {KEPT}; ")
    assert os.listdir(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("storage", ["sqlite", "postgresql"])
@pytest.mark.parametrize("way", ["--routing=chat", "--leases"])
def test_fleet_with_one_turn_of_a_chat_at_a_time(storage, way):
    """Each model is shown all that was said, and only what a kill has cut short is paid twice. Good chats are removed."""
    url = shared_url() if storage == "postgresql" else "sqlite:kept.db"
    output = run("fleet.py", f"--store={url}", way, "--deliveries=100", "--kills=5", "--thinking=0.01")
    assert last_line(output).startswith(f"100 {KEPT}; ")
    assert last_line(output).endswith(" 0 answers blind")
    paid, cut_short = map(int, re.search(r"(\d+) model calls paid twice \((\d+) cut short", output).groups())
    assert paid <= cut_short
    with SessionManager(url) as manager:
        assert manager.list_sessions("fleet-") == []


@pytest.mark.long
@pytest.mark.parametrize("storage", ["sqlite", "postgresql"])
def test_the_demo_of_the_fleet(storage):
    url = shared_url() if storage == "postgresql" else "sqlite:kept.db"
    assert run("fleet.py", f"--store={url}", "--demo").count(f"60 {KEPT}; ") == 3
    with SessionManager(url) as manager:
        assert manager.list_sessions("fleet-") == []


def asked(number, after, text="answer 1a to {}, after {} turns"):
    return [("user", f"question {number}"), ("assistant", text.format(number, after))]


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ([*asked(1, 0), *asked(2, 1)], (0, 0, 0, 0)),
        (asked(1, 0), (1, 0, 0, 0)),
        ([*asked(1, 0), *asked(2, 1, "answer 2b to {}, after {} turns")], (1, 0, 0, 0)),
        ([*asked(1, 0), *asked(2, 1), *asked(1, 2)], (0, 1, 0, 0)),
        ([*asked(1, 0), *asked(2, 1), *asked(3, 2)[:1]], (0, 0, 1, 0)),
        ([asked(1, 0)[0], *asked(2, 1), asked(1, 0)[1]], (0, 0, 1, 0)),
        ([*asked(1, 0), *asked(2, 0)], (0, 0, 0, 1)),
    ],
)
def test_fleet_notices_what_is_wrong_in_its_chats(history, found):
    with SessionManager("kept") as manager:
        manager.get_or_create("a")
        for role, content in history:
            manager.add_message("a", role, content)
    probe = """
import fleet
tally = fleet.Tally(answers={1: {"answer 1a to 1, after 0 turns"}, 2: {"answer 1a to 2, after 1 turns"}})
if "after 0 turns" in HISTORY[-1][1]:
    tally.answers[2] = {HISTORY[-1][1]}
fleet.check("kept", ["a"], tally)
print(tally.lost, tally.doubled, tally.torn, tally.blind, tally.good)
"""
    is_good = not any(found[:3])
    assert probe_examples(probe.replace("HISTORY", repr(history))) == f"{' '.join(map(str, found))} {is_good}\n"


def test_fleet_counts_two_answers_to_one_delivery():
    probe = """
import collections, fleet
tally = fleet.Tally(asked=collections.Counter({1: 3, 2: 1}), answers={1: {"a", "b"}, 2: {"a"}})
print(tally.answered_twice, tally.paid_twice, tally.good)
"""
    assert probe_examples(probe) == "1 2 False\n"


@pytest.mark.parametrize("option", ["--workers=0", "--deliveries=1", "--kills=-1", "--routing=x"])
def test_fleet_refuses_an_impossible_option(option):
    assert execute("fleet.py", option).returncode == 2


def test_fleet_says_why_its_workers_do_not_start(tmp_path):
    """The storage is a file of something else: each worker ends by itself, and none is started in its place."""
    (tmp_path / "other.db").write_text("something else", "utf-8")
    process = execute_apart("fleet.py", "--store=sqlite:other.db", "--deliveries=2", "--kills=0")
    assert process.returncode == 1
    assert process.stderr.endswith("fleet: a worker has failed: see above\n")  # one that is killed may not end its line


def test_a_worker_of_the_fleet_that_is_broken_ends(monkeypatch, capsys):
    """Its pool would keep the error for itself, and the delivery would never be answered."""
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    probe_examples(
        "import concurrent.futures, fleet\n"
        "for error in (None, ValueError('broken')):\n"
        "    done = concurrent.futures.Future()\n"
        "    done.set_exception(error) if error else done.set_result(None)\n"
        "    fleet.end_if_broken(done)\n"
    )
    assert ended == [1]
    assert "ValueError: broken" in capsys.readouterr().err
