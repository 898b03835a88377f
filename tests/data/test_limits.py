"""Images of strangers: formats by name, sizes before room is made, and nothing that is waited for."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from memlight.data.archives import MOST_FILE, open_archive, read_index
from memlight.data.datasets import open_source
from memlight.data.decode import BROKEN, decode, header_size
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.models.encoders import build_encoder
from memlight.storage.run_files import MOST_SIDE


def png(width: int, height: int) -> bytes:
    """A header that claims so many pixels, and next to nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def test_no_program_is_started_for_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript called .png would be drawn by Ghostscript."""

    def started(*args: Any, **options: Any) -> None:
        raise AssertionError("Ghostscript was called")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "eps")
    for read in (header_size, lambda data: decode(data, (8, 8))):
        with pytest.raises(OSError, match="not an image of a known format"):
            read(file.getvalue())


@pytest.mark.parametrize("side", [MOST_SIDE + 1, 10**5])
@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
def test_pixels_are_counted_before_they_are_decoded(side: int) -> None:
    for read in (header_size, lambda data: decode(data, (8, 8))):
        with pytest.raises(BROKEN, match="pixels"):
            read(png(side, side))


def make_folder(root: Path) -> Path:
    (root / "a").mkdir(parents=True)
    for number in range(4):
        (root / "a" / f"{number}.png").write_bytes(encoded())
    return root


@pytest.mark.parametrize("kind", ["link", "pipe", "bomb"])
def test_what_is_no_image_is_listed_as_broken(tmp_path: Path, kind: str) -> None:
    path = make_folder(tmp_path / "images") / "a" / "x.png"
    if kind == "link":
        path.symlink_to(tmp_path / "gone.png")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(png(10**5, 10**5))
    with pytest.raises(UserError, match=rf"{path} cannot be decoded: .*leave such files out with `on_error='skip'`"):
        open_source("folder", str(tmp_path / "images"), train=True)
    with pytest.warns(UserWarning, match="1 of 5 images are broken and left out"):
        source = open_source("folder", str(tmp_path / "images"), train=True, on_error="skip")
    assert len(source) == 4 and source.skipped == [str(path)]


def test_a_member_that_claims_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", encoded())
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    archive_ = open_archive(str(tmp_path / "a.zip"))
    monkeypatch.setattr(zlib, "decompressobj", lambda *args: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match=f"claims {1 << 30} bytes, and an image has {MOST_FILE} at most"):
        archive_.read("a.png")
    data[at + 20 : at + 24] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(UserError, match="would lie outside of it"):
        read_index(str(tmp_path / "b.zip"))


def test_a_kept_index_of_other_places_is_made_again(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", encoded())
    index = read_index(str(tmp_path / "a.zip"), tmp_path / "kept.npz")
    with np.load(tmp_path / "kept.npz") as kept:
        arrays = dict(kept)
    for changed in (
        {"numbers": arrays["numbers"] + 2**40},
        {"numbers": arrays["numbers"][:0]},
        {"zipped": np.zeros(3)},
    ):
        np.savez(tmp_path / "kept.npz", **{**arrays, **changed})
        assert np.array_equal(read_index(str(tmp_path / "a.zip"), tmp_path / "kept.npz").numbers, index.numbers)


def test_sizes_that_do_not_fit_are_refused_before_room_is_made(tmp_path: Path) -> None:
    make_folder(tmp_path / "images")
    for dataset, root in (("digits", None), ("folder", str(tmp_path / "images"))):
        with pytest.raises(
            UserError, match=r"^image_size=1000000: .* GB, and there is room for .*raise `memory_limit_gb`"
        ):
            open_source(dataset, root, train=True, image_size=10**6)
    with pytest.raises(UserError, match=f"^view_size=1000000: must be {MOST_SIDE} or less"):
        ImageDataModule(view_size=10**6)
    with pytest.raises(UserError, match=f"^image_size=1000000: must be {MOST_SIDE} or less"):
        build_encoder("vit_tiny_patch16", image_size=10**6)
