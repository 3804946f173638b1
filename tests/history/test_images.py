"""The cost of images, against the examples in the documentation of their providers."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager import Message
from session_manager.history.images import FILE_TOKENS, Charge, image_tokens
from session_manager.history.tokens import estimate_tokens


def png(width, height):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(400)


def gif(width, height):
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(400)


def jpeg(width, height, preview=0):
    exif = b"\xff\xe1" + struct.pack(">H", 2 + preview) + b"\xff\xc0" * (preview // 2)
    tables = b"\xff\xc4\x00\x04\x00\x00"
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)
    return b"\xff\xd8" + exif + tables + frame + bytes(400)


def webp(width, height, kind):
    head = b"RIFF\x00\x00\x00\x00WEBP" + kind + bytes(4)
    if kind == b"VP8 ":
        return head + b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(400)
    if kind == b"VP8L":
        return head + b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(400)
    return head + bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3] + bytes(400)


FORMATS = {
    "PNG": png,
    "GIF": gif,
    "JPEG": jpeg,
    "JPEG with a preview": lambda width, height: jpeg(width, height, preview=40_000),
    "WebP, lossy": lambda width, height: webp(width, height, b"VP8 "),
    "WebP, lossless": lambda width, height: webp(width, height, b"VP8L"),
    "WebP, extended": lambda width, height: webp(width, height, b"VP8X"),
}


def encoded(image):
    return base64.b64encode(image).decode()


@pytest.mark.parametrize(
    ("charge", "width", "height", "tokens"),
    [
        (Charge.OPENAI, 1024, 1024, 765),
        (Charge.OPENAI, 2048, 4096, 1105),
        (Charge.OPENAI, 512, 512, 255),
        (Charge.OPENAI_LOW, 4096, 8192, 85),
        (Charge.GEMINI, 384, 384, 258),
        (Charge.GEMINI, 385, 384, 258),
        (Charge.GEMINI, 960, 540, 516),
        (Charge.ANTHROPIC, 200, 200, 64),
        (Charge.ANTHROPIC, 1092, 1092, 1521),
        (Charge.ANTHROPIC, 8000, 8000, 4784),
    ],
)
def test_an_image_costs_what_its_provider_says(charge, width, height, tokens):
    assert image_tokens(encoded(png(width, height)), charge) == tokens


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("url", [False, True])
def test_the_size_is_read_from_the_first_bytes_of_an_image(kind, url):
    data = encoded(FORMATS[kind](640, 480))
    assert image_tokens(f"data:image/x;charset=a;base64,{data}" if url else data, Charge.GEMINI) == 258
    wide = encoded(FORMATS[kind](1600, 480))
    assert image_tokens(wide.replace("+", "-").replace("/", "_").rstrip("="), Charge.GEMINI) == 3 * 258


@given(st.binary(max_size=80), st.sampled_from(sorted(FORMATS)), st.integers(0, 60))
def test_an_unreadable_image_is_a_file_of_unknown_size(noise, kind, length):
    """Nothing is raised, whatever the bytes are."""
    start = FORMATS[kind](640, 480)[:length]
    for data in (noise, start, start[:16] + noise):
        assert image_tokens(encoded(data), Charge.ANTHROPIC) >= 1
    assert image_tokens("no base64: é", Charge.ANTHROPIC) == image_tokens("", Charge.OPENAI) == FILE_TOKENS
    assert (
        image_tokens(encoded(png(0, 7)), Charge.GEMINI)
        == image_tokens(encoded(png(2**31, 7)), Charge.GEMINI)
        == FILE_TOKENS
    )


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}, 765),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,", "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}}, 85),
        ({"type": "image_url", "image_url": {"url": "https://a/b.png"}}, FILE_TOKENS),
        ({"type": "input_image", "image_url": "data:image/png;base64,", "detail": "high"}, 765),
        ({"type": "input_image", "image_url": "data:image/png;base64,", "detail": "low"}, 85),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}, 37 * 37),
        ({"inlineData": {"mimeType": "image/png", "data": ""}}, 4 * 258),
        ({"image": {"format": "png", "source": {"bytes": ""}}}, 37 * 37),
    ],
)
def test_an_image_in_a_message_costs_by_its_shape(block, tokens):
    """A megabyte of base64 is not counted by its length."""
    data = encoded(png(1024, 1024) + bytes(1_000_000))

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return value + data if value in ("", "data:image/png;base64,") else value

    message = Message.from_dict({"role": "user", "content": [filled(block)]})
    assert estimate_tokens(message) == 4 + tokens
