"""An estimate of a message's tokens, without a tokenizer: near enough to keep a history within a budget.

**Counted** is what a model reads (`session_manager.history.text`): every text, the names of tools and speakers, arguments and
results as JSON, and 4 tokens a message for its role and frame. An image counts what its provider's documentation says for its
size, another file 1,000 tokens. Not counted are ids, signatures, encrypted text, and fields that no provider gives to a model.

**How.** Each character weighs what characters of its kind weigh, on average, in the vocabulary ``o200k_base`` (GPT-4o and
later): the table is below. The first byte of a character in UTF-8 tells its kind. Each byte is replaced by one with as many
bits as the kind has ninths of a token. So the sum is a count of bits, which takes two microseconds a kilobyte.

**How near.** Estimate over real number, by tiktoken 0.14.0 and its ``o200k_base``, over the strings of the same messages:

* 1.05 to 1.12 for each of 100 recorded conversations with tool calls (0.99 to 1.13 without their system prompt);
* 0.83 to 1.23 for fifteen texts in twelve languages, Python, JSON and emoji, and 0.76 to 1.23 for 26 outputs of tools
  (code in seven languages, logs, tables, JSON, diffs, numbers, ids), to which the weights were fitted;
* 0.77 to 1.14 for ten texts to which they were not (English, German, Chinese, Japanese, Korean; a log, a table).

A lower bound on what to expect: base64 as a text came to 0.64, lists of rare names, one a line, to 0.5. The figures are in
``tests/support/o200k.json``; ``python -m tests.support.o200k`` takes and prints them.

Other vocabularies differ, above all in languages other than English: to be exact, give `session_manager.history.cuts.fit` the
counter of your model; to be safe, a smaller budget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from session_manager.errors import InvalidMessageError
from session_manager.history.shapes import texts_of
from session_manager.history.text import Attachment, plain_text
from session_manager.model.message import Message

__all__ = ["counted", "estimate_text", "estimate_tokens"]

_MESSAGE: Final = 4

#: What a character weighs, in ninths of a token, by its first byte in UTF-8: first and last byte, weight of 0 to 8.
_KINDS: Final = (
    (0x00, 0x7F, 5),  # punctuation, but for what follows
    *((ord(character), ord(character), 1) for character in "=-_*#~"),  # lines are drawn with these
    (0x41, 0x5A, 4),  # capital Latin letters: each begins a word, or is in an abbreviation
    (0x61, 0x7A, 2),  # small Latin letters
    (0x30, 0x39, 8),  # digits
    (0x20, 0x20, 1),  # a space
    (0x09, 0x0D, 8),  # other white space
    (0x80, 0xBF, 0),  # the further bytes of a character
    (0xC0, 0xC7, 8),  # Latin letters with marks
    (0xC8, 0xDF, 3),  # Greek, Cyrillic, Hebrew, Arabic
    (0xE0, 0xE0, 4),  # Indic scripts, Thai
    (0xE1, 0xE2, 6),  # Georgian, Khmer, typography, symbols
    (0xE3, 0xE3, 6),  # kana, CJK punctuation
    (0xE4, 0xE9, 7),  # Chinese characters
    (0xEA, 0xED, 6),  # Hangul
    (0xEE, 0xEF, 6),  # full width forms
    (0xF0, 0xFF, 8),  # emoji, rare characters: 8 of `_RARE`
)
_TOKEN: Final = 9
_RARE: Final = 18


def _bits() -> bytes:
    """Return the table that gives each byte as many bits as it weighs."""
    table = bytearray(256)
    for first, last, weight in _KINDS:
        table[first : last + 1] = bytes([2**weight - 1]) * (last + 1 - first)
    return bytes(table)


_BITS: Final = _bits()


def estimate_text(text: str) -> int:
    """Estimate the tokens of a text.

    >>> estimate_text("Each character weighs what characters of its kind weigh."), estimate_text("每一个承诺都是一句话。")
    (12, 8)
    """
    data = text.encode("utf-8", "surrogatepass")
    weight = int.from_bytes(data.translate(_BITS), "little").bit_count()
    if not text.isascii():
        weight += (_RARE - 8) * data.count(b"\xf0")
    return (weight + _TOKEN // 2) // _TOKEN


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
    text = message._text
    if text is not None or (text := plain_text(message._object)) is not None:
        return _MESSAGE + estimate_text(text)
    tokens, read = _MESSAGE, []
    for part in texts_of(message):
        if isinstance(part, str):
            read.append(part)
        elif isinstance(part, Attachment):
            tokens += part.tokens
        else:
            read.append(part.text)
    return tokens + estimate_text("\n".join(read))
