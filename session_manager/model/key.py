"""Session keys: what a key may be."""

from __future__ import annotations

from session_manager.errors import InvalidKeyError

__all__ = ["MAX_KEY_BYTES", "check_key"]

#: The longest key, in bytes of UTF-8.
MAX_KEY_BYTES = 1024


def check_key(key: object) -> str:
    """Return a session key as a plain `str`, or say what is wrong with it.

    :param key: 1 to 1,024 bytes in UTF-8; anything but ``"."`` and ``".."``.
    :raises InvalidKeyError: if no store could keep it.
    """
    if type(key) is str and key.isascii() and 2 < len(key) <= MAX_KEY_BYTES:
        return key
    if not isinstance(key, str):
        hint = ': use f"telegram:{id}"' if isinstance(key, int) else ""
        raise InvalidKeyError(key, f"must be a string, not {type(key).__name__}{hint}")
    text = str.__str__(key)
    if text in ("", ".", ".."):
        raise InvalidKeyError(text, "is empty or a directory's name")
    size = _utf8_size(text)
    if size is None:
        raise InvalidKeyError(text, "has a lone surrogate")
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(text, f"is {size:,} bytes in UTF-8, more than {MAX_KEY_BYTES:,}")
    return text


def _utf8_size(text: str) -> int | None:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
