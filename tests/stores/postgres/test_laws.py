"""The state machine on PostgreSQL, and the store in lock-step with the one in RAM."""

from __future__ import annotations

import pytest
from hypothesis import settings

from session_manager.testing import SessionMachine
from tests.support.agreement import STORES, Agreement
from tests.support.postgres import Place, needs_driver, shared_url

needs_driver()

pytestmark = pytest.mark.long

some = settings(max_examples=max(settings().max_examples // 6, 3), stateful_step_count=40)


class Machine(SessionMachine):
    archive = True

    def __init__(self):
        super().__init__()
        self.place = Place(shared_url())

    def open_store(self):
        return self.place.open()

    def teardown(self):
        super().teardown()
        self.place.remove()


class Pair(Agreement):
    """The store in RAM, and the one on a server."""

    def __init__(self):
        self.storages = []
        self.stores = {"memory": STORES["memory"], "postgres": self.new_schema}
        super().__init__()

    def new_schema(self, _):
        self.storages.append(Place(shared_url()))
        return self.storages[-1].open

    def teardown(self):
        super().teardown()
        for one in self.storages:
            one.remove()


TestMachine = Machine.TestCase
TestMachine.settings = some
TestAgreement = Pair.TestCase
TestAgreement.settings = some
