"""What tests need not do again and again: draw charts, read the digits, relabel often, fit probes to the end.

Other tests look at each of these in full: those of every ``chart.py``, `tests/data/test_named.py`,
`tests/analyses/unitmem/test_contrast.py` and `tests/metrics/test_probe.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from inspect import isfunction
from typing import Any
from unittest.mock import patch

from memlight.analyses.probe import accuracy
from memlight.analyses.unitmem import study as unitmem_study
from memlight.analyses.unitmem.contrast import unit_contrasts
from memlight.analyses.unitmem.excess import excess_over_other
from memlight.data import datasets
from memlight.data.sources import ImageSource
from memlight.metrics.probe import linear_probe
from memlight.runs.log import AnalysisLog

RELABELLINGS = 50
PROBE_STEPS = 20
short_probe = partial(linear_probe, max_steps=PROBE_STEPS)
_opener = datasets._opener


@cache
def _digits(train: bool, size: Any) -> ImageSource:
    return _opener("digits", None, 4.0, "raise", False)(train, size)


def _opener_once(dataset: str, *arguments: Any) -> Callable[[bool, Any], ImageSource]:
    opened = _opener(dataset, *arguments)
    return _digits if dataset == "digits" else opened


@contextmanager
def digits_once() -> Iterator[None]:
    """Digits are read and enlarged once in a process, not by every training and analysis; nobody writes to them."""
    with patch.object(datasets, "_opener", _opener_once):
        yield


@contextmanager
def few_relabellings() -> Iterator[None]:
    """The claims about a pair's units come from fewer relabellings."""
    with (
        patch.object(unitmem_study, "unit_contrasts", partial(unit_contrasts, draws=RELABELLINGS)),
        patch.object(unitmem_study, "excess_over_other", partial(excess_over_other, draws=RELABELLINGS)),
    ):
        yield


@contextmanager
def short_probes() -> Iterator[None]:
    """Linear probes stop early: what is compared goes through the same steps."""
    with patch.object(accuracy, "linear_probe", short_probe):
        yield


@contextmanager
def without_charts(*analyses: str) -> Iterator[None]:
    """These analyses neither make their charts nor draw any figure."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(AnalysisLog, "figure"))
        for analysis in analyses:
            name = f"memlight.analyses.{analysis}.study"
            if not find_spec(name):
                continue
            study = import_module(name)
            for attribute, value in list(vars(study).items()):
                if isfunction(value) and value.__module__.endswith(".chart"):
                    stack.enter_context(patch.object(study, attribute, lambda *_, **__: ()))
        yield
