"""Exports: sessions as text for people, and as JSON for programs."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, Literal, TypeAlias, overload

import attrs

from session_manager.arguments import Progress, check_bool, check_path, check_progress, check_type
from session_manager.as_dict import AsDict
from session_manager.codec.exported import Exported
from session_manager.errors import (
    CorruptSessionError,
    InvalidStorageError,
    SessionNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from session_manager.exporters import openai_jsonl, session_json
from session_manager.exporters.reading import read
from session_manager.model.key import check_key
from session_manager.stores.contract import Store
from session_manager.stores.files.atomic import NotRegularError
from session_manager.stores.files.filesystem import resolved
from session_manager.stores.files.streaming import write_pieces
from session_manager.stores.opening import Storage, opened

__all__ = ["FORMATS", "ExportReport", "Format", "Target", "export", "export_sessions"]

#: A format of `export`.
Format: TypeAlias = Literal["md", "text", "json", "jsonl", "html"]
#: Where an export goes: a path, or a binary file that is open for writing.
Target: TypeAlias = str | os.PathLike[str] | BinaryIO


def _markdown(exported: Exported) -> Iterator[bytes]:
    from session_manager.exporters import markdown  # noqa: PLC0415 - a format is imported when it is asked for

    return markdown.written(exported)


def _text(exported: Exported) -> Iterator[bytes]:
    from session_manager.exporters import plain_text  # noqa: PLC0415 - as above

    return plain_text.written(exported)


def _html(exported: Exported) -> Iterator[bytes]:
    try:
        from session_manager.exporters import html  # noqa: PLC0415 - as above, and it needs the extra
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("session_manager"):
            raise
        extra = "pip install 'chat-session-manager[export]'"
        raise ImportError(f"the format html needs {error.name}: {extra}", name=error.name) from error
    return html.written(exported)


_ONE: Final[dict[str, Callable[[Exported], Iterator[bytes]]]] = {
    "md": _markdown,
    "text": _text,
    "json": session_json.written,
    "jsonl": openai_jsonl.written,
    "html": _html,
}
_MANY: Final[dict[str, Callable[[Iterable[Exported]], Iterator[bytes]]]] = {
    "json": session_json.documents,
    "jsonl": openai_jsonl.lines,
}

#: The formats, in the order of the documentation.
FORMATS: Final = tuple(_ONE)


@attrs.frozen(kw_only=True)
class ExportReport(AsDict):
    """What `export_sessions` has exported."""

    #: The keys of the exported sessions, in the order of the export.
    exported: tuple[str, ...]
    #: How many messages they have, the archived ones that were asked for included.
    messages: int
    #: The keys of the sessions that are left out, and why each cannot be read.
    damaged: dict[str, Exception]

    @property
    def ok(self) -> bool:
        """Whether nothing was left out."""
        return not self.damaged


@overload
def export(storage: Storage, key: str, format: Format, target: None = None, *, archive: bool = True) -> str: ...


@overload
def export(storage: Storage, key: str, format: Format, target: Target, *, archive: bool = True) -> None: ...


def export(
    storage: Storage, key: str, format: Format, target: Target | None = None, *, archive: bool = True
) -> str | None:
    """Export a session: as a text, or to a file.

    The storage is only read, beside the program that writes to it. What is not saved yet is not there. The session is as it was
    at one moment, with its archive.

    * ``"md"``: a transcript in Markdown. Calls and results are fenced. No text of a message can break out of its place.
    * ``"text"``: a transcript in plain text.
    * ``"json"``: all of the session in one document, which can be imported again without a loss.
    * ``"jsonl"``: a line ``{"messages": […]}`` for fine-tuning, which can be imported again without a loss.
    * ``"html"``: one page that looks like a chat and works offline. It has no script, and runs nothing that a message says. It needs
      the extra ``[export]``.

    :param storage: its URL or path, or an open `Store`.
    :param key: the session's key.
    :param format: one of `FORMATS`.
    :param target: a path, whose file is replaced atomically, 0600; or a binary file that is open for writing. It gets the
        export piece by piece. `None`: the export is returned.
    :param archive: whether archived messages are exported, too, marked as such. Without them a damaged archive is no obstacle.
    :returns: the export, if there is no target. With a path as the target, the file is durable when the call returns.
    :raises ValueError: if there is no such format.
    :raises ImportError: if the format needs an extra that is not installed; the error names it.
    :raises SessionNotFoundError: if there is no such session.
    :raises CorruptSessionError: if the session, or its archive, is damaged.
    :raises UnsupportedFormatError: if a newer version wrote it.
    :raises InvalidKeyError: if `key` cannot be a key.
    :raises InvalidStorageError: if the storage cannot be what it says, or the target lies in it.
    :raises StorageError: if the storage cannot be read, or the target cannot be written. A file that was there stays as it is.

    >>> from session_manager import SessionManager
    >>> from session_manager.stores.memory import MemoryStore
    >>> store = MemoryStore()
    >>> with SessionManager(store) as m:
    ...     _ = m.add_message("telegram:42", "user", "Hello!")
    >>> export(store, "telegram:42", "jsonl")[:50]
    '{"messages":[{"role":"user","content":"Hello!"}],"'
    """
    check_bool(archive, "archive")
    write = _written_by(_ONE, format)
    check_key(key)
    to = _checked(target)
    with opened(storage, read_only=True) as store:
        _check_apart(store, to)
        pieces = write(read(store, key, archive=archive))
        if to is None:
            return b"".join(pieces).decode()
        _write(to, pieces)
    return None


def export_sessions(
    storage: Storage,
    target: Target,
    format: Literal["json", "jsonl"],
    *,
    prefix: str = "",
    archive: bool = True,
    progress: Progress | None = None,
) -> ExportReport:
    """Export several sessions to one file, by their keys in order: as a JSON array of documents, or as lines.

    One session at a time is in RAM. The storage is only read, beside the program that writes to it. Each session is as
    it was at one moment. A damaged session is left out, and named in the report.

    :param storage, target, archive: as for `export`.
    :param format: ``"json"`` or ``"jsonl"``; the other formats have one session.
    :param prefix: only sessions whose keys start with this text.
    :param progress: called after each session, with how many are done, how many there are, and the session's key.
    :returns: which sessions were exported, and which are damaged. A path's file is durable when the call returns.
    :raises ValueError: if there is no such format, or it has one session only.
    :raises InvalidStorageError, StorageError: as `export` does.
    """
    check_bool(archive, "archive")
    check_type(prefix, (str,), "prefix must be a str")
    check_progress(progress)
    _written_by(_ONE, format)
    if format not in _MANY:
        raise ValueError(f"format {format!r} has one session: {' and '.join(_MANY)} have several")
    to = _checked(target)
    if to is None:
        raise TypeError("target must be a path or a binary file, not None")
    with opened(storage, read_only=True) as store:
        _check_apart(store, to)
        found = _Sessions(store, prefix, progress, archive=archive)
        _write(to, _MANY[format](iter(found)))
    return ExportReport(exported=tuple(found.exported), messages=found.messages, damaged=found.damaged)


class _Sessions:
    """The sessions of a storage, read one after the other."""

    def __init__(self, store: Store, prefix: str, progress: Progress | None, *, archive: bool) -> None:
        self._store, self._progress, self._archive = store, progress, archive
        self._keys = sorted(store.keys(prefix))
        self.exported: list[str] = []
        self.messages = 0
        self.damaged: dict[str, Exception] = {}

    def __iter__(self) -> Iterator[Exported]:
        for number, key in enumerate(self._keys, 1):
            found = self._read(key)
            if found is not None:
                yield found
                self.exported.append(key)
                self.messages += len(found.session.messages) + len(found.archive or ())
                del found
            if self._progress is not None:
                self._progress(number, len(self._keys), key)

    def _read(self, key: str) -> Exported | None:
        """Return a session; `None` if it is damaged, or was deleted meanwhile."""
        try:
            return read(self._store, key, archive=self._archive)
        except (CorruptSessionError, UnsupportedFormatError) as error:
            self.damaged[key] = error.with_traceback(None)  # which would keep the session in RAM
        except SessionNotFoundError:
            pass
        return None


def _written_by(
    formats: dict[str, Callable[[Exported], Iterator[bytes]]], name: object
) -> Callable[..., Iterator[bytes]]:
    check_type(name, (str,), "format must be a str")
    write = formats.get(str(name))
    if write is None:
        raise ValueError(f"format must be one of {', '.join(formats)}, not {str(name)[:40]!r}")
    return write


def _checked(target: Target | None) -> str | BinaryIO | None:
    """Return the path of a target as text, or the file."""
    if target is None or (hasattr(target, "write") and not isinstance(target, (str, bytes, os.PathLike))):
        if isinstance(target, io.TextIOBase):
            raise TypeError("target must be a path or a binary file, not a file of text: open it in mode 'wb'")
        return target
    return check_path(target, "target")


def _check_apart(store: Store, target: str | BinaryIO | None) -> None:
    """Refuse a target that is the storage, or lies in it.

    :raises InvalidStorageError: if it does.
    """
    place = getattr(store, "path", None)
    if not isinstance(target, str) or not isinstance(place, str):
        return
    path = resolved(target)
    if os.path.commonpath([path, place]) == place or path.removeprefix(place) in ("-wal", "-shm", "-journal"):
        raise InvalidStorageError(target, "lies in the storage itself")


def _write(target: str | BinaryIO, pieces: Iterator[bytes]) -> None:
    if not isinstance(target, str):
        for piece in pieces:
            target.write(piece)
        return
    try:
        write_pieces(target, pieces)
    except NotRegularError as error:
        raise StorageError(target, f"cannot be written: it is {error.args[0]}") from None
    except OSError as error:
        raise StorageError(target, f"cannot be written: {error.strerror}") from error
