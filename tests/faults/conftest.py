"""Counting what was tried, so that documents can say it."""

from __future__ import annotations

from collections import Counter

import pytest


class Counted(Counter[str]):
    """How often what was tried, and what came of it."""

    def check(self, **minimum: int) -> None:
        """See that there was enough of it."""
        for name, number in minimum.items():
            assert self[name] >= number, dict(self)


@pytest.fixture
def count(request, record_property):
    """Counts; at the end of the test the figures are recorded, and printed with ``-s``."""
    counted = Counted()
    yield counted
    for name, number in sorted(counted.items()):
        record_property(name, number)
    print(f"\n{request.node.name}: {dict(sorted(counted.items()))}")
