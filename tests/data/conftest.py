import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LAYOUT = {"train/cat": 5, "train/dog": 4, "test/cat": 2, "test/dog": 3}
"""Directory -> number of images."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder of 9 training and 5 test images of 6 x 8 pixels in two classes; no two images are alike."""
    root = tmp_path / "pets"
    value = 0
    for directory, count in LAYOUT.items():
        (root / directory).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(value).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / directory / f"{number:02}.png")
            value += 1
    (root / "README.txt").write_text("not an image")
    return root


@pytest.fixture
def zipped(tree: Path) -> Path:
    """The same images in an archive, below one more directory."""
    path = tree.parent / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*"), reverse=True):
            archive.write(file, Path("some") / "pets" / file.relative_to(tree))
    return path
