"""Session keys: what a key may be, and the parts that it is joined of."""

from __future__ import annotations

from session_manager.errors import InvalidKeyError

__all__ = ["MAX_KEY_BYTES", "check_key", "join_key", "key_prefix", "quote_part", "split_key", "unquote_part"]

#: The longest key, in bytes of UTF-8.
MAX_KEY_BYTES = 1024

_SEPARATOR = ":"


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


def join_key(*parts: str | int) -> str:
    """Join the parts of a session key: a channel, a chat, perhaps a topic.

    :param parts: one or more; each a text without ``:`` that is not empty, or an int.
    :returns: a key that `split_key` takes apart again.
    :raises InvalidKeyError: if a part is something else, there is none, or the key is too long. A part with ``:`` is
        refused, for two chats might share a key then: give it to `quote_part` first.

    >>> join_key("telegram", -100123, "7")
    'telegram:-100123:7'
    """
    if not parts:
        raise InvalidKeyError("", "has no parts")
    return check_key(_SEPARATOR.join([_part(part) for part in parts]))


def split_key(key: str) -> tuple[str, ...]:
    """Return the parts of a session key, as `join_key` takes them.

    :raises InvalidKeyError: if it is no key.

    >>> split_key("telegram:42:7")
    ('telegram', '42', '7')
    """
    return tuple(check_key(key).split(_SEPARATOR))


def key_prefix(*parts: str | int) -> str:
    """Return the ``prefix=`` of all sessions whose keys begin with these parts, and have further ones.

    A prefix is compared character by character: ``"telegram:1"`` is also one of ``"telegram:10"``. The prefix that this
    returns ends with ``:``, so it means whole parts. The session that these parts themselves name is not among them:
    ``delete_prefix(key_prefix("telegram", "1"))`` deletes the topics of that chat, ``delete(join_key("telegram", "1"))``
    the chat's own session.

    :param parts: as for `join_key`.
    :raises InvalidKeyError: as `join_key` does. No prefix means all sessions by mistake.

    >>> key_prefix("telegram", "1")
    'telegram:1:'
    """
    return join_key(*parts) + _SEPARATOR


def quote_part(text: str) -> str:
    """Return any text as a part of a key, for `join_key`: two texts never become the same part.

    ``%`` becomes ``%25``, ``:`` becomes ``%3A``, and the empty text ``%``. All else stays as it is.

    :raises InvalidKeyError: if it is no text.

    >>> join_key("mail", quote_part("re: 100%"), quote_part(""))
    'mail:re%3A 100%25:%'
    """
    return _text(text).replace("%", "%25").replace(_SEPARATOR, "%3A") or "%"


def unquote_part(part: str) -> str:
    """Return the text of which `quote_part` made a part.

    :raises InvalidKeyError: if it is no text.

    >>> [unquote_part(part) for part in split_key("mail:re%3A 100%25:%")]
    ['mail', 're: 100%', '']
    """
    return "" if part == "%" else _text(part).replace("%3A", _SEPARATOR).replace("%25", "%")


def _text(part: object) -> str:
    if not isinstance(part, str):
        raise InvalidKeyError(part, f"a part must be a str, not {type(part).__name__}")
    return part


def _part(part: object) -> str:
    if isinstance(part, bool) or not isinstance(part, str | int):
        raise InvalidKeyError(part, f"a part must be a str or an int, not {type(part).__name__}")
    text = str(part)
    if not text or _SEPARATOR in text:
        raise InvalidKeyError(text, "a part must not be empty, and must not have a colon in it")
    return text
