"""Mistakes that a change might bring into any module, and the test that fails under each: negative controls of the suite.

`tests.faults.test_mutants` makes each in a process of its own. What the durability of files and databases rests on has its
mistakes in `tests.faults.mutants`.
"""

from __future__ import annotations

import re

from session_manager import threads as event_loops
from session_manager.history import (
    call_ids,
    composing,
    contents,
    cuts,
    fields,
    flaws,
    pairing,
    repairs,
    roles,
    search,
    text,
    tool_calls,
)
from session_manager.history.flaws import _CHECKS
from session_manager.history.roles import REASONING
from session_manager.importers import adopted, adopting
from session_manager.manager import autosave, forking, retention, turn, write_through
from session_manager.manager import deletion as removal
from session_manager.manager import edits as calls
from session_manager.manager import summaries as summarize
from session_manager.manager.cache import entry as entries
from session_manager.manager.cache import eviction as budget
from session_manager.manager.cache import fair_lock as claims
from session_manager.manager.cache import locks, residents
from session_manager.model import archive, changes, json_value, rebase, view
from session_manager.stores import contract as store
from session_manager.stores import copying
from session_manager.stores.archive import format as archive_format
from session_manager.stores.archive import writer as archive_writer
from session_manager.stores.files import atomic, foreign, names, needles, quarantine
from session_manager.stores.files import filesystem as files
from session_manager.stores.log import LogStore
from session_manager.stores.log import appender as log_appender
from session_manager.stores.log import file as log_file
from session_manager.stores.log import reader as log_reader
from session_manager.stores.log import replay as log_replay
from session_manager.stores.log import rewriter as log_rewriter
from session_manager.stores.rows import encoding as rows_encoding
from session_manager.stores.snapshot import SnapshotStore, line_cache
from session_manager.stores.sqlite import checkpoints as sqlite_checkpoints
from session_manager.stores.sqlite import forks as sqlite_forks
from session_manager.stores.sqlite import group_commit
from session_manager.stores.sqlite import leftovers as sqlite_leftovers
from session_manager.stores.sqlite import schema as sqlite_schema
from session_manager.stores.sqlite import search_index as sqlite_index
from session_manager.stores.sqlite import writes as sqlite_writes
from tests.faults.mutants import Mutant, edited, replaced

__all__ = ["SEEDED"]


def seeded(name, caught_by, owner, function, *replacements):
    """Return a mistake in the source of a function.

    :param caught_by: the test that fails under it: a file in ``tests``, ``::``, a name.
    """
    return Mutant(name, f"tests/{caught_by}", edited(owner, function, *replacements))


def constant(name, caught_by, owner, constant, value):
    """Return a mistake in a constant."""
    return Mutant(name, f"tests/{caught_by}", lambda patched: patched.setattr(owner, constant, value))


