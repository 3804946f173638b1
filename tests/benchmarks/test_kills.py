"""Workers of libraries on a server that are killed: ours keeps what it has acknowledged, and a library that does not is seen."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.server import Server
from benchmarks.server_peers import kills
from benchmarks.server_peers.conversation import Conversation
from tests.support.postgres import shared_url

pytestmark = pytest.mark.once


class Forgetful(Conversation):
    """Keeps its messages where no other worker finds them, and adds a question that is there."""

    def __init__(self, url, key):
        self.texts = []

    def begin(self, texts):
        self.texts = list(texts)

    def read(self):
        return list(self.texts)

    def add(self, question, answer):
        self.texts += [question, answer]


def test_a_delivery_that_was_answered_is_answered_as_before():
    one = Forgetful("", "")
    assert one.answer("question 1", lambda shown: f"answer after {shown}") == "answer after 0"
    assert one.answer("question 2", lambda shown: f"answer after {shown}") == "answer after 2"
    assert one.answer("question 1", lambda shown: f"answer after {shown}") == "answer after 0"
    assert len(one.read()) == 4


@pytest.mark.long
def test_ours_keeps_what_it_has_acknowledged():
    given = argparse.Namespace(seed=1, workers=2, chats=2, deliveries=20, kills=1, thinking=0.01)
    row = kills.run(Server(shared_url()), "session_manager shared", given)
    assert row[:6] == ("session_manager shared", "20", "0", "0", "0", "0")
