"""Layouts of data sets as people have them, probed from the command line: the right number, or the right refusal."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memlight.analyze import main
from memlight.storage.tables import read_json, read_table
from tests.data.test_datasets import break_file
from tests.quick import short_probes

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]
"""Of four classes, which any encoder tells apart."""


def png(kind: int, seed: int) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 15, (16, 16, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(COLOURS[kind] + noise, 0, 255).astype(np.uint8)).save(file, "png")
    return file.getvalue()


def put(path: Path, kind: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(kind, seed))


def edm2(path: Path, count: int, seed: int) -> Path:
    """A zip as dataset_tool makes it, folders of 20 (there of 1000)."""
    kinds = np.random.default_rng(seed).integers(4, size=count).tolist()
    names = [f"{number // 20:05}/img{number:08}.png" for number in range(count)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
            archive.writestr(name, png(kind, 1000 * seed + number))
        archive.writestr("dataset.json", json.dumps({"labels": list(zip(names, kinds, strict=True))}))
    return path


def tiny_imagenet(root: Path) -> Path:
    rows = []
    for kind in range(4):
        for number in range(12):
            put(root / f"train/n{kind}/images/n{kind}_{number}.JPEG", kind, 20 * kind + number)
    for number in range(16):
        put(root / f"val/images/val_{number}.JPEG", number * 7 % 4, 100 + number)
        put(root / f"test/images/test_{number}.JPEG", number % 4, 200 + number)
        rows.append(f"val_{number}.JPEG\tn{number * 7 % 4}\t0\t0\t63\t63")
    (root / "val/val_annotations.txt").write_text("\n".join(rows))
    return root


def probe(*given: str, run: Path, code: int = 0) -> None:
    own = ["--encoder=resnet9", "--image-size=16", f"--run={run}", "--logger=csv", "--device=cpu"]
    with short_probes():
        assert main(["probe", *given, *own]) == code


def result(run: Path) -> tuple[float, int, int]:
    table = read_table(run / "analysis/probe/table.csv")
    return float(table["top1"][1]), int(table["n_train"][1]), int(table["n_test"][1])


def test_zips_of_edm2_which_reuse_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, held_out = edm2(tmp_path / "train.zip", 60, 1), edm2(tmp_path / "val.zip", 40, 2)
    probe(f"--images={train}", f"--held-out={held_out}", run=tmp_path / "run")
    assert result(tmp_path / "run") == (1, 60, 40)
    assert "labels: from dataset.json, 4 classes" in capsys.readouterr().out.splitlines()


def test_tiny_imagenet_as_downloaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    probe(f"--images={tiny_imagenet(tmp_path / 'tiny')}", run=tmp_path / "run")
    assert result(tmp_path / "run") == (1, 48, 16)
    said = capsys.readouterr().out.splitlines()
    assert "labels: from val/val_annotations.txt, 4 classes" in said
    assert "images: 48 in train/ to train on, 16 in test/, 16 in val/ to test on" in said
    assert "probe: 16 of 32 held-out images have no class and are left out" in said


def folders(root: Path, *parts: str, kinds: int = 4, each: int = 4) -> Path:
    for part in parts:
        for number in range(kinds * each):
            put(root / part / f"k{number % kinds}" / f"{number}.png", number % kinds, number + 50 * len(part))
    return root


def test_labels_of_a_file_where_there_are_no_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for number in range(40):
        name = f"{'train' if number < 24 else 'val'}/{number:03}.png"
        put(tmp_path / "set" / name, number % 4, number)
        rows.append(f"{name},{number % 4}")
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    given = [f"--images={tmp_path / 'set'}", f"--labels={tmp_path / 'labels.csv'}"]
    probe(*given, run=tmp_path / "run")
    assert result(tmp_path / "run") == (1, 24, 16)
    assert "labels: from labels.csv, 4 classes" in capsys.readouterr().out
    probe(*given, "--limit=8", run=tmp_path / "limited")  # the file also names those that the limit leaves out
    assert result(tmp_path / "limited") == (1, 8, 8)
    capsys.readouterr()
    probe(given[0], run=tmp_path / "none", code=2)
    assert "images with classes (one folder each) are needed; give them with --labels FILE" in capsys.readouterr().err


@pytest.mark.parametrize("apart", [False, True])
def test_held_out_classes_that_training_does_not_have_are_refused(
    apart: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "set", "train", kinds=3)
    folders(root, "val", kinds=4)
    given = [f"--images={root / 'train'}", f"--held-out={root / 'val'}"] if apart else [f"--images={root}"]
    probe(*given, run=tmp_path / "run", code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --held-out" if apart else "error: --images") and "(k3)" in line
    assert not (tmp_path / "run/analysis").exists()


def test_storage_folders_and_flat_test_images_are_refused_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        put(tmp_path / f"stored/{number // 20:05}/{number:05}.png", number % 4, number)
    probe(f"--images={tmp_path / 'stored'}", f"--held-out={folders(tmp_path / 'b', '.')}", run=tmp_path / "run", code=2)
    captured = capsys.readouterr()
    assert "00000/ and the like only store images, numbered through, and are no classes" in captured.out
    assert "--labels FILE" in captured.err
    root = folders(tmp_path / "imagenet", "train")
    for number in range(4):
        put(root / f"val/ILSVRC2012_val_{number:08}.JPEG", number, number)
    probe(f"--images={root}", run=tmp_path / "run", code=2)
    captured = capsys.readouterr()
    assert "labels: none in val/" in captured.out
    assert "none of the 4 held-out images has a class; give them with --labels FILE" in captured.err


def test_broken_images_are_skipped_and_no_other_changes_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "set", "train", "val")
    given = ["--layers=layer1", "--views=1", f"--images={root}", "--encoder=resnet9", "--image-size=16", "--device=cpu"]
    assert main(["features", *given, f"--out={tmp_path / 'whole'}"]) == 0
    break_file(root / "train/k1/5.png")
    (root / "train/k2/notes.heic").write_bytes(b"x")
    capsys.readouterr()
    assert main(["features", *given, f"--out={tmp_path / 'broken'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "train/k1/5.png cannot be decoded" in line and line.endswith("leave such files out with --on-error skip.")
    assert main(["features", *given, f"--out={tmp_path / 'skipped'}", "--on-error=skip"]) == 0
    said = capsys.readouterr().out
    assert f"left out: 1 of 16 candidate images cannot be decoded: {root / 'train/k1/5.png'}" in said
    assert "left out: 1 .heic (endings that are not read as images)" in said
    probe(f"--images={root}", "--on-error=skip", run=tmp_path / "run")
    assert result(tmp_path / "run") == (1, 15, 16)
    assert len(read_json(tmp_path / "run/splits.json", dict)["candidate"]) == 16


def test_a_patch_extractor_refuses_views_that_are_too_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folders(tmp_path / "set", ".")
    flags = ["--extractor=torchvision:alexnet", f"--images={root}", "--image-size=20", f"--out={tmp_path / 'store'}"]
    assert main(["patches", "extract", *flags, "--device=cpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --image-size 20: the encoder cannot take views of this size (")
    assert not (tmp_path / "store").exists()


def test_parquet_files_of_hugging_face(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    (tmp_path / "pets/data").mkdir(parents=True)
    for part, count in (("train", 24), ("test", 16)):
        rows = {
            "image": [{"bytes": png(number % 4, number + count), "path": None} for number in range(count)],
            "label": [f"k{number % 4}" for number in range(count)],
        }
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(tmp_path / f"pets/data/{part}-00000-of-00001.parquet")
    for images in (f"{tmp_path / 'pets'}", f"hf:{tmp_path / 'pets'}"):  # a name of Hugging Face may be a local folder
        run = tmp_path / f"run{len(images)}"
        probe(f"--images={images}", run=run)
        assert result(run) == (1, 24, 16)
        assert "images: 24 in train to train on, 16 in test to test on" in capsys.readouterr().out
