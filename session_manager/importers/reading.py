"""What a reader of a format is given, and what it gives back.

A reader is a function that takes a `SourceFile` and a time zone, and yields an `ImportedSession` for each session and a
`Flaw` for whatever cannot be imported. It does no I/O of its own, and never raises for damage. A line that is damaged
costs that line alone.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs

from session_manager.codec.converter import records
from session_manager.codec.exported import Exported
from session_manager.codec.json import DecodeError, decode_json
from session_manager.errors import InvalidDataError, InvalidMessageError
from session_manager.model.json_value import EMPTY_OBJECT, JsonObject, json_object
from session_manager.model.message import Message
from session_manager.model.session import Session

__all__ = [
    "Flaw",
    "ImportedSession",
    "Reader",
    "SourceDatabase",
    "SourceFile",
    "exact_in",
    "message_of",
    "object_in",
    "objects_in",
    "reason_of",
    "record_of",
]

T = TypeVar("T")

_MARK = b"\xef\xbb\xbf"

#: The highest revision and position that is taken: every program reads it from JSON exactly, and every store has room for more.
_MOST = 2**53


@attrs.frozen(kw_only=True)
class ImportedSession:
    """A session as a file of another program has it."""

    #: Its key; whether that is one of ours is checked later.
    key: str
    #: The history, oldest first. Each message has its time.
    messages: Sequence[Message] = ()
    #: Messages that the other program has dropped from the history, but not from its file; they are before `messages`.
    archived: Sequence[Message] = ()
    #: Its summary; ``""`` if there is none.
    summary: str = ""
    #: What else the file says of the session.
    metadata: JsonObject = attrs.field(default=EMPTY_OBJECT, converter=json_object)
    #: When it was created, aware; `None`: with its first message.
    created: datetime | None = None
    #: When it was last changed, aware; `None`: with its last message.
    updated: datetime | None = None
    #: Where it begins in its file, from 1: a line, or the number of a row or element; `None`: it is all of the file.
    line: int | None = None
    #: The session itself, if the file is one of ours: generation, revision, refs and positions come along.
    exact: Session | None = None


@attrs.frozen(kw_only=True)
class Flaw:
    """Something in a file that cannot be imported. The rest of the file can."""

    #: What is wrong, without any of the text.
    reason: str
    #: Where, from 1: a line, or the number of a row or element; `None`: the whole file.
    line: int | None = None
    #: The key of the session that lacks it, if that is known.
    key: str | None = None


class SourceDatabase(Protocol):
    """A SQLite database of another program, opened read-only."""

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the names of a table's columns, in their order; none if there is no such table."""
        ...

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[Mapping[str, Any]]:
        """Iterate over the rows of a query, by the names of its columns.

        :raises StorageError: if the database is damaged.
        """
        ...


class SourceFile(abc.ABC):
    """A file of another program, as a reader sees it."""

    #: Its path below the source, with ``/``; of a source that is one file, its name.
    name: str
    #: When it was last written: aware, UTC. It stands in for times that the file does not tell.
    modified: datetime
    #: The names in its directory.
    names: Container[str]
    #: Those of them that are the names of metadata (`session_manager.stores.files.recognition.metas_in`).
    metas: frozenset[str]

    @abc.abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes, piece by piece."""

    @abc.abstractmethod
    def database(self) -> SourceDatabase:
        """Return the database that the file is; only if its format is one of databases."""

    @abc.abstractmethod
    def beside(self, name: str) -> bytes | None:
        """Return the bytes of another file in the same directory; `None` if there is none of that name."""

    def whole(self) -> bytes:
        """Return all bytes, without a byte order mark."""
        return b"".join(self.pieces()).removeprefix(_MARK)

    def start(self, size: int = 64) -> bytes:
        """Return the first bytes, without a byte order mark and white space before them."""
        return next(self.pieces(), b"")[:size].removeprefix(_MARK).lstrip()

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Iterate over the lines and their numbers, from 1, without their ends; empty ones too."""
        number, rest = 0, bytearray()  # of a line that is longer than a piece, each byte is copied once
        for index, piece in enumerate(self.pieces()):
            *lines, end = (piece if index else piece.removeprefix(_MARK)).split(b"\n")
            for line in lines:
                number += 1
                yield number, bytes(rest + line) if rest else line
                rest.clear()
            rest += end
        if rest:
            yield number + 1, bytes(rest)

    @property
    def stem(self) -> str:
        """The name without directories and its last ending."""
        base = self.name.rpartition("/")[2]
        return base.rpartition(".")[0] or base


