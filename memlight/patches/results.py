"""What a search found, on the disk: the arrays of neighbours, and which stores they are rows of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.arrays import DAMAGED, read_npz
from memlight.storage.run_files import SearchFile
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_json, write_arrays, write_json


@dataclass(frozen=True)
class PatchResults:
    """The nearest patches of one search.

    Attributes:
        distances: ``(Q, k)`` float32.
        indices: ``(Q, k)`` int64, rows of the index.
        about: queries and index (their directories), metric, and what else the search wrote down.
    """

    distances: NDArray[np.float32]
    indices: NDArray[np.int64]
    about: Mapping[str, Any]

    @property
    def queries(self) -> str:
        """Where the store of the queries was."""
        return str(self.about["queries"])

    @property
    def index(self) -> str:
        """Where the store that was searched was."""
        return str(self.about["index"])

    @property
    def metric(self) -> str:
        """What the distances are."""
        return str(self.about["metric"])


def write_results(analysis: AnalysisDir, results: PatchResults) -> None:
    """Write neighbours beside the tables of an analysis."""
    write_arrays(analysis.neighbours, distances=results.distances, indices=results.indices)
    write_json(analysis.search, dict(results.about))


def read_results(run: str | Path) -> PatchResults:
    """The neighbours that `analyze.py patches search --out RUN` found.

    Raises:
        UserError: there are none.
    """
    analysis = RunDir(Path(run)).analysis("patches")
    try:
        arrays = read_npz(analysis.neighbours, ("distances", "indices"))
    except DAMAGED as error:
        way_out = f"`analyze.py patches search --out {run}` makes one"
        raise UserError("run", run, f"no patch search in it ({error})", way_out) from error
    about = read_json(analysis.search, SearchFile)
    shape = about["query_patches"], about["k"]
    for name, kinds in (("distances", "f"), ("indices", "iu")):
        if arrays[name].shape != shape or arrays[name].dtype.kind not in kinds:
            why = f"{analysis.neighbours}: {name} are not those of {shape[0]} patches and {shape[1]} neighbours"
            raise UserError("run", None, why, "search again")
    return PatchResults(arrays["distances"], arrays["indices"], about)