MODEL = (
    seeded(
        "True is 1 is 1.0",
        "model/test_json_value.py::test_values_of_different_types_or_sizes_are_not_the_same",
        json_value,
        "same",
        ("type(one) is not type(other)", "isinstance(one, dict | list) and type(one) is not type(other)"),
    ),
    seeded(
        "two branches of a view share their list",
        "model/test_view.py::test_two_branches_of_one_view_do_not_see_each_other",
        view.View,
        "appended",
        ("len(self._items) == self._stop", "True"),
    ),
    seeded(
        "the oldest refs are remembered, not the newest",
        "model/test_changes.py::test_256_refs_are_remembered",
        changes.Append,
        "_apply",
        ("[-MAX_REFS:]", "[:MAX_REFS]"),
    ),
    seeded(
        "an append sets the time of the last change back",
        "model/test_changes.py::test_a_clock_that_was_set_back_does_not_set_updated_back",
        changes.Append,
        "_apply",
        ("max(session.updated, self.at)", "self.at"),
    ),
    seeded(
        "a summary is not bound to the one before it",
        "manager/test_summaries.py::test_what_touches_them_makes_the_summary_void",
        changes,
        "digest",
        ("{text(session.summary)}", "0"),
    ),
    seeded(
        "the same messages are enough for a summary",
        "manager/test_summaries.py::test_what_touches_them_makes_the_summary_void",
        changes.Summarize,
        "_matches",
        ("(seen.generation, seen.summary) == (session.generation, session.summary)", "True"),
    ),
    seeded(
        "a guard does not follow the generation that it stands for",
        "model/test_rebase.py::test_a_session_created_twice_becomes_one",
        rebase._Rebase,
        "_rebased",
        ("self.stands_for.get(guard, guard)", "guard"),
    ),
    seeded(
        "a second rebase forgets what the first one spared",
        "model/test_rebase.py::test_an_earlier_lower_bound_of_a_spare_stays",
        rebase._Rebase,
        "_spare",
        ("first = min(earlier[0], first)", "pass"),
    ),
    seeded(
        "a message that a turn did not see goes with what it replaces",
        "model/test_batch.py::test_a_batch_spares_unsaved_messages_that_its_turn_did_not_see",
        rebase._Rebase,
        "_spare",
        ("last = max([last, ", "last = max([last]) or max([last, "),
    ),
    seeded(
        "half a batch is written over another version",
        "model/test_batch.py::test_a_batch_is_made_whole_or_not_at_all",
        rebase._Rebase,
        "_batch",
        ("or not attrs.evolve(batch, generation=generation).meets(self.after)", ""),
    ),
    seeded(
        "two that remove one message are in conflict",
        "manager/test_turn_changes.py::test_two_processes_that_undo_the_same_turn_are_not_stuck",
        rebase._Rebase,
        "_target",
        (" or (there is None and isinstance(change, Remove))", ""),
    ),
)

