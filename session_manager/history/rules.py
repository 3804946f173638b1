"""What each provider accepts, as data: named `Rules`, which every function of `history` takes.

`BY_SHAPE` is the default. `docs/history.md` has the rules of all providers in one table. For a provider of your own, or a model
that differs, evolve one: ``attrs.evolve(ANTHROPIC, may_end_with_assistant=False)``.
"""

from __future__ import annotations

import enum
import re
from typing import Any, Final

import attrs

from session_manager.history.shapes import BEDROCK as _CONVERSE
from session_manager.history.shapes import BLOCKS, CHAT, CUSTOM, ITEMS, Shape, Where
from session_manager.history.shapes import GEMINI as _CONTENTS
from session_manager.model.roles import KNOWN_ROLES
from session_manager.values import Value

__all__ = [
    "ANTHROPIC",
    "BEDROCK",
    "BY_SHAPE",
    "GEMINI",
    "OPENAI_CHAT",
    "OPENAI_RESPONSES",
    "STRICT_TEMPLATES",
    "Empty",
    "Rules",
    "SystemPlace",
    "Unique",
    "ruled",
]


class Empty(enum.Enum):
    """What becomes of a message that says nothing."""

    #: It stays.
    ALLOW = "allow"
    #: It is left out.
    DROP = "drop"
    #: It says `Rules.placeholder`.
    PLACEHOLDER = "placeholder"


class Unique(enum.Enum):
    """Where the ids of tool calls must not come twice."""

    NOWHERE = "nowhere"
    #: In one message.
    MESSAGE = "message"
    #: In the whole history.
    HISTORY = "history"


class SystemPlace(enum.Enum):
    """Where a system prompt goes."""

    #: Among the messages, wherever it stands.
    ANYWHERE = "anywhere"
    #: Among the messages: one, and the first of all.
    FIRST = "first"
    #: Into a parameter of its own: the messages have none.
    APART = "apart"


def _is(*kinds: type) -> Any:
    def check(_: object, attribute: Any, value: object) -> None:
        if not isinstance(value, kinds):
            raise TypeError(f"{attribute.name}: must not be {type(value).__name__}")

    return check


def _pattern(_: object, attribute: Any, value: object) -> None:
    if value is not None:
        if not isinstance(value, str):
            raise TypeError(f"{attribute.name}: must be a string, not {type(value).__name__}")
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{attribute.name}: no regular expression: {error}") from None


def _known_role(_: object, attribute: Any, value: object) -> None:
    if value not in KNOWN_ROLES:
        raise ValueError(f"{attribute.name}: no role that a provider knows, such as system, developer or user")


def _count(_: object, attribute: Any, value: object) -> None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{attribute.name}: must be an int of 0 or more, or None")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Rules(Value):
    """What one provider accepts. Immutable; safe to share.

    :raises TypeError: if a field has a value of another type.
    :raises ValueError: if a role is not known, or a count is negative.
    """

    #: For a person.
    name: str = attrs.field(validator=_is(str))
    #: The shape of messages that are made, such as the one with the summary; `None`: that of their neighbours.
    shape: Shape | None = attrs.field(default=None, validator=_is(Shape, type(None)))
    #: Whether the first message must be the user's. A greeting before it is left out.
    user_first: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether the user and the assistant must take turns. Neighbours of one role are merged.
    alternate: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether the assistant's calls must come right behind a user's message or results. Its words before them are merged with them.
    calls_follow_user: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether the last message may be an assistant's words. If not, they are left out.
    may_end_with_assistant: bool = attrs.field(default=True, validator=_is(bool))
    #: Where ids of tool calls must be unique. The later pair of call and result gets another id.
    unique_ids: Unique = attrs.field(default=Unique.NOWHERE, validator=_is(Unique))
    #: A regular expression that ids of tool calls must match as a whole. Others are changed, in call and result.
    id_pattern: str | None = attrs.field(default=None, validator=_pattern)
    #: What becomes of an assistant's message without words, calls or anything else.
    empty_assistant: Empty = attrs.field(default=Empty.ALLOW, validator=_is(Empty))
    #: What becomes of a user's message that says nothing.
    empty_user: Empty = attrs.field(default=Empty.ALLOW, validator=_is(Empty))
    #: Whether the very last message may be an empty assistant's, to be filled by the model. `None` as content may not.
    may_end_empty: bool = attrs.field(default=True, validator=_is(bool))
    #: Whether empty texts beside other parts of a message are left out: of an assistant's message, of a user's.
    drop_empty_parts: tuple[bool, bool] = attrs.field(default=(False, False), validator=_is(tuple))
    #: Whether white space alone is empty.
    blank_is_empty: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether white space alone may stand beside other words in a message.
    blank_beside_words: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether an empty list of calls is left out.
    drop_empty_calls: bool = attrs.field(default=False, validator=_is(bool))
    #: What a message says that must say something.
    placeholder: str = attrs.field(default="(empty)", validator=_is(str))
    #: Where results must be; `None`: where their shape has them.
    results: Where | None = attrs.field(default=None, validator=_is(Where, type(None)))
    #: Whether results must come first in their message.
    results_first: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether calls must come last in their message.
    calls_last: bool = attrs.field(default=False, validator=_is(bool))
    #: Whether a reasoning item must be followed by an item of the model.
    reasoning_leads: bool = attrs.field(default=True, validator=_is(bool))
    #: Whether no two items may have one id. The later one is left out if it is the same, and gets another id otherwise.
    unique_items: bool = attrs.field(default=False, validator=_is(bool))
    #: Where system messages go.
    system: SystemPlace = attrs.field(default=SystemPlace.ANYWHERE, validator=_is(SystemPlace))
    #: The role of the message with the summary.
    summary_role: str = attrs.field(default="system", validator=_known_role)
    #: How many cache marks (``cache_control``, ``cachePoint``) there may be; the newest stay. `None`: any number.
    max_cache_marks: int | None = attrs.field(default=None, validator=_count)
    _by_shape: tuple[tuple[Shape, Rules], ...] = attrs.field(default=(), repr=False, alias="by_shape")

    def of(self, shape: Shape) -> Rules:
        """Return the rules for messages of a shape: these, or, of `BY_SHAPE`, those of the shape."""
        return next((rules for its, rules in self._by_shape if its is shape), self)


