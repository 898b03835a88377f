"""Thumbnails of the images that drive units: the page of a run is read where the data set is not."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from memlight import dist
from memlight.analyses.unitmem.browser.thumbnails import (
    BYTES,
    MOST_IMAGES,
    Thumbnails,
    driving_images,
    driving_rows,
    encode,
    side_within,
)
from memlight.analyses.unitmem.columns import UNITMEM_TOP
from memlight.data.images import ImageDataModule
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import read_table

AT_ONCE = 256
"""Images in memory."""


def write_thumbnails(data: ImageDataModule, log: AnalysisLog, *, progress: bool = True) -> None:
    """Write ``thumbnails.npz`` of the images that drive units in ``top.csv``, reading each of them once.

    Rank 0 does it. All of them take at most `BYTES`: each gets an equal share, which decides its side and quality.

    Args:
        data: where the images are.
        log: of an analysis that has written the table ``top``.
        progress: show a bar.
    """
    if dist.rank() != 0:
        return
    driving = driving_images(driving_rows(read_table(log.partial.table("top"), UNITMEM_TOP)))
    ids = np.sort(driving[:MOST_IMAGES])
    share = BYTES // max(1, len(ids))
    side = side_within(share)
    webp: list[bytes] = []
    with (
        ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool,
        tqdm(total=len(ids), desc="thumbnails", unit="image", disable=not progress) as bar,
    ):
        for start in range(0, len(ids), AT_ONCE):
            images = data.images_of(ids[start : start + AT_ONCE]).permute(0, 2, 3, 1).numpy()
            webp += pool.map(lambda image: encode(image, side, share), images)
            bar.update(len(images))
    Thumbnails(ids, webp).write(log.partial.thumbnails)
