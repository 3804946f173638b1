"""The code in the documentation runs, its links lead somewhere, and the reference is complete."""

from __future__ import annotations

import re

import pytest

import session_manager.testing
from session_manager import SessionManager
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
#: Pages whose code another test runs: test_readme, test_async_how_to.
ELSEWHERE = {"README.md", "async-how-to.md"}
WITH_CODE = [page for page in PAGES if "```python" in page.read_text() and page.name not in ELSEWHERE]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for package in ("anthropic", "openai"):
        if f"\nfrom {package}" in page.read_text():
            pytest.importorskip(package)
    blocks = re.finditer(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        line = page.read_text().count("\n", 0, block.start()) + 1
        exec(compile("\n" * line + block.group(1), str(page), "exec"), names)
    if "manager" in names:
        names["manager"].close(save=False)


def test_there_are_pages_with_code():
    assert len(WITH_CODE) >= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_reference_names_every_public_name_and_call():
    reference = (ROOT / "docs" / "api.md").read_text()
    calls = [name for name in vars(SessionManager) if not name.startswith("_")]
    public = [*session_manager.__all__, *session_manager.testing.__all__, *calls]
    missing = [name for name in public if not re.search(rf"\b{name}\b", reference)]
    assert missing == []


def test_every_test_that_the_documentation_names_is_there():
    files = [*(ROOT / "tests").rglob("*.py")]
    there = {file.stem for file in files}.union(
        *(re.findall(r"\bdef (test_\w+)\(", file.read_text()) for file in files)
    )
    for page in PAGES:
        assert set(re.findall(r"\btest_\w+", page.read_text())) <= there, page.name


def test_the_map_of_modules_names_each():
    """`docs/architecture.md` has every module of the package in the row of its room, and no other."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "session_manager"
    there = {}
    room = ""
    for row in re.findall(r"^\|(.*?)\|(.*?)\|.*\|$", page, flags=re.MULTILINE):
        room = row[0].strip(" `*") or room
        there.setdefault(room, set()).update(re.findall(r"`(\w+)`", row[1]))
    wanted = {}
    for file in package.rglob("*.py"):
        place = file.relative_to(package).parent.as_posix()
        if file.stem != "__init__":
            wanted.setdefault({".": "(top)", "testing/contract": "testing"}.get(place, place), set()).add(
                "contract" if place == "testing/contract" else file.stem
            )
    assert {room: there.get(room) for room in wanted} == wanted
