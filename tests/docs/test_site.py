"""The documentation's site has every page, every decision and every public name; CI builds it."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.support.places import ROOT

pytestmark = pytest.mark.once

DOCS = ROOT / "docs"
#: The modules that a user imports names from.
PUBLIC = ["errors", "exporters", "history", "importers", "manager.events", "operations", "stores", "testing"]


def test_the_navigation_has_every_page():
    """A page that is not in it is found by nobody: add it to `nav` in mkdocs.yml."""
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = re.findall(r"([\w/-]+\.md)$", nav, re.MULTILINE)
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if page.parent.name != "adr"]
    assert sorted(named) == sorted(pages)


def test_the_generated_reference_has_every_module():
    """Of a module whose names are imported when they are asked for, griffe sees none: the hook adds those that a page lacks."""
    shown = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"^::: session_manager\.(\S+)$", shown, re.MULTILINE))
    for module in PUBLIC:
        listed = importlib.import_module(f"session_manager.{module}").__all__
        assert module in named or any(f"{module}.{name}" in named for name in listed), module


def test_the_generated_reference_has_every_adapter():
    """By their pages: their frameworks are not on every machine."""
    page = (DOCS / "reference" / "adapters.md").read_text()
    modules = set(re.findall(r"`session_manager\.adapters\.(\w+)", (DOCS / "adapters.md").read_text()))
    assert modules
    assert {module for module in modules if f"::: session_manager.adapters.{module}." not in page} == set()
