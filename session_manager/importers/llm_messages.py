"""Messages of llm as those of OpenAI's chat: calls and results without ids, and attachments."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from session_manager.codec.json import DecodeError, decode_json
from session_manager.importers.chat import call_of

__all__ = ["Calls", "attachment_of", "content_of", "decoded"]

_AUDIO = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


@attrs.define
class Calls:
    """The calls of an answer that have no result yet. Some models give them no ids."""

    _pending: list[str] = attrs.field(factory=list)

    def begin(self, calls: Sequence[tuple[Any, Any, Any]], place: Any) -> list[dict[str, Any]]:
        """Return the calls of an answer: the id, the name and the arguments of each.

        :param place: what names calls without ids.
        """
        made = [
            call_of(told if isinstance(told, str) and told else f"call_{place}_{index}", str(name or ""), arguments)
            for index, (told, name, arguments) in enumerate(calls)
        ]
        self._pending = [one["id"] for one in made]
        return made

    def answered(self, id: Any) -> str | None:
        """Return the id of the call that a result answers; `None` if there is none."""
        if isinstance(id, str) and id:
            if id in self._pending:
                self._pending.remove(id)
            return id
        return self._pending.pop(0) if self._pending else None


def content_of(texts: Sequence[str], parts: Sequence[dict[str, Any]] = ()) -> Any:
    """Return the content of a message: a text if it is nothing else."""
    if len(texts) == 1 and not parts:
        return texts[0]
    return [*({"type": "text", "text": text} for text in texts), *parts] or None


def attachment_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attachment as a part of a content. One that is elsewhere on the disk is told of in a text."""
    kind, content, url, path = (row.get(name) for name in ("type", "content", "url", "path"))
    kind = kind if isinstance(kind, str) else "application/octet-stream"
    if isinstance(content, bytes) and content:
        data = base64.b64encode(content).decode()
        if kind in _AUDIO:
            return {"type": "input_audio", "input_audio": {"data": data, "format": _AUDIO[kind]}}
        whole = f"data:{kind};base64,{data}"
        if kind.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": whole}}
        return {"type": "file", "file": {"filename": str(row.get("id") or "file"), "file_data": whole}}
    if isinstance(url, str) and kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "text", "text": f"[attachment: {next((one for one in (url, path) if isinstance(one, str)), kind)}]"}


def decoded(text: Any) -> Any:
    """Return the value of a column of JSON; the text itself if it is none."""
    if not isinstance(text, str):
        return text
    try:
        return decode_json(text.encode(errors="surrogatepass"))
    except DecodeError:
        return text