HISTORY = (
    seeded(
        "a budget above 100 is exceeded by one",
        "history/test_history.py::test_a_budget_of_any_size_is_filled_and_never_exceeded",
        cuts,
        "fitting",
        ("totals[-1] > bound:", "totals[-1] > bound + (bound > 100):"),
        ("totals[-1] <= bound:", "totals[-1] <= bound + (bound > 100):"),
    ),
    constant(
        "lone reasoning is judged before late results are moved",
        "history/test_history.py::test_the_least_change_is_made",
        flaws,
        "_CHECKS",
        tuple(sorted(_CHECKS, key=lambda check: check is not REASONING)),
    ),
    seeded(
        "a bound of no messages is none",
        "history/test_context.py::test_bounds_count_the_end_of_the_history_only",
        composing,
        "_rest",
        ("if max_messages is not None:", "if max_messages:"),
        ("max_messages is None and", "not max_messages and"),
    ),
    seeded(
        "a result answers the newest of several open calls",
        "history/test_tool_calls.py::test_which_result_answers_which_call",
        pairing._Batch,
        "take",
        ("self.left.popleft()", "self.left.pop()"),
    ),
    seeded(
        "a call that was stored twice is two",
        "history/test_provider_rules.py::test_a_call_that_was_stored_twice_is_one_call_with_one_result",
        pairing._Reading,
        "_make",
        ("if its in seen:", "if its is seen:"),
    ),
    seeded(
        "a user who wrote while a tool ran starts a turn",
        "history/test_tool_calls.py::test_which_result_answers_which_call",
        pairing._Open,
        "step",
        ('if role != "tool":', 'if role == "assistant":'),
    ),
    constant(
        "a repair leaves what it cannot mend",
        "history/test_broken_histories.py::test_what_a_shape_cannot_mend_is_left_out",
        repairs,
        "_without_flaws",
        lambda messages, _: messages,
    ),
    seeded(
        "signed thinking is put in order",
        "history/test_provider_rules.py::test_a_signed_message_is_given_back_as_it_is_whatever_is_beside_it",
        tool_calls,
        "_calls_too_early",
        ("and not made[0].shape.is_signed(messages[index]._object)", ""),
    ),
    seeded(
        "calls beside the content are parts of it",
        "history/test_broken_histories.py::test_calls_listed_beside_the_content_are_no_parts_of_it",
        tool_calls,
        "_are_parts",
        ("is parts[call.slot]", "is not None"),
    ),
    seeded(
        "empty texts inside of results stay",
        "history/test_empty_contents.py::test_empty_texts_inside_of_anthropics_results_are_left_out",
        contents,
        "_lean_result",
        ("if inner else inner", "if not part else inner"),
    ),
    seeded(
        "a blank text is empty beside words as well",
        "history/test_empty_contents.py::test_a_blank_text_may_stand_beside_words",
        contents,
        "_lean_parts",
        ("rules.blank_beside_words and", "not rules.blank_is_empty and"),
    ),
    seeded(
        "any last message may be empty",
        "history/test_empty_contents.py::test_the_last_message_may_be_empty_and_not_hold_an_empty_text",
        contents,
        "_becomes",
        ('shape.content(value) in ("", [])', "shape.content(value) is not None"),
    ),
    seeded(
        "the oldest cache marks stay",
        "history/test_provider_rules.py::test_only_the_newest_cache_marks_are_sent",
        contents,
        "_find_marks",
        ("for index, count in counts:", "for index, count in reversed(counts):"),
    ),
    seeded(
        "the result keeps the id that its call lost",
        "history/test_provider_rules.py::test_ids_that_come_again_are_renamed_with_their_results",
        call_ids,
        "_with_id",
        ("if is_call else shape.with_result_id", "if is_call else lambda value, *_: value"),
    ),
    seeded(
        "of system messages in several shapes the first one stays",
        "history/test_broken_histories.py::test_system_messages_of_several_shapes_are_one",
        roles,
        "_one",
        ("for one in system[1:]", "for one in system[1:1]"),
    ),
    constant(
        "the only question goes if a tool was running",
        "history/test_broken_histories.py::test_a_user_who_wrote_while_a_tool_ran_is_the_first_if_no_other_is",
        roles,
        "is_users",
        lambda _: False,
    ),
    seeded(
        "a cut parts a call from a result behind the compaction",
        "history/test_broken_histories.py::test_a_cut_behind_a_compaction_parts_no_call_from_its_result",
        cuts,
        "_behind_answers",
        ("default=0)", "default=0) * 0"),
    ),
    constant(
        "the arguments of tool calls are no tokens",
        "history/test_tokens.py::test_recorded_conversations_are_estimated_within_15_percent",
        text,
        "_READERS",
        {**text._READERS, fields.Holds.ARGUMENTS: lambda *_: []},
    ),
    constant(
        "a field that nobody thought of is not read",
        "history/test_text.py::test_a_long_text_counts_whatever_its_field",
        text,
        "holds_otherwise",
        lambda field: fields.Holds.ASIDE if field in ("payload", "stdout") else fields.holds_otherwise(field),
    ),
)

