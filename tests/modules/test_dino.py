import math
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from lightly.loss import DINOLoss
from torch import Tensor

from memlight.batch import ViewBatch
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.modules import DINO
from memlight.modules.dino import warmed_up
from memlight.modules.optim import OptimConfig
from memlight.storage.rundir import RunDir
from memlight.training.chatter import silence
from tests.modules.tiny import TINY_VIT, assert_gradients_reach_exactly, assert_starts_from_its_seed, view_batch
from tests.tiny_pair import checkpoint, fit, same_tensors

OUTPUT_DIM = 7
TRAINED = {
    "weight_decay_end": 0.6,
    "momentum_start": 0.5,
    "teacher_temperature_start": 0.02,
    "teacher_temperature": 0.06,
    "teacher_temperature_epochs": 2,
}
STEPS = 8


def small(init_seed: int = 0, encoder: str = TINY_VIT, **options: Any) -> DINO:
    optim = OptimConfig("adamw", lr=1e-2, weight_decay=0.2, warmup_epochs=0, lr_batch_size=0)
    sizes = {"hidden_dim": 16, "bottleneck_dim": 6, "output_dim": OUTPUT_DIM}
    return DINO(encoder, init_seed=init_seed, optim=optim, **sizes, **options)


def softmax_by_loops(row: list[float]) -> list[float]:
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def dino_by_loops(
    teacher: list[Tensor], student: list[Tensor], center: Tensor, student_temperature: float, temperature: float
) -> float:
    """Equation 3 of Caron et al. (2021): cross-entropies of a global crop and another crop, averaged."""
    terms = []
    for t, of_teacher in enumerate(teacher):
        for s, of_student in enumerate(student):
            if t == s:
                continue
            for teacher_row, student_row in zip(of_teacher.tolist(), of_student.tolist(), strict=True):
                shifted = zip(teacher_row, center.flatten().tolist(), strict=True)
                p = softmax_by_loops([(value - c) / temperature for value, c in shifted])
                q = softmax_by_loops([value / student_temperature for value in student_row])
                terms.append(-sum(p_k * math.log(q_k) for p_k, q_k in zip(p, q, strict=True)))
    return sum(terms) / len(terms)


def logits_by_hand(module: DINO, batch: ViewBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Teacher's logits of the global crops, student's of all."""
    with torch.no_grad():
        teacher = [module.teacher_head(module.teacher(view)) for view in batch.views[:2]]
        return teacher, [module.head(module.encoder(view)) for view in batch.views]


# Loss and centre


def test_loss_is_cross_entropy_between_every_global_crop_and_every_other_crop() -> None:
    module = small(student_temperature=0.2, teacher_temperature=0.05)
    batch = view_batch(32, 32, 16, 16)
    center = torch.linspace(-0.3, 0.3, OUTPUT_DIM)
    module.criterion.center.copy_(center)
    for parameter in module.teacher_head.parameters():
        parameter.mul_(1.5)  # so that teacher and student disagree
    expected = dino_by_loops(*logits_by_hand(module, batch), center, 0.2, 0.05)
    loss, features = module.embed_and_loss(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(features, module.encoder(batch.views[0]))


def test_the_centre_follows_the_teachers_mean_in_training_and_stays_in_evaluation() -> None:
    module, batch = small(center_momentum=0.7), view_batch(32, 32, 16)
    start = torch.linspace(-0.3, 0.3, OUTPUT_DIM)
    module.criterion.center.copy_(start)
    module.eval().embed_and_loss(batch)
    assert torch.equal(module.criterion.center.flatten(), start)
    rows = torch.cat(logits_by_hand(module, batch)[0]).tolist()
    mean = [sum(row[k] for row in rows) / len(rows) for k in range(OUTPUT_DIM)]
    module.train().embed_and_loss(batch)
    expected = torch.tensor([0.7 * c + 0.3 * m for c, m in zip(start.tolist(), mean, strict=True)])
    torch.testing.assert_close(module.criterion.center.flatten(), expected)


def test_gradient_reaches_every_parameter_of_the_student_and_none_of_the_teacher() -> None:
    module = small()
    assert_gradients_reach_exactly(module, view_batch(32, 32, 16))
    for part in (module.teacher, module.teacher_head):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in part.parameters())


@pytest.mark.parametrize("encoder", ["resnet9", "vit_tiny_patch8"])
def test_local_crops_of_sixteen_pixels_go_through(encoder: str) -> None:
    module, batch = small(encoder=encoder), view_batch(32, 32, 16, 16, 16)
    loss, features = module.embed_and_loss(batch)
    loss.backward()
    assert features.shape == (4, {"resnet9": 256, "vit_tiny_patch8": 192}[encoder])
    assert loss.isfinite()


def test_both_members_start_from_the_same_weights_and_leave_the_global_generator_alone() -> None:
    assert_starts_from_its_seed(small)


def test_the_teacher_starts_as_the_student_and_is_analysed_first() -> None:
    module = small()
    assert same_tensors(dict(module.teacher.state_dict()), dict(module.encoder.state_dict()))
    assert same_tensors(dict(module.teacher_head.state_dict()), dict(module.head.state_dict()))
    assert list(module.networks.items()) == [("teacher", module.teacher), ("student", module.encoder)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("momentum_start", 1.0),
        ("momentum_start", -0.1),
        ("center_momentum", 1.0),
        ("student_temperature", 0.0),
        ("teacher_temperature", 0.0),
        ("teacher_temperature_start", 0.0),
        ("hidden_dim", 0),
        ("bottleneck_dim", 0),
        ("output_dim", 0),
    ],
)
def test_bad_numbers_are_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"^{name}={value}: must be"):
        DINO(**{name: value})  # type: ignore[arg-type]


# A training


@pytest.mark.parametrize("epochs", [0, 1, 2, 5, 30])
def test_the_teachers_temperature_is_that_of_the_authors_code(epochs: int) -> None:
    """It is NumPy's linspace over the epochs of the warm-up, and lightly's loss has the same schedule."""
    expected = [*np.linspace(0.04, 0.07, epochs), *[0.07] * 3]
    assert [warmed_up(0.04, 0.07, epoch, epochs) for epoch in range(epochs + 3)] == pytest.approx(expected)
    lightly = DINOLoss(4, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=epochs)
    assert expected[:epochs] == pytest.approx(lightly.teacher_temp_schedule.tolist())


class Watch(L.Callback):
    """Writes down what each step does to the student, the teacher and the centre."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.centers: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        def note(module: Any, args: Any, options: dict[str, Any]) -> None:
            self.temperature = options["teacher_temp"]

        pl_module.criterion.register_forward_pre_hook(note, with_kwargs=True)  # type: ignore[union-attr, operator]

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: ViewBatch, batch_idx: int) -> None:
        self.before = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: ViewBatch, batch_idx: int
    ) -> None:
        after = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        decays = [group["weight_decay"] for group in trainer.optimizers[0].param_groups]
        self.steps.append({"before": self.before, "after": after, "decays": decays, "temperature": self.temperature})

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.centers.append(pl_module.criterion.center.clone())

    on_validation_end = on_validation_start


