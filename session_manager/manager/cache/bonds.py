"""Bonds of turns to the generation of their session: the one that it had first, from when the turn began.

A session may be missing when a turn of it begins. Then the bond waits: the first generation that comes into RAM is taken.
Nothing has to be released: a bond counts for as long as its turn is referenced.
"""

from __future__ import annotations

import weakref

import msgspec

from session_manager.frozen import Part
from session_manager.model.ids import began_by_clear

__all__ = ["Bond", "Bonds"]

_SWEEP = 16


class Bond(Part):
    """What one turn is bound to."""

    #: The generation; `None`: no session was there yet.
    generation: str | None = None
    #: Whether the session was cleared or deleted before its generation was known.
    is_broken: bool = False

    def meet(self, generation: str) -> None:
        """Bind to a session that has appeared, unless that was done. One that was cleared already appeared before that."""
        if self.generation is None and not self.is_broken:
            self.generation, self.is_broken = generation, began_by_clear(generation)


class Bonds(Part):
    """The bonds of the open turns, one for each session. Every method requires the lock of what is in RAM."""

    #: References without callbacks, as in `session_manager.manager.cache.locks.KeyedLocks`.
    by_key: dict[str, weakref.ref[Bond]] = msgspec.field(default_factory=dict)
    _sweep_at: int = _SWEEP

    def bind(self, key: str, generation: str | None) -> Bond:
        """Return the bond of a turn that begins.

        :param generation: that of the session; `None` if there is none.
        """
        bond = Bond(generation)
        self.by_key[key] = weakref.ref(bond)
        if len(self.by_key) > self._sweep_at:
            self.by_key = {one: reference for one, reference in self.by_key.items() if reference() is not None}
            self._sweep_at = 2 * len(self.by_key) + _SWEEP
        return bond

    def appeared(self, key: str, generation: str) -> None:
        """Take note that a session is in RAM."""
        bond = self._bond(key)
        if bond is not None:
            bond.meet(generation)

    def replaced(self, key: str, old: str, new: str | None) -> None:
        """Take note that another generation stands for one that was created here, and never saved.

        :param new: `None`: there is no session any more, though it was not deleted here.
        """
        bond = self._bond(key)
        if bond is not None and bond.generation == old:
            bond.generation = None
            if new is not None:
                bond.meet(new)

    def deleted(self, key: str) -> None:
        """Take note that a session was deleted here, in RAM or not."""
        bond = self._bond(key)
        if bond is not None:
            bond.is_broken = True

    def _bond(self, key: str) -> Bond | None:
        reference = self.by_key.get(key)
        bond = None if reference is None else reference()
        if bond is None and reference is not None:
            del self.by_key[key]
        return bond
