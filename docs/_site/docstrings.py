"""An extension of griffe: what docstrings have of reStructuredText becomes Markdown, before mkdocstrings reads it."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: A field of several names, such as ``:raises ConflictError, SaveError: …``, which griffe takes one of.
_SEVERAL = re.compile(r"^( *):(param|raises) (\w[\w.]*(?:, \w[\w.]*)+):((?:.*)(?:\n\1 +\S.*)*)", re.MULTILINE)
_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.MULTILINE)
_LITERAL = re.compile(r"^::\n", re.MULTILINE)


class Markdown(griffe.Extension):
    """Turn the docstring of each object into Markdown, and leave out how an `__init__` makes an attribute."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace the docstring of an object, and the value of an attribute that only instances have."""
        if obj.is_attribute and "instance-attribute" in obj.labels and "class-attribute" not in obj.labels:
            obj.value = None
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring as mkdocstrings reads it: one name a field, code in fences, no literal marks.

    >>> print(as_markdown(":raises A, B: if it fails."))
    :raises A: if it fails.
    :raises B: if it fails.
    """
    text = _SEVERAL.sub(_one_by_one, text)
    text = _DOCTEST.sub(lambda code: f"```pycon\n{code[0]}\n```", text)
    return _LITERAL.sub("", text).replace("::\n\n    ", ":\n\n    ")


def _one_by_one(field: re.Match[str]) -> str:
    indent, kind, names, rest = field.groups()
    return "\n".join(f"{indent}:{kind} {name}:{rest}" for name in names.split(", "))
