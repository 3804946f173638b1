"""The stores on the system that runs the tests, whichever it is: this module needs nothing of POSIX."""

from __future__ import annotations

import pytest

from session_manager import SessionManager


@pytest.mark.parametrize("url", ["snapshot:{}", "log:{}", "sqlite:{}.db"])
def test_a_session_lives_and_is_found_again(url, tmp_path):
    url = url.format(tmp_path / "chats")
    with SessionManager(url, archive=True) as manager:
        for number in range(3):
            with manager.turn("telegram:42", f"update-{number}") as turn:
                turn.add_message("user", f"question {number}")
                turn.add_message("assistant", "answer")
        manager.truncate_history("telegram:42", keep_last=2)
        manager.save("telegram:42")
        manager.add_message("CON", "user", "a device's name on Windows")
        manager.save("CON")
        manager.rename("telegram:42", "Telegram:42")
    with SessionManager(url, archive=True) as manager:
        assert sorted(manager) == ["CON", "Telegram:42"]
        assert [message.content for message in manager.get_history("Telegram:42")] == ["question 2", "answer"]
        assert len(list(manager.get_archive("Telegram:42"))) == 4
        assert manager.delete("CON")
        assert manager.verify() == []
