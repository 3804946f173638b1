"""The number of examples for a law."""

from __future__ import annotations

from hypothesis import settings

#: The examples of the profile ``quick``.
QUICK = 10


def examples(least: int, *, many: int = 0) -> settings:
    """Try a law with at least so many examples, or with those of the profile if it has more (``many``, ``long``).

    :param many: at least so many with these profiles.
    """
    profile = settings().max_examples
    return settings(max_examples=max(least, profile, many if profile > QUICK else 0))
