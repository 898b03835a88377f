import pytest

from memlight.storage.rundir import RunDir
from tests.tiny_pair import TinyPair


@pytest.fixture(scope="module")
def trained(plain_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A pair for the analyses of one file of tests, each under a tag of its own."""
    return RunDir(plain_pair.copy(tmp_path_factory.mktemp("trained") / "run"))


@pytest.fixture(scope="module")
def observed(observed_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same with what the callbacks measured at `KEPT`."""
    return RunDir(observed_pair.copy(tmp_path_factory.mktemp("observed") / "run"))
