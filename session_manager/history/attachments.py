"""Images and files in messages: what of them is text, and what the rest costs.

An image costs what `session_manager.history.images` says. A text file in base64 costs its text. Anything else costs 1,000
tokens: a PDF, a sound, a file behind a URL or an id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from session_manager.history.fields import ENCODED, Holds, holds, kind_of
from session_manager.history.images import FILE_TOKENS, Charge, data_bytes, image_tokens, media_type
from session_manager.values import Value

__all__ = ["Attachment", "attached", "charge_of", "decoded", "has_base64", "is_attachment", "is_encoded"]


@attrs.frozen(eq=False, repr=False)
class Attachment(Value):
    """An image or a file."""

    #: What it costs.
    tokens: int
    #: Its media type, such as ``image/png``; ``""`` if the message does not say it.
    media: str = attrs.field(default="", eq=False, repr=False)
    #: Its bytes, in base64 or as a ``data:`` URL; ``""`` if they are not in the message. Nobody has checked them.
    data: str = attrs.field(default="", eq=False, repr=False)
    #: Where it is on the web, as the message says; ``""`` if it does not.
    url: str = attrs.field(default="", eq=False, repr=False)


#: Types of objects that bring an image or a file, which a provider reads by other means than as text.
_TYPES: Final = frozenset(
    (
        *("image", "image_url", "input_image", "computer_screenshot", "video", "video_url", "input_video"),
        *("audio", "audio_url", "input_audio", "file", "input_file", "document", "media", "container_upload"),
        *("image-data", "image-url", "image-file-id", "file-data", "file-url", "file-id", "reasoning-file"),
    )
)
_OPENAI_TYPES: Final = frozenset(("image_url", "input_image", "computer_screenshot", "image_generation_call"))
#: Fields of such an object that say where the rest is.
_LINKS: Final = frozenset(
    (
        *("url", "uri", "source", "path", "file_url", "fileUrl", "file_uri", "fileUri", "file_id", "fileId"),
        *("image_url", "audio_url", "video_url"),
    )
)
#: Fields of such an object that have the data itself.
_DATA: Final = frozenset((*ENCODED, "data", "image", "audio", "video", "file", "document"))
_MEDIA_TYPES: Final = ("media_type", "mediaType", "mime_type", "mimeType", "image_mimetype", "document_mimetype")
_WEB: Final = ("http://", "https://")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\r\n-]{64,}={0,2}")
#: So many characters of a text are looked at to see whether it is base64.
_LOOK: Final = 256


def is_attachment(kind: str) -> bool:
    """Say whether objects of a type bring an image or a file."""
    return kind in _TYPES


def is_encoded(text: str, *, as_base64: bool) -> bool:
    """Say whether a text is a ``data:`` URL in base64, or, with `as_base64`, looks like base64 of some length."""
    return media_type(text) is not None or (as_base64 and _BASE64.fullmatch(text[:_LOOK]) is not None)


def has_base64(value: Mapping[str, Any], field: str) -> bool:
    """Say whether a field has base64, by its name and what is beside it, in an object that may be anything."""
    return field == "data" and bool(_given_type(value) or "format" in value)


def decoded(text: str, holder: Mapping[str, Any], charge: Charge) -> str | Attachment:
    """Return what data in base64 is: the text of a text file, or an attachment.

    :param holder: the object that has it, perhaps beside its media type.
    :param charge: whose documentation says what it costs as an image.
    """
    media = media_type(text) or _given_type(holder)
    if media.startswith("text/") or media == "application/json":
        try:
            return data_bytes(text, len(text)).decode()
        except UnicodeDecodeError:
            return Attachment(FILE_TOKENS, media, text)
    is_image = not media or media.startswith("image/")
    return Attachment(image_tokens(text, charge) if is_image else FILE_TOKENS, media, text)


def _given_type(holder: Mapping[str, Any]) -> str:
    return next((given for name in _MEDIA_TYPES if isinstance(given := holder.get(name), str)), "")


def charge_of(value: Mapping[str, Any], field: str = "") -> Charge:
    """Return whose documentation says what an image costs that an object brings.

    :param field: the field that has the object, of which Gemini's has a name of its own.
    """
    if kind_of(value) in _OPENAI_TYPES:
        image = value.get("image_url")
        detail = image.get("detail") if isinstance(image, dict) else value.get("detail")
        return Charge.OPENAI_LOW if detail == "low" else Charge.OPENAI
    return Charge.GEMINI if field in ("inlineData", "inline_data") else Charge.ANTHROPIC


def attached(value: Mapping[str, Any], field: str = "") -> list[Any]:
    """Return what an object says that brings an image or a file: texts, the attachment, and lists that may hold more.

    An object of another type may have such a field as well, and bring none.

    :param field: the field that has the object; nothing if the object's type says what it is.
    """
    found: list[Any] = []
    data: str | Attachment | None = None
    is_elsewhere, url = False, ""
    for holder, name, one in _fields(value):
        if isinstance(one, list):
            found.append(one)
        elif media_type(one) is not None or (name in _DATA and not one.startswith(_WEB)):
            if kind_of(holder) == "text":  # Anthropic's plain text
                found.append(one)
            else:
                data = decoded(one, holder, charge_of(value, field))
        elif name in _LINKS or name in _DATA or (name == "id" and field == "audio"):
            is_elsewhere = True
            url = url or (one if one.startswith(_WEB) else "")
        elif name != "detail" and holds(name) is not Holds.LABEL:
            found.append(one)
    if data is not None:
        found.append(data)
    elif is_elsewhere or (not field and not found):
        found.append(Attachment(image_tokens("", charge_of(value, field)), _given_type(value), url=url))
    return found


def _fields(value: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str, str | list[Any]]]:
    """Yield the strings and lists of an object and of those in it, each with its object and its name."""
    left = [value]
    for holder in left:
        for name, one in holder.items():
            if isinstance(one, dict) and holds(name) is not Holds.ASIDE:
                left.append(one)
            elif one and isinstance(one, (str, list)):
                yield holder, name, one
