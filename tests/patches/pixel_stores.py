"""Stores whose embeddings are the patches' own pixels, so that a search has known answers without an encoder."""

from pathlib import Path

import numpy as np
from PIL import Image

from memlight.patches.grid import patch_boxes
from memlight.patches.store import PatchStore, PatchWriter, names_sha256, open_store

GRID, SIDE = 2, 8


def save_images(folder: Path, count: int, seed: int) -> Path:
    """Noise, as PNG files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{number:03}.png")
    return folder


def pixel_store(root: Path, images: Path, shard_size: int = 5) -> PatchStore:
    """A store of a folder's images."""
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    rows = []
    for name in names:
        pixels = np.asarray(Image.open(images / name))
        for top, left, bottom, right in patch_boxes(SIDE, SIDE, GRID):
            rows.append(pixels[top:bottom, left:right].ravel() / np.float32(255))
    made = PatchWriter(
        root,
        {"extractor": "pixels", "mode": "crop", "weights_sha256": None, "picture_size": [SIDE, SIDE]},
        {"images": len(names), "names_sha256": names_sha256(names), "sizes_sha256": images.name},
        {"torch": "0"},
        images=str(images),
        names=names,
        grid=GRID,
        dim=rows[0].size,
        dtype="float32",
        shard_size=shard_size,
    )
    made.begin()
    values = np.stack(rows)
    for shard in made.layout.shards:
        listed = made.layout.images_of(shard)
        made.write(shard, values[listed.start * GRID**2 : listed.stop * GRID**2])
    return open_store(root)
