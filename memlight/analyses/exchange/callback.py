"""What exchanging layers with a finished encoder does while a member trains."""

from pathlib import Path
from typing import ClassVar

import lightning.pytorch as L
import torch
from torch import nn

from memlight.analyses.exchange import ANALYSIS
from memlight.analyses.exchange.command import ExchangeOptions, about_the_donor
from memlight.analyses.exchange.study import Exchange, dataset_names, named_subsets, study_exchange
from memlight.analyses.observe import ObserverCallback
from memlight.data.images import ImageDataModule
from memlight.errors import at_least, named
from memlight.interventions.exchange import exchange_layers
from memlight.models.encoders import load_encoder, read_metadata
from memlight.runs.checkpoints import require_network
from memlight.storage.rundir import RunDir, member_tag


class ExchangeCallback(ObserverCallback):
    """Compute at the end of epoch N what ``analyze.py exchange`` computes of its checkpoint, on copies.

    That is ``--member ROLE --checkpoint epoch=N``; the tables are in ``analysis/exchange-[ROLE-]epoch=N``. LayerMem
    is measured where the partner kept a checkpoint of the same epoch. The member's metrics get
    ``exchange/top1/<layers>/<data set>``, also for ``none`` and ``donor``. Every copy gets new probes, so it takes a
    while.

    Args:
        donor: run directory of an encoder of the same architecture; its finished member of the same role is used.
        subsets: each a word in which commas join the layers that are exchanged together.
        every_n_epochs: how often.
        num_views: views of each image, for LayerMem.
        network: which network of methods that have several (teacher or student); the default one if null.
        max_forward: most views or images in one forward.
    """

    labelled: ClassVar = {"shared": 2, "external": 2}

    def __init__(
        self,
        donor: str,
        subsets: list[str],
        every_n_epochs: int = 50,
        num_views: int = 10,
        network: str | None = None,
        max_forward: int = 1024,
    ) -> None:
        super().__init__(every_n_epochs, None, network)
        with named(views="trainer.callbacks.num_views"):
            self.options = ExchangeOptions(views=num_views)
        at_least(1, max_forward=max_forward)
        self.donor = donor
        self.subsets = subsets
        self.max_forward = max_forward

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Also refuse, before the first step, a donor whose layers do not fit and images that cannot be probed."""
        super().setup(trainer, pl_module, stage)
        encoder, role = self.encoder(pl_module).cpu(), self.data(trainer).role
        with named(layers="subsets"):
            chosen = named_subsets(encoder, self.subsets)
        with about_the_donor(self.donor):
            path = require_network(RunDir.open(self.donor).member(role), self.network)
            self.given = load_encoder(path)
            for subset in chosen:
                exchange_layers(encoder, self.given, subset)
            self.donor_data = ImageDataModule(**read_metadata(path)["data"])
            self.donor_data.setup()
            self.require_images(self.donor_data)

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exchange layers in copies of this epoch's encoder."""
        data = self.data(trainer)
        mine = self._ready(self.encoder(pl_module), pl_module)
        partner = self.partner(trainer, pl_module, mine)
        names = dataset_names((self.run(trainer).name, data), (RunDir(Path(self.donor)).name, self.donor_data))
        exchange = Exchange(
            recipient=mine,
            donor=self._ready(self.given, pl_module),
            partner=None if partner is None else self._ready(partner, pl_module),
            member=data.role,
            data=dict(zip(names, (data, self.donor_data), strict=True)),
        )
        tag = member_tag(data.role, self.moment(trainer))
        with self.log_to_disk(trainer, ANALYSIS, tag) as log:
            subsets = named_subsets(mine, self.subsets)
            table = study_exchange(exchange, subsets, self.options, log, max_forward=self.max_forward, progress=False)
        self.log_numbers(
            pl_module,
            "exchange",
            {
                f"top1/{layers}/{dataset}": float(top1)
                for layers, dataset, top1 in zip(table["layers"], table["dataset"], table["probe_top1"], strict=True)
            },
        )

    def _ready(self, encoder: nn.Module, pl_module: L.LightningModule) -> nn.Module:
        return encoder.to(pl_module.device).to(memory_format=torch.channels_last)
