"""Test modules stand alone: each can be moved, and run, without the others."""

from __future__ import annotations

import re

import pytest

from tests.support.places import ROOT

pytestmark = pytest.mark.once

#: Of a test's name, in characters. Its story is its docstring.
LONGEST = 70
NAMED = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)

#: Also in code that a test hands to another process.
IMPORTED = re.compile(r"^\s*(?:from|import) tests[\w.]*(?:\.| import .*\b)(test_\w+)", re.MULTILINE)


def test_no_module_imports_a_test_module():
    found = {}
    for file in sorted((ROOT / "tests").rglob("*.py")):
        if names := IMPORTED.findall(file.read_text()):
            found[file.name] = names
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "from tests.test_x import y",
        "import tests.faults.test_x",
        "from tests import a, test_x",
        "    from tests.test_x import y",
    ],
)
def test_an_import_of_a_test_module_is_noticed(line):
    assert IMPORTED.findall(f"first\n{line}\nlast\n") == ["test_x"]


def test_support_modules_are_no_tests():
    names = [file.name for file in (ROOT / "tests" / "support").iterdir()]
    assert [name for name in names if name.startswith("test_") or name == "conftest.py"] == []


def test_names_of_tests_are_short():
    """Some had 98 characters, and were read less often than a docstring is."""
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "session_manager" / "testing").rglob("*.py")]
    names = [name for file in files for name in NAMED.findall(file.read_text())]
    assert len(names) > 1000
    assert [name for name in names if len(name) > LONGEST] == []
