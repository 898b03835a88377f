"""Thumbnails: which images, how large, and that they fit."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memlight.analyses.unitmem.browser.thumbnails import (
    BYTES,
    MOST_IMAGES,
    RANKS,
    SIDES,
    Thumbnails,
    driving_images,
    driving_rows,
    encode,
    side_within,
)
from memlight.errors import UserError


def noise(*size: int) -> np.ndarray:
    """The image that compresses worst: ``uint8 (H, W, 3)``."""
    return np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), dtype=np.uint8)


def decoded(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))


@pytest.mark.parametrize("share", [100, 183, 700, BYTES // MOST_IMAGES, 6000])
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (64, 256), (256, 192)])
def test_a_thumbnail_takes_no_more_than_its_share(size: tuple[int, int], share: int) -> None:
    side = side_within(share)
    webp = encode(noise(*size), side, share)
    assert len(webp) <= share
    height, width = decoded(webp).shape[:2]
    assert max(height, width) <= side
    assert width / height == pytest.approx(size[1] / size[0], rel=0.5)


def test_a_small_image_keeps_its_pixels() -> None:
    assert (decoded(encode(noise(32, 28), 32, 6000)) == noise(32, 28)).all()


def test_a_large_image_with_room_has_the_side() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None], (256, 128, 3))
    assert decoded(encode(np.ascontiguousarray(ramp), 96, 6000)).shape == (96, 48, 3)


def test_no_room_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="not 10"):
        encode(noise(8, 8), 32, 10)


def test_the_side_grows_with_the_room() -> None:
    sides = [side_within(share) for share in (0, 300, 600, 1000, BYTES // MOST_IMAGES, 3000, 10**6)]
    assert sides == sorted(sides) and sides[0] == SIDES[-1] and sides[-1] == SIDES[0]
    assert side_within(BYTES // MOST_IMAGES) == 80


def test_images_come_by_best_rank_then_by_how_many_units_give_it() -> None:
    rng = np.random.default_rng(0)
    units = [rng.permutation(60)[: RANKS + 3].tolist() for _ in range(9)]
    table = {
        "rank": np.array([rank for unit in units for rank in range(len(unit))]),
        "id": np.array([image for unit in units for image in unit]),
        "mu": np.array([0.0 if image < 4 else 1.0 for unit in units for image in unit]),
    }
    best: dict[int, int] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for unit in units:
        for rank, image in enumerate(unit[:RANKS]):
            if image < 4:
                continue
            best[image] = min(rank, best.get(image, RANKS))
            counts[image, rank] += 1
    expected = sorted(best, key=lambda image: (best[image], -counts[image, best[image]], image))
    assert driving_images(driving_rows(table)).tolist() == expected
    assert len(expected) < len({image for unit in units for image in unit})  # some are beyond the ranks shown
    assert driving_images({name: column[:0] for name, column in table.items()}).tolist() == []


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    Thumbnails(np.array([3, 5, 900]), [b"abc", b"", b"defg"]).write(tmp_path / "a.npz")
    read = Thumbnails.read(tmp_path / "a.npz")
    assert read.ids.tolist() == [3, 5, 900] and read.webp == [b"abc", b"", b"defg"]
    Thumbnails(np.array([], dtype=np.int64), []).write(tmp_path / "b.npz")
    assert Thumbnails.read(tmp_path / "b.npz").webp == []


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.npz"
    Thumbnails(np.array([3]), [b"abc"]).write(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot be read"):
        Thumbnails.read(path)
    np.savez(path, ids=np.array([3]), sizes=np.array([4]), webp=np.zeros(3, np.uint8))
    with pytest.raises(UserError, match="1 ids, 1 sizes, 3 bytes"):
        Thumbnails.read(path)
