"""A directory in which a server can run."""

import os

import pytest

from benchmarks import server
from tests.support.postgres import needs_programs


@pytest.fixture
def server_path(tmp_path, monkeypatch):
    """A directory that a server's own user can reach, for servers of the benchmark's own."""
    needs_programs()
    monkeypatch.delenv(server.VARIABLE, raising=False)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and len(path.parts) > 1:
            path.chmod(path.stat().st_mode | 0o011)
    return tmp_path
