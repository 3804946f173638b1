"""Images that a page holds itself: those whose bytes are in the message, and are what a browser shows as an image.

What an image is, its first bytes say, and not the message. So nothing else passes for an image: no HTML, and no SVG, which may
hold scripts.
"""

from __future__ import annotations

import base64
import binascii

from session_manager.history.attachments import Attachment

__all__ = ["image_of", "image_url"]

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
_RIFF, _WEBP, _WEBP_AT = b"RIFF", b"WEBP", 8
#: So many characters of base64 have the first bytes.
_HEAD = 32
_URL_SAFE = str.maketrans("-_", "+/")


def image_url(attachment: Attachment) -> str | None:
    """Return the ``data:`` URL of an image in a message; `None` if its bytes are not there, or are none of an image."""
    return image_of(attachment.data)


def image_of(data: str) -> str | None:
    """Return the ``data:`` URL of an image.

    :param data: base64, or a ``data:`` URL, as a message has it.
    """
    text = data.partition(",")[2] if data[:5].lower() == "data:" else data
    if not text.isascii():
        return None
    text = "".join(text.split()).translate(_URL_SAFE).rstrip("=")
    text += "=" * (-len(text) % 4)
    try:
        media = _media_of(base64.b64decode(text[:_HEAD], validate=True))
        if media is not None:
            base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return None if media is None else f"data:{media};base64,{text}"


def _media_of(start: bytes) -> str | None:
    if start.startswith(_RIFF) and start[_WEBP_AT:].startswith(_WEBP):
        return "image/webp"
    return next((media for first, media in _STARTS if start.startswith(first)), None)
