"""nanobot's JSONL: metadata, the provider's state, local times, and keys in file names."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Item
from session_manager.testing.strategies import json_objects
from tests.support.foreign_files import examples, plain, read_all
from tests.support.laws import examples as tries

EXAMPLES = {one.name: one for one in examples() if one.format == "nanobot"}
EARLIEST = datetime(1970, 1, 2)  # noqa: DTZ001 - nanobot's times name no zone
NAME = "dGVsZWdyYW06NDI.jsonl"


def stored(*lines: dict[str, Any]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_all_of_a_session_comes_along() -> None:
    (session,), flaws = read_all("nanobot", NAME, EXAMPLES[NAME].data)
    assert (session.key, session.summary) == ("telegram:42", "They met.")
    assert session.metadata == {
        "last_channel": "telegram:42",
        "_last_summary": {"last_active": "2026-01-02T03:04:06"},
        "nanobot": {
            "later": [1],
            "provider_state": {"kind": "openai_responses", "version": 1, "payload": {"response_id": "resp_1"}},
        },
    }
    assert [message.content for message in session.archived] == ["Hello, I am Ada.", "Hello Ada!"]
    command, image, call, *_ = session.messages
    assert isinstance(command, Item)
    assert image.metadata == {"media": ["/m/1.png"]}
    assert (call.role, call.extra["reasoning_content"], len(call.tool_calls)) == ("assistant", "List first.", 1)
    assert [(one.line, one.reason) for one in flaws] == [(9, "timestamp: is not a time")]
    assert session.messages[-1].metadata == {"timestamp": "no time"}


def test_times_are_of_the_zone_that_is_given() -> None:
    zone = timezone(timedelta(hours=2))
    (session,), _ = read_all("nanobot", NAME, EXAMPLES[NAME].data, zone=zone)
    assert session.created == datetime(2026, 1, 2, 1, 4, 5, 123456, tzinfo=timezone.utc)
    assert session.archived[0].created_at == datetime(2026, 1, 2, 1, 4, 5, 124001, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("dGVsZWdyYW06NDI", "telegram:42"),
        (base64.urlsafe_b64encode("x:漢字?".encode()).decode().rstrip("="), "x:漢字?"),
        ("cli_direct", "cli:direct"),
        ("telegram_42_7", "telegram:42_7"),
        ("plain", "plain"),
    ],
)
def test_the_name_tells_the_key_if_the_file_does_not(stem: str, key: str) -> None:
    (session,), _ = read_all(
        "nanobot", f"{stem}.jsonl", stored({"_type": "metadata"}, {"role": "user", "content": "x"})
    )
    assert session.key == key


@pytest.mark.parametrize("count", [-1, 4, True, "2", None])
def test_an_offset_that_cannot_be_archives_nothing(count: Any) -> None:
    """nanobot itself takes such an offset for 0: otherwise, all of the history would be gone."""
    lines = [{"role": "user", "content": f"{n}"} for n in range(3)]
    (session,), _ = read_all("nanobot", "a.jsonl", stored({"_type": "metadata", "last_archived": count}, *lines))
    assert (len(session.archived), len(session.messages)) == (0, 3)


def test_an_offset_counts_damaged_lines() -> None:
    head = {"_type": "metadata", "key": "k", "last_consolidated": 2}
    data = stored(head, {"role": "user", "content": "0"}) + b"{\n" + stored({"role": "user", "content": "2"})
    (session,), flaws = read_all("nanobot", "a.jsonl", data)
    assert [message.content for message in session.messages] == ["2"]
    assert [one.line for one in flaws] == [3]


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.text(), st.datetimes(EARLIEST))),
    json_objects(),
)
@tries(20, many=200)
def test_generated_files_come_back_as_they_were(
    lines: list[tuple[str, str, datetime]], metadata: dict[str, Any]
) -> None:
    metadata.pop("_last_summary", None)
    written = [{"role": role, "content": text, "timestamp": at.isoformat()} for role, text, at in lines]
    data = stored({"_type": "metadata", "key": "k:1", "metadata": metadata}, *written)
    (session,), flaws = read_all("nanobot", "a.jsonl", data)
    assert (flaws, dict(session.metadata)) == ([], metadata)
    assert plain(session) == [{"role": role, "content": text} for role, text, _ in lines]
    assert [message.created_at.replace(tzinfo=None) for message in session.messages] == [at for *_, at in lines]


def test_a_file_of_the_real_program(tmp_path: Path) -> None:
    pytest.importorskip("nanobot")
    from nanobot.session.manager import SessionManager  # noqa: PLC0415 - in the extra bench only

    manager = SessionManager(tmp_path)
    session = manager.get_or_create("telegram:-100:7")
    session.add_message("user", "Hello 漢字")
    session.add_message("assistant", "Hi!")
    manager.save(session)
    path = manager._get_session_path("telegram:-100:7")
    (found,), flaws = read_all("nanobot", path.name, path.read_bytes(), zone=None)
    assert (found.key, flaws) == ("telegram:-100:7", [])
    assert plain(found) == [{"role": "user", "content": "Hello 漢字"}, {"role": "assistant", "content": "Hi!"}]
    assert found.messages[0].created_at == datetime.fromisoformat(session.messages[0]["timestamp"]).astimezone(
        timezone.utc
    )
