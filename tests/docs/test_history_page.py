"""The table of rules in ``docs/history.md`` says what the rules are."""

from __future__ import annotations

import enum
import re

import attrs
import pytest

from session_manager import history
from session_manager.history import Rules
from tests.support.places import ROOT

pytestmark = pytest.mark.once

PAGE = (ROOT / "docs" / "history.md").read_text()
PROVIDERS = ("OPENAI_CHAT", "OPENAI_RESPONSES", "ANTHROPIC", "GEMINI", "BEDROCK", "STRICT_TEMPLATES")
#: Not of a provider, but of how the library writes.
OWN = {"name", "shape", "placeholder", "_by_shape"}


def cell(value):
    """Return a value as the table has it."""
    match value:
        case None | history.Empty.ALLOW | history.Unique.NOWHERE | history.SystemPlace.ANYWHERE:
            return "·"
        case bool():
            return "yes" if value else "no"
        case enum.Enum():
            return value.value
        case tuple():
            return ", ".join(who for who, is_so in zip(("assistant", "user"), value, strict=True) if is_so) or "·"
        case str() if re.search(r"\W", value):
            return f"`{value}`"
    return str(value)


def test_the_table_of_rules_says_what_the_rules_are():
    table = re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", PAGE, flags=re.MULTILINE)
    rows = {name: cells.split(" | ") for name, cells in table}
    wanted = {
        field.name: [cell(getattr(getattr(history, provider), field.name)) for provider in PROVIDERS]
        for field in attrs.fields(Rules)
        if field.name not in OWN
    }
    assert rows == wanted


def test_the_table_has_a_column_for_each_provider():
    assert "| rule | what it asks for | " + " | ".join(f"`{name}`" for name in PROVIDERS) + " |" in PAGE
    assert set(PROVIDERS) <= set(history.__all__)
