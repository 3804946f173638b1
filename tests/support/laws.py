"""The number of examples for a law."""

from __future__ import annotations

from hypothesis import settings


def examples(least: int) -> settings:
    """Try a law with at least so many examples, or with those of the profile if it has more (``many``, ``long``)."""
    return settings(max_examples=max(least, settings().max_examples))
