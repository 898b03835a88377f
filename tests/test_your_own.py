"""Every command of docs/YOUR_OWN.md is run, on small files that lie where the page says they do."""

import csv
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image

from memlight.analyze import main as analyze
from memlight.cli import main as train
from memlight.models.encoders import build_encoder
from tests.data.test_labels_beside import shard
from tests.models.test_foreign_names import AuthorsResNet9
from tests.models.test_hub import put
from tests.quick import few_relabellings, short_probes, without_charts
from tests.runs.test_own_images import edm2, png, tiny_imagenet

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "YOUR_OWN.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL))
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
LINES = [line for line in BLOCKS.splitlines() if line.strip() and not line.startswith("#")]
ADOPT = "--candidate f.pth --independent g.pth --encoder resnet18 --stem cifar --dataset cifar10 --root data/cifar10"
SMALLER = {
    "adopt": ["--image-size=16"],
    "layermem": ["--views=2", "--layers", "layer3.1", "layer4.1"],
    "unitmem": ["--views=2"],
    "images": [],
    "probe": ["--device=cpu"],
}
"""What makes a command quick, besides the few small images."""

TRAIN = [
    *("--data.role=candidate", "--data.batch_size=4", "--trainer.max_epochs=1", "--trainer.precision=32-true"),
    *("--trainer.accelerator=cpu", "--logger=csv", "--trainer.callbacks=[]"),
]
"""One member for one epoch, in the place of `pair`, which starts two processes of the same."""

ROOTS = [
    (f"data/{name}/{part}", count) for name in ("cifar10", "unsorted") for part, count in (("train", 32), ("test", 8))
]

SPLITS = {"shared": 8, "candidate": 12, "independent": 12, "external": 8}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with everything that the page speaks of."""
    desk = tmp_path_factory.mktemp("desk")
    generator = np.random.default_rng(0)
    (desk / "configs").symlink_to(ROOT / "configs")
    for folder, count in (*ROOTS, ("photos", 8)):
        for number in range(count):
            of_class = "" if "cifar10" not in folder else ("cat" if number % 2 else "dog")
            path = desk / folder / of_class / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    for name, seed in (("f", 1), ("g", 2), ("released", 3)):
        torch.save(build_encoder("resnet18", stem="cifar", seed=seed).state_dict(), desk / f"{name}.pth")
    starts = np.cumsum([0, *SPLITS.values()])
    ids = {name: range(starts[n], starts[n + 1]) for n, name in enumerate(SPLITS)}
    for table, left_out in (("splits", ""), ("half", "independent")):
        with (desk / f"{table}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "split"])
            writer.writerows((id_, name) for name in SPLITS if name != left_out for id_ in ids[name])
    (desk / "nets.py").write_text(next(block for block in PYTHON if "class Net" in block))
    with chdir(desk):
        torch.save(build_encoder("nets:Net", image_size=32, encoder_args={"width": 32}).state_dict(), "net.pth")
    (desk / "splits.json").write_text(repr({name: [*of] for name, of in ids.items()}).replace("'", '"'))
    for short, name in (("c", "candidate"), ("s", "shared"), ("e", "external")):
        (desk / f"{short}.txt").write_text("\n".join(map(str, ids[name])))
    np.save(desk / "i.npy", np.array(ids["independent"]))
    images_of_others(desk)
    weights_of_others(desk)
    scores = "".join(f"{id_},{generator.random()}\n" for id_ in range(40))
    (desk / "scores.csv").write_text(f"id,score\n{scores}")
    yield desk


def weights_of_others(desk: Path) -> None:
    """Files of weights, and the hub's cache in the place of the hub."""
    dinov2 = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=0).state_dict()
    put(desk / "hub", "timm/vit_small_patch14_dinov2.lvd142m", "model.safetensors", dinov2)
    deit = timm.create_model("vit_tiny_patch16_224").state_dict()
    put(desk / "hub", "facebook/deit-tiny-patch16-224", "pytorch_model.bin", deit)
    backbone = build_encoder("resnet18", stem="cifar", seed=4).state_dict()
    torch.save({"state_dict": {f"backbone.{name}": tensor for name, tensor in backbone.items()}}, desk / "last.ckpt")
    torch.save({"state_dict": AuthorsResNet9().state_dict()}, desk / "checkpoint_100.tar")
    torch.save(build_encoder("resnet9", seed=5).state_dict(), desk / "weights.pth")


def images_of_others(desk: Path) -> None:
    """Sets of images in the layouts that people have."""
    edm2(desk / "edm2.zip", 60, 1), edm2(desk / "edm2-val.zip", 40, 2)
    tiny_imagenet(desk / "tiny-imagenet-200")
    shard(desk / "shards/train-0000.tar", 0, [0, 1, 0, 1]), shard(desk / "shards/val-0000.tar", 4, [0, 1])
    rows = ["path,label"]
    for part, count in (("train", 40), ("val", 12)):
        for number in range(count):
            rows.append(f"{part}/{number:02}.png,{number % 4}")
            (path := desk / "flat" / f"{part}/{number:02}.png").parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(number % 4, number))
    (desk / "labels.csv").write_text("\n".join(rows) + "\n")
    for part in ("train", "test"):
        for number in range(8):
            (path := desk / f"broken/{part}/k{number % 2}/{number}.png").parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"" if number == 3 else png(number % 4, number))
    table: Any = pytest.importorskip("datasets")
    cells = [{"bytes": png(number % 4, number), "path": None} for number in range(6)]
    features = table.Features({"image": table.Image(), "label": table.Value("int64")})
    pets = table.Dataset.from_dict({"image": cells, "label": [0, 1] * 3}, features=features)
    (desk / "org/pets").mkdir(parents=True)
    for part in ("train", "test"):
        pets.to_parquet(desk / f"org/pets/{part}-00000-of-00001.parquet")


def words_of(line: str, number: int) -> list[str]:
    """The words of a line of the page, with what it leaves out."""
    words = shlex.split(line.partition(" #")[0])
    if "..." in words:
        words[words.index("...") : words.index("...") + 1] = [*shlex.split(ADOPT), "--run", f"runs/other{number}"]
    if "--order" in words:  # a rule of ids is refused where images are sorted by class, as folders are
        words = [word.replace("data/cifar10", "data/unsorted").replace("cifar10", "auto") for word in words]
    for name, count in SPLITS.items():
        if (flag := f"--num-{name}") in words:
            words[words.index(flag) + 1] = str(count)
    return words


def test_every_command_of_the_page_is_run(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    datasets: Any = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", desk / "cache")
    datasets.disable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(desk / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with chdir(desk), few_relabellings(), short_probes(), without_charts("layermem", "unitmem", "images"):
        for number, line in enumerate(LINES):
            words = words_of(line, number)
            if words[1] == "train.py":
                dealt = [] if {"--data.split", "--data.splits"} & {*words} else ["--data.splits=splits.csv"]
                done = train(["fit", *words[3:], *TRAIN, *dealt])
                assert words[2] == "pair" and done == 0, (line, capsys.readouterr().err)
                continue
            smaller = [
                *SMALLER.get(words[2], []),
                *(["--logger=csv"] if words[2] not in ("adopt", "report", "layers") else []),
            ]
            assert analyze([*words[2:], *smaller]) == 0, (line, capsys.readouterr().err)
