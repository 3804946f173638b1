"""The code of `docs/adapters.md` runs, where its framework is installed."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.places import ROOT

PAGE = ROOT / "docs" / "adapters.md"
BLOCKS = re.findall(r"^## (.+?)$|```python\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def _by_section():
    title = ""
    for heading, code in BLOCKS:
        title = heading or title
        if code:
            yield pytest.param(code, id=title)


def _packages(code):
    """Return the packages that some code imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("code", list(_by_section()))
def test_the_code_of_a_section_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in _packages(code):
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)
    exec(compile(code, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
