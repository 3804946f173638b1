r"""picoclaw's sessions of two files: messages in ``NAME.jsonl``, one a line, and all else in ``NAME.meta.json``.

``pkg/memory/jsonl.go`` (github.com/sipeed/picoclaw) writes them. ``NAME`` is the key with ``_`` for ``:``, ``/`` and ``\``, so that it does
not tell the key; the metadata do. What to mind:

* ``skip`` says how many lines were dropped from the history. It counts the lines that are not empty, damaged ones too. A message in
  one of them is archived.
* ``count`` is stale after a crash, and is not read.
* A line may be cut off by a crash, also in the middle of a file: the next message is then on the same line, and lost with it.
* Metadata without messages are a session that has said nothing yet. If they counted messages, these are missing.
* ``scope``, ``aliases`` and fields that are not known here become metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

import attrs

from session_manager.errors import InvalidDataError
from session_manager.importers.picoclaw import Found, messages_of, time_or_flaw
from session_manager.importers.reading import Flaw, ImportedSession, SourceFile, object_in, reason_of, record_of
from session_manager.model.json_value import JsonObject
from session_manager.stores.files.recognition import META

__all__ = ["read"]


@attrs.frozen
class _Meta:
    key: str
    rest: JsonObject
    summary: str | None = None
    skip: int = 0
    count: int = 0
    created_at: str | None = None
    updated_at: str | None = None


def read(file: SourceFile, zone: tzinfo | None = None) -> Iterator[ImportedSession | Flaw]:  # noqa: ARG001 - Go names it
    """Read the session of two files, given that of the messages; or that of the metadata, if it is alone."""
    is_alone = file.name.endswith(META)
    if is_alone and f"{file.name.rpartition('/')[2].removesuffix(META)}.jsonl" in file.names:
        yield Flaw(reason="has the metadata of a session whose messages are in a .jsonl: give that")
        return
    name = file.name.rpartition("/")[2] if is_alone else f"{file.stem}{META}"
    data = file.whole() if is_alone else file.beside(name)
    if data is None:
        yield Flaw(reason=f"its key is not known: {name} is not there")
        return
    value = object_in(data)
    if isinstance(value, Flaw):
        yield Flaw(reason=f"its key is not known: {name} {value.reason}")
        return
    try:
        meta, reasons = record_of(value, _Meta)
    except InvalidDataError as error:
        yield Flaw(reason=f"its key is not known: {name}: {reason_of(error)}")
        return
    if not meta.key:
        yield Flaw(reason=f"its key is not known: {name}: key: is empty")
    elif is_alone:
        if meta.count or meta.skip:
            yield Flaw(reason=f"its messages are missing: {name.removesuffix(META)}.jsonl is not there", key=meta.key)
        yield from _session(file, meta, reasons, [])
    else:
        yield from _session(file, meta, reasons, _lines(file))


def _lines(file: SourceFile) -> Iterator[tuple[int, bytes]]:
    """Return the lines that picoclaw counts, and their numbers: Go's scanner takes a carriage return from the end of each."""
    for number, line in file.lines():
        text = line.removesuffix(b"\r")
        if text:
            yield number, text


def _session(
    file: SourceFile, meta: _Meta, reasons: list[str], lines: Iterator[tuple[int, bytes]] | list[tuple[int, bytes]]
) -> Iterator[ImportedSession | Flaw]:
    """Read the messages of a session, and put all together."""
    created = time_or_flaw(meta.created_at, "created_at", reasons.append)
    updated = time_or_flaw(meta.updated_at, "updated_at", reasons.append) or created or file.modified
    objects: list[Found] = []
    skipped: set[int] = set()
    broken: list[Flaw] = []
    for count, (number, text) in enumerate(lines):
        if count < meta.skip:
            skipped.add(number)
        value = object_in(text, number)
        if isinstance(value, Flaw):
            broken.append(attrs.evolve(value, key=meta.key))
        else:
            objects.append(Found(value, line=number))
    found, flaws = messages_of(objects, meta.key, updated)
    yield from (Flaw(reason=reason, key=meta.key) for reason in reasons)
    yield from sorted([*broken, *flaws], key=lambda flaw: flaw.line or 0)
    yield ImportedSession(
        key=meta.key,
        messages=[message for one, message in found if one.line not in skipped],
        archived=[message for one, message in found if one.line in skipped],
        summary=meta.summary or "",
        metadata=_metadata(meta.rest),
        created=created,
        updated=updated,
    )


def _metadata(rest: JsonObject) -> dict[str, Any]:
    return {name: value for name, value in rest.items() if value is not None}
