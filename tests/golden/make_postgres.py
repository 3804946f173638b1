"""Write the golden schema of PostgreSQL into a file: how the one beside this file was made.

    python -m tests.golden.make_postgres /tmp/new.sql

It starts a server of its own. What is in it is what `tests.golden.make` puts into a database.
"""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import attrs

from session_manager.stores.contract import Commit
from tests.golden.make import APPENDED, ARCHIVED, SAVED, STORED
from tests.golden.sessions import SESSIONS
from tests.support.postgres import Place, Server, programs

SCHEMA = "golden"
#: What belongs to the server that it was made on, or to psql.
LEFT_OUT = re.compile(r"^(?:SET |SELECT pg_catalog\.set_config|\\|--|ALTER .* OWNER TO ).*\n|^\n", re.MULTILINE)


def make(path: Path) -> None:
    server = Server().start()
    try:
        with closing(Place(server.url, SCHEMA).open()) as store:
            for session in STORED:
                store.write(Commit(session, (), None, token=f"token of {session.key}"))
            store.write(
                Commit(SAVED, tuple(APPENDED), SESSIONS["plain"].version, token="again", archived=tuple(ARCHIVED))
            )
            gone = attrs.evolve(SESSIONS["plain"], key="gone")
            store.write(Commit(gone, (), None, token="gone"))
            store.delete("gone")
            assert store.search("Hi, Ada") != []
        dump = [f"{programs()}/pg_dump", "--inserts", f"--schema={SCHEMA}", server.url]
        text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
        path.write_text(LEFT_OUT.sub("", text))
    finally:
        server.remove()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
