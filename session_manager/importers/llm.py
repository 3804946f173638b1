"""The ``logs.db`` of simonw/llm, of any version.

The sources are ``llm/migrations.py`` and ``llm/logs.py``. Since 0.36, ``threads`` point into a tree of messages
(`session_manager.importers.llm_threads`). Older versions have ``conversations`` of ``responses``, whose tables stay in the
database when it is brought up to date (`session_manager.importers.llm_responses`). A conversation that was continued since is a
thread of the same id, which has all of its messages; it is read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

from session_manager.importers.llm_responses import read_responses
from session_manager.importers.llm_threads import read_threads
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile

__all__ = ["read"]


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - times are in UTC
    """Read the conversations of a database."""
    database = file.database()
    has_threads = "tip_message_hash" in database.columns("threads") and "message_hash" in database.columns("parts")
    has_responses = {"id", "conversation_id", "prompt", "response"} <= set(database.columns("responses"))
    if not has_threads and not has_responses:
        yield Flaw(reason="its tables are not those of llm")
    known: set[str] = set()
    if has_threads:
        yield from read_threads(database, file.modified, known)
    if has_responses:
        yield from read_responses(database, file.modified, known)
