"""The number of examples for a law."""

from __future__ import annotations

from hypothesis import settings

#: The examples of the profile ``quick``.
QUICK = 3


def examples(least: int, *, many: int = 0) -> settings:
    """Try a law with the examples of the profile; in the ordinary run (``quick``) with at least so many.

    :param many: at least so many with the other profiles (``many``, ``long``, ``new``).
    """
    profile = settings().max_examples
    return settings(max_examples=max(profile, least if profile == QUICK else many))
