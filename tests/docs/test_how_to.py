"""Each recipe of the how-to is complete: it runs alone, in an empty directory."""

from __future__ import annotations

import re
import signal

import pytest

from session_manager import ClosedError, SessionManager
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
INDEX = ROOT / "docs" / "how-to" / "index.md"
RECIPES = {
    f"{page.stem}: {title}": (page, text)
    for page in PAGES
    if page != INDEX
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
}


@pytest.fixture
def _signals():
    """Have the process handle signals as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_alone(recipe, tmp_path, monkeypatch):
    """A recipe used names that another one had defined, and failed when somebody copied it."""
    monkeypatch.chdir(tmp_path)
    page, text = RECIPES[recipe]
    for package in ("anthropic", "fastapi", "openai"):
        if f"from {package}" in text:
            pytest.importorskip(package)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names = {"__name__": "recipe"}
    for block in blocks:
        exec(compile(block, f"{page.name}, {recipe}", "exec", dont_inherit=True), names)
    for opened in names.values():
        if isinstance(opened, SessionManager):  # a reader copies how it is closed, too
            with pytest.raises(ClosedError):
                opened.get("test:1")


def test_the_list_at_the_top_has_every_recipe_in_order():
    listed = re.findall(r"^\* \[(.*)\]\((\w+)\.md#", INDEX.read_text(), re.MULTILINE)
    groups = list(dict.fromkeys(page for _, page in listed))
    assert [f"{page}: {title}" for title, page in listed] == sorted(
        RECIPES, key=lambda one: groups.index(one.split(":")[0])
    )
