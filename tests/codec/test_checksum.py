"""The damaged byte that a CRC tells of, and whole messages among damaged bytes."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.codec.checksum import damaged_byte
from session_manager.codec.fragments import fields_in, messages_in
from tests.support.laws import examples


@given(st.binary(min_size=1, max_size=300), st.data())
@examples(50)
def test_one_damaged_byte_is_found_wherever_it_is(data, draw):
    place = draw.draw(st.integers(0, len(data) - 1))
    mask = draw.draw(st.integers(1, 255))
    damaged = bytearray(data)
    damaged[place] ^= mask
    assert damaged_byte(bytes(damaged), zlib.crc32(data)) == place


def test_whole_data_and_much_damage_name_no_byte():
    data = random.Random(1).randbytes(1000)
    assert damaged_byte(data, zlib.crc32(data)) is None
    assert damaged_byte(bytes(1000), zlib.crc32(data)) is None


@pytest.mark.parametrize("between", [b",\n", b",", b"\0\0", b""])
def test_messages_are_found_whatever_lies_between_them(between):
    line = b'{"position":%d,"created_at":"2026-01-01T00:00:00Z","message":{"role":"user","position":{"position":1}}}'
    data = between.join([line % 0, b'{"position":1,"created', line % 2, line % 3])
    assert [one.value.position for one in messages_in(data, 0, len(data))] == [0, 2, 3]


def test_a_huge_number_in_a_message_does_not_hide_it():
    line = b'{"position":0,"created_at":"2026-01-01T00:00:00Z","message":{"role":"user","n":%b}}' % (b"9" * 1000)
    assert len(messages_in(line, 0, len(line))) == 1


def test_fields_around_a_damaged_one_are_read():
    data = b'{"key":"k","revision":?,"summary":"s","metadata":{"count":1,"x":[2]},"count":9,"header_crc32":"'
    names = ("key", "revision", "summary", "metadata", "count", "header_crc32")
    assert fields_in(data, names) == {"key": "k", "summary": "s", "metadata": {"count": 1, "x": [2]}, "count": 9}
