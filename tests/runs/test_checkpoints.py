import os
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch import nn

from memlight.errors import UserError
from memlight.features.discovery import list_layers
from memlight.models.encoders import build_encoder, encoder_spec, read_metadata, save_encoder
from memlight.runs.checkpoints import encoder_from_checkpoint, file_sha256, initial_encoder, load_pair
from tests.said import refused, said


def write_member(run: Path, role: str, name: str = "resnet9", seed: int = 0, **metadata: object) -> nn.Module:
    encoder = build_encoder(name, seed=seed, image_size=32)
    record = {"format": 1, "role": role, "init_seed": seed, "layers": list_layers(encoder), "split_sha256": "ab" * 32}
    save_encoder(run / role / "encoder.safetensors", encoder, {**record, **metadata})
    return encoder


def write_checkpoint(path: Path, encoder: nn.Module, **extra: object) -> Path:
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": {**state, "head.weight": torch.zeros(2)}, **extra}, path)
    return path


def assert_same_weights(a: nn.Module, b: nn.Module) -> None:
    theirs = b.state_dict()
    assert a.state_dict().keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in a.state_dict().items())


def test_a_pair_comes_back_in_eval_mode_with_its_metadata(tmp_path):
    f, g = write_member(tmp_path, "candidate", seed=1), write_member(tmp_path, "independent", seed=2)
    pair = load_pair(tmp_path)

    assert_same_weights(pair.f, f)
    assert_same_weights(pair.g, g)
    assert (pair.metadata_f["role"], pair.metadata_g["role"]) == ("candidate", "independent")
    assert not pair.f.training and not pair.g.training
    assert_same_weights(load_pair(tmp_path, "independent", "candidate").f, g)


@pytest.mark.parametrize(
    ("partner", "words"),
    [
        ({"name": "resnet18"}, "different architectures (name: resnet9 and resnet18)"),
        ({"layers": ["layer1"]}, "different layers (10 and 1 of them)"),
        ({"split_sha256": "cd" * 32}, "different splits (abababababab and cdcdcdcdcdcd)"),
        ({"recorded_role": "candidate"}, "independent/ holds an encoder trained as candidate"),
        (None, "no independent/encoder.safetensors; `train.py pair`"),
    ],
)
def test_members_that_are_no_pair_are_refused(tmp_path, partner, words):
    write_member(tmp_path, "candidate")
    if partner is not None:
        write_member(tmp_path, "independent", **partner)
        if "recorded_role" in partner:
            (tmp_path / "candidate/encoder.safetensors").replace(tmp_path / "independent/encoder.safetensors")
            write_member(tmp_path, "candidate")
    with pytest.raises(UserError) as caught:
        load_pair(tmp_path)
    assert said(caught.value).startswith(f"--run {tmp_path}") and words in said(caught.value)


def test_a_truncated_member_names_run_and_file(tmp_path):
    write_member(tmp_path, "candidate")
    write_member(tmp_path, "independent")
    path = tmp_path / "independent/encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with refused(r"^--run .*independent/encoder\.safetensors: truncated"):
        load_pair(tmp_path)


def test_initial_weights_are_made_again_from_the_metadata(tmp_path):
    encoder = write_member(tmp_path, "candidate", seed=7)
    metadata = read_metadata(tmp_path / "candidate/encoder.safetensors")
    initial = initial_encoder(metadata)

    assert_same_weights(initial, encoder)
    assert not initial.training
    with refused("init_seed"):
        initial_encoder({"architecture": metadata["architecture"]})


def test_encoder_of_a_checkpoint_like_a_live_one_which_stays_as_it_is(tmp_path):
    trained, live = build_encoder("resnet9", seed=1), build_encoder("resnet9", seed=2)
    live.compile(backend="eager")
    path = write_checkpoint(tmp_path / "last.ckpt", trained)
    loaded = encoder_from_checkpoint(path, like=live)

    assert_same_weights(loaded, trained)
    assert_same_weights(live, build_encoder("resnet9", seed=2))
    assert live.training and not loaded.training
    assert encoder_spec(loaded) == encoder_spec(live)
    loaded(torch.rand(2, 3, 32, 32))


def test_encoder_of_a_checkpoint_by_its_own_metadata(tmp_path):
    trained = build_encoder("resnet9", seed=1)
    spec = {"name": "resnet9", "stem": "cifar", "in_channels": 3, "num_features": 256, "input_size": 32}
    path = write_checkpoint(tmp_path / "last.ckpt", trained, memlight={"architecture": spec})

    assert_same_weights(encoder_from_checkpoint(path), trained)
    with refused(r"--run .*architecture"):
        encoder_from_checkpoint(write_checkpoint(tmp_path / "bare.ckpt", trained))


def test_a_lightning_checkpoint_is_read(tmp_path):
    class Module(L.LightningModule):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.encoder = build_encoder("resnet9", seed=1)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def training_step(self, batch, batch_idx):
            return self.encoder(batch).square().mean()

    module = Module()
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.rand(4, 3, 16, 16), batch_size=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")

    assert_same_weights(encoder_from_checkpoint(tmp_path / "last.ckpt", like=module.encoder), module.encoder)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_checkpoint_is_one_clear_line(tmp_path, share, zipped):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"encoder.w": torch.zeros(50_000)}}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with refused(r"^--run .*last\.ckpt: truncated[^\n]*$"):
        encoder_from_checkpoint(path, like=build_encoder("resnet9", seed=0))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, zipped):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}, "x": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with refused("could run code, so it is not read"):
        encoder_from_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_checkpoints_without_a_fitting_encoder_are_refused(tmp_path):
    encoder = build_encoder("resnet9", seed=0)
    torch.save({"state_dict": {"backbone.w": torch.zeros(1)}}, tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    other = write_checkpoint(tmp_path / "resnet18.ckpt", build_encoder("resnet18", seed=0))
    for path, words in (
        (tmp_path / "none.ckpt", "no such file"),
        (tmp_path / "other.ckpt", r"no tensor named encoder\.\*"),
        (tmp_path / "list.ckpt", "holds a list"),
        (other, "not the weights of resnet9. missing: .*; unexpected: "),
    ):
        with refused(words):
            encoder_from_checkpoint(path, like=encoder)


def test_file_sha256(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert file_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
