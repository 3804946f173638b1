"""All named rules, and what must hold of every repair under them."""

from __future__ import annotations

from session_manager.history import (
    ANTHROPIC,
    BEDROCK,
    BY_SHAPE,
    GEMINI,
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    STRICT_TEMPLATES,
    problems,
    repair,
)

__all__ = ["RULES", "check", "same_objects"]

RULES = (BY_SHAPE, OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, GEMINI, BEDROCK, STRICT_TEMPLATES)


def same_objects(given, other):
    return len(given) == len(other) and all(one is two for one, two in zip(given, other, strict=True))


def check(given, rules):
    mended = repair(given, rules)
    assert problems(mended, rules) == []
    assert same_objects(repair(mended, rules), mended)
    if not problems(given, rules):
        assert same_objects(mended, given)
    return mended
