"""An adapter without its framework says what to install, and no other part of the library needs one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.places import ROOT

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
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"this adapter needs {package}")
    assert said.endswith(f": pip install 'chat-session-manager[{extra}]'\n")
    assert f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text()
