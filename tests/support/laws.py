"""How many examples a law is tried with."""

from __future__ import annotations

from hypothesis import settings


def examples(least: int) -> settings:
    """Try a law with so many examples, and with those of the profile if it has more (``HYPOTHESIS_PROFILE=long``)."""
    return settings(max_examples=max(least, settings().max_examples))
