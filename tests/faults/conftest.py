"""The size of the attacks, and counting what was tried, so that documents can say it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.sizes import Size


class Counted(Counter[str]):
    """How often what was tried, and what came of it."""

    def check(self, **minimum: int) -> None:
        """See that there was enough of it."""
        for name, number in minimum.items():
            assert self[name] >= number, dict(self)


@pytest.fixture
def size(request) -> Size:
    """How much this run tries."""
    if request.config.getoption("--soak"):
        return Size.SOAK
    return Size.FULL if request.config.getoption("--faults") else Size.SMOKE


@pytest.fixture
def count(request, record_property):
    """Counts; at the end of the test the figures are recorded, and printed with ``-s``."""
    counted = Counted()
    yield counted
    for name, number in sorted(counted.items()):
        record_property(name, number)
    print(f"\n{request.node.name}: {dict(sorted(counted.items()))}")