@pytest.fixture(scope="module")
def watched() -> Watch:
    """Two epochs of four steps with validation."""
    silence()
    watch = Watch()
    sizes = {"num_shared": 48, "num_candidate": 16, "num_independent": 0, "num_external": 8, "batch_size": 16}
    data = ImageDataModule("digits", image_size=16, view_size=32, views="dino", num_views=3, **sizes)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        enable_model_summary=False,
        callbacks=[watch],
        **quiet,
    )
    trainer.fit(small(**TRAINED), data)
    assert len(watch.steps) == STEPS
    return watch


@pytest.mark.parametrize(
    ("step", "weight_decay", "momentum", "temperature"),
    [(0, 0.2, 0.5, 0.02), (4, 0.4, 0.75, 0.06), (7, 0.584776, 0.980970, 0.06)],
    ids=["first", "middle", "last"],
)
def test_schedules(watched: Watch, step: int, weight_decay: float, momentum: float, temperature: float) -> None:
    """Half cosines from step 0 to the step after the last, as in the authors' code; temperature by the epoch."""
    seen = watched.steps[step]
    assert seen["decays"] == pytest.approx([weight_decay, 0.0])
    assert seen["temperature"] == pytest.approx(temperature)
    for teacher, student in (("teacher.", "encoder."), ("teacher_head.", "head.")):
        names = [name.removeprefix(student) for name in seen["before"] if name.startswith(student)]
        assert names
        for name in names:
            before, after = seen["before"][teacher + name], seen["after"][teacher + name]
            expected = momentum * before + (1 - momentum) * seen["after"][student + name]
            torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-7)


def test_the_last_layer_stays_still_in_the_first_epoch_and_moves_afterwards(watched: Watch) -> None:
    direction = "head.last_layer.weight_v"
    first, second = watched.steps[: STEPS // 2], watched.steps[STEPS // 2 :]
    assert all(torch.equal(step["before"][direction], step["after"][direction]) for step in first)
    assert all(not torch.equal(step["before"][direction], step["after"][direction]) for step in second)
    assert all(
        not torch.equal(step["before"]["head.layers.0.weight"], step["after"]["head.layers.0.weight"]) for step in first
    )


def test_validation_does_not_move_the_centre_and_training_does(watched: Watch) -> None:
    first, first_after, second, second_after = watched.centers
    assert torch.equal(first, first_after)
    assert torch.equal(second, second_after)
    assert not torch.equal(first, second)


def test_a_training_that_goes_on_from_a_checkpoint_equals_the_one_that_never_stopped(tmp_path: Path) -> None:
    flags = [
        "--model=memlight.modules.DINO",
        f"--model.encoder={TINY_VIT}",
        "--model.image_size=32",
        "--model.hidden_dim=16",
        "--model.bottleneck_dim=8",
        "--model.output_dim=24",
        "--model.teacher_temperature_epochs=2",
        "--model.optim.name=adamw",
        "--data.views=dino",
        "--data.view_size=32",
        "--data.num_views=3",
        "--data.num_shared=16",
        "--trainer.max_epochs=2",
        "--keep_every=1",
    ]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert fit(whole, *flags) == 0
    shutil.copytree(whole, resumed)
    member = RunDir(resumed).member("candidate")
    (member.checkpoints / "epoch=0.ckpt").replace(member.checkpoints / "last.ckpt")
    for exported in member.dir.glob("*.safetensors"):
        exported.unlink()
    assert fit(resumed, *flags, "--resume=true") == 0
    ours, theirs = checkpoint(resumed), checkpoint(whole)
    assert "teacher_head.last_layer.weight_v" in ours["state_dict"]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert same_tensors(ours[part], theirs[part]), part
    assert not same_tensors(ours["state_dict"], checkpoint(whole, "epoch=0")["state_dict"])
