"""The commands that are killed, doubled and starved, and the directories that they begin from."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from memlight.analyze import main as analyze
from memlight.cli import main as train
from tests.soak.children import Command
from tests.tiny_pair import FLAGS, ROLES, ROOT

CSV = ["--logger=csv", "--device=cpu"]
SHORT = ["--trainer.max_epochs=2", "--keep_every=1", "--trainer.enable_progress_bar=false"]
_EXTRACT = [
    *("patches", "extract", "--extractor=resnet9", "--image-size=16", "--grid=2", "--shard-size=4"),
    *("--max-forward=4", "--workers=0", "--device=cpu"),
]


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        run: the command, relative to the directory that it stands in.
        needs: directories of `make_bases` that are there before.
        other: the same place written with other flags, for two at once; None for the same flags.
    """

    run: Command
    needs: tuple[str, ...] = ()
    other: Command | None = None

    def prepare(self, bases: Path, place: Path) -> Path:
        """Make the directory in which the command begins."""
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for name in self.needs:
            shutil.copytree(bases / name, place / name)
        return place


def _analyze(*argv: str) -> Command:
    return lambda: analyze(list(argv))


def _train(*argv: str) -> Command:
    return lambda: train(list(argv))


def _each(*commands: Command) -> Command:
    return lambda: next((status for command in commands if (status := command())), 0)


def _fit(run: str, role: str, seed: int) -> Command:
    resumed = ["--resume=true", f"--seed_everything={seed}"]
    return _train("fit", *FLAGS, *SHORT, f"--run={run}", f"--data.role={role}", *resumed)


_SEQUENCE = [
    f"--config={ROOT / 'configs/sequence/dam_switch_small.yaml'}",
    *("--run=run", "--resume=true", "--model.replicas=2", "--data.num_sequences=40", "--data.num_bits=12"),
    *("--model.num_heads=2", "--model.capacity=200", "--trainer.max_steps=60", "--logger=csv"),
    "--trainer.callbacks=[{class_path: memlight.callbacks.SequenceEvaluation, init_args: {every: 10}}]",
    "--trainer.accelerator=cpu",
]
_LAYERMEM = ["layermem", "--run=run", *CSV]
_UNITMEM = ["unitmem", "--run=run", "--views=2", "--layers", "layer1", "layer8", *CSV]
_SEARCH = ["patches", "search", "--queries=store", "--index=index", "--out=run", *CSV]

CASES = {
    "repeated pairs": Case(_each(*(_fit(f"seed{seed}", role, seed) for seed in (0, 1) for role in ROLES))),
    "fit": Case(_fit("run", "candidate", 0)),
    "layermem": Case(_analyze(*_LAYERMEM, "--views=3"), ("run",), _analyze(*_LAYERMEM, "--views=2")),
    "unitmem": Case(
        _analyze(*_UNITMEM, "--reference=median"), ("run",), _analyze(*_UNITMEM, "--reference=median", "--seed=9")
    ),
    "extract": Case(_analyze(*_EXTRACT, "--images=images", "--out=made"), ("images",)),
    "search": Case(_analyze(*_SEARCH, "-k=3"), ("store", "index"), _analyze(*_SEARCH, "-k=2")),
    "sequence": Case(_train("fit", *_SEQUENCE)),
    "report": Case(_analyze("report", "--run=run"), ("run",)),
    "compare": Case(_analyze("compare", "--runs", "run", "second", "--out=page"), ("run", "second")),
}


def make_bases(bases: Path) -> int:
    """Make what commands need: a pair with an analysis, its copy, images, and two stores of their patches."""
    torch.set_num_threads(1)
    bases.mkdir(parents=True)
    os.chdir(bases)
    (bases / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (22, 20, 20, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(bases / "images" / f"{number:02}.png")
    store = [*_EXTRACT, "--images=images"]
    steps: list[Callable[[], Any]] = [
        *(_fit("run", role, 0) for role in ROLES),
        _analyze(*_LAYERMEM, "--views=3"),
        _analyze(*store, "--out=store", "--limit=6"),
        _analyze(*store, "--out=index"),
    ]
    for step in steps:
        if status := step():
            return int(status)
    shutil.copytree(bases / "run", bases / "second")
    return 0
