"""A storage with a few chats, in each kind of store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from session_manager import SessionManager
from session_manager.testing import Clock

AT = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """The tests give the storage themselves."""
    for name in ("SESSION_MANAGER_STORAGE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def fill(url):
    """Write four sessions: one with calls, one with a summary and an archive, one that expires, one with a nasty key."""
    clock = Clock(AT)
    with SessionManager(url, archive=True, clock=clock) as m:
        m.add_message("telegram:42", "user", "Is there a flight to **Lisbon**?\nOne stop at most.")
        call = {"id": "c1", "type": "function", "function": {"name": "flights", "arguments": '{"to": "LIS"}'}}
        m.add_message("telegram:42", "assistant", None, tool_calls=[call])
        m.add_message("telegram:42", "tool", "TP 571 " * 40, tool_call_id="c1")
        m.add_message("telegram:42", "assistant", "Yes: **TP 571**, at 09:15.")
        clock.advance(60)
        for number in range(30):
            m.add_message("telegram:7", "user", f"message {number}")
        m.set_summary("telegram:7", "They counted.")
        m.update_metadata("telegram:7", {"language": "de", "n": 1})
        m.save_all()
        m.truncate_history("telegram:7", 25)
        clock.advance(60)
        m.add_message("slack:C01", "user", "oi")
        m.set_expiry("slack:C01", timedelta(days=30))
        clock.advance(60)
        m.add_message("里斯本\x1b[31m", "user", "steer\x1b[31m the\x07 terminal \ud800")
    return url


@pytest.fixture
def log(tmp_path):
    return fill(f"log:{tmp_path / 'chats'}")


@pytest.fixture(params=["snapshot", "log", "sqlite"])
def storage(request, tmp_path):
    return fill(f"{request.param}:{tmp_path / 'chats'}")
