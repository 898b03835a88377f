"""Stores are the same bytes however they came about: at once, killed and resumed, by two processes, from an archive."""

import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.analyze import main
from memlight.data.decode import decode
from memlight.errors import UserError
from memlight.models.encoders import build_encoder, save_encoder
from memlight.patches import extract as extract_module
from memlight.patches.embed import embedding
from memlight.patches.store import PatchStore, open_store
from memlight.storage import writing
from tests.ddp import run_ddp

COUNT, SHARD = 11, 4


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures of several sizes and formats."""
    folder = tmp_path_factory.mktemp("data") / "images"
    pixels = np.random.default_rng(0)
    for i in range(COUNT):
        path = folder / f"class{i % 2}" / f"{i:02}.{'jpg' if i % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.integers(0, 256, (20 + i % 2, 24, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory like that of a run's member."""
    folder = tmp_path_factory.mktemp("run") / "candidate"
    folder.mkdir()
    views = {"name": "simclr", "size": 16, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    save_encoder(folder / "encoder.safetensors", build_encoder("resnet9", seed=3, image_size=16), {"views": views})
    return folder


def flags(images: Path, member: Path, out: Path, *more: str) -> list[str]:
    given = {"--images": images, "--extractor": member, "--out": out, "--grid": 2, "--shard-size": SHARD}
    return ["patches", "extract", *(str(word) for pair in given.items() for word in pair), "--workers", "0", *more]


def extract(images: Path, member: Path, out: Path, *more: str) -> PatchStore:
    assert main(flags(images, member, out, "--max-forward", "8", *more)) == 0
    return open_store(out, verify="full")


@pytest.fixture(scope="module")
def plain(images: Path, member: Path, tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    return extract(images, member, tmp_path_factory.mktemp("plain") / "store", "--mode", "crop")


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_every_patch_of_every_image_in_order(plain: PatchStore, images: Path) -> None:
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.*"))
    assert list(plain.names) == names
    assert (plain.num_images, plain.patches, plain.dim, len(plain.shards)) == (11, 4, 256, 3)
    encoder = build_encoder("resnet9", seed=3, image_size=16)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    with embedding(encoder, "crop", 2, input_size=16, mean=mean, std=std) as embedder:
        for number, name in enumerate(names):
            pixels = decode((images / name).read_bytes(), (20, 20))
            np.testing.assert_array_equal(plain.image(number), pixels.transpose(1, 2, 0))
            alone = embedder.embed(torch.from_numpy(pixels.copy())[None])[0].numpy()
            np.testing.assert_allclose(plain.rows(range(4 * number, 4 * number + 4)), alone, rtol=2e-3, atol=2e-3)


def test_an_archive_gives_the_same_shards(plain: PatchStore, images: Path, member: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as zipped, tarfile.open(tmp_path / "images.tar", "w") as tarred:
        for path in images.rglob("*.*"):
            zipped.write(path, f"set/{path.relative_to(images)}")
            tarred.add(path, f"set/{path.relative_to(images)}")
    for name in ("images.zip", "images.tar"):
        store = extract(tmp_path / name, member, tmp_path / f"{name}.store", "--mode", "crop")
        assert [shard.crc for shard in store.shards] == [shard.crc for shard in plain.shards]
        np.testing.assert_array_equal(store.image(3), plain.image(3))
        assert (store.root / "archive-index.npz").is_file()


def test_workers_and_batches_change_nothing(plain: PatchStore, images: Path, member: Path, tmp_path: Path) -> None:
    store = extract(images, member, tmp_path / "store", "--mode", "crop", "--workers", "2")
    assert files(store.root) == files(plain.root)
    assert main(flags(images, member, tmp_path / "whole", "--mode", "crop", "--max-forward", "100")) == 0
    other = open_store(tmp_path / "whole")
    np.testing.assert_allclose(other.rows(range(44)), plain.rows(range(44)), rtol=2e-3, atol=1e-3)


class Killed(BaseException):
    """Nothing handles it."""


def test_killed_at_any_moment_and_resumed(
    plain: PatchStore, images: Path, member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of a file is a moment: before its bytes are synced, and before its name counts."""
    sync, moments = writing.sync, 0
    left = iter(range(100))

    def dies_late(path: Path) -> None:
        if next(left) == moments:
            raise Killed
        sync(path)

    monkeypatch.setattr(writing, "sync", dies_late)
    while True:
        left, out = iter(range(100)), tmp_path / f"killed{moments}"
        try:
            main(flags(images, member, out, "--mode", "crop", "--max-forward", "8"))
            break
        except Killed:
            out.mkdir(exist_ok=True)
            (out / ".999.00001.npy").write_bytes(b"half a shard")
            (out / ".999.00002.json").write_bytes(b"{")
        left = iter(range(100, 200))
        store = extract(images, member, out, "--mode", "crop")
        assert files(store.root) == files(plain.root)
        moments += 3
    assert moments > 12


def test_what_is_there_is_neither_decoded_nor_embedded_again(
    plain: PatchStore, images: Path, member: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = extract(images, member, tmp_path / "store", "--mode", "crop")
    (store.root / "00001.json").unlink()
    asked: list[Any] = []
    ahead = extract_module.decode_ahead

    def counted(images: Any, parts: Any, *rest: Any) -> Any:
        asked.extend(i for _, positions in parts for i in positions)
        return ahead(images, parts, *rest)

    monkeypatch.setattr(extract_module, "decode_ahead", counted)
    extract(images, member, store.root, "--mode", "crop")
    assert asked == [4, 5, 6, 7]
    assert files(store.root) == files(plain.root)


@pytest.mark.slow
def test_a_process_that_is_really_killed(plain: PatchStore, images: Path, member: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    words = flags(images, member, out, "--mode", "crop", "--max-forward", "8")
    program = f"""
import os, signal
from memlight.analyze import main
from memlight.patches.store import PatchWriter
write = PatchWriter.write
def dies(self, shard, rows, skipped=()):
    if shard == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, shard, rows, skipped)
PatchWriter.write = dies
main({words!r})
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (out / "00000.json").is_file() and not (out / "00001.json").exists()
    store = extract(images, member, out, "--mode", "crop")
    assert files(store.root) == files(plain.root)


def _one_of_two(words: list[str]) -> int:
    return main(words)


@pytest.mark.ddp
def test_two_processes_write_what_one_does(plain: PatchStore, images: Path, member: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    assert run_ddp(_one_of_two, 2, flags(images, member, out, "--mode", "crop", "--max-forward", "8")) == [0, 0]
    assert files(out) == files(plain.root)


def test_tokens_by_the_same_flags(
    images: Path, member: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = extract(images, member, tmp_path / "store", "--image-size", "32", "--dtype", "float32", "--limit", "6")
    said = capsys.readouterr().out
    assert "extractor: resnet9, " in said and "the output of res6 on 32 x 32 pixels" in said
    assert (store.num_images, store.dim, store.dtype) == (6, 256, np.float32)
    assert store.fingerprint["extraction"]["picture_size"] == [32, 32] == list(store.image(0).shape[:2])


def test_lower_precision_stays_close(plain: PatchStore, images: Path, member: Path, tmp_path: Path) -> None:
    store = extract(images, member, tmp_path / "store", "--mode", "crop", "--precision", "bfloat16")
    difference = np.abs(store.rows(range(44)) - plain.rows(range(44)))
    assert 0 < difference.max() < 0.05 * np.abs(plain.rows(range(44))).max()
    with pytest.raises(UserError, match=r"\(precision: float32, now bfloat16\)"):
        store.require_comparable(plain)


@pytest.fixture
def with_broken(images: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "with-broken"
    folder.mkdir()
    for path in images.rglob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    broken = folder / "05.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    (folder / "08.jpg").write_bytes(b"not a picture")
    return folder


def test_a_broken_image_is_named(
    with_broken: Path, member: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(with_broken, member, tmp_path / "store", "--mode", "crop")) == 2
    said = capsys.readouterr().err
    assert "--images: " in said and "05.jpg cannot be decoded" in said and "--on-error skip" in said
    assert (tmp_path / "store" / "00000.json").is_file()


def test_broken_images_are_skipped_and_counted(
    with_broken: Path, member: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--mode", "crop", "--picture-size", "20", "--on-error", "skip")
    store = extract(with_broken, member, tmp_path / "store", *more)
    assert "2 of 11 images are broken and left out: " in capsys.readouterr().out
    assert store.skipped == ["05.jpg", "08.jpg"] and store.num_images == 9
    for name in store.skipped:
        (with_broken / name).unlink()
    clean = extract(with_broken, member, tmp_path / "clean", *more)
    assert list(clean.names) == list(store.names)
    np.testing.assert_allclose(store.rows(range(36)), clean.rows(range(36)), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "nowhere"], "--images nowhere: no such directory or archive"),
        (["--grid", "0"], "--grid 0: must be 1 or more"),
        (["--grid", "21"], "--grid 21: the pictures have 20 x 20 pixels"),
        (["--mode", "token", "--picture-size", "20"], "--picture-size 20: belongs to --mode crop"),
        (["--extractor", "timm:vit_tinny"], "--extractor timm:vit_tinny: timm has no such model; nearest"),
        (["--weights", "x.pth"], "has its own; leave it out"),
        (["--mean", "0.5"], "--mean, --std: one is given and the other is not"),
    ],
)
def test_mistakes(
    images: Path, member: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main([*flags(images, member, tmp_path / "store", "--mode", "crop"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_an_extractor_directory_without_an_encoder(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(images, tmp_path, tmp_path / "store")) == 2
    assert "no encoder.safetensors in it; name a member" in capsys.readouterr().err


def test_vectors_too_large_for_half_precision(
    images: Path, member: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = build_encoder("resnet9", seed=0, image_size=16)
    torch.nn.init.constant_(encoder.layer6.norm.weight, 1e6)
    save_encoder(tmp_path / "encoder.safetensors", encoder, {"format": 1})
    out = tmp_path / "store"
    assert main(flags(images, tmp_path / "encoder.safetensors", out, "--mode", "crop")) == 2
    assert "more than float16 holds; use float32" in capsys.readouterr().err
