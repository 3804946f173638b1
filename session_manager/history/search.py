"""Search: which messages contain a text, and which of them first. The same in every store.

**What is searched** is what a message says (`session_manager.history.text`): its texts, reasoning among them, and the arguments
and results of tools. Arguments and results that are JSON are searched by the names of their fields, their texts and their
numbers, each by itself. So a call is found alike in every provider's shape. Not searched are labels (roles, types, ids,
states), the names of tools and speakers, definitions of tools, signatures, and encrypted or encoded data.

**A match** is the query as a substring, letters compared without case, one by one (``ß`` is not ``ss``); every other character
stands for itself. **The order** is that of BM25 for a query of one term (Robertson and Zaragoza, "The Probabilistic Relevance
Framework", 2009). Many occurrences in a short text come first; of equals the newest. The mean length is fixed, so that the
order does not depend on what else is stored.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

import attrs

from session_manager.as_dict import AsDict
from session_manager.history.shapes import texts_of
from session_manager.history.text import Data, plain_text
from session_manager.model.message import Message
from session_manager.model.roles import shown_kind
from session_manager.threads import giving_way
from session_manager.values import Value

__all__ = ["WALK", "Best", "SearchHit", "best", "case_fold", "merged", "most_for_each", "score_of", "searched_text"]

#: The number of the rules by which `searched_text` reads a message. Whoever changes them raises it, for indexes keep what was
#: read by older ones.
WALK: Final = 2

_SATURATION = 1.2
_LENGTH_WEIGHT = 0.75
_MEAN_LENGTH = 200
_CONTEXT = 40
_MARK = "**"


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SearchHit(Value, AsDict):
    """A message that contains the searched text."""

    #: The session.
    key: str
    #: The message's position in it; provisional until it is saved.
    position: int
    #: The message's role; `None` for an item that has none.
    role: str | None = attrs.field(repr=lambda role: repr(role) if role is None else shown_kind(role, None))
    #: When the message was written: aware, UTC.
    created_at: datetime
    #: The first match between ``**`` and ``**``, with up to 40 characters around it; ``…`` where the text goes on.
    snippet: str = attrs.field(repr=lambda text: f"<{len(text)} characters>")
    #: How good it is, from 0 to 1.
    score: float


def case_fold(text: str) -> str:
    """Return a text for comparison without case; each character becomes one character.

    Of all of Unicode only two letters would not: a dotted capital I (two), and a final sigma (by what follows).

    >>> case_fold("ΟΔΟΣ İ Straße")
    'οδοσ i straße'
    """
    return text.replace("\u0130", "i").lower().replace("\u03c2", "\u03c3")


def searched_text(message: Message) -> str:
    """Return the searchable text of a message, a line for each of its parts. The top of the module says what is searched.

    >>> searched_text(Message("user", [{"type": "text", "text": "And in Lisbon?"}]))
    'And in Lisbon?'
    """
    text = message._text
    if text is None:
        text = plain_text(message._object)
    return "\n".join(_searched(message)) if text is None else text


def _searched(message: Message) -> Iterator[str]:
    for part in texts_of(message):
        if isinstance(part, str):
            yield part
        elif isinstance(part, Data):
            yield from part.strings()


def score_of(count: int, length: int) -> float:
    """Return how good a message is, by how often a text is in it, and its length in characters."""
    return count / (count + _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * length / _MEAN_LENGTH))


def most_for_each(score: float) -> float:
    """Return how many characters a message has at most for each occurrence of a text, if it has at least a score; more than 0."""
    return (1 / score - 1) * _MEAN_LENGTH / (_SATURATION * _LENGTH_WEIGHT)


def best(text: str, messages: Iterable[tuple[str, Message]], limit: int) -> list[SearchHit]:
    """Return hits for the messages that contain a text, best first.

    :param text: the searched text; not empty.
    :param messages: each with its session's key; it has a position.
    :param limit: how many at most.
    """
    found = Best(text, limit)
    for key, message in giving_way(messages):
        found.add(key, message)
    return found.hits()


#: In the order in which they come: score, time (both negative), key, position, place of the match; then a number of its own, so
#: that nothing behind it is compared; message and text.
_Found = tuple[float, float, str, int, int, int, Message, str]


class Best:
    """The best messages for a text, among those that were added. One thread uses it.

    :param text: the searched text; not empty.
    :param limit: how many at most.
    """

    def __init__(self, text: str, limit: int) -> None:
        self._text = text
        self._needle = case_fold(text)
        self._limit = limit
        self._added = 0
        self._found: list[_Found] = []
        #: A message of a lower score is not among the best.
        self.least = 0.0

    def add(self, key: str, message: Message) -> None:
        """Add a message that has a position, if it contains the text."""
        text = searched_text(message)
        folded = case_fold(text)
        place = folded.find(self._needle)
        if place < 0:
            return
        score = score_of(folded.count(self._needle, place), len(text))
        if score < self.least:
            return
        assert message.position is not None
        self._added += 1
        time = message.created_at.timestamp()
        self._found.append((-score, -time, key, message.position, place, self._added, message, text))
        if len(self._found) >= 2 * self._limit:
            self._leave_out()

    def _leave_out(self) -> None:
        self._found = heapq.nsmallest(self._limit, self._found)
        if self._found and len(self._found) == self._limit:
            self.least = -self._found[-1][0]

    def hits(self) -> list[SearchHit]:
        """Return a hit for each of them, best first."""
        self._leave_out()
        return [_hit(len(self._text), *one) for one in self._found]


def _hit(
    length: int, score: float, _: float, key: str, position: int, place: int, __: int, message: Message, text: str
) -> SearchHit:
    end = place + length
    start, stop = max(0, place - _CONTEXT), min(len(text), end + _CONTEXT)
    before, after = "…" * (start > 0) + text[start:place], text[end:stop] + "…" * (stop < len(text))
    return SearchHit(
        key=key,
        position=position,
        role=message.role,
        created_at=message.created_at,
        snippet=f"{before}{_MARK}{text[place:end]}{_MARK}{after}",
        score=-score,
    )


def merged(hits: Iterable[SearchHit], limit: int) -> list[SearchHit]:
    """Return the best of some hits, best first."""
    return heapq.nsmallest(
        limit, hits, key=lambda hit: (-hit.score, -hit.created_at.timestamp(), hit.key, hit.position)
    )
