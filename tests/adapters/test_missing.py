"""An adapter without its framework says what to install, and no other part of the library needs one."""

from __future__ import annotations

import pytest

from tests.support.places import ROOT
from tests.support.processes import run_python

FRAMEWORKS = {
    "openai_agents": ("agents", "openai-agents"),
    "claude_agent": ("claude_agent_sdk", "claude-agent"),
    "pydantic_ai": ("pydantic_ai", "pydantic-ai"),
    "google_adk": ("google.adk", "google-adk"),
    "langgraph": ("langgraph", "langgraph"),
    "opentelemetry": ("opentelemetry", "otel"),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_adapter_without_its_framework_names_the_extra(name):
    package, extra = FRAMEWORKS[name]
    code = f"""
import sys
sys.modules["{package}"] = None
try:
    import session_manager.adapters.{name}
except ImportError as error:
    print(error)
"""
    said = run_python("-c", code).stdout
    assert said.startswith(f"this adapter needs {package}")
    assert said.endswith(f": pip install 'chat-session-manager[{extra}]'\n")
    assert f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text()


def test_an_adapter_without_any_extra_says_to_install_one():
    """It said that there was no module named `anyio`, which is none of the user's."""
    code = f"""
import importlib, sys
sys.modules["anyio"] = None
for name in {[*FRAMEWORKS]}:
    try:
        importlib.import_module("session_manager.adapters." + name)
    except ImportError as error:
        print(error)
"""
    said = run_python("-c", code).stdout
    (line,) = set(said.splitlines())
    assert line.startswith("an adapter needs anyio: install your framework's extra, such as pip install ")
    assert said.count(line) == len(FRAMEWORKS)
