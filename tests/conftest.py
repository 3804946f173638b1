"""Options of the long runs, and the profiles of hypothesis."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

#: For type checkers, not for running.
collect_ignore = ["typing"]

settings.register_profile("quick", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", parent=settings.get_profile("quick"), max_examples=1000, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser):
    parser.addoption("--walks", type=int, default=1000, help="how many random walks of three writers")
    parser.addoption("--first-walk", type=int, default=0, help="the seed of the first walk")
    parser.addoption("--soak", action="store_true", help="break the library for hours, instead of a minute")


@pytest.fixture
def soak(request) -> bool:
    """Whether this is a soak."""
    return request.config.getoption("--soak")
