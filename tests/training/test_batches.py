"""Batches of one image: in training, as the last one of validation, and in each of several processes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.data import ImageDataModule
from memlight.errors import UserError
from memlight.modules import DINO, MAE, SimCLR, SimSiam, Supervised, VICReg
from memlight.modules.base import SSLModule
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from memlight.training.preflight import require_batches, slow_bfloat16
from tests.modules.tiny import view_batch
from tests.test_bad_input import only_line
from tests.tiny_pair import fit

SMALL = {"hidden_dim": 8, "output_dim": 8}
METHODS = {
    "SimCLR": lambda: SimCLR(image_size=16, **SMALL),
    "VICReg": lambda: VICReg(image_size=16, **SMALL),
    "SimSiam": lambda: SimSiam(image_size=16, prediction_dim=4, **SMALL),
    "Supervised": lambda: Supervised(image_size=16),
    "MAE": lambda: MAE(image_size=16, decoder_dim=16, decoder_depth=1, decoder_heads=2),
    "DINO": lambda: DINO(image_size=16, bottleneck_dim=4, **SMALL),
}
VIEWS = {"MAE": 1, "Supervised": 1}
COMPARES = ("SimCLR", "VICReg")
NEEDS_TWO = (*COMPARES, "SimSiam", "Supervised")
"""Those with batch statistics of single numbers: of a head, or of an encoder whose last maps have one place."""


def data(name: str, batch_size: int, external: int = 4) -> ImageDataModule:
    views = VIEWS.get(name, 2)
    return ImageDataModule(
        "digits", image_size=16, view_size=16, num_views=views, batch_size=batch_size, num_external=external
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("batch_size", "processes"), [(1, 1), (2, 2), (2, 1), (4, 2)])
def test_one_image_at_a_time_is_learned_from_or_refused(name: str, batch_size: int, processes: int) -> None:
    module: SSLModule = METHODS[name]()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    if batch_size == processes and name in NEEDS_TWO:
        with pytest.raises(UserError, match=r"^data.batch_size=.*choose 2 or more for each process"):
            require_batches(module, data(name, batch_size), processes)
    else:
        require_batches(module, data(name, batch_size), processes)
        batch = view_batch(*[16] * VIEWS.get(name, 2), images=batch_size // processes)
        assert module.train().embed_and_loss(batch)[0].isfinite()
        module.load_state_dict(before)
    assert all((tensor == module.state_dict()[key]).all() for key, tensor in before.items())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("external", "processes"), [(0, 1), (1, 1), (2, 1), (2, 2), (3, 2)])
def test_validation_on_one_image_has_a_loss_or_is_refused(name: str, external: int, processes: int) -> None:
    compared = external // processes if name == "VICReg" else external
    if name in COMPARES and external and compared < 2:
        with pytest.raises(UserError, match=r"^data.num_external="):
            require_batches(METHODS[name](), data(name, 16, external), processes)
    else:
        require_batches(METHODS[name](), data(name, 16, external), processes)


@pytest.mark.filterwarnings("ignore:.*collapsed")
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--model=VICReg", "--model.hidden_dim=8", "--model.output_dim=8"],
        ["--model=SimSiam", "--model.hidden_dim=8", "--model.output_dim=8", "--model.prediction_dim=4"],
        ["--model=Supervised"],
    ],
)
def test_a_last_batch_of_one_image_leaves_no_nan(tmp_path: Path, flags: list[str]) -> None:
    sizes = ["--data.num_external=17", "--trainer.max_epochs=1", "--data.num_shared=49", "--keep_every=0"]
    assert fit(tmp_path / "run", *flags, "--model.image_size=16", *sizes) == 0
    table = read_table(RunDir(tmp_path / "run").member("candidate").metrics)
    for name in ("train/loss", "train/embedding_std", "val/loss", "val/embedding_std"):
        assert np.isfinite(table[name][-1]), name


def test_a_batch_of_one_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "run", "--data.batch_size=1") == 2
    assert only_line(capsys).startswith("--data.batch_size 1: SimCLR compares images, and a batch of 1 has nothing")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_in_software_is_said(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    assert ("32-true" in slow_bfloat16("bf16-mixed", on_cpu=True)) is not native
    assert slow_bfloat16("bf16-mixed", on_cpu=False) == slow_bfloat16("32-true", on_cpu=True) == ""
