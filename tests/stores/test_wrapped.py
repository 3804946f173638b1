"""A store around another one forwards every call."""

from __future__ import annotations

import inspect

import pytest

from session_manager.stores.contract import Store
from session_manager.stores.memory import MemoryStore
from session_manager.stores.wrapped import WrappedStore
from session_manager.testing import FaultyStore

CALLS = sorted(name for name, one in vars(Store).items() if not name.startswith("_") and inspect.isfunction(one))
WITHOUT_RESULT = (
    "write",
    "write_together",
    "release",
    "attach",
    "detach",
    "close",
    "compact",
    "rename",
    "renew_leases",
    "release_lease",
)
FLAGS = sorted(name for name, one in vars(Store).items() if not name.startswith("_") and isinstance(one, bool))


class Recorder(MemoryStore):
    """Says which call it got, and with what."""


def recorded(name):
    def call(self, *arguments, **options):
        return name, arguments, options

    return call


for _name in CALLS:
    setattr(Recorder, _name, recorded(_name))


@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_forwarded_with_its_arguments(name):
    """A call that was forgotten would have the default of the contract, which may lose what the store does better."""
    store = WrappedStore(Recorder())
    assert inspect.signature(vars(WrappedStore)[name]) == inspect.signature(getattr(Store, name))
    parameters = list(inspect.signature(getattr(Store, name)).parameters.values())[1:]
    given = [object() for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    options = {one.name: object() for one in parameters if one.kind is one.KEYWORD_ONLY}
    found = getattr(store, name)(*given, **options)
    if name not in WITHOUT_RESULT:
        assert found == (name, tuple(given), options)


@pytest.mark.parametrize("name", WITHOUT_RESULT)
def test_a_call_without_a_result_is_forwarded(name):
    got = []

    class Noted(Recorder):
        pass

    setattr(Noted, name, lambda _, *arguments: got.append(arguments))
    given = [object() for _ in list(inspect.signature(getattr(Store, name)).parameters)[1:]]
    getattr(WrappedStore(Noted()), name)(*given)
    assert got == [tuple(given)]


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("value", [True, False])
def test_every_flag_is_that_of_the_wrapped_store(name, value):
    inner = MemoryStore()
    setattr(inner, name, value)
    assert getattr(WrappedStore(inner), name) is value
    assert getattr(FaultyStore(inner), name) is value


def test_only_a_store_is_wrapped():
    with pytest.raises(TypeError, match="store must be a Store"):
        WrappedStore({})
    assert repr(WrappedStore(MemoryStore())) == "<WrappedStore of <MemoryStore of 0>>"