#: OpenAI chat completions: https://platform.openai.com/docs/api-reference/chat/create
OPENAI_CHAT: Final = Rules(
    name="OPENAI_CHAT",
    shape=CHAT,
    # "Duplicate value for 'tool_call_id'"
    unique_ids=Unique.MESSAGE,
    # "Invalid value for 'content': expected a string, got null"; servers of the same protocol refuse "" as well
    empty_assistant=Empty.DROP,
    drop_empty_parts=(True, False),
    # "Invalid 'messages[1].tool_calls': empty array", https://github.com/openai/openai-node/pull/1341
    drop_empty_calls=True,
    # Gateways pass the marks on to Anthropic.
    max_cache_marks=4,
)

#: OpenAI responses: https://platform.openai.com/docs/api-reference/responses/create
OPENAI_RESPONSES: Final = Rules(
    name="OPENAI_RESPONSES",
    shape=CHAT,
    empty_assistant=Empty.DROP,
    drop_empty_parts=(True, False),
    # "Duplicate item found with id", https://github.com/vercel/ai/issues/7883
    unique_items=True,
)

#: Anthropic's messages: https://platform.claude.com/docs/en/api/messages. Current models take no assistant's words at the end
#: ("This model does not support assistant message prefill"): evolve `may_end_with_assistant` for them.
ANTHROPIC: Final = Rules(
    name="ANTHROPIC",
    shape=CHAT,
    # 'messages: first message must use the "user" role', https://github.com/lobehub/lobehub/issues/1601
    user_first=True,
    # "`tool_use` ids must be unique", https://github.com/anthropics/claude-code/issues/28515
    unique_ids=Unique.HISTORY,
    # "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'", https://github.com/anomalyco/opencode/issues/1279
    id_pattern="[a-zA-Z0-9_-]+",
    # "all messages must have non-empty content except for the optional final assistant message",
    # https://github.com/anthropics/claude-code/issues/6774
    empty_assistant=Empty.DROP,
    empty_user=Empty.PLACEHOLDER,
    # "text content blocks must be non-empty", https://github.com/anomalyco/opencode/issues/15715
    drop_empty_parts=(True, True),
    # "text content blocks must contain non-whitespace text": one of them must, https://github.com/LibreChat-AI/agents/pull/124
    blank_is_empty=True,
    blank_beside_words=True,
    # Text before tool_result: https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls
    results_first=True,
    system=SystemPlace.APART,
    summary_role="user",
    # "A maximum of 4 blocks with cache_control may be provided", https://github.com/continuedev/continue/pull/6937
    max_cache_marks=4,
)

