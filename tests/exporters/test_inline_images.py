"""Images in a page: by their first bytes, and nothing else."""

from __future__ import annotations

import base64

import pytest

from session_manager.exporters.inline_images import image_of

BODY = bytes(range(256)) * 3
IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n" + BODY,
    "image/jpeg": b"\xff\xd8\xff\xe0" + BODY,
    "image/gif": b"GIF89a" + BODY,
    "image/webp": b"RIFF\x10\x00\x00\x00WEBPVP8 " + BODY,
}


def encoded(data):
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("media", IMAGES)
def test_an_image_is_what_its_first_bytes_say(media):
    text = encoded(IMAGES[media])
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    url_safe = base64.urlsafe_b64encode(IMAGES[media]).decode().rstrip("=")
    for given in (text, lines, url_safe, f"data:text/html;base64,{text}", f'DATA:image/png"onerror=x;base64,{text}'):
        assert image_of(given) == f"data:{media};base64,{text}"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "data:,",
        "iVBORw0",
        "https://example.com/a.png",
        f"data:image/svg+xml;base64,{encoded(b'<svg onload=alert(1)>')}",
        f"data:image/png;base64,{encoded(b'<html><script>alert(1)</script>')}",
        encoded(IMAGES["image/png"]) + '"onerror="alert(1)',
        encoded(IMAGES["image/png"]) + "é",
        encoded(b"RIFF\x10\x00\x00\x00WAVEfmt "),
    ],
)
def test_anything_else_is_no_image(given):
    assert image_of(given) is None
