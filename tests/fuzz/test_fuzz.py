"""Damaged files of every format end in one line, at once, and change nothing."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memlight.errors import UserError
from tests.fuzz import campaign
from tests.fuzz.campaign import fuzz
from tests.fuzz.targets import Target

ONCE_WRONG = (
    "features/whole/ids-00000.npy:flip:2442130264",
    "runs/pair/candidate/metrics.csv:cell_3:314648969",
)
"""Inputs that were not refused in one line once; whoever finds one adds its `campaign.Failure.case`."""


def test_a_few_inputs_and_those_that_were_wrong_once() -> None:
    tried, failures = fuzz(60, seed=0, first=ONCE_WRONG)
    assert tried == 60 + len(ONCE_WRONG)
    assert not failures


@pytest.mark.slow
def test_two_thousand_inputs() -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    tried, failures = fuzz(2000, seed)
    assert tried == 2000
    assert not failures, f"seed {seed}"


def _leave(root: Path) -> None:
    (root / "other").touch()


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda root: time.sleep(60), "hangs"),
        (lambda root: os.kill(os.getpid(), signal.SIGKILL), "ends the process (-9)"),
        (lambda root: {}["key"], "KeyError"),
        (_leave, "changed"),
        (lambda root: int("x"), "ValueError"),
    ],
)
def test_the_watch_sees_what_goes_wrong(
    read: Callable[[Path], object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path) -> None:
        raise UserError("run", root, "damaged")

    monkeypatch.setattr(campaign, "HANG_SECONDS", 0.3)
    (tmp_path / "file").write_bytes(b"whole")
    mutations = {"none": lambda data, rng: data + b"x"}
    targets = {"bad": Target("file", mutations, read), "good": Target("file", mutations, refuse)}
    (failure,) = campaign._watched(tmp_path, targets, ["good:none:1", "bad:none:7", "good:none:2"])
    assert failure.case == "bad:none:7" and words in failure.what
