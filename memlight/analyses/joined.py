"""``--join``: scores of others beside the scores of an analysis, for layermem, unitmem and images alike."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from memlight import dist
from memlight.analyses.chart_joined import joined_by_layer
from memlight.analyses.columns_joined import joined_headline
from memlight.data.joining import JoinedScores, join_scores
from memlight.data.score_files import ScoreFile
from memlight.data.splits import Ids
from memlight.display.pictures import channels_last, image_grid
from memlight.runs.log import AnalysisLog
from memlight.stats.correlations import Floats, spearman_family
from memlight.storage.tables import Table

if TYPE_CHECKING:
    from memlight.data.images import ImageDataModule
    from memlight.runs.opened import OpenedRun

ALL_LAYERS = "all layers"
"""In the column ``layer``: the units of all of them together."""

PICTURED = 20
"""Images in a picture."""


class Measured(NamedTuple):
    """What an analysis knows of the images of one split.

    Attributes:
        split: the split that the images are of, such as candidate or external.
        ids: ``(N,)``.
        scores: ``(N, L)`` a column for each layer, in execution order.
        what: what the scores are, for axes and captions, such as LayerMem.
    """

    split: str
    ids: Ids
    scores: Floats
    what: str


def joined_with(opened: "OpenedRun", file: ScoreFile | None, split: str) -> JoinedScores | None:
    """The scores of a file by image, once images are read; None without a file.

    Args:
        opened: the run.
        file: read before anything took long.
        split: whose images must have scores.

    Raises:
        UserError: they do not fit the images.
    """
    if file is None:
        return None
    joined = join_scores(file, opened.data.source, opened.data.names)
    joined.require(split, opened.split.ids(split))
    return joined


def joined_table(
    layers: Sequence[str], measured: Measured, joined: JoinedScores, control: Measured | None, seed: int
) -> Table:
    """The rank correlation of every layer with every score of others: columns ``JOINED``.

    Args:
        layers: names of the L columns of scores.
        measured: the images that the encoder was trained on.
        joined: scores of others.
        control: images that it was not trained on; None where there are none.
        seed: of the relabellings.
    """
    found = spearman_family(measured.scores, joined.of(measured.ids), seed=seed)
    beside = np.full_like(found.value, np.nan)
    beside_n = np.zeros_like(found.n)
    if control is not None:
        among = spearman_family(control.scores, joined.of(control.ids), permutations=0)
        beside, beside_n = among.value, among.n
    scores = len(joined.names)
    return {
        "layer": np.tile(np.array(layers, dtype=np.str_), scores),
        "depth": np.tile(np.arange(len(layers)), scores),
        "score": np.repeat(np.array(joined.names, dtype=np.str_), len(layers)),
        "spearman": found.value.ravel(),
        "spearman_low": found.low.ravel(),
        "spearman_high": found.high.ravel(),
        "p_adjusted": found.p_adjusted.ravel(),
        "n": found.n.ravel(),
        "control": beside.ravel(),
        "n_control": beside_n.ravel(),
    }


def write_joined(
    layers: Sequence[str],
    measured: Measured,
    joined: JoinedScores,
    control: Measured | None,
    data: "ImageDataModule",
    log: AnalysisLog,
) -> None:
    """Write table, chart and pictures of what was joined; arguments as for `joined_table`, rank 0 alone draws.

    Args:
        layers: names of the L columns of scores.
        measured: the images that the encoder was trained on.
        joined: scores of others.
        control: images that it was not trained on; None where there are none.
        data: the images.
        log: where the results go.
    """
    if dist.rank() > 0:
        return
    table = joined_table(layers, measured, joined, control, data.seed)
    log.table("joined", table)
    log.headline({"joined_file": joined.file, "joined_words": joined.words})
    log.headline(joined_headline(table))
    last, first = measured.scores[:, -1], joined.of(measured.ids)[:, 0]
    caption = (
        f"Left: rank correlation of {measured.what} with the scores of {joined.file}; bars are 95 % intervals, each by "
        f"itself. Right: every image of the {measured.split} split in the last row ({layers[-1]}), with "
        "means of tenths of the images where there are enough."
    )
    figure = joined_by_layer(table, last, first, measured.what, joined.names[0])
    log.figure("joined", figure, caption)
    order = np.argsort(-np.where(np.isfinite(first), first, -np.inf), kind="stable")
    order = order[np.isfinite(first[order])]
    for name, which, rows in (("highest", "highest", order[:PICTURED]), ("lowest", "lowest", order[::-1][:PICTURED])):
        ids = measured.ids[rows]
        words = [f"{value:.3g}" for value in first[rows].tolist()]
        captions = data.names.captions(ids, map(str, ids.tolist()), words, [f"({v:.3g})" for v in last[rows].tolist()])
        title = f"The {measured.split} images with the {which} {joined.names[0]}"
        beside = f"{data.names.under_pictures}, {joined.names[0]}, and in brackets {measured.what} at {layers[-1]}."
        log.figure(
            f"joined_{name}",
            image_grid(channels_last(data.images_of(ids)), captions, title=title),
            f"{title}: {beside}",
        )
