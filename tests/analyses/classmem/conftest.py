from tests.data.conftest import tree  # noqa: F401 - fixtures
