from tests.support.postgres import place  # noqa: F401 - a fixture
