"""Options of the long runs, the profiles of hypothesis, and the watch for text that leaks."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from session_manager import InvalidKeyError, InvalidMessageError, SessionManagerError
from session_manager.testing import strategies
from tests.support.canary import CANARY
from tests.support.laws import QUICK
from tests.support.processes import FRESH
from tests.support.sizes import Size, has_several_parameters, needless

# Strategies are built when they are first asked for: hypothesis draws it, too.
strategies.NASTY_TEXTS += (CANARY,)

#: Where the tests' files are, and those of the processes that they start: in RAM, if there is enough of it, for they are
#: many and short-lived. What a disk does is simulated, or tried on images of file systems. TMPDIR has them elsewhere.
_RAM, _ENOUGH = "/dev/shm", 2 * 1024**3
if os.path.isdir(_RAM) and shutil.disk_usage(_RAM).free > _ENOUGH:
    os.environ.setdefault("TMPDIR", _RAM)
    tempfile.tempdir = None  # and is looked up again

# Without bytecode, each of the many processes that the tests start would compile all of it, and each run all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Garbage collections took a twentieth of the run, in its workers, and in the process that collects all reports.
gc.set_threshold(20_000, 20, 50)

#: For type checkers, not for running.
collect_ignore = ["typing"]
#: They import frameworks, which need not be there, and have no doctests.
collect_ignore_glob = ["support/adapted_*.py"]

# A run tries the same examples each time, so that it fails for what was changed, and not by chance; `new` looks for new ones.
_new = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_same = settings(_new, derandomize=True, database=None)
settings.register_profile("quick", parent=_same, max_examples=QUICK)
settings.register_profile("many", parent=_same, max_examples=150)
settings.register_profile("long", parent=_same, max_examples=1000, stateful_step_count=100)
settings.register_profile("new", parent=_new, max_examples=1000, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser):
    parser.addoption("--walks", type=int, default=40, help="how many random walks of three writers")
    parser.addoption("--first-walk", type=int, default=0, help="the seed of the first walk")
    parser.addoption("--long", action="store_true", help="run what takes long, too")
    parser.addoption("--faults", action="store_true", help="break the library for minutes, instead of seconds")
    parser.addoption("--soak", action="store_true", help="break the library for hours")


def pytest_xdist_auto_num_workers():
    """Run one worker more than there are cores: many tests wait, for processes that they start or for a lock that they try."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A job in a shell's background ignores it, and so would the programs that tests start and interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--faults") or config.getoption("--soak"):
        os.environ[FRESH] = "1"


def pytest_sessionstart(session):
    """Have pytest format no line of the log below INFO, unless a test asks for it: each is formatted for the watch below."""
    plugin = session.config.pluginmanager.getplugin("logging-plugin")
    for handler in (plugin.caplog_handler, plugin.report_handler):
        handler.setLevel(logging.INFO)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    long, faults, soak = (config.getoption(name) for name in ("--long", "--faults", "--soak"))
    for item in items:
        if "size" in getattr(item, "fixturenames", ()) or has_several_parameters(item):
            item.add_marker(pytest.mark.sized)
    runs = [
        item
        for item in items
        if (long or soak or not item.get_closest_marker("long"))
        and (faults or soak or not item.get_closest_marker("faults"))
    ]
    left_out = set() if faults or soak else needless(runs)
    runs = [item for item in runs if item not in left_out]
    config.hook.pytest_deselected(items=list(set(items).difference(runs)))
    items[:] = runs


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Spare garbage collections what is there before the first test: with it each takes a quarter of a second."""
    gc.collect()
    gc.freeze()


_path = None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Spare them what the modules before have left, too."""
    global _path
    if item.path != _path:
        _path = item.path
        gc.freeze()


# What the whole suite logs, at DEBUG, and every error of the library that it makes, is watched for the canary.

_leaks: list[str] = []


def _watch(what: str, text: str) -> None:
    if CANARY in text:
        _leaks.append(f"{what}: {text[:500]}")


class _Watched(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _watch("the log", f"{self.format(record)} {record.args!r} {record.exc_info!r}")


logging.getLogger("session_manager").setLevel(logging.DEBUG)
logging.getLogger("session_manager").addHandler(_Watched(logging.DEBUG))


def _watched_init(error: SessionManagerError, *arguments: object) -> None:
    # Keys, and the names of fields, which lead to the place of an error, may be shown.
    shown = arguments[1:] if isinstance(error, InvalidKeyError | InvalidMessageError) else arguments
    _watch(type(error).__name__, repr(shown))
    super(SessionManagerError, error).__init__(*arguments)


SessionManagerError.__init__ = _watched_init


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    result = yield
    _fail_for_leaks()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    result = yield
    _fail_for_leaks()
    return result


def _fail_for_leaks() -> None:
    leaks = [*_leaks]
    _leaks.clear()
    if leaks:
        pytest.fail(f"{len(leaks)} texts leaked, such as through {leaks[0]}", pytrace=False)


_DESCRIPTORS = "/proc/self/fd"


def _count_descriptors() -> int:
    return len(os.listdir(_DESCRIPTORS)) if os.path.isdir(_DESCRIPTORS) else 0


_open = _count_descriptors()


@pytest.fixture(autouse=True)
def _what_is_left_open_is_collected():
    """Collect what a test leaves open, so that Python's warning fails this test, and not the one that happens to collect it."""
    yield
    global _open
    found = _count_descriptors()
    if found > _open:
        gc.collect()
        found = _count_descriptors()
    _open = found


@pytest.fixture
def size(request) -> Size:
    """How much this run tries."""
    if request.config.getoption("--soak"):
        return Size.SOAK
    return Size.FULL if request.config.getoption("--faults") else Size.SMOKE


@pytest.fixture
def leaks() -> list[str]:
    """What leaked in this test; what is left in it fails the test."""
    return _leaks


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request) -> str:
    """The event loops that async tests run on."""
    return request.param


@pytest.fixture
def switching_often():
    """Threads that are switched at nearly every bytecode."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
