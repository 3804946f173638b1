"""A schema as the first version that could write it wrote it, which loads for ever."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from tests.golden.make import ARCHIVED, SAVED, STORED
from tests.golden.sessions import SESSIONS
from tests.support.places import ROOT
from tests.support.postgres import needs_driver
from tests.support.sqlite_saves import write_new
from tests.support.strategies import facts

needs_driver()

GOLDEN = ROOT / "tests" / "golden"
EXPECTED = {session.key: session for session in [*STORED, SAVED]}


def test_there_is_a_golden_schema_of_every_format():
    from session_manager.stores.postgres.schema import FORMAT

    names = {path.name for path in GOLDEN.glob("*.postgres.sql")}
    assert names == {f"format_{number}.postgres.sql" for number in range(1, FORMAT + 1)}


@pytest.mark.parametrize("number", [1, 2])
def test_a_golden_schema_loads_for_ever(place, number):
    text = (GOLDEN / f"format_{number}.postgres.sql").read_text()
    place.run(re.sub(r"\bgolden\b", place.schema, text).replace("%", "%%"))
    for _ in "as it was", "brought up":
        with closing(place.open()) as store:
            assert sorted(store.keys()) == sorted(EXPECTED)
            for key, session in EXPECTED.items():
                assert facts(store.load(key)) == facts(session)
                archived = [one for _, one in ARCHIVED] if key == SAVED.key else []
                assert list(map(facts, store.archive(key))) == list(map(facts, archived))
                assert store.verify(key) == []
            assert store.load("gone") is None
            assert {hit.key for hit in store.search("canary")} == {SAVED.key, SESSIONS["nasty"].key}
            assert store.strays() == []
    with closing(place.open()) as store:
        write_new(store, key="new")
        assert store.load("new") is not None
