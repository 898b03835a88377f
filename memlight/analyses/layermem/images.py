"""The scores of single images as ``layermem/samples.csv`` has them, back in arrays by split. No torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.storage.tables import Table

NUMBERS = ("align_f", "align_g", "score", "log_norm_f", "log_norm_g", "density_f", "density_g")
"""What is known of an image in a layer."""


class SplitImages(NamedTuple):
    """The images of one split.

    Attributes:
        ids: ``(N,)`` int64, ascending.
        labels: ``(N,)`` int64; -1 where there is none.
        numbers: name of a number -> ``(N, L)``, layers in execution order; those that the table has.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    numbers: dict[str, NDArray[np.float64]]


def images_by_split(samples: Table) -> tuple[list[str], dict[str, SplitImages]]:
    """The layers in execution order, and the images of every split.

    Args:
        samples: columns ``LAYERMEM_SAMPLES``.

    Raises:
        ValueError: the layers of a split have other images.
    """
    layers = list(dict.fromkeys(samples["layer"].tolist()))
    place = {layer: number for number, layer in enumerate(layers)}
    depth = np.array([place[layer] for layer in samples["layer"].tolist()], dtype=np.int64)
    found = {}
    for split in dict.fromkeys(samples["split"].tolist()):
        of_split = np.flatnonzero(samples["split"] == split)
        rows = of_split[np.lexsort((samples["id"][of_split], depth[of_split]))].reshape(len(layers), -1)
        ids = samples["id"][rows]
        if (ids != ids[0]).any() or not (np.diff(ids[0]) > 0).all():
            raise ValueError(f"the layers of the {split} split have other images")
        numbers = {name: samples[name][rows].T for name in NUMBERS if name in samples}
        found[split] = SplitImages(ids[0], samples["label"][rows[0]], numbers)
    return layers, found
