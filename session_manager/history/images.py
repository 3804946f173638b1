"""What an image costs in tokens, by the documentation of its provider.

The size is read from the first bytes of a PNG, JPEG, GIF or WebP, in base64.

* **OpenAI**: 85 with ``"detail": "low"``. Else the image is scaled to fit into 2,048 pixels, then to 768 on its shorter side;
  it costs 85, and 170 for each tile of 512 pixels. Models that count patches of 32 pixels charge up to 1,536, times 1 to 2.5.
  https://platform.openai.com/docs/guides/images-vision#calculating-costs
* **Gemini**: 258 if no side is over 384 pixels, else 258 for each tile of 768 pixels. Gemini 3 charges up to 1,120.
  https://ai.google.dev/gemini-api/docs/tokens
* **Anthropic**, and every other shape: one for each patch of 28 pixels, after scaling to at most 2,576 pixels and 4,784 tokens.
  Older models scale to 1,568 of both. https://docs.claude.com/en/docs/build-with-claude/vision

An image of unknown size counts as 1,000.
"""

from __future__ import annotations

import binascii
import enum
import math
import re
import struct
from collections.abc import Callable
from typing import Final

__all__ = ["FILE_TOKENS", "Charge", "data_bytes", "image_tokens", "media_type"]

#: What an image costs whose size is unknown, and any other file.
FILE_TOKENS: Final = 1_000

_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]{0,100}){0,9};base64,")
_TO_PLAIN: Final = str.maketrans("-_", "+/", "\r\n")
#: So many characters of base64 hold the size of most images, and of one that begins with a preview.
_SHORT, _LONG = 64, 131_072
#: A larger width or height is taken for damage.
_LARGEST: Final = 100_000


class Charge(enum.Enum):
    """Whose documentation says what an image costs."""

    OPENAI = "openai"
    #: OpenAI, with ``"detail": "low"``.
    OPENAI_LOW = "openai, low"
    GEMINI = "gemini"
    ANTHROPIC = "anthropic"


def image_tokens(encoded: str, charge: Charge) -> int:
    """Return what an image costs.

    :param encoded: the image, in base64 or as a ``data:`` URL; anything else counts as an image of unknown size.
    """
    if charge is Charge.OPENAI_LOW:
        return 85
    size = _size(data_bytes(encoded, _SHORT)) or _size(data_bytes(encoded, _LONG))
    return FILE_TOKENS if size is None else _COSTS[charge](*size)


def _openai(width: float, height: float) -> int:
    width, height = _within(width, height, 2_048)
    shrink = min(1.0, 768 / min(width, height))
    return 85 + 170 * math.ceil(width * shrink / 512) * math.ceil(height * shrink / 512)


def _gemini(width: float, height: float) -> int:
    return 258 if max(width, height) <= 384 else 258 * math.ceil(width / 768) * math.ceil(height / 768)


def _anthropic(width: float, height: float) -> int:
    width, height = _within(width, height, 2_576)
    return min(4_784, math.ceil(width / 28) * math.ceil(height / 28))


def _within(width: float, height: float, side: int) -> tuple[float, float]:
    shrink = min(1.0, side / max(width, height))
    return width * shrink, height * shrink


_COSTS: Final = {Charge.OPENAI: _openai, Charge.GEMINI: _gemini, Charge.ANTHROPIC: _anthropic}


def media_type(text: str) -> str | None:
    """Return the media type of a ``data:`` URL in base64, which may be empty; `None` if a text is no such URL.

    >>> media_type("data:image/png;base64,iVBORw0KGgo=")
    'image/png'
    """
    found = _DATA_URL.match(text)
    return None if found is None else found[1] or ""


def data_bytes(encoded: str, characters: int) -> bytes:
    """Return the bytes that so many characters of base64, or of a ``data:`` URL, stand for; nothing if it is not base64."""
    found = _DATA_URL.match(encoded)
    start = 0 if found is None else found.end()
    part = encoded[start : start + characters].translate(_TO_PLAIN)
    try:
        return binascii.a2b_base64(part + "=" * (-len(part) % 4))
    except ValueError:
        return b""


def _size(image: bytes) -> tuple[int, int] | None:
    """Return the width and height of an image; `None` if they cannot be read, or cannot be."""
    try:
        size = next((read(image) for start, read in _SIZES if image.startswith(start)), None)
    except (struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 and max(size) <= _LARGEST else None


def _png(image: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", image, 16)
    return width, height


def _gif(image: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", image, 6)
    return width, height


def _webp(image: bytes) -> tuple[int, int] | None:
    kind = image[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", image, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", image, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width, high, height, higher = struct.unpack_from("<HBHB", image, 24)
        return width + (high << 16) + 1, height + (higher << 16) + 1
    return None


def _jpeg(image: bytes) -> tuple[int, int]:
    """Read the size from the first start of a frame (SOF0 to SOF15, without DHT, JPG and DAC)."""
    place = 2
    while image[place + 1] not in range(0xC0, 0xD0) or image[place + 1] in (0xC4, 0xC8, 0xCC):
        (length,) = struct.unpack_from(">H", image, place + 2)
        place += 2 + length
    height, width = struct.unpack_from(">HH", image, place + 5)
    return width, height


#: How each format begins, and what reads its size.
_SIZES: Final[tuple[tuple[bytes, Callable[[bytes], tuple[int, int] | None]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
)
