"""Views: immutable sequences that share a list, against plain lists."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from bisect import bisect_left
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from session_manager.model.view import EMPTY, View
from tests.support.laws import examples

ITEMS = st.lists(st.integers(0, 9), max_size=6)
BOUNDS = st.one_of(st.none(), st.integers(-8, 8))
SLICES = st.builds(slice, BOUNDS, BOUNDS, st.sampled_from([None, 1, 1, 1, 2, -1, -2]))


class Views(RuleBasedStateMachine):
    """Every view that was ever made stays equal to the list that it was made equal to."""

    def __init__(self):
        super().__init__()
        self.made: list[tuple[View[int], list[int]]] = [(View(), [])]

    def one(self, number: int) -> tuple[View[int], list[int]]:
        return self.made[number % len(self.made)]

    @rule(items=ITEMS)
    def create(self, items):
        self.made.append((View(iter(items)), items))

    @rule(number=st.integers(0), items=ITEMS)
    def append_to_any(self, number, items):
        view, model = self.one(number)
        self.made.append((view.appended(items), model + items))

    @rule(items=ITEMS)
    def append_to_the_newest(self, items):
        view, model = self.made[-1]
        self.made.append((view.appended(tuple(items)), model + items))

    @rule(number=st.integers(0), other=st.integers(0))
    def append_a_view(self, number, other):
        (view, model), (added, more) = self.one(number), self.one(other)
        self.made.append((view.appended(added), model + more))

    @rule(number=st.integers(0), where=SLICES)
    def cut(self, number, where):
        view, model = self.one(number)
        self.made.append((view[where], model[where]))

    def teardown(self):
        for view, model in self.made:
            assert view.to_list() == model
            assert len(view) == len(model)
        for view, model in self.made[-5:]:
            assert_reads_like(view, model)


TestViews = Views.TestCase
TestViews.settings = examples(10)


def assert_reads_like(view: View[int], model: list[int]) -> None:
    assert isinstance(view, Sequence)
    assert [list(view), list(reversed(view)), bool(view)] == [model, model[::-1], bool(model)]
    assert [view[number] for number in range(-len(model), len(model))] == model + model
    for number in (len(model), -len(model) - 1, 10**6):
        with pytest.raises(IndexError):
            view[number]
    assert [item in view for item in range(10)] == [item in model for item in range(10)]
    assert [view.count(item) for item in range(10)] == [model.count(item) for item in range(10)]
    assert [view.index(item) for item in model] == [model.index(item) for item in model]


@given(ITEMS, ITEMS)
def test_views_are_equal_to_views_lists_and_tuples_of_equal_items(one, other):
    a, b = View(one), View([None, *other])[1:]
    equal = one == other
    for left, right in [(a, b), (b, a), (a, other), (other, a), (a, tuple(other)), (tuple(one), b)]:
        assert (left == right) == equal
        assert (left != right) != equal
    assert hash(a) == hash(tuple(one))


def test_a_view_equals_nothing_else():
    assert View([1]) != {1}
    assert View("ab") != "ab"
    assert View() != None  # noqa: E711 - the operator is what is tested


def test_a_view_shares_nothing_with_its_source_or_the_lists_it_gives():
    items = [1, 2]
    view = View(items)
    longer = view.appended(items)
    items.append(3)
    view.to_list().append(4)
    assert (view, longer) == ([1, 2], [1, 2, 1, 2])


def test_a_view_cannot_be_changed():
    view = View([1])
    for act in (lambda: view.__setitem__(0, 2), lambda: view.append(2), lambda: setattr(view, "new", 1)):
        with pytest.raises(AttributeError):
            act()


def test_an_append_costs_what_is_new():
    """A thousand appends, of which every picture is kept, share one list."""
    views = [View(range(1000))]
    for number in range(1000):
        views.append(views[-1].appended([number]))
    assert len({id(view._items) for view in views}) == 1
    assert views[-1][100:]._items is views[-1]._items


def test_two_branches_of_one_view_do_not_see_each_other():
    stem = View([1])
    left, right = stem.appended([2]), stem.appended([3])
    assert (stem, left, right) == ([1], [1, 2], [1, 3])
    assert (left.appended([4]), right.appended([5])) == ([1, 2, 4], [1, 3, 5])


class Item:
    """Something that can be seen to go."""


@pytest.mark.parametrize(
    "cut", [slice(51, None), slice(None, 49), slice(60, 70), slice(100, None), slice(0, 0)], ids=str
)
def test_what_is_cut_off_does_not_stay_in_memory(cut):
    view = View(Item() for _ in range(100))
    alive = [weakref.ref(item) for item in view]
    view = view[cut]
    gc.collect()
    assert [ref() for ref in alive if ref() is not None] == list(view)


def test_what_is_cut_off_bit_by_bit_does_not_stay_in_memory():
    view = View(Item() for _ in range(100))
    alive = [weakref.ref(item) for item in view]
    for _ in range(1000):
        view = view.appended([Item()])[1:]
        alive.append(weakref.ref(view[-1]))
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 2 * len(view)


def test_a_cut_that_keeps_the_better_half_copies_nothing():
    view = View(range(100))
    assert view[50:]._items is view[:50]._items is view._items
    assert view[51:]._items is not view._items


class Slow(list):
    """Takes its time to be appended, so that threads take turns in the middle of it."""

    def __iter__(self):
        yield from list.__iter__(self)


def test_threads_may_append_to_one_view_at_the_same_time():
    """Each gets its own continuation, and nobody sees another's."""
    barrier = threading.Barrier(4)
    stems = [View(range(number)) for number in range(400)]
    wrong = []

    def grow(me: int) -> None:
        for stem in stems:
            barrier.wait()
            view = stem
            for step in range(3):
                view = view.appended(Slow([(me, step)] * 10))
            if view != [*range(len(stem)), *[(me, step) for step in range(3) for _ in range(10)]]:
                wrong.append(view)

    threads = [threading.Thread(target=grow, args=(me,)) for me in range(4)]
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert wrong == []
    assert stems == [list(range(number)) for number in range(400)]