#: Gemini's `generateContent`: https://ai.google.dev/api/generate-content
GEMINI: Final = Rules(
    name="GEMINI",
    shape=_CONTENTS,
    # "function call turn comes immediately after a user turn or after a function response turn",
    # https://github.com/google-gemini/gemini-cli/issues/11814
    user_first=True,
    calls_follow_user=True,
    # "contents.parts must not be empty", https://github.com/vercel/ai/issues/3775
    empty_assistant=Empty.DROP,
    empty_user=Empty.PLACEHOLDER,
    may_end_empty=False,
    # "required oneof field 'data' must have one initialized field", https://github.com/router-for-me/CLIProxyAPI/issues/1292
    drop_empty_parts=(True, True),
    system=SystemPlace.APART,
    summary_role="user",
)

#: Bedrock's Converse: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
BEDROCK: Final = Rules(
    name="BEDROCK",
    shape=_CONVERSE,
    # "A conversation must start with a user message", https://github.com/langgenius/dify/issues/12340
    user_first=True,
    # "A conversation must alternate between user and assistant roles", https://github.com/langchain-ai/langchain-aws/issues/192
    alternate=True,
    # "contain duplicate Ids", https://github.com/BerriAI/litellm/issues/20048
    unique_ids=Unique.MESSAGE,
    # The service's model: https://github.com/boto/botocore/tree/develop/botocore/data/bedrock-runtime
    id_pattern="[a-zA-Z0-9_.:-]{1,64}",
    # "The content field in the Message object at messages.X is empty", https://github.com/earendil-works/pi/pull/3443
    empty_assistant=Empty.DROP,
    empty_user=Empty.PLACEHOLDER,
    may_end_empty=False,
    # "The text field in the ContentBlock object is blank", https://github.com/aws-samples/bedrock-engineer/issues/8
    drop_empty_parts=(True, True),
    blank_is_empty=True,
    system=SystemPlace.APART,
    summary_role="user",
    # https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    max_cache_marks=4,
)

#: Chat templates of open models (Qwen, Mistral, Gemma, Llama), on vLLM, llama.cpp, SGLang and the like.
STRICT_TEMPLATES: Final = Rules(
    name="STRICT_TEMPLATES",
    shape=CHAT,
    # "After the optional system message, conversation roles must alternate user/assistant/user/assistant/...",
    # https://github.com/suitenumerique/conversations/issues/197
    user_first=True,
    alternate=True,
    unique_ids=Unique.MESSAGE,
    empty_assistant=Empty.DROP,
    empty_user=Empty.PLACEHOLDER,
    may_end_empty=False,
    drop_empty_parts=(True, True),
    drop_empty_calls=True,
    # "System message must be at the beginning", https://github.com/vllm-project/vllm/issues/41114
    system=SystemPlace.FIRST,
)


def ruled(rules: object, *, user_first: bool | None = None) -> Rules:
    """Return rules, with another word on who is first.

    :raises TypeError: if they are no rules.
    """
    if not isinstance(rules, Rules):
        raise TypeError(f"rules: must be Rules, such as session_manager.history.ANTHROPIC, not {type(rules).__name__}")
    if user_first is None or user_first is rules.user_first:
        return rules
    return attrs.evolve(rules, user_first=user_first)


def _mild(rules: Rules) -> Rules:
    """Return the part of a provider's rules that needs no request."""
    return attrs.evolve(
        rules,
        user_first=False,
        alternate=False,
        calls_follow_user=False,
        unique_ids=Unique.NOWHERE if rules.unique_ids is Unique.NOWHERE else Unique.MESSAGE,
        id_pattern=None,
        system=SystemPlace.ANYWHERE,
    )


#: The default: each message by the rules of its own shape, whichever provider it is for. Neighbours are not merged, no
#: greeting is left out and no id of a later turn is changed: you ask for that by naming the rules. Evolve a provider's rules, not
#: these: what you change here holds for OpenAI chat and for frameworks, while blocks, items, Gemini and Bedrock keep theirs.
BY_SHAPE: Final = Rules(
    name="BY_SHAPE",
    unique_ids=Unique.MESSAGE,
    empty_assistant=Empty.DROP,
    drop_empty_parts=(True, False),
    drop_empty_calls=True,
    unique_items=True,
    max_cache_marks=4,
    by_shape=(
        (BLOCKS, _mild(ANTHROPIC)),
        (ITEMS, _mild(OPENAI_RESPONSES)),
        (CUSTOM, _mild(OPENAI_RESPONSES)),
        (_CONTENTS, _mild(GEMINI)),
        (_CONVERSE, _mild(BEDROCK)),
    ),
)
