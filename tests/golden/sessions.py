"""The sessions that the golden files hold."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from session_manager import Message, Session
from session_manager.model.view import View
from tests.support.canary import CANARY

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TICK = timedelta(microseconds=6)

SESSIONS = {
    "plain": Session(
        key="telegram:42",
        generation="9f86d081884c7d659a2feaa0c55ad015",
        created=AT,
        updated=AT + TICK,
        messages=View(
            [
                Message("user", "Hello!", created_at=AT)._placed(0, None),
                Message("assistant", "Hi, Ada.", created_at=AT + TICK)._placed(1, None),
            ]
        ),
        end=2,
        revision=1,
    ),
    "no_messages": Session(
        key="Slack_C01",
        generation="00000000000000000000000000000000",
        created=AT,
        updated=AT,
        summary="They said hello.",
        end=7,
        revision=12,
    ),
    "nasty": Session(
        key="weird/../ключ\x00",
        generation="ffffffffffffffffffffffffffffffff",
        created=datetime(1, 1, 1, tzinfo=timezone.utc),
        updated=datetime(9999, 12, 31, 23, 59, 59, 999999, timezone.utc),
        messages=View(
            [
                Message("user", f"lone \ud800 surrogate, é, {CANARY}", created_at=AT)._placed(5, None),
                Message.from_dict(
                    {
                        "type": "reasoning",
                        "numbers": [2**64, -(10**4300) + 1, 0, 0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e22],
                        "others": [True, False, None, "", {}, [], [[]], {"": {"": None}}],
                    },
                    created_at=AT + TICK,
                    metadata={"канал": [1, 1.0, True]},
                    ref="\u2028",
                )._placed(9, "update-1"),
                Message(
                    "assistant",
                    None,
                    name="é\u0301",
                    tool_calls=[{"id": "1", "function": {"name": "f", "arguments": '{"a": "\\u0000\n"}'}}],
                    extra={"role ": '],"crc32":"00000000"}\n', "text": '漢字 👩‍👩‍👧 \u2028 \x00 \x7f \\ " / </script>'},
                    created_at=AT,
                )._placed(10, "update-2"),
            ]
        ),
        summary=f"Zusammenfassung 👩‍👩‍👧 \u2029 {CANARY}",
        metadata={"tier": 1, "flags": {"é": [None, -0.0]}, "\n": CANARY},
        end=11,
        refs=("update-0", "update-1", "update-2", "é"),
        revision=2**53 + 1,
    ),
    "ascii_header": Session(
        key="telegram:42",
        generation="9f86d081884c7d659a2feaa0c55ad015",
        created=AT,
        updated=AT,
        messages=View([Message("user", "漢", created_at=AT, ref="\udfff")._placed(0, None)]),
        summary="lone \ud83d and 👩",
        metadata={"\udc00": ["\ud800", 1.5]},
        end=1,
        refs=("\udbff",),
        revision=3,
    ),
}
