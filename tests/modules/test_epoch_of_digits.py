"""One epoch of real images for every method, as a user would start it, to the LayerMem of its pair."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch

from memlight.models.encoders import read_metadata
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.modules.tiny import TINY_VIT
from tests.tiny_pair import ROLES, analyze, callback_flags, fit

CONVOLUTIONAL = [
    *("--model.encoder=resnet9", "--model.image_size=16"),
    *("--model.optim.lr=0.02", "--model.optim.lr_batch_size=0"),
]
TRANSFORMER = [
    f"--model.encoder={TINY_VIT}",
    *("--model.optim.name=adamw", "--model.optim.lr=1e-3", "--model.optim.lr_batch_size=0"),
]
METHODS = {
    "SimCLR": CONVOLUTIONAL,
    "SimSiam": [*CONVOLUTIONAL, "--model.hidden_dim=256", "--model.output_dim=256", "--model.prediction_dim=64"],
    "VICReg": [*CONVOLUTIONAL, "--model.hidden_dim=256", "--model.output_dim=256"],
    "Supervised": [*CONVOLUTIONAL, "--model.optim.lr=0.003", "--data.views=weak", "--data.num_views=1"],
    "DINO": [
        *TRANSFORMER,
        *("--data.views=dino", "--data.num_views=4", "--data.view_size=32", "--model.image_size=32"),
        *("--model.hidden_dim=256", "--model.bottleneck_dim=64", "--model.output_dim=256"),
        *("--model.momentum_start=0.9", "--model.freeze_last_layer_epochs=0"),
    ],
    "MAE": [
        *TRANSFORMER,
        *("--data.views=mae", "--data.num_views=1", "--data.view_size=64", "--model.image_size=64"),
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


class Progress(L.Callback):
    """Writes down every loss, and that of the last batch with what was trained as it is and as it was at the start."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.losses: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.start = [deepcopy(part.state_dict()) for part in pl_module.trained_modules()]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].item())
        self.batch = batch

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        end = deepcopy(pl_module.state_dict())
        with torch.no_grad():
            trained = pl_module.embed_and_loss(self.batch)[0].item()
            pl_module.load_state_dict(end)
            for part, state in zip(pl_module.trained_modules(), self.start, strict=True):
                part.load_state_dict(state)
            untrained = pl_module.embed_and_loss(self.batch)[0].item()
        pl_module.load_state_dict(end)
        self.path.write_text(json.dumps({"losses": self.losses, "trained": trained, "untrained": untrained}))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_lowers_the_loss_and_its_encoders_have_a_layermem(method: str, tmp_path: Path) -> None:
    """Compared at one time, with one teacher: DINO's loss goes to 0 at first and up again, once its centre follows."""
    run = tmp_path / "run"
    for role in ROLES:
        record = callback_flags("tests.modules.test_epoch_of_digits.Progress", path=tmp_path / f"{role}.json")
        assert fit(run, f"--model=memlight.modules.{method}", *METHODS[method], *EPOCH, *record, role=role) == 0
        seen = json.loads((tmp_path / f"{role}.json").read_text())
        assert len(seen["losses"]) == 1200 // 40
        assert np.isfinite(seen["losses"]).all()
        assert seen["trained"] < seen["untrained"]
    assert analyze(run, "layermem", "--views=2") == 0
    table = read_table(RunDir(run).analysis("layermem").table())
    metadata = read_metadata(RunDir(run).member("candidate").encoder)
    assert metadata["method"] == method.lower()
    assert table["layer"].tolist() == metadata["layers"]
    assert np.isfinite(table["layermem"]).all()
    assert np.isfinite(table["contrast"]).all()
