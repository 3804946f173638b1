"""An immutable sequence; appending to it costs only the new items.

A `View` is a window (start, stop) on a list that is shared with other views and only ever grows at its
end. A longer view appends in place, if the list ends where this view stops, and copies otherwise; so
every view stays what it was.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")

__all__ = ["EMPTY", "View"]


class View(Sequence[T]):
    """An immutable sequence; safe to share between threads.

    :param items: what it holds, copied.

    >>> one = View([1, 2])
    >>> two = one.appended([3])
    >>> list(one), list(two), list(two[1:]), two[-1]
    ([1, 2], [1, 2, 3], [2, 3], 3)

    It equals a `View`, list or tuple of equal items.
    """

    __slots__ = ("_growing", "_items", "_noted", "_start", "_stop")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items: list[T] = list(items)
        self._start = 0
        self._stop = len(self._items)
        self._growing = threading.Lock()
        #: What `last_where` found out about the list, of whatever views share it.
        self._noted: dict[Callable[[T], bool], tuple[int, list[int]]] = {}

    def _window(self, start: int, stop: int) -> View[T]:
        alive = stop - start
        if not alive:
            return EMPTY
        if len(self._items) - alive > alive:
            return View(self._items[start:stop])
        view: View[T] = View.__new__(View)
        view._items, view._start, view._stop, view._growing = self._items, start, stop, self._growing
        view._noted = self._noted
        return view

    def appended(self, new: Sequence[T]) -> View[T]:
        """Return a view of these items and `new` after them, at the cost of `new` in the usual case.

        The list is copied if another view has grown it past this one's end, or is growing it now. The lock is never waited
        for: a signal handler would hang here.
        """
        if self._start == self._stop:
            return View(new) if new else EMPTY
        grown = False
        if self._growing.acquire(blocking=False):
            try:
                if len(self._items) == self._stop:
                    self._items.extend(new)
                    grown = True
            finally:
                self._growing.release()
        if not grown:
            return View([*self._items[self._start : self._stop], *new])
        return self._window(self._start, self._stop + len(new))

    def put_in_place(self, index: int, item: T) -> None:
        """Replace an item here, and in every view that shares the list: only for the one that has all of these."""
        self._items[self._start + index] = item
        self._noted.clear()

    def last_where(self, test: Callable[[T], bool]) -> int | None:
        """Return the index of the last item that passes a test, or `None`. Each item of the list is tested once, for all views that share it.

        :param test: a function of a module, which says the same each time.
        """
        seen, found = self._noted.get(test, (0, []))
        if seen < self._stop:
            new = [index for index in range(seen, self._stop) if test(self._items[index])]
            self._noted[test] = seen, found = self._stop, [*found, *new]
        at = bisect_left(found, self._stop) - 1
        return found[at] - self._start if at >= 0 and found[at] >= self._start else None

    def ends(self) -> tuple[T, T]:
        """Return the first item and the last. There must be one."""
        return self._items[self._start], self._items[self._stop - 1]

    def to_list(self) -> list[T]:
        """Return a new list of the items."""
        return self._items[self._start : self._stop]

    def bisect(self, value: Any, key: Callable[[T], Any]) -> int:
        """Return how many items have a lower key, the items being sorted by it."""
        return bisect_left(self._items, value, self._start, self._stop, key=key) - self._start

    def last(self, count: int) -> list[T]:
        """Return a new list of the last `count` items, or of all if there are fewer."""
        return self._items[max(self._start, self._stop - count) : self._stop]

    def __len__(self) -> int:
        return self._stop - self._start

    def __bool__(self) -> bool:
        return self._stop > self._start

    def __iter__(self) -> Iterator[T]:
        return iter(self._items[self._start : self._stop])

    def __reversed__(self) -> Iterator[T]:
        return reversed(self._items[self._start : self._stop])

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> View[T]: ...
    def __getitem__(self, index: int | slice) -> T | View[T]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return self._window(self._start + start, self._start + max(start, stop))
            return View(self.to_list()[index])
        place = index + (self._start if index >= 0 else self._stop)
        if not self._start <= place < self._stop:
            raise IndexError("index out of range")
        return self._items[place]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, View):
            return self.to_list() == other.to_list()
        if isinstance(other, list | tuple):
            return self.to_list() == list(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"<View of {len(self)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return View, (self.to_list(),)


#: A view of nothing, which all may share: nothing is ever appended in its place.
EMPTY: Final[View[Any]] = View()
