"""Texts that try to run something when they are put on a web page, and sessions that have them everywhere.

The forms are those of the usual collections: OWASP's cheat sheet on filter evasion, PortSwigger's on cross-site scripting, and
the tests of DOMPurify and Ammonia. The texts themselves are written for this suite. Each one would call `alert`.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

from session_manager import Item, Message
from session_manager.codec.exported import Exported
from session_manager.model.session import Session
from session_manager.model.view import View

__all__ = ["HOSTILE", "hostile_session"]

_SVG = "data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIiB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="
_PAGE = "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="
_REMOTE = "http://127.0.0.1:9/hit"

#: Each of them is also a text that a page must show.
HOSTILE = (
    "<script>alert(1)</script>",
    "<ScRiPt >alert(1)</ScRiPt\t>",
    "</script><script>alert(1)</script>",
    "</title></style></textarea></pre></details><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)//",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    '" autofocus onfocus="alert(1)" tabindex="1',
    "` onload=alert(1) `",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    f"<iframe src='{_PAGE}'></iframe>",
    f"<object data='{_PAGE}'></object><embed src='{_PAGE}'>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<body onload=alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    f"<meta http-equiv=refresh content='0;url={_REMOTE}'>",
    "<base href='javascript:/a/'>",
    f"<base href='{_REMOTE}'>",
    f"<link rel=stylesheet href='{_REMOTE}'>",
    f"<style>@import '{_REMOTE}'; body {{ background: url({_REMOTE}) }}</style>",
    f"<div style=\"background:url('{_REMOTE}')\">",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='java&#115;cript:alert(1)'>x</a>",
    "<!--><img src=x onerror=alert(1)-->",
    "<!--",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>alert(1)</x:script>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](java&Tab;script:alert(1))",
    "[x](&#x6A;avascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    f"[x]({_PAGE})",
    f"[x]({_SVG})",
    "[x](file:///etc/passwd)",
    "[x](//127.0.0.1:9/hit)",
    '[x](http://a.example/"onmouseover="alert(1))',
    "[x](http://a.example 'title\" onmouseover=\"alert(1)')",
    "[x]\n\n[x]: javascript:alert(1)",
    "![x](javascript:alert(1))",
    f"![x]({_REMOTE})",
    f"![x]({_SVG})",
    f"![x]({_PAGE})",
    '![" onerror="alert(1)](data:image/png;base64,xx)',
    "![<img src=x onerror=alert(1)>](x)",
    "<javascript:alert(1)>",
    '<http://a.example/"onmouseover=alert(1)>',
    "http://a.example/\"onmouseover='alert(1)'",
    "http://a.example/<script>alert(1)</script>",
    "javascript://a.example/%0aalert(1)",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "``` onmouseover=alert(1)\nx\n```",
    "`<script>alert(1)</script>`",
    '| <script>alert(1)</script> | b |\n|:-"onmouseover=alert(1)|-|\n| <img src=x onerror=alert(1)> | c |',
    "> <script>alert(1)</script>",
    "# <script>alert(1)</script>",
    "1. <script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}{{ ''.__class__ }}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\x3cscript\\x3ealert(1)\\x3c/script\\x3e",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "<img\x0csrc=x\x0bonerror=alert(1)>",
    "<\u2028script>alert(1)</script>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "\ud800<script>alert(1)</script>\udfff",
    "\ufeff<script>alert(1)</script>",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\u202e<script>alert(1)</script>",
    "-->]]></style><script>alert(1)</script>",
    "x" * 3000 + "<script>alert(1)</script>",
)

_AT = datetime(2026, 1, 1, tzinfo=timezone.utc)


def _forms(text: str) -> list[dict[str, object]]:
    """A text in every place where a message may have one, in the shapes of several providers."""
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": json.dumps({text: text})}}
    return [
        *({"role": role, "content": text, "name": text} for role in ("user", "assistant", "system", "tool", text)),
        {"role": "assistant", "content": None, "reasoning_content": text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": text, "content": text},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": text, "arguments": text}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": text}}, {"type": text, "text": text}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"https://a.example/{text}"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}]},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": f'data:image/png"{text};base64,iVBORw0KGgo'}}],
        },
        {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": text, "data": "iVBORw0KGgo="}}],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": text, "input": {text: [text]}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": text}]}],
        },
        {
            "role": "model",
            "parts": [{"text": text, "thought": True}, {"functionCall": {"name": text, "args": {text: text}}}],
        },
        {"type": "function_call", "call_id": text, "name": text, "arguments": text},
        {"type": text, "text": text, text: text},
        {"role": "user", "content": {text: text}},
    ]


def hostile_session(*texts: str, every: int = 1) -> Exported:
    """Return a session with these texts in every place, a part of it archived.

    :param every: put each text into every so-many-th place only, the next text into the next places.
    """
    forms = [one for number, text in enumerate(texts) for one in _forms(text)[number % every :: every]]
    values = [Message.from_dict(one, created_at=_AT) for one in forms]
    values += [Item({text: [text]}, created_at=_AT, metadata={text: text}, ref=text) for text in texts]
    placed = [one._placed(position, None) for position, one in enumerate(values)]
    half = len(placed) // 3
    session = Session(
        key=texts[0].encode(errors="replace").decode()[:200] or "k",
        generation="9f",
        created=_AT,
        updated=_AT,
        messages=View(placed[half:]),
        summary="\n\n".join(texts),
        metadata={text: text for text in texts},
        end=len(placed),
        revision=1,
    )
    return Exported(session, tuple(placed[:half]))
