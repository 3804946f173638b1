"""What the ordinary run leaves out, and what it never does."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest

from tests.support.sizes import needless


class Item(SimpleNamespace):
    """A test, as far as it is looked at: its parameters are those of a fixture if no mark names them."""

    __hash__ = object.__hash__
    marks = ()

    def iter_markers(self, _):
        return [SimpleNamespace(args=(names,)) for names in self.marks]


def made(test, *marks, **parameters):
    return [
        Item(
            nodeid=f"{test}[{values}]",
            marks=marks,
            callspec=SimpleNamespace(params=dict(zip(parameters, values, strict=True))),
        )
        for values in product(*parameters.values())
    ]


def tried(items, name):
    left_out = needless(items)
    return [item.callspec.params[name] for item in items if item not in left_out]


@pytest.mark.parametrize("kinds", [["snapshot"], ["snapshot", "log"], ["snapshot", "log", "sqlite"]])
@pytest.mark.parametrize("marks", [(), ("attack",), ("attack", "kind"), ("kind", "attack")])
def test_each_value_of_each_parameter_is_met_and_few_twice(kinds, marks):
    items = made("t", *marks, attack=list("abcd"), kind=kinds)
    assert sorted(tried(items, "attack")) == list("abcd")
    assert set(tried(items, "kind")) == set(kinds)


def test_values_that_are_alike_but_not_the_same_are_all_met():
    values = [1, True, 1.0, [1], [2], ([],), lambda: 1, lambda: 1]
    assert len(tried(made("t", value=values, kind=["log", "sqlite"]), "value")) == len(values)


def test_what_one_test_has_met_another_one_has_not():
    items = [*made("t", kind=["log"], a=[1]), *made("u", kind=["log"], a=[1]), Item(nodeid="v"), Item(nodeid="w")]
    assert needless(items) == set()


@pytest.mark.parametrize("names", ["name, value", ("name", "value")])
def test_no_line_of_a_table_of_cases_is_left_out(names):
    items = made("t", names, name=list("ab"), value=[1, 2], kind=["log", "sqlite"])
    assert len(tried(items, "kind")) == 4


@pytest.mark.parametrize("one", range(2))
@pytest.mark.parametrize("other", range(2))
def test_this_one_is_thinned_out(request, one, other):
    everything = any(request.config.getoption(name) for name in ("--faults", "--soak"))
    alone = len(request.session.items) < 2
    assert one == other or everything or alone
