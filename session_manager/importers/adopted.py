"""A session's files in an open directory, as they were at one moment: what of them is read, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timezone

import attrs

from session_manager.errors import StorageError
from session_manager.importers.reading import SourceDatabase, SourceFile
from session_manager.stores.files.atomic import Signature, read_whole, signature
from session_manager.stores.files.filesystem import Files
from session_manager.stores.files.recognition import META, metas_in

__all__ = ["AdoptedFile", "Part"]


@attrs.frozen
class Part:
    """A file of another program's session, as it was read."""

    name: str
    data: bytes
    signature: Signature


class AdoptedFile(SourceFile):
    """A file in an open directory, and the file with its metadata, if there is one.

    :param files: the directory.
    :param names: all names in it.
    :raises NotRegularError, OSError: if one of them cannot be read.
    """

    def __init__(self, files: Files, name: str, names: frozenset[str]) -> None:
        self.name = name
        self.names, self.metas = names, metas_in(names)
        data, status = read_whole(files, name)
        self.modified = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1e6, timezone.utc)
        #: The files of the session, in the order in which they are renamed.
        self.parts = [Part(name, data, signature(status))]
        meta = f"{self.stem}{META}"
        if name.endswith(".jsonl") and meta in names:
            data, status = read_whole(files, meta)
            self.parts.append(Part(meta, data, signature(status)))
        #: The SHA-256 of each, by its name, in hex.
        self.digests = {part.name: hashlib.sha256(part.data).hexdigest() for part in self.parts}

    def pieces(self) -> Iterator[bytes]:
        """Iterate over the bytes: one piece."""
        yield self.parts[0].data

    def database(self) -> SourceDatabase:
        """Raise: it is none."""
        raise StorageError(self.name, "is no database")

    def beside(self, name: str) -> bytes | None:
        """Return the bytes of the file with the metadata, if it is that."""
        return next((part.data for part in self.parts[1:] if part.name == name), None)