FILES = (
    seeded(
        "a new directory's parent is not synced",
        "stores/files/test_files.py::test_each_parent_of_a_new_directory_is_synced",
        files,
        "create_directory",
        ("_sync_path(directory.parent, required=True)", "pass"),
    ),
    constant(
        "another program's temporary files are removed",
        "stores/files/test_files.py::test_only_our_temporary_files_are_orphans",
        atomic,
        "_ORPHAN",
        re.compile(r"\.tmp-"),
    ),
    constant(
        "the name of a Windows device is a file's",
        "stores/files/test_names.py::test_the_name_of_a_windows_device_is_escaped_in_every_case",
        names,
        "_DEVICE",
        re.compile(r"(?!)"),
    ),
    seeded(
        "what goes to quarantine replaces what is there",
        "manager/test_manager.py::test_what_goes_to_quarantine_leaves_there_what_went_there_before",
        quarantine,
        "_quarantined",
        ("{secrets.token_hex(8)}", "0123456789abcdef"),
    ),
    seeded(
        "an edit is not in the lines that are kept for the next save",
        "manager/test_manager.py::test_what_replaces_or_drops_saved_messages_is_saved_too",
        line_cache.LineCache,
        "lines",
        (" and _ADDING.issuperset(map(type, commit.changes))", ""),
    ),
    seeded(
        "another program's sessions are shown as an empty storage",
        "stores/files/test_foreign.py::test_other_programs_sessions_are_not_shown_as_an_empty_storage",
        foreign,
        "foreign_objection",
        ("if adopted:", "if False:"),
    ),
    seeded(
        "picoclaw's files are renamed in an order that loses the key",
        "importers/test_adopting.py::test_a_kill_at_every_change_loses_nothing",
        adopted.AdoptedFile,
        "__init__",
        ("self.parts.append(", "self.parts.insert(0, "),
    ),
    seeded(
        "a renamed file is not made durable before the next one",
        "importers/test_adopting.py::test_every_disk_that_a_power_cut_may_leave_is_finished",
        adopting._Adoption,
        "_rename",
        ("self._files.sync_directory()", "pass"),
    ),
    seeded(
        "an adopted session is taken for any other one",
        "importers/test_adopting.py::test_what_picoclaw_writes_again_is_told_and_both_stay",
        adopting._Adoption,
        "_look",
        ("not source.digests.items() <= adopted.items()", "not adopted"),
    ),
    seeded(
        "landed is true on a conflict (snapshot)",
        "stores/snapshot/test_snapshot_faults.py::test_a_write_is_not_said_to_have_landed_where_another_program_wrote",
        SnapshotStore,
        "landed",
        ("return None", "return True"),
    ),
)

LOGS = (
    seeded(
        "the mark of a clean end is put back although a file is suspect",
        "stores/log/test_log.py::test_a_directory_with_a_file_whose_sync_failed_is_not_marked_as_clean",
        LogStore,
        "close",
        ("all(file.status in WHOLE for file in list(self._logs.values()))", "True"),
    ),
    seeded(
        "the state at a log's end is believed after a crash",
        "stores/log/test_log.py::test_the_state_at_the_end_of_a_torn_record_is_not_believed",
        log_reader.LogReader,
        "state",
        ("name in self.mark.unsynced", "False"),
    ),
    seeded(
        "the state at the end of a torn record is believed once it was synced",
        "stores/log/test_log.py::test_the_state_at_the_end_of_a_torn_record_is_not_believed",
        log_reader.LogReader,
        "state",
        ("file.status not in WHOLE or ", ""),
    ),
    seeded(
        "a directory with a torn record is marked as clean",
        "stores/log/test_log.py::test_the_state_at_the_end_of_a_torn_record_is_not_believed",
        log_reader.LogReader,
        "_ends_whole",
        ('return end == len(data) - 1 and is_whole(data[data.rfind(b"\\n", 0, end) + 1 : end])', "return True"),
    ),
    seeded(
        "a file that is suspect is believed",
        "stores/log/test_log.py::test_a_log_whose_sync_fails_at_close_is_written_anew_not_synced_again",
        LogStore,
        "_shown",
        ("found is None or file.status in BELIEVED", "True"),
    ),
    seeded(
        "a log whose append was cut back is appended to again",
        "stores/log/test_log_file.py::test_every_transition_is_in_the_table",
        log_file.LogFile,
        "cut_back",
        ('"spent"', '"clean"'),
    ),
    seeded(
        "an append is not noted before it begins",
        "stores/log/test_log_file.py::test_every_transition_is_in_the_table",
        log_file.LogFile,
        "appending",
        ('self.status = "suspect"', "pass"),
    ),
    seeded(
        "a compaction counts as read",
        "stores/log/test_log.py::test_a_compaction_does_not_hide_that_another_program_wrote_the_log",
        log_rewriter.LogRewriter,
        "compact",
        ("facts if found.is_of(before) else before", "facts"),
    ),
    seeded(
        "a save leaves its descriptor open",
        "stores/log/test_log.py::test_a_save_leaves_no_descriptor_and_writes_to_no_old_file",
        log_appender.LogAppender,
        "append",
        ("self._files.close(fd)", "pass"),
    ),
    seeded(
        "a log with a second name is appended to",
        "stores/log/test_log.py::test_a_log_that_has_a_second_name_is_replaced_and_not_written_to",
        log_appender.LogAppender,
        "_opened",
        ("status.st_nlink > 1", "False"),
    ),
    seeded(
        "what is no message does not count as dead",
        "stores/log/test_log.py::test_a_log_is_compacted_before_most_of_it_is_dead",
        log_appender.LogAppender,
        "_written",
        ("is_of_messages else size", "True else 0"),
    ),
    seeded(
        "landed is true on a conflict (log)",
        "stores/snapshot/test_snapshot_faults.py::test_a_write_is_not_said_to_have_landed_where_another_program_wrote",
        LogStore,
        "landed",
        ("return None", "return True"),
    ),
    seeded(
        "where a record's session starts is not compared",
        "stores/log/test_log_format.py::test_records_that_do_not_follow_are_damage_at_their_place",
        log_replay._Replay,
        "_take",
        ("or state.start != self._start\n", "\n"),
    ),
)

