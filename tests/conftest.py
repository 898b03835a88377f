import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two workers share two cores

from tests.tiny_pair import TinyPair, train_pair

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the suite in the background ignores Ctrl-C on its behalf, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def plain_pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    """A trained pair. Shared by all tests: read it, and change `TinyPair.copy` of it."""
    return train_pair(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="session")
def observed_pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    """The same training with both measuring callbacks."""
    return train_pair(tmp_path_factory.mktemp("observed") / "run", observed=True)


@pytest.fixture
def run(plain_pair: TinyPair, tmp_path: Path) -> Path:
    """A run directory of one's own, with a trained pair."""
    return plain_pair.copy(tmp_path / "run")
