import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memlight.data import decode as decoding
from memlight.data.decode import decode_chunks
from memlight.data.places import open_files


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """200 one-colour images, every 50th broken."""
    for number in range(200):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number:03}.png")
        if number % 50 == 49:
            (tmp_path / f"{number:03}.png").write_bytes(b"broken")
    return tmp_path


@pytest.mark.parametrize("worth", [1, 10_000], ids=["processes", "here"])
def test_order_images_and_broken_files(many: Path, worth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_WORTH_PROCESSES", worth)
    names = [f"{number:03}.png" for number in range(200)]
    chunks = list(decode_chunks(open_files(str(many)), names, (4, 4)))
    assert [name for chunk, _, _ in chunks for name in chunk] == names
    red = np.concatenate([images for _, images, _ in chunks])[:, 0, 0, 0]
    broken = {name for _, _, wrong in chunks for name in wrong}
    assert broken == {"049.png", "099.png", "149.png", "199.png"}
    assert red.tolist() == [0 if number % 50 == 49 else number for number in range(200)]
    assert all(why == "not an image of a known format" for _, _, wrong in chunks for why in wrong.values())


def test_stopping_early_stops_the_processes(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_WORTH_PROCESSES", 1)
    others = set(multiprocessing.active_children())
    chunks = decode_chunks(open_files(str(many)), [f"{number:03}.png" for number in range(200)] * 20, (4, 4))
    next(chunks)
    chunks.close()
    assert set(multiprocessing.active_children()) <= others
