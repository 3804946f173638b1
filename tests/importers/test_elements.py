"""Elements of a JSON array, one at a time: in pieces of any size, damaged, and cut off anywhere."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from session_manager.importers.elements import elements
from session_manager.testing.strategies import json_values
from tests.support.laws import examples as tries


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@given(
    st.lists(json_values(), max_size=5),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.sampled_from(["ascii", "utf-8"]),
)
@tries(50, many=1000)
def test_elements_come_back_in_pieces_of_any_size(
    values: list[Any], size: int, indent: int | None, encoding: str
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=encoding == "ascii")
    data = text.encode(errors="surrogatepass")
    found = list(elements(cut(data, size)))
    assert [json.loads(one.decode(errors="surrogatepass")) for _, one in found] == json.loads(text)
    lines = data.split(b"\n")
    for line, one in found:
        assert one.split(b"\n")[0] in lines[line - 1]


@given(st.lists(json_values(), max_size=5), st.integers(1, 40), st.integers(0, 10**6))
@tries(50, many=1000)
def test_what_is_before_a_cut_comes_whole(values: list[Any], size: int, place: int) -> None:
    data = json.dumps(values).encode()
    whole = [one for _, one in elements([data])]
    found = [one for _, one in elements(cut(data[: place % (len(data) + 1)], size))]
    assert found[:-1] == whole[: max(0, len(found) - 1)]
    assert not found or whole[len(found) - 1].startswith(found[-1])


@given(st.binary(max_size=60), st.integers(1, 9))
@tries(50, many=1000)
def test_any_bytes_are_read(data: bytes, size: int) -> None:
    list(elements(cut(b"[" + data, size)))


def test_an_element_that_is_no_json_disturbs_no_other() -> None:
    data = b'[1, {nonsense: [}], "x", ]'
    assert [one for _, one in elements([data])] == [b"1", b"{nonsense: [}]", b'"x"']


def test_ram_does_not_grow_with_the_array() -> None:
    peaks = []
    for count in (200, 2_000):
        element = json.dumps({"text": "x" * 2_000, "more": [{"a": {}}]}).encode()
        pieces = (b", " + element if index else b"[" + element for index in range(count))
        tracemalloc.start()
        assert sum(1 for _ in elements(pieces)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 10_000
