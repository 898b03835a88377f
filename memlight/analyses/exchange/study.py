"""Layers of one encoder exchanged for another's: the study behind `analyze.py exchange` and the callback."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from torch import nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.exchange.chart import exchange_accuracy, exchange_layermem
from memlight.analyses.exchange.layermem import measure_layermem_of_copies
from memlight.analyses.exchange.subsets import Subset
from memlight.analyses.exchange.tables import (
    DONOR,
    NONE,
    Measured,
    effects_table,
    exchange_headline,
    exchange_table,
    layers_table,
    scores_by_layer,
)
from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.data.images import ImageDataModule
from memlight.data.loading import Batches
from memlight.data.splits import PARTNERS
from memlight.features.passes import images_at_once
from memlight.interventions.exchange import exchange_layers
from memlight.interventions.recalibrate import batchnorms, recalibrate_batchnorm
from memlight.metrics.layermem import LayerMemResult
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table

OwnAndOther = tuple[dict[str, LayerMemResult], dict[str, LayerMemResult]]
"""LayerMem by layer on the images that only the recipient, and on those that only its partner was trained on."""

AT_ONCE = 4
"""Copies that are in memory together and share each pass over the images."""


@dataclass(frozen=True)
class ExchangeOptions:
    """How copies are measured.

    Attributes:
        num_views: views of each image, for LayerMem.
        seed: of the views; None is the data module's.
        probe: of the probes; its ``max_forward`` holds for every pass.
    """

    num_views: int = 10
    seed: int | None = None
    probe: ProbeOptions = field(default_factory=ProbeOptions)


@dataclass(frozen=True)
class Exchange:
    """Who gets whose layers, and the images on which that is measured.

    Attributes:
        recipient: the encoder that is copied.
        donor: the encoder whose layers the copies get; of the same architecture.
        partner: the other member of the recipient's pair; None leaves LayerMem out.
        member: the recipient's role, candidate or independent.
        data: name of a data set -> its images; the recipient's first, then the donor's.
    """

    recipient: nn.Module
    donor: nn.Module
    partner: nn.Module | None
    member: str
    data: Mapping[str, ImageDataModule]


def study_exchange(
    exchange: Exchange,
    subsets: Sequence[Subset],
    options: ExchangeOptions,
    log: AnalysisLog,
    *,
    progress: bool = True,
) -> Table:
    """Exchange each subset of layers in a copy, and write what that does to accuracy and to LayerMem.

    A new probe is trained on both data sets for the unexchanged encoder, for the donor and for every copy; LayerMem of
    the exchanged layers is measured before and after, on the images that only one member of the recipient's pair was
    trained on. Encoders with BatchNorm are measured once more with the statistics of every BatchNorm, the partner's
    included, measured anew on the recipient's shared images in the views of its training.

    Args:
        exchange: who, and on which images.
        subsets: layers that are exchanged together.
        options: how.
        log: where the results go.
        progress: say how much there is to do, and show a bar.

    Returns:
        The table of the encoders as they are (``EXCHANGE_TABLE``).
    """
    forms = (False, True) if batchnorms(exchange.recipient) else (False,)
    encoders = (len(subsets) + 2) * len(forms)
    shown = progress and dist.rank() == 0
    if shown:
        print(
            f"exchange: {len(subsets)} copies, the unexchanged encoder and the donor"
            + (", all of them also with BatchNorm statistics measured anew" if len(forms) > 1 else "")
            + f": {encoders} encoders, each with a new probe on {' and '.join(exchange.data)}"
        )
    bar: tqdm[NoReturn] = tqdm(total=encoders, desc="exchange", unit="encoder", disable=not shown)
    with bar:
        measured = [_Form(exchange, options, log, again).measure(subsets, bar) for again in forms]
    plain, recalibrated = measured[0], measured[1] if len(forms) > 1 else []
    table = exchange_table(plain)
    log.table("table", table)
    if recalibrated:
        log.table("recalibrated", exchange_table(recalibrated))
    effects = effects_table(plain, recalibrated)
    log.table("effects", effects)
    log.figure(
        "accuracy",
        exchange_accuracy(effects),
        "Accuracy of a new linear probe after layers were exchanged; each interval is that of the difference to the "
        "unexchanged encoder (line) on the same test images.",
    )
    if exchange.partner is not None:
        by_layer = layers_table(plain, recalibrated)
        log.table("layers", by_layer)
        log.figure(
            "layermem",
            exchange_layermem(by_layer),
            "The exchanged layers before and after; their mean where several were exchanged. The partner's memory of "
            "its own images is a part of the contrast too, and stays when the recipient's layers go.",
        )
    log.headline(exchange_headline(effects))
    return table


def dataset_names(recipients: tuple[str, ImageDataModule], donors: tuple[str, ImageDataModule]) -> tuple[str, str]:
    """Names that tell two data sets apart: of the data sets, else of the runs.

    Args:
        recipients: name of the recipient's run and its images.
        donors: likewise the donor's.
    """
    runs, sets = (recipients[0], donors[0]), (recipients[1].dataset, donors[1].dataset)
    if sets[0] != sets[1]:
        return sets
    return runs if runs[0] != runs[1] else (runs[0], f"{runs[1]} (donor)")


class _Form:
    """All encoders in one form: as they are, or with the statistics of every BatchNorm measured anew."""

    def __init__(self, exchange: Exchange, options: ExchangeOptions, log: AnalysisLog, recalibrate: bool) -> None:
        self.exchange = exchange
        self.options = options
        self.log = log
        self.recalibrate = recalibrate
        self.own = next(iter(exchange.data.values()))
        self.partner = None if exchange.partner is None else self._in_form([exchange.partner])[0]

    def measure(self, subsets: Sequence[Subset], bar: "tqdm[NoReturn]") -> list[Measured]:
        """The unexchanged encoder, the donor, and a copy for each subset."""
        recipient, donor = self._in_form([self.exchange.recipient, self.exchange.donor])
        every: Subset = tuple(dict.fromkeys(layer for subset in subsets for layer in subset))
        before = self._layermem([recipient], [every])[0]
        found = [
            Measured(name, accuracy, {}, {})
            for name, accuracy in zip((NONE, DONOR), self._accuracy([recipient, donor]), strict=True)
        ]
        bar.update(len(found))
        for start in range(0, len(subsets), AT_ONCE):
            group = subsets[start : start + AT_ONCE]
            exchanged = [exchange_layers(self.exchange.recipient, self.exchange.donor, subset) for subset in group]
            copies = self._in_form(exchanged)
            accuracies, after = self._accuracy(copies), self._layermem(copies, group)
            for subset, accuracy, scored in zip(group, accuracies, after, strict=True):
                scores = [scores_by_layer(*pair, subset) if pair is not None else {} for pair in (before, scored)]
                found.append(Measured(",".join(subset), accuracy, *scores))
            bar.update(len(group))
        return found

    def _in_form(self, encoders: list[nn.Module]) -> list[nn.Module]:
        if not self.recalibrate:
            return encoders
        batches = self._batches("shared", self.options.probe.max_forward)
        views = self.own.view_maker(seed=self.options.seed)
        return recalibrate_batchnorm(encoders, batches, views, max_forward=self.options.probe.max_forward)

    def _accuracy(self, encoders: list[nn.Module]) -> list[dict[str, Accuracy]]:
        by_dataset = {
            name: list(measure_accuracy(encoders, data, self.options.probe, self.log, progress=False))
            for name, data in self.exchange.data.items()
        }
        return [{name: found[position] for name, found in by_dataset.items()} for position in range(len(encoders))]

    def _layermem(self, encoders: Sequence[nn.Module], layers: Sequence[Subset]) -> list[OwnAndOther | None]:
        if self.partner is None:
            return [None] * len(encoders)
        at_once = images_at_once(self.options.probe.max_forward, self.options.num_views)
        own, other = (
            measure_layermem_of_copies(
                list(zip(encoders, layers, strict=True)),
                self.partner,
                self._batches(split, at_once),
                self.own.view_maker(seed=self.options.seed),
                num_views=self.options.num_views,
                max_forward=self.options.probe.max_forward,
            )
            for split in (self.exchange.member, PARTNERS[self.exchange.member])
        )
        return list(zip(own, other, strict=True))

    def _batches(self, split: str, batch_size: int) -> Batches:
        batches = self.own.batches(split, batch_size, dist.rank(), dist.world_size())
        self.log.images += len(batches.ids)
        return batches
