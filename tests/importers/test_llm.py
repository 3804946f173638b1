"""llm's database: threads of today, responses of old versions."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from session_manager.importers.reading import ImportedSession
from tests.support.foreign_files import database_of, examples, plain, read_all

EXAMPLES = {one.name: one for one in examples() if one.format == "llm"}
EARLY = (Path(__file__).parent / "files" / "llm" / "early.sql").read_text()
LATER = (Path(__file__).parent / "files" / "llm" / "logs.sql").read_text()


def sessions(name: str = "logs.db") -> dict[str, ImportedSession]:
    found, flaws = read_all("llm", name, EXAMPLES[name].data)
    assert flaws == []
    return {one.key: one for one in found}


def test_threads_and_conversations_are_sessions() -> None:
    assert list(sessions()) == ["01t", "01t:t3", "01e", "01a", "01b"]


def test_a_thread_is_its_chain_of_messages() -> None:
    session = sessions()["01t"]
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"zone":"UTC"}'}}
    system, asked, *rest = plain(session)
    assert system == {"role": "system", "content": "Be brief."}
    assert asked["content"] == [
        {"type": "text", "text": "See: A fragment."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
    ]
    assert rest == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "12:00"},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes."},
    ]
    answer = session.messages[2]
    assert (answer.metadata["model"], answer.metadata["token_details"]) == ("gpt-5", {"cached": 1})
    assert (answer.metadata["reasoning"], answer.metadata["server"][0]["name"]) == (["Two calls."], "web")
    times = [message.created_at.replace(microsecond=0).second for message in session.messages]
    assert times == [5, 5, 5, 6, 6, 8, 8]


def test_a_question_that_was_asked_again_is_a_branch() -> None:
    branch = sessions()["01t:t3"]
    assert [one["content"] for one in plain(branch)][-2:] == ["Sure?", "No."]
    assert (branch.metadata["branch_of"], branch.metadata["branch"]) == ("01t", "t3")


def test_calls_and_results_of_responses_get_ids() -> None:
    session = sessions()["01b"]
    roles = [one["role"] for one in plain(session)]
    assert roles == ["system", "user", "assistant", "tool", "tool", "assistant", "system", "user", "assistant"]
    _, _, answer, first, second, last, *_ = plain(session)
    assert [one["id"] for one in answer["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert (first["content"], second["content"], last["content"]) == ("12:00", "13:00", "Noon.")
    assert session.messages[4].metadata["exception"] == "ValueError"
    assert session.messages[5].metadata == {
        "id": "r2",
        "options": {"temperature": 0.5},
        "model": "gpt-4o",
        "duration_ms": 5,
        "input_tokens": 9,
        "reasoning": "Look.",
    }
    assert session.metadata == {"name": "Time", "model": "gpt-4o"}


def test_fragments_and_attachments_are_in_the_prompt() -> None:
    *_, system, asked, _ = plain(sessions()["01b"])
    assert system["content"] == "Be kind."
    assert asked["content"] == [
        {"type": "text", "text": "A fragment.\nThanks."},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}},
        {"type": "text", "text": "[attachment: /home/ada/x.pdf]"},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
    ]


def test_later_tables_and_columns_may_be_missing() -> None:
    session = sessions("early.db")["02a"]
    assert [one["content"] for one in plain(session)] == ["hi", "Hello!"]
    assert session.messages[0].created_at == datetime(2023, 7, 2, 3, 4, 7, 1, tzinfo=timezone.utc)


def test_a_damaged_row_costs_itself_alone() -> None:
    rows = "INSERT INTO responses (id, prompt, response, conversation_id, datetime_utc) VALUES "
    rows += "('q2', x'ff', 'x', '02a', '2023-07-03T00:00:00'), ('q3', 'again', 'Yes?', '02a', 'no time'), ('q4', 'x', 'y', x'ff', '');"
    found, flaws = read_all("llm", "a.db", database_of(EARLY + rows))
    assert [one["content"] for one in plain(found[0])] == ["hi", "Hello!", "x", "again", "Yes?"]
    assert sorted((one.line or 0, one.reason) for one in flaws) == [
        (0, "conversation_id: is not text"),
        (2, "prompt: must be a string, not bytes"),
        (3, "datetime_utc: is not a time"),
    ]


def test_a_damaged_part_costs_itself_alone() -> None:
    rows = "UPDATE parts SET payload = '{' WHERE message_hash = 'm3'; UPDATE parts SET text = x'ff' WHERE message_hash = 'm5';"
    found, flaws = read_all("llm", "a.db", database_of(LATER + rows))
    session = next(one for one in found if one.key == "01t")
    assert [one["role"] for one in plain(session)] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
    assert [one.reason for one in flaws if one.key == "01t"] == ["text: must be a string, not bytes"]


def test_a_thread_whose_messages_are_gone_is_told_of() -> None:
    rows = "INSERT INTO threads VALUES ('gone', NULL, 'nowhere', NULL, '2026-01-01T00:00:00Z');"
    _, flaws = read_all("llm", "a.db", database_of(LATER + rows))
    assert [(one.key, one.reason) for one in flaws] == [("gone", "its messages are not there")]


def test_tables_of_another_program_are_refused() -> None:
    _, flaws = read_all("llm", "a.db", database_of("CREATE TABLE responses (id, x);"))
    assert [one.reason for one in flaws] == ["its tables are not those of llm"]