ARCHIVES = (
    seeded(
        "the last of two clears alone says what is spared",
        "stores/archive/test_archive.py::test_of_two_clears_each_spares_what_the_other_spares_as_well",
        archive,
        "kept",
        ("(max(first, found[0]), min(last, found[1]))", "(first, last)"),
    ),
    seeded(
        "what was dropped before a clear is archived",
        "stores/archive/test_archive.py::test_clear_empties_it_and_it_begins_anew",
        archive,
        "dropped",
        ("is_kept(position, change.spare or NOTHING)", "True"),
    ),
    seeded(
        "an archive is appended to whoever has changed it",
        "stores/archive/test_archive.py::test_an_archive_changed_at_the_last_moment_is_not_written_to",
        archive_writer.ArchiveWriter,
        "append",
        ("signature(status) != expected", "False"),
    ),
    seeded(
        "an archive with a second name is appended to",
        "stores/log/test_log.py::test_a_log_that_has_a_second_name_is_replaced_and_not_written_to",
        archive_writer.ArchiveWriter,
        "append",
        ("status.st_nlink <= 1", "True"),
    ),
    seeded(
        "the lines of every generation count",
        "stores/archive/test_archive.py::test_without_archive_nothing_is_kept_and_an_old_archive_is_left_alone",
        archive_format._Scan,
        "run",
        ("head[2] == generation and ", ""),
    ),
)

