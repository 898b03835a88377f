"""LayerMem while a member trains: against its partner's checkpoint of the same epoch."""

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_info

from memlight.analyses.layermem import ANALYSIS
from memlight.analyses.layermem.command import LayerMemOptions
from memlight.analyses.layermem.study import study_layermem
from memlight.analyses.observe import ObserverCallback
from memlight.data.splits import PARTNERS
from memlight.errors import named


class LayerMemCallback(ObserverCallback):
    """Compute what ``analyze.py layermem --checkpoint epoch=N`` computes, at the end of epoch N.

    The member trained first has no partner yet and is left out; when the second one trains, every epoch at which the
    partner kept a checkpoint (``--keep_every``) is measured. Results: ``analysis/layermem-epoch=N``, and
    ``layermem/contrast/<layer>``, ``layermem/layermem/<layer>`` and ``layermem/auc_pair/<layer>`` in the member's
    metrics.

    Args:
        every_n_epochs: how often.
        num_views: views of each image.
        layers: layers to measure, by name or by pattern, as ``layer4.*``; all that the encoder has if null.
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
        self.max_forward = max_forward
        with named(views="trainer.callbacks.num_views"):
            self.options = LayerMemOptions(views=num_views)

    def observe(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure this epoch, if the partner has a checkpoint of it."""
        data, mine = self.data(trainer), self.encoder(pl_module)
        partner = self.partner(trainer, pl_module, mine)
        if partner is None:
            if data.role in PARTNERS:
                where = f"LayerMem at epoch={trainer.current_epoch}: {PARTNERS[data.role]}/"
                rank_zero_info(f"{where} has no such checkpoint yet; not measured.")
            return
        f, g = (mine, partner) if data.role == "candidate" else (partner, mine)
        with self.log_to_disk(trainer, ANALYSIS, self.moment(trainer)) as log:
            numbers = study_layermem(
                f, g, data, self.names(mine), self.options, log, max_forward=self.max_forward, progress=False
            )
        self.log_numbers(pl_module, "layermem", numbers)
