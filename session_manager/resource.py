"""Objects that cannot be copied or pickled, because they own locks, open files, connections or threads."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

__all__ = ["Resource"]


class Resource:
    """The base of every class that owns a lock, a file, a connection or a thread.

    A copy would share what the original owns, and close it when the copy is collected. So `copy.copy`, `copy.deepcopy` and
    `pickle` are refused before anything is made.
    """

    __slots__ = ()

    def __copy__(self) -> NoReturn:
        """Refuse, also where another base can copy, as a struct can.

        :raises TypeError: always.
        """
        self.__reduce_ex__(0)

    def __replace__(self, /, **_: object) -> NoReturn:
        """Refuse: `copy.replace`.

        :raises TypeError: always.
        """
        self.__reduce_ex__(0)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse; the method by which Python copies and pickles an object.

        :raises TypeError: always.
        """
        name = type(self).__name__
        raise TypeError(f"{name} cannot be copied or pickled: it owns locks or open files, which have one owner")