SQLITE = (
    seeded(
        "the index keeps cleared archived text",
        "stores/sqlite/test_sqlite_files.py::test_deleted_text_that_was_archived_is_in_no_file",
        sqlite_writes,
        "_drop",
        ("connection.execute(_NOTE_ARCHIVED_GARBAGE, (number, *spared))", "pass"),
    ),
    seeded(
        "the index keeps deleted sessions' archived text",
        "stores/sqlite/test_sqlite_files.py::test_deleted_text_that_was_archived_is_in_no_file",
        sqlite_writes,
        "erase",
        ("connection.execute(_NOTE_ARCHIVED_GARBAGE, (number, *NOTHING))", "pass"),
    ),
    seeded(
        "the index keeps deleted sessions' text",
        "stores/sqlite/test_sqlite_files.py::test_deleted_text_is_in_no_file",
        sqlite_writes,
        "erase",
        ("connection.execute(_NOTE_ALL_GARBAGE, (key,))", "pass"),
    ),
    seeded(
        "a truncating checkpoint that a reader prevented is not tried again",
        "stores/sqlite/test_sqlite_files.py::test_deleted_text_kept_by_a_reader_is_gone_after_the_next_save",
        sqlite_checkpoints.Checkpoints,
        "make",
        ("truncate = truncate or self._truncate_again", "pass"),
    ),
    seeded(
        "tombstones fold case",
        "stores/sqlite/test_sqlite.py::test_deleted_sessions_whose_keys_differ_in_case_are_two",
        rows_encoding,
        "tombstone_key",
        ("key.encode()", "key.casefold().encode()"),
    ),
    seeded(
        "whether a write landed is told over another generation",
        "stores/sqlite/test_sqlite.py::test_old_writes_of_a_session_created_anew_may_have_landed",
        store.Commit,
        "unknown_token",
        (" or version.generation != self.base.generation", ""),
    ),
    seeded(
        "two catch up with the index, and the second does it again",
        "stores/sqlite/test_search_index.py::test_two_processes_may_catch_up_at_once",
        sqlite_index.Missing,
        "run",
        ("indexed_until(connection) != (self.watermark, self.after)", "False"),
    ),
    seeded(
        "a file is told not to have a score that it has",
        "stores/files/test_needles.py::test_messages_that_say_one_text_are_told_exactly",
        needles,
        "_scores",
        (">= least", "> least"),
    ),
    seeded(
        "a message that says more than a text has no score",
        "stores/files/test_needles.py::test_no_message_has_a_higher_score_than_its_file_may_have",
        needles,
        "may_score",
        (" or any(may_hold(other, text) for other in others)", ""),
    ),
    seeded(
        "messages as good as the worst of the best hits are not read",
        "stores/sqlite/test_search_index.py::test_messages_that_are_not_read_are_no_hits",
        sqlite_index,
        "_promising",
        (">= least", "> least"),
    ),
    seeded(
        "an index by other rules is believed",
        "stores/sqlite/test_search_index.py::test_an_index_by_other_rules_misses_nothing",
        sqlite_schema,
        "indexed_until",
        ("int(found[1]) == WALK", "True"),
    ),
    seeded(
        "what an older version indexes beside is believed",
        "stores/sqlite/test_search_index.py::test_what_an_older_version_indexes_beside_is_read_again",
        sqlite_schema,
        "indexed_until",
        ("min(int(found[2]), row[0])", "row[0]"),
    ),
    seeded(
        "one request's error is that of all in its transaction",
        "stores/sqlite/test_group_commit.py::test_ones_failure_is_not_anothers",
        group_commit.GroupCommit,
        "_run_line",
        ("if len(batch) == 1:", "if True:"),
    ),
    seeded(
        "an interrupt before a commit leaves a doubt",
        "stores/sqlite/test_group_commit.py::test_an_interrupt_before_the_commit_is_known_to_have_written_nothing",
        group_commit.GroupCommit,
        "_commit",
        ("request.set_doubtful(False)", "pass"),
    ),
    seeded(
        "the mark of a database is not looked for in the log",
        "stores/sqlite/test_leftovers.py::test_a_backup_of_a_state_that_was_rolled_back_is_refused",
        sqlite_leftovers._Log,
        "belongs_to",
        ("main.latest not in self.named or ", ""),
    ),
    seeded(
        "a database that was written anew is taken for the one that a log was begun on",
        "stores/sqlite/test_leftovers.py::test_a_copy_of_before_another_program_moved_the_rows_is_refused",
        sqlite_leftovers._Log,
        "belongs_to",
        ("main.schema == self.begun_on.schema", "True"),
    ),
    seeded(
        "a fork waits for the lock file that it holds",
        "stores/sqlite/test_sqlite_processes.py::test_a_process_that_has_a_database_open_twice_forks_at_once",
        sqlite_forks.Held,
        "hold_file",
        ("if lock.place in self._files:", "if False:"),
    ),
)

