"""SimCLR through train.py's Trainer, data and views included, against the bare optimizer step on ready-made views.

    python benchmarks/training.py                                                          # CPU, about 2 minutes
    python benchmarks/training.py --accelerator gpu --encoder resnet18 --batch 1024 --epochs 40

Expected: at least 0.9 of the bare step on a GPU. On a CPU views and steps share the cores, so the ratio is what the
views leave: about 0.9 as well, because a step costs ten times what its views do.
"""

import argparse
import logging
import tempfile
import time
import warnings

import lightning.pytorch as L
import torch

from memlight.batch import ViewBatch
from memlight.data import ImageDataModule
from memlight.modules import SimCLR
from memlight.modules.optim import build_optimizer

IMAGES = 1024


class Clock(L.Callback):
    """Time of the epochs after the first, which warms up."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start when the first epoch is over."""
        if trainer.current_epoch == 1:
            _wait(pl_module.device)
            self.start = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop."""
        _wait(pl_module.device)
        self.seconds = time.perf_counter() - self.start


def through_trainer(options: argparse.Namespace, device: torch.device) -> float:
    """Images a second of ``Trainer.fit`` on digits enlarged to 32 px, in memory."""
    data = ImageDataModule(
        dataset="digits",
        image_size=32,
        num_shared=IMAGES,
        num_candidate=0,
        num_independent=0,
        num_external=0,
        batch_size=options.batch,
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=options.accelerator,
            devices=1,
            max_epochs=options.epochs + 1,
            precision="bf16-mixed",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[clock],
            default_root_dir=folder,
        )
        trainer.fit(SimCLR(options.encoder), datamodule=data)
    return options.epochs * (IMAGES // options.batch) * options.batch / clock.seconds


def bare_steps(options: argparse.Namespace, device: torch.device) -> float:
    """Images a second of forward, backward and optimizer step on one batch of ready-made views."""
    module = SimCLR(options.encoder).to(device)
    optimizer = build_optimizer(module.optim, module.trained_modules(), options.batch)
    views = [torch.randn(options.batch, 3, 32, 32, device=device) for _ in range(2)]
    ids = torch.arange(options.batch, device=device)
    batch = ViewBatch(views, ids, ids)
    steps = options.epochs * (IMAGES // options.batch)
    for step in range(steps + 2):
        if step == 2:
            _wait(device)
            start = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss, _ = module.embed_and_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _wait(device)
    return steps * options.batch / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=4, help=f"of {IMAGES} images")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many, taken in turn")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
    trained, bare = [], []
    for _ in range(options.repeats):
        bare.append(bare_steps(options, device))
        trained.append(through_trainer(options, device))
    print(f"{options.encoder} at 32 px on {device}, batch {options.batch}, bf16, two views an image")
    print(f"bare step         {max(bare):10,.0f} images/s")
    print(f"through Trainer   {max(trained):10,.0f} images/s   {max(trained) / max(bare):.2f} of the bare step")


if __name__ == "__main__":
    main()
