"""The kit for adapters passes an adapter that keeps its contract, and notices one that breaks it."""

from __future__ import annotations

import pytest

from session_manager import SaveOutcomeUnknownError
from session_manager.testing import AdapterContract
from tests.support import notebook


class TestNotebook(AdapterContract):
    adapted = notebook.Notebook


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (notebook.FoldsIds, "test_odd_ids_are_kept_apart"),
        (notebook.RefusesOddIds, "test_odd_ids_are_kept_apart"),
        (notebook.NeverSaves, "test_concurrent_additions_are_all_there"),
        (notebook.NeverSaves, "test_two_writers_are_both_in_a_conversation"),
        (notebook.Overwrites, "test_concurrent_additions_are_all_there"),
        (notebook.Overwrites, "test_two_writers_are_both_in_a_conversation"),
        (notebook.Forgets, "test_a_runner_goes_on_after_a_restart"),
        (notebook.NeverSaves, "test_a_runner_goes_on_after_a_kill"),
    ],
)
def test_the_kit_notices_a_broken_adapter(broken, clause, tmp_path):
    class Broken(AdapterContract):
        adapted = broken

    with pytest.raises((AssertionError, ValueError)):
        getattr(Broken(), clause)(f"sqlite:{tmp_path / 'chats.db'}")


@pytest.mark.parametrize(
    "clause", ["test_a_failed_call_has_done_nothing", "test_a_lost_acknowledgement_doubles_nothing"]
)
def test_the_kit_notices_what_a_failed_call_left(clause):
    class Broken(AdapterContract):
        adapted = notebook.KeepsWhatFailed

    with pytest.raises((AssertionError, SaveOutcomeUnknownError)):
        getattr(Broken(), clause)()


def test_a_clause_that_a_framework_cannot_have_is_skipped(tmp_path):
    class Whole(AdapterContract):
        adapted = notebook.Overwrites
        appends = False

    with pytest.raises(pytest.skip.Exception, match="appends = False"):
        Whole().test_concurrent_additions_are_all_there(f"sqlite:{tmp_path / 'chats.db'}")
