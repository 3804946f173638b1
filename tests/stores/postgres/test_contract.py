"""The contract on PostgreSQL."""

from __future__ import annotations

import pytest

from session_manager.testing import StoreContract
from tests.support.postgres import needs_driver

needs_driver()


@pytest.mark.long
class TestPostgresStore(StoreContract):
    @pytest.fixture
    def open_store(self, place):
        return place.open

    @pytest.fixture
    def damage(self, place):
        def overwrite(key):
            place.run("UPDATE {s}.sessions SET checksum = '' WHERE key = %b", key.encode())
            place.run("UPDATE {s}.messages SET checksum = checksum + 1 WHERE session = 1")

        return overwrite
