"""Files of other programs that are in RAM only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone

from session_manager.importers.reading import SourceDatabase, SourceFile
from session_manager.stores.files.recognition import metas_in

#: When a file was written, unless a test says otherwise.
WRITTEN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone.utc)


class GivenFile(SourceFile):
    """A file with some bytes.

    :param beside: the other files in its directory.
    :param piece: how many bytes a piece has.
    """

    def __init__(self, name: str, data: bytes, beside: Mapping[str, bytes] | None = None, *, piece: int = 1000) -> None:
        self.name = name
        self.modified = WRITTEN
        self._data = data
        self._beside = beside or {}
        self._piece = piece
        self.names = {name, *self._beside}
        self.metas = metas_in(self.names)

    def pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), self._piece):
            yield self._data[start : start + self._piece]

    def database(self) -> SourceDatabase:
        raise AssertionError("it is no database")

    def beside(self, name: str) -> bytes | None:
        return self._beside.get(name)
