"""LayerMem while a member trains: against its partner's checkpoint of the same epoch."""

from pathlib import Path

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_info

from memlight.analyses.layermem import ANALYSIS
from memlight.analyses.layermem.study import LayerMemOptions, layermem_headline, study_layermem
from memlight.analyses.observe import ObserverCallback
from memlight.data.splits import PARTNERS
from memlight.errors import UserError
from memlight.runs.checkpoints import encoder_from_checkpoint
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table


class LayerMemCallback(ObserverCallback):
    """Compute what ``analyze.py layermem --checkpoint epoch=N`` computes, at the end of epoch N.

    The member trained first has no partner yet and is left out; when the second one trains, every epoch at which the
    partner kept a checkpoint (``--keep_every``) is measured. Results: ``analysis/layermem-epoch=N``, and
    ``layermem/contrast/<layer>`` and ``layermem/layermem/<layer>`` in the member's metrics.

    Args:
        every_n_epochs: how often.
        num_views: views of each image.
        layers: layers to measure; all that the encoder has if null.
        network: which network of methods that have several (teacher or student); the default one if null.
        max_forward: most views in one forward.
    """

    def __init__(
        self,
        every_n_epochs: int = 50,
        num_views: int = 10,
        layers: list[str] | None = None,
        network: str | None = None,
        max_forward: int = 1024,
    ) -> None:
        super().__init__(every_n_epochs, layers, network)
        if num_views < 2:
            raise UserError(f"--num_views {num_views}: LayerMem compares views of an image; use 2 or more.")
        self.options = LayerMemOptions(num_views=num_views, max_forward=max_forward)

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure this epoch, if the partner has a checkpoint of it."""
        data = self.data(trainer)
        other = PARTNERS.get(data.role)
        if other is None or data.run is None:
            return
        name = f"epoch={trainer.current_epoch}"
        partner_path = RunDir(Path(data.run)).member(other).checkpoints / f"{name}.ckpt"
        if not trainer.strategy.broadcast(partner_path.is_file()):
            rank_zero_info(f"LayerMem at {name}: {other}/ has no such checkpoint yet; not measured.")
            return
        mine = self.encoder(pl_module)
        partner = encoder_from_checkpoint(partner_path, like=mine, network=self.network).to(pl_module.device)
        f, g = (mine, partner) if data.role == "candidate" else (partner, mine)
        with self.log_to_disk(trainer, ANALYSIS, self.moment(trainer)) as log:
            table: Table = study_layermem(f, g, data, self.names(mine), self.options, log, progress=False)
        self.log_numbers(pl_module, "layermem", layermem_headline(table))
