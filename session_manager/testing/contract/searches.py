"""Search: the same hits, in the same order, as the default implementation finds in what is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import strategies as st

from session_manager.history.search import SearchHit, best
from session_manager.model.changes import Append, Clear, Edit, Remove, Replace, Truncate
from session_manager.model.message import Message
from session_manager.stores.contract import Store
from session_manager.testing.contract.base import ContractBase, Storage, for_all
from session_manager.testing.contract.chats import EPOCH, KEY, Chat, Step, said, steps
from session_manager.testing.strategies import nasty_text

__all__ = ["SearchContract"]

_TEXTS = (
    "", " ", "a", "A", "aa", "aaa a", "ab", "a b", "a  b", "a\tb", "a\nb", "b a", "banana", "Banana BANANA", "ban" * 90 + "ana",
    "The quick brown fox", "quick-brown", "quick.brown", "quick_brown", "quickbrown", 'say "hi"', "it's", "''", '"', '""',
    "NOT", "a AND b", "a OR b", "NEAR(a b)", "a*", "*", "^a", "content:a", "-a", "+a", "(a)", "()", "a%b", "100%", "_", "\\", "\\n",
    "Straße", "STRASSE", "ÄÖÜ äöü", "caf\u00e9", "cafe\u0301", "ΟΔΟΣ οδος οδοσ", "İstanbul ISTANBUL ıstanbul istanbul", "ǅ ǆ Ǆ",
    "漢", "漢字", "漢字かな", "日本語の文章です", "かなカナ", "한국어", "ภาษาไทย", "עברית", "مرحبا", "👩‍👩‍👧‍👦🇩🇪", "😀😀",
    "a\x00b", "\x00", "\u2028", "\u200b", "\ufeff", "\ud800", "a\udfff", "0123456789", "3.14", "<b>bold</b>", "…", "**", "a**b**c",
)  # fmt: skip

_QUERIES = (
    *(text for text in _TEXTS if text),
    "b", "an", "ana", "nan", "BAN", "quick", "k b", "k-b", "fox", "x" * 400, 'hi"', '"hi', "AND", "OR", "a AND", "NEAR(", "a)", "字",
    "語の文", "ß", "SS", "ÄÖ", "äö", "\u0301", "e", "É", "é", "σ", "ς", "Σ", "İ", "i", "I", "ı", "ǆ", "😀", "\u200d", "🇪", "国", " a", "a ",
)  # fmt: skip

_PARTS = (
    {
        "role": "user",
        "content": [{"type": "text", "text": "banana"}, {"type": "image_url", "image_url": {"url": "ana:"}}],
    },
    {"role": "assistant", "content": None, "tool_calls": [{"id": "banana", "function": {"arguments": "banana"}}]},
    {"role": "tool", "content": "banana", "tool_call_id": "a"},
    {"type": "function_call_output", "call_id": "banana", "output": "a banana"},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "banana?", "signature": "banana"}]},
    {"role": "user", "content": {"text": ["ban", "ana"], "other": "banana"}},
    {"type": "reasoning", "text": "banana", "summary": [{"text": "banana"}]},
    {"role": "banana", "content": 7, "name": "banana"},
)

#: Objects of messages, by provider and framework: each says "Lisbon" in a text, an argument or a result, and nothing else does.
#: "Porto" stands only where nobody searches: in types, ids, names of tools, signatures, encoded data.
_SHAPES: dict[str, dict[str, Any]] = {
    "OpenAI chat": {"role": "user", "name": "porto", "content": [{"type": "porto", "text": "Lisbon"}]},
    "OpenAI chat, a call": {
        "role": "assistant",
        "tool_calls": [{"id": "porto", "function": {"name": "porto", "arguments": '{"city": "L\\u0069sbon"}'}}],
    },
    "OpenAI chat, reasoning": {"role": "assistant", "content": None, "reasoning_content": "Lisbon", "model": "porto"},
    "OpenAI Responses, code": {
        "type": "code_interpreter_call",
        "id": "porto",
        "outputs": [{"type": "logs", "logs": "Lisbon"}],
    },
    "OpenAI Responses, a shell": {
        "type": "shell_call_output",
        "call_id": "porto",
        "output": [{"stdout": "", "stderr": "Lisbon"}],
    },
    "OpenAI Responses, reasoning": {"type": "reasoning", "encrypted_content": "porto", "summary": [{"text": "Lisbon"}]},
    "Anthropic": {"role": "assistant", "content": [{"type": "thinking", "thinking": "Lisbon", "signature": "porto"}]},
    "Anthropic, a call": {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "porto", "name": "porto", "input": {"cities": [{"id": "Lisbon"}]}}],
    },
    "Anthropic, a server's result": {
        "role": "assistant",
        "content": [{"type": "porto", "tool_use_id": "porto", "content": {"type": "porto", "stdout": "Lisbon"}}],
    },
    "Gemini": {"role": "model", "parts": [{"text": "Lisbon", "thoughtSignature": "porto"}]},
    "Gemini, a result": {
        "role": "user",
        "parts": [{"functionResponse": {"name": "porto", "response": {"type": "Lisbon"}}}],
    },
    "Bedrock, a result": {
        "role": "user",
        "content": [
            {"toolResult": {"toolUseId": "porto", "status": "porto", "content": [{"json": {"status": "Lisbon"}}]}}
        ],
    },
    "AI SDK": {
        "role": "tool",
        "content": [{"type": "tool-result", "toolCallId": "porto", "output": {"type": "text", "value": "Lisbon"}}],
    },
    "LlamaIndex": {"role": "user", "blocks": [{"block_type": "porto", "text": "Lisbon"}]},
    "Haystack": {"role": "tool", "meta": {"x": "porto"}, "content": [{"tool_call_result": {"result": "Lisbon"}}]},
    "LangChain": {"type": "human", "data": {"content": "Lisbon", "id": "porto", "response_metadata": {"x": "porto"}}},
    "an unknown shape": {"role": "user", "lines": [["Lisbon"]], "status": "porto"},
    "an unknown item": {"type": "porto", "report": {"text": "Lisbon"}},
    "any object": {"type": "session_manager.item", "item": {"type": "Lisbon"}},
}


def _corpus(store: Store) -> list[Chat]:
    """Write sessions with many texts, of which some are equal and equally old."""
    chats = [Chat(key, key) for key in ("telegram:42", "telegram:421", "Telegram:42", "slack:a%b", "漢字")]
    for number, text in enumerate(_TEXTS):
        one = said(text, seconds=number // 3)
        chats[number % 4].did(Append(at=EPOCH, messages=(one,)))
        chats[(number + 1) % 5].did(Append(at=EPOCH, messages=(one, said(f"{text} {text}", seconds=-number))))
    parts = tuple(Message.from_dict(part, created_at=EPOCH) for part in _PARTS)
    chats[4].did(Append(at=EPOCH, messages=parts))
    for chat in chats:
        chat.write(store)
    return chats


def _hits(text: str, chats: Iterable[Chat], limit: int = 20) -> list[SearchHit]:
    """Return what a search must find."""
    return best(text, ((chat.key, message) for chat in chats for message in chat.session.messages), limit)


class SearchContract(ContractBase):
    """`Store.search`."""

    @pytest.mark.parametrize("opened", ["as it was written", "again"])
    def test_a_search_finds_what_contains_the_text_best_first(self, storage: Storage, opened: str) -> None:
        chats = _corpus(storage.store)
        store = storage.reopen() if opened == "again" else storage.store
        for query in _QUERIES:
            assert store.search(query, limit=1000) == _hits(query, chats, 1000), repr(query)

    @pytest.mark.parametrize("opened", ["as it was written", "again"])
    def test_a_search_finds_what_is_said_in_every_shape(self, storage: Storage, opened: str) -> None:
        """Texts, reasoning, arguments and results are found; roles, types, ids, signatures and names of tools are not."""
        messages = tuple(Message.from_dict(shape, created_at=EPOCH) for shape in _SHAPES.values())
        Chat().did(Append(at=EPOCH, messages=messages)).write(storage.store)
        store = storage.reopen() if opened == "again" else storage.store
        for query in ("lisbon", "li"):
            found = {hit.position for hit in store.search(query, limit=100)}
            assert [shape for position, shape in enumerate(_SHAPES) if position not in found] == []
        assert store.search("porto") == []

    def test_a_search_finds_no_more_than_its_limit_and_these_are_the_best(self, store: Store) -> None:
        chats = _corpus(store)
        for limit in (1, 2, 3, 5, 20, 21):
            assert store.search("a", limit=limit) == _hits("a", chats, limit)
        assert store.search("a") == _hits("a", chats)

    def test_a_search_of_one_session_finds_only_its_messages(self, store: Store) -> None:
        chats = _corpus(store)
        for query in ("a", "ana", "漢", "banana"):
            for chat in chats:
                assert store.search(query, key=chat.key) == _hits(query, [chat])
                assert store.search(query, key=chat.key, skip=["x"]) == _hits(query, [chat])
                assert store.search(query, key=chat.key, skip=[chat.key]) == []
            assert store.search(query, key="telegram:4") == []

    def test_a_session_may_have_the_score_of_each_of_its_hits(self, storage: Storage) -> None:
        chats = _corpus(storage.store)
        for store in storage.now_and_reopened():
            for query in _QUERIES:
                for hit in _hits(query, chats, 1000):
                    assert store.may_score(hit.key, query, hit.score), (hit.key, query)

    @pytest.mark.parametrize(
        "prefix", ["telegram:", "telegram:42", "Tele", "t", "slack:a%", "slack:a_", "%", "_", "漢", "x"]
    )
    def test_a_search_under_a_prefix_finds_only_those_sessions_messages(self, store: Store, prefix: str) -> None:
        chats = _corpus(store)
        for query in ("a", "ana", "漢"):
            expected = _hits(query, (chat for chat in chats if chat.key.startswith(prefix)))
            assert store.search(query, prefix=prefix) == expected

    def test_skipped_sessions_are_left_out_and_do_not_count_for_the_limit(self, store: Store) -> None:
        chats = _corpus(store)
        for query in ("a", "ana", "漢"):
            for number in range(len(chats) + 1):
                skip = {chat.key for chat in chats[:number]}
                for prefix in ("", "telegram:"):
                    left = [chat for chat in chats[number:] if chat.key.startswith(prefix)]
                    assert store.search(query, prefix=prefix, skip=skip, limit=5) == _hits(query, left, 5)

    def test_of_equal_hits_the_newest_comes_first_then_by_key_and_position(self, store: Store) -> None:
        for key in ("b", "a"):
            messages = tuple(said("same", seconds=seconds) for seconds in (1, 3, 2, 3))
            Chat(key, key).did(Append(at=EPOCH, messages=messages)).write(store)
        found = [(hit.key, hit.position) for hit in store.search("same")]
        assert found == [("a", 1), ("a", 3), ("b", 1), ("b", 3), ("a", 2), ("b", 2), ("a", 0), ("b", 0)]

    def test_what_is_no_longer_stored_is_not_found(self, storage: Storage) -> None:
        chat, other = Chat(), Chat("other", "other").add("needle of another")
        other.write(storage.store)
        calls: list[Step] = [
            lambda _, at: Append(at=at, messages=tuple(said(f"needle {number}") for number in range(8))),
            lambda _, at: Edit(at=at, position=3, message=said("nothing")),
            lambda _, at: Edit(at=at, position=3, message=said("a needle again")),
            lambda _, at: Remove(at=at, position=7),
            lambda _, at: Truncate(at=at, start=2),
            lambda _, at: Replace(at=at, messages=(said("another needle"), said("hay"))),
            lambda _, at: Clear(at=at, generation="second"),
            lambda _, at: Append(at=at, messages=(said("the last needle"),)),
        ]
        for call in calls:
            chat.step(call).write(storage.store)
            for store in storage.now_and_reopened():
                assert store.search("needle") == _hits("needle", [chat, other])
                assert store.search("needle", key=KEY) == _hits("needle", [chat])
        storage.store.delete(KEY)
        for store in storage.now_and_reopened():
            assert store.search("needle") == _hits("needle", [other])

    def test_a_search_finds_what_the_default_finds_after_any_writes(self, storage: Storage) -> None:
        def check(chain: list[tuple[bool, list[Step]]], text: str, query: str, limit: int) -> None:
            chats = [Chat("a", "a"), Chat("ab", "b")]
            for chat in chats:
                storage.store.delete(chat.key)
            for second, some in chain:
                chat = chats[second]
                chat.did(Append(at=chat.tick(), messages=(said(text), said(text * 2))))
                chat.step(*some).write(storage.store)
            found = storage.store.search(query, limit=limit)
            assert found == _hits(query, chats, limit)
            assert storage.store.search(query, prefix="ab", limit=limit) == _hits(query, chats[1:], limit)
            for start in range(min(len(text), 4)):
                part = text[start : start + 3]
                assert storage.store.search(part, limit=100) == _hits(part, chats, 100)

        chain = st.lists(st.tuples(st.booleans(), st.lists(steps(), max_size=2)), max_size=3)
        words = st.text("ab \u6f22\u00c4\u00e4\"'%_*", max_size=8)
        query = st.one_of(st.text('abA \u6f22\u00e4"%_*', min_size=1, max_size=3), nasty_text(min_size=1, max_size=3))
        for_all(check, chain, words, query, st.integers(1, 5))
