"""The scores of single images that `analyze.py layermem` left, for the questions that are asked of them afterwards."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.layermem.columns import LAYERMEM_SAMPLES
from memlight.analyses.layermem.images import images_by_split
from memlight.data.splits import Ids
from memlight.display.parts import consistent
from memlight.errors import UserError
from memlight.stats.power import USUAL_VIEWS
from memlight.storage.run_files import Summary
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SplitScores:
    """The scored images of one split.

    Attributes:
        ids: ``(N,)`` ascending.
        labels: ``(N,)``; -1 where there is none.
        scores: ``(N, L)``, a column for each layer.
    """

    ids: Ids
    labels: Ids
    scores: Floats


@dataclass(frozen=True)
class Scores:
    """One result of layermem, image by image.

    Attributes:
        layers: in execution order.
        splits: those that were scored, by name.
        checkpoints: hashes of the encoders by role.
        views: of each image.
        options: what else the command line says of the scores, by flag.
    """

    layers: list[str]
    splits: dict[str, SplitScores]
    checkpoints: dict[str, str]
    views: int
    options: dict[str, str]

    def without(self, images: Mapping[str, NDArray[np.bool_]]) -> "Scores":
        """The same without some images of each split."""
        kept = {}
        for split, of in self.splits.items():
            rows = ~images[split]
            kept[split] = SplitScores(of.ids[rows], of.labels[rows], of.scores[rows])
        return replace(self, splits=kept)


def read_scores(run: RunDir, tag: str | None = None) -> Scores:
    """The scores of a result of layermem.

    Args:
        run: whose result.
        tag: of the result; None for the plain one.

    Raises:
        UserError: there is no such result, or it was edited.
    """
    analysis = run.analysis("layermem", tag)
    file = analysis.table("samples")
    if not (file.is_file() and analysis.summary.is_file()):
        again = f"make it with `python analyze.py layermem --run {run.root}`"
        raise UserError("run", run.root, f"no {file}, whose scores this command reads", again)
    table, summary = read_table(file, LAYERMEM_SAMPLES), read_json(analysis.summary, Summary)
    with consistent(file):
        layers, images = images_by_split(table)
        splits = {split: SplitScores(of.ids, of.labels, of.numbers["score"]) for split, of in images.items()}
        flags = _flags(summary["command_line"])
        views = int(flags.pop("--views", USUAL_VIEWS))
        return Scores(layers, splits, summary["checkpoints"], views, flags)


def comparable_results(run: RunDir) -> Iterator[Scores]:
    """The plain result of layermem, then others that differ from it in their views alone, as ``--views`` gives them.

    Raises:
        UserError: there is no plain result, or one of them was edited.
    """
    plain = read_scores(run)
    yield plain
    for analysis in run.analyses("layermem"):
        if analysis.tag is not None and read_json(analysis.summary, Summary)["checkpoints"] == plain.checkpoints:
            other = read_scores(run, analysis.tag)
            if (other.layers, other.options) == (plain.layers, plain.options):
                yield other


def _flags(command_line: str) -> dict[str, str]:
    """What a command line says of the scores, by flag: the number of views, and what is compared how."""
    words = [part for word in shlex.split(command_line) for part in word.split("=", 1)]
    named = {word.replace("_", "-"): after for word, after in pairwise(words)}
    return {
        flag: named[flag] for flag in ("--views", "--distance", "--pairs", "--scale", "--view-set") if flag in named
    }
