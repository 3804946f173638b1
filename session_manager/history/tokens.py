"""An estimate of a message's tokens, without a tokenizer: near enough to keep a history within a budget.

**Counted** is everything that a model reads: the strings of ``content``, also in lists and objects; the text of reasoning; the
names and arguments of tool calls, and the results of tools; 4 tokens a message for its role and frame. An image or a file in the
content counts as 1,000 tokens, whatever its size. Ids, signatures and encrypted reasoning are not counted.

**How.** Each character weighs what characters of its kind weigh, on average, in the vocabulary ``o200k_base`` (GPT-4o and
later): the table is below. Kinds are told apart by the first byte of a character in UTF-8, so that counting them costs
about a microsecond a kilobyte.

**How near.** Estimate over real number, by tiktoken 0.14.0 and its ``o200k_base``, over the strings of the same
messages: 1.02 to 1.08 for each of 100 recorded conversations (0.99 to 1.10 without their system prompt); 0.86 to 1.13 for
the fifteen texts that the weights were fitted to, and 0.80 to 1.18 for ten that they were not (English, German,
Chinese, Japanese, Korean; a log, a table). A lower bound on what to expect: lists of rare names and words, one a line,
came to 0.5. The figures are in ``tests/support/o200k.json``; ``python -m tests.support.o200k`` takes and prints them.

Other vocabularies differ, above all in languages other than English: to be exact, give `session_manager.history.cuts.fit` the
counter of your model; to be safe, a smaller budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from session_manager.errors import InvalidMessageError
from session_manager.model.message import Message

__all__ = ["counted", "estimate_text", "estimate_tokens"]

_MESSAGE: Final = 4
_ATTACHMENT: Final = 1_000

#: What a character weighs, in hundredths of a token, by its first byte in UTF-8: first and last byte, weight.
_KINDS: Final = (
    (0x00, 0x7F, 56),  # punctuation, but for what follows
    (0x41, 0x5A, 40),  # capital Latin letters: each begins a word, or is in an abbreviation
    (0x61, 0x7A, 20),  # small Latin letters
    (0x30, 0x39, 67),  # digits
    (0x20, 0x20, 17),  # a space
    (0x09, 0x0D, 60),  # other white space
    (0x80, 0xBF, 0),  # the further bytes of a character
    (0xC0, 0xC7, 100),  # Latin letters with marks
    (0xC8, 0xDF, 27),  # Greek, Cyrillic, Hebrew, Arabic
    (0xE0, 0xE0, 40),  # Indic scripts, Thai
    (0xE1, 0xE2, 70),  # Georgian, Khmer, typography, symbols
    (0xE3, 0xE3, 70),  # kana, CJK punctuation
    (0xE4, 0xE9, 80),  # Chinese characters
    (0xEA, 0xED, 67),  # Hangul
    (0xEE, 0xEF, 70),  # full width forms
    (0xF0, 0xFF, 200),  # emoji, rare characters
)


def _kinds() -> tuple[bytes, dict[bytes, int]]:
    """Return the table that gives each byte its kind, and the weight of each kind."""
    table = bytearray(256)
    for kind, (first, last, _) in enumerate(_KINDS):
        table[first : last + 1] = bytes([kind]) * (last + 1 - first)
    return bytes(table), {bytes([kind]): weight for kind, (_, _, weight) in enumerate(_KINDS) if weight}


_TABLE, _WEIGHTS = _kinds()


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text.

    >>> estimate_text("Each character weighs what characters of its kind weigh."), estimate_text("每一个承诺都是一句话。")
    (12, 9)
    """
    kinds = text.encode("utf-8", "surrogatepass").translate(_TABLE)
    return (sum(weight * kinds.count(kind) for kind, weight in _WEIGHTS.items()) + 50) // 100


def counted(count: Callable[[Message], int], message: Message) -> int:
    """Return the tokens of a message, by the caller's counter.

    :raises InvalidMessageError: if that is no int of 0 or more.
    """
    tokens: object = count(message)
    if type(tokens) is not int:
        raise InvalidMessageError("count()", f"must be an int, not {type(tokens).__name__}")
    if tokens < 0:
        raise InvalidMessageError("count()", f"must be 0 or more, not {tokens}")
    return tokens


def estimate_tokens(message: Message) -> int:
    """Estimate the tokens of a message. The top of the module says what is counted, and how near the estimate is.

    >>> estimate_tokens(Message("user", "What time is it?"))
    8
    """
    value = message._object
    if type(content := value.get("content")) is str and len(value) == 2:
        return _MESSAGE + estimate_text(content)
    attachments, texts = 0, []
    for text in _read(value):
        if text is None:
            attachments += 1
        else:
            texts.append(text)
    return _MESSAGE + _ATTACHMENT * attachments + estimate_text("\n".join(texts))


#: Fields of messages, blocks and items that a model reads, and under which there may be more of them.
_FIELDS: Final = (
    "content",
    "text",
    "name",
    "tool_calls",
    "function_call",
    "function",
    "arguments",
    "output",
    "summary",
    "thinking",
    "reasoning_content",
    "refusal",
    "custom",
    "transcript",
)
_ATTACHED: Final = frozenset(
    (
        *("image", "image_url", "input_image", "computer_screenshot", "video"),
        *("file", "input_file", "document", "audio", "input_audio"),
    )
)


def _read(value: Any) -> Iterator[str | None]:
    """Yield the texts that a model reads, and `None` for each image or file."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            left.extend(reversed(value))
        elif isinstance(value, dict):
            kind = value.get("type")
            if isinstance(kind, str) and kind in _ATTACHED:
                yield None
                continue
            if "input" in value:
                given = value["input"]
                yield given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            left.extend(value[field] for field in reversed(_FIELDS) if field in value)