#: The reader of a format. The time zone is that of times that name none.
Reader: TypeAlias = Callable[[SourceFile, tzinfo | None], Iterator[ImportedSession | Flaw]]


def object_in(data: bytes, line: int | None = None) -> dict[str, Any] | Flaw:
    """Return the JSON object that bytes encode, or what is wrong with them.

    :param line: where they are.
    """
    try:
        value = decode_json(data)
    except DecodeError as error:
        return Flaw(reason=f"{error.reason}, at byte {error.offset:,}" if line is None else error.reason, line=line)
    return value if isinstance(value, dict) else Flaw(reason="is no JSON object", line=line)


def objects_in(file: SourceFile) -> Iterator[tuple[int, dict[str, Any] | Flaw]]:
    """Iterate over the lines of a JSONL file that are not empty: their numbers, and the objects or flaws that they are."""
    for number, line in file.lines():
        if line.strip():
            yield number, object_in(line, number)


def record_of(value: Mapping[str, Any], kind: type[T]) -> tuple[T, list[str]]:
    """Return a foreign object as a record, and what is wrong with fields that it can do without.

    :param kind: an attrs class. A wrong field with a default gets that.
    :raises InvalidDataError: if another field is missing or wrong.
    """
    reasons: list[str] = []
    while True:
        try:
            return records.structure(value, kind), reasons
        except InvalidDataError as error:
            field = re.split(r"[.\[]", error.path.removeprefix("rest."), maxsplit=1)[0]
            if field not in value or not _is_needless(field, kind):
                raise
            reasons.append(reason_of(error))
            value = {name: one for name, one in value.items() if name != field}


def _is_needless(field: str, kind: type) -> bool:
    """Say whether a record can do without a field: one that its class does not have, or that has a default."""
    known = {one.alias: one.default for one in attrs.fields(kind)}
    return known.get(field) is not attrs.NOTHING


def message_of(
    object: Mapping[str, Any],
    path: str,
    *,
    created_at: datetime,
    metadata: Mapping[str, Any] | None = None,
    ref: str | None = None,
) -> Message:
    """Return a provider's object as a message.

    :param path: where it is in its record, for an error.
    :raises InvalidDataError: if it is no message.
    """
    try:
        return Message.from_dict(object, created_at=created_at, metadata=metadata, ref=ref)
    except InvalidMessageError as error:
        failure = InvalidDataError(".".join(filter(None, (path, error.path))), error.reason)
    raise failure


def exact_in(
    value: Mapping[str, Any], restore: Callable[[Mapping[str, Any]], Exported], line: int | None
) -> ImportedSession | Flaw:
    """Return a session that one of our own exports holds, or what is wrong with it.

    :param restore: `session_manager.codec.exported.of_document` or `of_line`.
    :param line: where it is.
    """
    try:
        found = restore(value)
    except InvalidDataError as error:
        return Flaw(reason=reason_of(error), line=line)
    session = found.session
    for field, number in (("revision", session.revision), ("end", session.end)):
        if number > _MOST:
            return Flaw(reason=f"{field}: must be {_MOST:,} or less", line=line, key=session.key)
    if session.revision == 0:  # it was never saved; a store's first revision is 1
        session = session._with(revision=1)
    return ImportedSession(
        key=session.key,
        messages=session.messages,
        archived=found.archive or (),
        summary=session.summary,
        metadata=session._metadata,
        created=session.created,
        updated=session.updated,
        line=line,
        exact=session,
    )


def reason_of(error: InvalidDataError | InvalidMessageError) -> str:
    """Return what an error says of a record: the field and the rule, without any of the text."""
    return f"{error.path}: {error.reason}" if error.path else error.reason
