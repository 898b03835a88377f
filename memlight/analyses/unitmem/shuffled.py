"""Images that are exchangeable by construction: each view of an image is a view of another one."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from memlight.batch import ImageBatch, ViewMaker


def shuffled_views(
    make_views: ViewMaker,
    images_of: Callable[[NDArray[np.int64]], Tensor],
    ids: Sequence[int] | NDArray[np.int64],
    seed: int = 0,
) -> ViewMaker:
    """Give every view of an image to another image of the set, drawn anew for each view.

    A unit's mu then averages over views of different images and belongs to none of them, so that no image can be
    special: UnitMem measured with these views exceeds its null by chance alone. Each view of each image is used
    exactly once, and what an image gets does not depend on the batch it comes in.

    Args:
        make_views: makes the views of a batch.
        images_of: data set ids -> ``uint8 (B, 3, H, W)``.
        ids: all images of the set, without repetition.
        seed: of the permutations, one for each view.
    """
    pool = np.sort(np.asarray(ids, dtype=np.int64))

    def make(batch: ImageBatch, view: int) -> Tensor:
        order = np.random.default_rng([seed, view]).permutation(len(pool))
        others = pool[order[np.searchsorted(pool, batch.ids.cpu().numpy())]]
        device = batch.images.device
        return make_views(
            batch._replace(images=images_of(others).to(device), ids=batch.ids.new_tensor(others.tolist())), view
        )

    return make
