"""The providers' own types and validators: those of ``openai``, ``anthropic``, ``google-genai`` and ``botocore``.

They are imported when they are needed: that takes seconds, in each worker of the tests.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

__all__ = ["check_types", "typed"]

_PACKAGES = {
    "chat": "openai",
    "function": "openai",
    "items": "openai",
    "blocks": "anthropic",
    "parts": "google.genai",
    "converse": "botocore",
}


def typed(*shapes: str) -> list[Any]:
    """Return parameters of a test, one for each shape, which skip it where the provider's package is missing."""
    return [
        pytest.param(shape, marks=pytest.mark.skipif(not _is_there(package), reason=f"needs {package}"))
        for shape in shapes
        for package in [_PACKAGES[_base(shape)]]
    ]


def _is_there(package):
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of `google.genai`, where there is no `google`
        return False


def _base(shape):
    return shape.split(":")[0]


def check_types(shape: str, objects: list[dict[str, Any]]) -> None:
    """Raise unless the types of the provider of a shape take these messages: as JSON, which is how they travel.

    :param shape: one of ``tests.support.shapes.PROVIDER_SHAPES``.
    """
    objects = json.loads(json.dumps(objects))
    match _base(shape):
        case "parts":
            for value in objects:
                _google_content().model_validate_json(json.dumps(value))
        case "converse":
            report = _converse()(objects)
            assert not report.has_errors(), report.generate_report()
        case base:
            _walk(_adapter(base).validate_python(objects))


@cache
def _adapter(base):
    import pydantic

    match base:
        case "chat" | "function":
            from openai.types.chat import ChatCompletionMessageParam as Kind
        case "items":
            from openai.types.responses import ResponseInputItemParam as Kind
        case "blocks":
            from anthropic.types import MessageParam as Kind
    return pydantic.TypeAdapter(list[Kind])


def _walk(value):
    """Look at all of a value. pydantic checks what a type calls iterable only while it is walked."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
        elif one is not None and not isinstance(one, str | int | float):
            left.extend(one)


@cache
def _google_content():
    from google.genai.types import Content

    return Content


@cache
def _converse():
    """Return the check of Bedrock's Converse, from the service's own description; no network, no client."""
    import botocore.loaders
    import botocore.model
    import botocore.validate

    described = botocore.loaders.Loader().load_service_model("bedrock-runtime", "service-2")
    shape = botocore.model.ServiceModel(described).operation_model("Converse").input_shape
    validator = botocore.validate.ParamValidator()
    return lambda messages: validator.validate({"modelId": "any", "messages": messages}, shape)
