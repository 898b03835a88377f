import fcntl
import os
import pickle
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two workers share two cores

from memlight.errors import FlagOf, UserError  # the rest is imported by workers only: xdist's controller runs no test

if TYPE_CHECKING:
    from tests.tiny_pair import TinyPair

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the suite in the background ignores Ctrl-C on its behalf, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of one file run in one worker, so that what a file's tests share is made once, not once in every worker."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def digits_are_read_once() -> Iterator[None]:
    from tests.quick import digits_once

    with digits_once():
        yield


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: "Callable[[Path], TinyPair]") -> "TinyPair":
    """A pair that the first worker trains; the others wait for it and read it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    done = folder / f"{name}.pickle"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder / name, ignore_errors=True)
            done.write_bytes(pickle.dumps(make(folder / name / "run")))
    pair: TinyPair = pickle.loads(done.read_bytes())
    return pair


@pytest.fixture(scope="session")
def plain_pair(tmp_path_factory: pytest.TempPathFactory) -> "TinyPair":
    """A trained pair. Shared by all tests: read it, and change `TinyPair.copy` of it."""
    from tests.tiny_pair import train_pair

    return made_once(tmp_path_factory, "plain", train_pair)


@pytest.fixture(scope="session")
def observed_pair(tmp_path_factory: pytest.TempPathFactory) -> "TinyPair":
    """The same training with both measuring callbacks."""
    from tests.tiny_pair import train_pair

    return made_once(tmp_path_factory, "observed", partial(train_pair, observed=True))


@pytest.fixture
def run(plain_pair: "TinyPair", tmp_path: Path) -> Path:
    """A run directory of one's own, with a trained pair."""
    return plain_pair.copy(tmp_path / "run")


@pytest.fixture(scope="session", autouse=True)
def home_stays_as_it_is(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Which encoders of one's own were named is noted for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data-home")))
        yield


@pytest.fixture(autouse=True)
def every_flag_in_a_message_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a main says names only flags that its parser has; commands in backticks are those of other parsers."""
    in_flags = UserError.in_flags

    def checked(self: UserError, flag_of: FlagOf) -> str:
        text = in_flags(self, flag_of)
        named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*[\w]", re.sub(r"`[^`]*`", "", text)))
        assert self.flags is None or named <= set(self.flags), (sorted(named - set(self.flags)), text)
        return text

    monkeypatch.setattr(UserError, "in_flags", checked)
