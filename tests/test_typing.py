"""What type checkers say about a user's program."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import typing

import pytest

from session_manager import AsyncSessionManager, SessionManager
from tests.support.places import ROOT

CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--config-file", ""],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}
FILES = {"user": [], "clients": ["openai", "anthropic"]}


@pytest.mark.long
@pytest.mark.once
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.timeout(600)
def test_a_program_of_a_user_is_accepted_as_it_is(file, checker):
    """`get_context` needed a cast for each of the SDKs."""
    for needed in [checker, *FILES[file]]:
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    command = [sys.executable, *CHECKERS[checker], f"tests/typing/{file}.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("cls", [SessionManager, AsyncSessionManager])
def test_the_hints_of_a_manager_are_known_to_a_program_that_injects_it(cls):
    """A name that only type checkers see was in the class."""
    assert isinstance(typing.get_type_hints(cls), dict)
    assert "storage" in typing.get_type_hints(cls.__init__)