class Meddling(list):
    """While it is appended, somebody else (a signal handler, another thread) appends to the same view."""

    def __init__(self, view: View[int], items: list[int]) -> None:
        super().__init__(items)
        self.view = view
        self.seen: list[View[int]] = []

    def __iter__(self):
        for item in list.__iter__(self):
            self.seen.append(self.view.appended([99]))
            yield item


def test_an_append_within_an_append_neither_waits_nor_spoils_anything():
    view = View([1])
    items = Meddling(view, [2, 3])
    longer = view.appended(items)
    assert (view, longer, items.seen) == ([1], [1, 2, 3], [[1, 99], [1, 99]])


class Failing(list):
    def __iter__(self):
        yield from list.__iter__(self)
        raise KeyboardInterrupt


def test_an_append_that_is_interrupted_leaves_the_view_as_it_was():
    view = View([1])
    with pytest.raises(KeyboardInterrupt):
        view.appended(Failing([2, 3]))
    assert view == [1]
    assert view.appended([4]) == [1, 4]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda view: pickle.loads(pickle.dumps(view))])
def test_a_copy_stands_for_itself(copied):
    view = View(range(9))[2:7]
    again = copied(view)
    assert type(again) is View
    assert again == view
    assert again.appended([1]) == view.appended([1])


def test_a_repr_shows_no_items():
    assert repr(View(["secret"])) == "<View of 1>"


@given(st.lists(st.integers(0, 9)), st.integers(0, 9), st.integers(-1, 10), st.integers(-1, 12))
def test_a_cut_view_is_searched_and_its_end_read_like_a_list(items, cut, value, count):
    model = sorted(items)[cut:]
    view = View([*sorted(items), 99])[cut:-1]
    assert view.bisect(value, int) == bisect_left(model, value)
    assert view.last(max(count, 0)) == (model[-count:] if count > 0 else [])


def test_the_last_item_that_passes_is_found_and_each_is_tested_once():
    tested = []

    def is_even(item):
        tested.append(item)
        return item % 2 == 0

    one = View(range(20))
    two = one.appended(range(20, 25))
    assert [one.last_where(is_even), two.last_where(is_even), two.last_where(is_even)] == [18, 24, 24]
    assert [two[5:].last_where(is_even), two[3:20].last_where(is_even), one.last_where(is_even)] == [19, 15, 18]
    assert tested == [*range(25)]
    two.put_in_place(24, 7)
    assert two.last_where(is_even) == 22
    assert View([1]).last_where(is_even) is None


def test_a_view_of_nothing_is_told_by_identity():
    """A search for dirty sessions asks each entry in RAM whether its pending changes are `EMPTY`."""
    view = View([1, 2])
    assert view[2:] is EMPTY
    assert view[1:1] is EMPTY
    assert view[2:].appended([]) is EMPTY
    assert EMPTY.appended([]) is EMPTY
    assert view[2:].appended([3]) == [3]
    assert EMPTY == []
