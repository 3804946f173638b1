"""A fork of a prepared process is what a fresh interpreter is, to a test that starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap

import pytest

from tests.support.processes import FRESH, python, run_python, start

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(params=["forked", "fresh"], autouse=True)
def how(request, monkeypatch):
    monkeypatch.delenv(FRESH, raising=False)
    if request.param == "fresh":
        monkeypatch.setenv(FRESH, "1")
    return request.param


def test_it_reads_writes_and_has_arguments_a_directory_an_environment(tmp_path):
    code = "import os, sys; print(__name__, sys.argv[1:], input(), os.getcwd(), os.environ['MINE']); print('x', file=sys.stderr)"
    done = run_python("-c", code, "a", 1, input="typed\n", cwd=tmp_path, env={**os.environ, "MINE": "yes"})
    assert done.stdout == f"__main__ ['a', '1'] typed {os.path.realpath(tmp_path)} yes\n"
    assert (done.stderr, done.returncode) == ("x\n", 0)


def test_a_module_and_a_script_run_as_the_main_one(tmp_path):
    assert run_python("-m", "json.tool", input="[1]").stdout == "[\n    1\n]\n"
    (tmp_path / "beside.py").write_text("NAME = 'beside'")
    script = tmp_path / "script.py"
    script.write_text("import sys\nfrom beside import NAME\nprint(__name__, NAME, sys.argv[1:])")
    assert run_python(script, "a").stdout == "__main__ beside ['a']\n"


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit('why')", 1),
        ("raise ValueError", 1),
        ("import os; os._exit(9)", 9),
        ("raise KeyboardInterrupt", -signal.SIGINT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
    ],
)
def test_it_ends_by_its_exit_code_or_by_its_signal(code, ends):
    assert run_python("-c", code).returncode == ends


def test_its_threads_end_and_then_its_exit_handlers_run():
    code = """
        import atexit, threading, time
        atexit.register(print, "handler")
        threading.Timer(0.05, print, ["thread"]).start()
    """
    with start(code) as process:
        assert process.communicate(timeout=60)[0] == "thread\nhandler\n"


def test_it_is_interrupted_killed_and_waited_for():
    code = textwrap.dedent("""
        import time
        try:
            print(flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        time.sleep(60)
    """)
    with python("-c", code, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(60) == process.poll() == -signal.SIGKILL


def test_its_id_is_its_own_and_it_draws_other_numbers(how):
    code = "import os, random; print(os.getpid(), random.random())"
    one, other = (run_python("-c", code).stdout.split() for _ in range(2))
    assert one[0] != other[0]
    assert one[1] != other[1]
    with python("-c", "pass") as process:
        assert process.pid != os.getpid()
    assert (type(process) is subprocess.Popen) == (how == "fresh")
