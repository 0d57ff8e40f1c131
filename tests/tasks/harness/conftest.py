import pytest

from runner.tasks.harness import index as harness_index
from tests.tasks.harness.small_index import SMALL_INDEX


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's cache folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def builds(cache, monkeypatch):
    """A small index in place of the harness's; returns a list that grows each time it is built."""
    calls = []

    def build():
        calls.append(1)
        return SMALL_INDEX

    monkeypatch.setattr(harness_index, "build_index", build)
    return calls
