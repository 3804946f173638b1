"""What the ordinary run leaves out, and what it never does."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest

from tests.support.sizes import needless


class Item(SimpleNamespace):
    """A test, as far as it is looked at."""

    __hash__ = object.__hash__


def made(test, **parameters):
    return [
        Item(nodeid=f"{test}[{values}]", callspec=SimpleNamespace(params=dict(zip(parameters, values, strict=True))))
        for values in product(*parameters.values())
    ]


def tried(items, name):
    return [item.callspec.params[name] for item in items if item not in needless(items)]


@pytest.mark.parametrize("kinds", [["snapshot"], ["snapshot", "log"], ["snapshot", "log", "sqlite"]])
def test_each_value_of_each_parameter_is_met_and_few_twice(kinds):
    items = made("t", attack=list("abcd"), kind=kinds)
    assert sorted(tried(items, "attack")) == list("abcd")
    assert set(tried(items, "kind")) == set(kinds)


def test_values_that_are_alike_but_not_the_same_are_all_met():
    items = made("t", value=[1, True, 1.0, [1], [2], ([],), lambda: 1, lambda: 1])
    assert needless(items) == set()


def test_what_one_test_has_met_another_one_has_not():
    items = [*made("t", kind=["log"]), *made("u", kind=["log"]), Item(nodeid="v"), Item(nodeid="w")]
    assert needless(items) == set()


@pytest.mark.covering
@pytest.mark.parametrize("one", range(2))
@pytest.mark.parametrize("other", range(2))
def test_these_are_thinned_out(request, one, other):
    everything = any(request.config.getoption(name) for name in ("--faults", "--soak"))
    alone = len(request.session.items) < 2
    assert one == other or everything or alone
