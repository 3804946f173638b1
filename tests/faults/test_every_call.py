"""An error at every single file operation of every public call, in turn, and what is left of it.

On a simulated disk (`tests.faults.disk`), for the n-th operation, n = 1, 2, … until the call comes through: see `inject` for what must
hold. All errors at all operations of all calls, once, from then on, and after the fact::

    python -m pytest tests/faults/test_every_call.py --soak -s -n 0 -o timeout=7200
"""

from __future__ import annotations

import pytest

from session_manager import SessionManager
from tests.faults.calls import CALLS, ENDS, QUICK, SITUATIONS
from tests.faults.disk import simulation
from tests.faults.injection import Place, loop, short_writes
from tests.faults.promises import KINDS


def test_the_table_names_every_public_method():
    public = {name for name in vars(SessionManager) if not name.startswith("_")}
    special = {"__contains__", "__len__", "__iter__", "__enter__", "__exit__"}
    public -= {"shared"}  # it opens a storage, as the constructor does
    assert set(CALLS) == public | (special & set(vars(SessionManager)))


def situations(name, size):
    quick = QUICK.get(name, ("cold",))
    return size.of(quick[-1:], quick, SITUATIONS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in CALLS if name != "rename"])
def test_a_call_that_fails_at_any_operation_leaves_old_or_new(kind, name, size, record_property):
    """The same call works once the fault is gone. A rename, which moves a session, has a table of its own: `test_renames`."""
    with simulation():
        place = Place(kind)
        count = sum(loop(place, name, situation, size) for situation in situations(name, size))
    print(f"\n{kind}, {name}: {count:,} faults")
    record_property("faults", count)


@pytest.mark.parametrize("kind", KINDS)
def test_short_writes_are_continued_in_every_call(kind, size):
    with simulation():
        place = Place(kind)
        for name, call in CALLS.items():
            for situation in size.of([SITUATIONS["truncated"]], SITUATIONS.values(), SITUATIONS.values()):
                short_writes(place, call, situation, ends=name in ENDS)
