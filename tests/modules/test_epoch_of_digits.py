"""One epoch of real images for every method, as a user would start it, to the LayerMem of its pair."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest

from memlight.models.encoders import read_metadata
from memlight.rundir import RunDir
from memlight.tables import read_table
from tests.tiny_pair import ROLES, analyze, callback_flags, fit

CONVOLUTIONAL = ["--model.encoder=resnet9", "--model.optim.lr=0.02", "--model.optim.lr_batch_size=0"]
TRANSFORMER = ["--model.encoder=vit_tiny_patch4", "--model.optim.name=adamw", "--model.optim.lr=5e-4"]
METHODS = {
    "SimCLR": CONVOLUTIONAL,
    "SimSiam": [*CONVOLUTIONAL, "--model.hidden_dim=256", "--model.output_dim=256", "--model.prediction_dim=64"],
    "VICReg": [*CONVOLUTIONAL, "--model.hidden_dim=256", "--model.output_dim=256"],
    "Supervised": [*CONVOLUTIONAL, "--data.num_views=1"],
    "DINO": [
        *TRANSFORMER,
        *("--data.views=dino", "--data.num_views=4"),
        *("--model.hidden_dim=256", "--model.bottleneck_dim=64", "--model.output_dim=256"),
        *("--model.momentum_start=0.9", "--model.freeze_last_layer_epochs=0"),
    ],
    "MAE": [
        *TRANSFORMER,
        *("--data.views=mae", "--data.num_views=1"),
        *("--model.decoder_dim=64", "--model.decoder_depth=2", "--model.decoder_heads=4"),
    ],
}
EPOCH = [
    "--trainer.max_epochs=1",
    "--model.optim.warmup_epochs=0.2",
    "--data.num_shared=1000",
    "--data.num_candidate=200",
    "--data.num_independent=200",
    "--data.num_external=200",
    "--data.batch_size=40",
]
FEW = 5
"""Steps at either end of the epoch whose losses are compared."""


class Losses(L.Callback):
    """Writes down the loss of every step."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].item())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.path.write_text(json.dumps(self.losses))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_lowers_the_loss_and_its_encoders_have_a_layermem(method: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for role in ROLES:
        record = callback_flags("tests.modules.test_epoch_of_digits.Losses", path=tmp_path / f"{role}.json")
        flags = [f"--model=memlight.modules.{method}", "--model.image_size=16", *METHODS[method], *EPOCH, *record]
        assert fit(run, *flags, role=role) == 0
        losses = json.loads((tmp_path / f"{role}.json").read_text())
        assert len(losses) == 1200 // 40
        assert np.isfinite(losses).all()
        assert np.mean(losses[-FEW:]) < np.mean(losses[:FEW])
    assert analyze(run, "layermem", "--views=2") == 0
    table = read_table(RunDir(run).analysis("layermem").table())
    metadata = read_metadata(RunDir(run).member("candidate").encoder)
    assert metadata["method"] == method.lower()
    assert table["layer"].tolist() == metadata["layers"]
    assert np.isfinite(table["layermem"]).all()
    assert np.isfinite(table["contrast"]).all()