MANAGER = (
    seeded(
        "an edited message loses its metadata",
        "manager/test_manager.py::test_an_edit_keeps_time_metadata_and_ref",
        calls,
        "editing",
        ("message=new)", "message=message)"),
    ),
    seeded(
        "a cut is taken for that of every history of the same length",
        "history/test_context.py::test_a_cut_is_found_anew_for_another_history_of_the_same_length",
        calls,
        "truncating",
        ("known[0] is not messages", "len(known[0]) != len(messages)"),
    ),
    seeded(
        "what is called during a save is lost",
        "manager/test_threads.py::test_a_message_added_during_a_save_goes_out_with_the_next",
        entries.Entry,
        "landed",
        ("self.pending[len(self.frozen) :]", "EMPTY"),
    ),
    seeded(
        "a close does not save what the last calls left",
        "manager/test_expiry.py::test_a_session_created_while_the_manager_is_being_closed_is_saved",
        residents.Residents,
        "_drain",
        ("self.keyed.drain()\n        flush()", "self.keyed.drain()"),
    ),
    seeded(
        "a close that failed leaves the manager closed",
        "manager/test_manager.py::test_close_that_cannot_save_raises_and_stays_open",
        residents.Residents,
        "_drain",
        ("self._phase = _Phase.OPEN", "pass"),
    ),
    seeded(
        "a dirty session is evicted",
        "manager/test_eviction.py::test_dirty_sessions_stay_until_they_are_saved_and_then_go",
        residents.Residents,
        "evict",
        (" and not self.by_key[oldest].dirty", ""),
    ),
    seeded(
        "the session that was read first is evicted first",
        "manager/test_eviction.py::test_those_used_least_recently_go_first",
        budget.Budget,
        "used",
        ("self._sizes.move_to_end(key)", "pass"),
    ),
    seeded(
        "a fork takes the place of an unsaved session",
        "manager/test_manager.py::test_fork_copies_everything_to_a_life_of_its_own",
        forking.Forking,
        "_fork",
        (
            "residents.fetch(new_key) is not None:",
            "(there := residents.fetch(new_key)) is not None and there.durable.revision:",
        ),
    ),
    seeded(
        "a fork of unknown outcome is forgotten",
        "stores/snapshot/test_snapshot_faults.py::test_a_fork_or_deletion_of_unknown_outcome_is_settled_as_promised",
        forking.Forking,
        "_fork",
        ("isinstance(error, SaveOutcomeUnknownError) or ", ""),
    ),
    seeded(
        "who waits for a change is not told that it was settled",
        "manager/test_turn.py::test_a_turn_whose_save_by_another_thread_was_settled_was_applied",
        residents.Residents,
        "land",
        ("change.witness.saved = commit.session", "pass"),
    ),
    seeded(
        "a write that landed after all stays a failure",
        "manager/test_manager.py::test_a_save_of_unknown_outcome_that_landed_is_no_failure_any_more",
        residents.Residents,
        "land",
        ("self._failures.pop(key, None)", "pass"),
    ),
    seeded(
        "an expiry deletes whatever version is there",
        "manager/test_expiry.py::test_another_writers_save_between_listing_and_deletion_keeps_a_session",
        removal.Removal,
        "_expire_stored",
        ("store.delete(key, expected.version)", "store.delete(key)"),
    ),
    seeded(
        "exactly that old is older",
        "manager/test_expiry.py::test_exactly_that_old_is_not_older",
        retention,
        "is_older",
        ("time < than", "time <= than"),
    ),
    seeded(
        "a session expires whose save may have landed",
        "manager/test_expiry.py::test_a_write_of_unknown_outcome_keeps_a_session",
        removal,
        "_may_go",
        ("entry.unknown is None and ", ""),
    ),
    seeded(
        "keys are locked in the order in which they are given",
        "manager/test_locks.py::test_a_thread_that_waits_for_the_first_key_holds_no_later_one",
        locks.KeyedLocks,
        "locks_of",
        ("sorted(set(keys))", "list(dict.fromkeys(keys))"),
    ),
    seeded(
        "a lock that is held is swept away",
        "manager/test_locks.py::test_a_lock_that_is_held_survives_the_sweep_of_those_that_are_not",
        locks.KeyedLocks,
        "_sweep",
        ("dict(filter(_is_used, self._locks.items()))", "{}"),
    ),
    seeded(
        "one more may wait for a turn",
        "manager/test_fair_lock.py::test_only_so_many_may_wait",
        claims.Claims,
        "_queue",
        ("ahead > max_waiting", "ahead > max_waiting + 1"),
    ),
    seeded(
        "an answer that is in RAM only is done",
        "manager/test_turn.py::test_done_means_durable",
        turn.Turn,
        "_settle",
        ("self._saving.save(self.key)\n            continue\n        elif answered:", "pass\n        elif answered:"),
    ),
    seeded(
        "a turn is written to whatever session is there",
        "manager/test_turn.py::test_a_session_that_is_reset_meanwhile_stays_so",
        turn.Turn,
        "_carry_out",
        ("guard = self._bond.generation if only_adds else None", "guard = None"),
    ),
    seeded(
        "an undo is not told from its second delivery",
        "manager/test_turn_changes.py::test_undo_takes_one_turn_however_often_it_is_delivered",
        turn.Turn,
        "_settle",
        ("self.ref in entry.session.refs", "False"),
    ),
    seeded(
        "a turn with expected is written whatever others have saved",
        "manager/test_turn_changes.py::test_expected_is_looked_at_again_when_the_block_is_left",
        write_through.WriteThrough,
        "check_expected",
        ("if there != expected:", "if False:"),
    ),
    seeded(
        "two that replace one turn both do",
        "manager/test_turn_changes.py::test_what_two_replace_is_replaced_by_one",
        turn.Turn,
        "_batching",
        ("if replaces and removes(left) < removes(changes):", "if False:"),
    ),
    seeded(
        "a turn is bound to a generation that another one stands for",
        "manager/test_turn_changes.py::test_a_first_turn_that_another_process_creates_under_is_applied",
        turn.Turn,
        "_carry_out",
        ("only_adds = ", "self._bond = type(self._bond)(self._bond.generation); only_adds = "),
    ),
    seeded(
        "a turn that is not kept stays",
        "manager/test_turn_changes.py::test_a_turn_that_is_not_kept_is_taken_back_by_a_failed_save",
        write_through.WriteThrough,
        "_take_back",
        ("if without is not entry:", "if False:"),
    ),
    seeded(
        "a first turn that failed leaves a session",
        "manager/test_turn_changes.py::test_a_failed_first_turn_leaves_no_session",
        residents.Residents,
        "uncreate",
        ("self.forget(key)", "pass"),
    ),
    seeded(
        "messages are summarized that are not durable",
        "manager/test_summaries.py::test_what_is_changed_during_the_save_is_saved_before_it_is_summarized",
        summarize.Summaries,
        "pick",
        ("_is_durable(entry, made.start, made.stop)", "True"),
    ),
    seeded(
        "autosave forgets what was due during a close",
        "manager/test_autosave.py::test_what_was_due_during_a_close_that_failed_is_saved_later",
        autosave.Autosaver,
        "_save_due",
        (
            "self._due.update(dict.fromkeys(keys, time.monotonic() + min(self._rule.interval, _RETRY)))",
            "self._due.clear()",
        ),
    ),
    seeded(
        "of equal hits the oldest comes first",
        "history/test_search.py::test_many_matches_in_a_short_text_come_first_then_the_newest",
        search.Best,
        "add",
        ("-time, key", "time, key"),
    ),
    seeded(
        "a thread beside an event loop never gives way",
        "test_threads.py::test_threads_give_way_only_beside_a_loop",
        event_loops,
        "give_way",
        ("time.sleep(_BREATH)", "pass"),
    ),
    Mutant(
        "a copy does not compare archives",
        "tests/stores/test_copying.py::test_another_archive_in_the_target_is_reported_and_left",
        replaced(copying, "_same_archive", lambda archive, target, key: True),
    ),
    seeded(
        "a copy does not compare messages' metadata",
        "stores/test_copying.py::test_another_state_in_the_target_is_reported_and_left",
        copying,
        "_same_message",
        ("\n        and same(dict(one._metadata), dict(other._metadata))", ""),
    ),
)

SEEDED = (*MODEL, *HISTORY, *FILES, *LOGS, *ARCHIVES, *SQLITE, *MANAGER)
