"""The trained encoder as tensors and JSON, with what is needed to analyse it."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L

from memlight.data.images import ImageDataModule
from memlight.features.discovery import list_layers
from memlight.models.encoders import encoder_spec, save_encoder
from memlight.modules.base import SSLModule
from memlight.runs.checkpoints import METADATA_KEY
from memlight.storage.rundir import MemberDir


class ExportEncoder(L.Callback):
    """Describe the encoder in every checkpoint, and write ``encoder.safetensors`` when training ends.

    Args:
        path: the file to write; it appears whole or not at all, on rank 0. A member is finished once it exists.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the metadata of the network that is analysed by default beside the weights, and say where each is."""
        module = _module(pl_module)
        paths = {id(part): f"{path}." for path, part in module.named_modules()}
        checkpoint[METADATA_KEY] = {
            **encoder_metadata(trainer, module, epochs=trainer.current_epoch + 1),
            "prefixes": {name: paths[id(network)] for name, network in module.networks.items()},
        }

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the encoder, also where nothing was left to train: the last run was killed before it wrote it."""
        if trainer.is_global_zero:
            module = _module(pl_module)
            default, *others = module.networks
            member = MemberDir(self.path.parent, self.path.parent.name)
            for name in (*others, default):  # that one last: where it is, the member is finished
                path = self.path if name == default else member.network(name)
                save_encoder(
                    path, module.networks[name], encoder_metadata(trainer, module, name, epochs=trainer.current_epoch)
                )


def encoder_metadata(
    trainer: L.Trainer, pl_module: L.LightningModule, network: str | None = None, *, epochs: int
) -> dict[str, Any]:
    """What `memlight.runs.checkpoints` and the analyses need to know of an encoder, as JSON.

    Args:
        trainer: the trainer it is or was trained with.
        pl_module: the training method.
        network: which of its networks; None is the one that is analysed by default.
        epochs: how many it has been trained for.

    Raises:
        ValueError: the module is not an `SSLModule`, or the data are not an `ImageDataModule`.
    """
    module = _module(pl_module)
    name = network or next(iter(module.networks))
    encoder = module.networks[name]
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ImageDataModule):
        raise ValueError("an encoder's metadata need an ImageDataModule: they name its splits and views")
    return {
        "format": 1,
        "method": module.method,
        "network": name,
        "architecture": encoder_spec(encoder).record(),
        "layers": list_layers(encoder),
        "init_seed": module.init_seed,
        "role": data.role,
        "split_sha256": data.split.sha256,
        "dataset": data.split.dataset,
        "views": data.views.spec(),
        "data": data.options(),
        "epochs": epochs,
        **({} if data.left_out is None else {"without": data.left_out.record}),
        **({} if module.started_from is None else {"init_from": module.started_from}),
    }


def _module(pl_module: L.LightningModule) -> SSLModule:
    if not isinstance(pl_module, SSLModule):
        raise ValueError(f"{type(pl_module).__name__} is not an SSLModule")
    return pl_module
