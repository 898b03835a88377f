"""Layers of one encoder exchanged for another's: the study behind `analyze.py exchange` and the callback."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from torch import nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.exchange.chart import exchange_accuracy, exchange_layermem
from memlight.analyses.exchange.columns import DONOR, NONE
from memlight.analyses.exchange.command import ExchangeOptions
from memlight.analyses.exchange.subsets import Subset
from memlight.analyses.exchange.tables import Measured, exchange_headline, exchange_tables, scores_by_layer
from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.batch import ImageBatch, ViewMaker
from memlight.data.images import ImageDataModule
from memlight.data.loading import Batches
from memlight.data.splits import PARTNERS
from memlight.errors import named
from memlight.features.passes import device_of, images_at_once, one_pass
from memlight.interventions.exchange import exchange_layers
from memlight.interventions.recalibrate import batchnorms, recalibrate_batchnorm
from memlight.metrics.layermem import LayerMem, LayerMemResult, aligner
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table

OwnAndOther = tuple[dict[str, LayerMemResult], dict[str, LayerMemResult]]
"""LayerMem by layer on the images that only the recipient, and on those that only its partner was trained on."""

AT_ONCE = 4
"""Copies that are in memory together and share each pass over the images."""


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
    max_forward: int = 1024,
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
        options: how LayerMem is measured.
        log: where the results go.
        max_forward: most views or images in one forward.
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
        measured = [_Form(exchange, options, log, max_forward, again).measure(subsets, bar) for again in forms]
    tables = exchange_tables(measured[0], measured[1] if len(forms) > 1 else [])
    for name, table in tables.items():
        log.table(name, table)
    caption = (
        "Accuracy of a new linear probe after layers were exchanged; each interval is that of the difference to the "
        "unexchanged encoder (line) on the same test images."
    )
    log.figure("accuracy", exchange_accuracy(tables["effects"]), caption)
    if "layers" in tables:
        caption = (
            "The exchanged layers before and after; their mean where several were exchanged. The partner's memory of "
            "its own images is a part of the contrast too, and stays when the recipient's layers go."
        )
        log.figure("layermem", exchange_layermem(tables["layers"]), caption)
    log.headline(exchange_headline(tables["effects"]))
    return tables["table"]


def measure_layermem_of_copies(
    copies: Sequence[tuple[nn.Module, Sequence[str]]],
    partner: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    num_views: int = 10,
    max_forward: int = 512,
) -> list[dict[str, LayerMemResult]]:
    """Score every image on the layers of each copy: `measure_layermem` of (copy, partner), in one pass for all.

    Distances are l2 between normalised features, over all pairs of views, and the score is the ratio ([P] eq 2). The
    encoders are left as they were; with a process group up, every process gets the whole result.

    Args:
        copies: each with the layers to score, which the partner has too; they take the place of ``f``.
        partner: ``g``, the encoder that did not see what the copies were trained on.
        batches: images of one split (this process's share of them).
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        num_views: V, at least 2.
        max_forward: most views in one forward.

    Returns:
        For each copy a result by layer, in the order of its layers.

    Raises:
        UserError: no image, an unknown layer, or activations that are not finite.
    """
    every = list(dict.fromkeys(layer for _, layers in copies for layer in layers))
    metrics = [{layer: LayerMem().to(device_of(partner)) for layer in layers} for _, layers in copies]
    with (
        named(encoder="donor"),
        one_pass(
            [partner, *(copy for copy, _ in copies)],
            [every, *(layers for _, layers in copies)],
            batches,
            make_views,
            num_views=num_views,
            reduce=aligner(num_views),
            max_forward=max_forward,
            progress=False,
        ) as parts,
    ):
        for batch, (align_g, *align_f), _ in parts:
            for aligned, scores in zip(align_f, metrics, strict=True):
                for layer, score in scores.items():
                    score.update(aligned[layer], align_g[layer], batch.ids)
    return [{layer: score.compute() for layer, score in scores.items()} for scores in metrics]


def dataset_names(recipients: tuple[str, ImageDataModule], donors: tuple[str, ImageDataModule]) -> tuple[str, str]:
    """Names that tell two data sets apart: of the data sets, else of the runs.

    Args:
        recipients: name of the recipient's run and its images.
        donors: name of the donor's run and its images.
    """
    runs, sets = (recipients[0], donors[0]), (recipients[1].dataset, donors[1].dataset)
    if sets[0] != sets[1]:
        return sets
    return runs if runs[0] != runs[1] else (runs[0], f"{runs[1]} (donor)")


@dataclass
class _Form:
    """All encoders in one form: as they are, or with the statistics of every BatchNorm measured anew."""

    exchange: Exchange
    options: ExchangeOptions
    log: AnalysisLog
    max_forward: int
    recalibrate: bool

    def __post_init__(self) -> None:
        self.images = next(iter(self.exchange.data.values()))
        self.make_views = self.images.view_maker(seed=self.options.seed)
        partner = self.exchange.partner
        self.partner = None if partner is None else self._in_form([partner])[0]

    def measure(self, subsets: Sequence[Subset], bar: "tqdm[NoReturn]") -> list[Measured]:
        """The unexchanged encoder, the donor, and a copy for each subset."""
        recipient, donor = self._in_form([self.exchange.recipient, self.exchange.donor])
        every: Subset = tuple(dict.fromkeys(layer for subset in subsets for layer in subset))
        before = self._layermem([recipient], [every])[0]
        measured = [
            Measured(name, accuracy, {}, {})
            for name, accuracy in zip((NONE, DONOR), self._accuracy([recipient, donor]), strict=True)
        ]
        bar.update(len(measured))
        for start in range(0, len(subsets), AT_ONCE):
            group = subsets[start : start + AT_ONCE]
            exchanged = [exchange_layers(self.exchange.recipient, self.exchange.donor, subset) for subset in group]
            copies = self._in_form(exchanged)
            accuracies, after = self._accuracy(copies), self._layermem(copies, group)
            for subset, accuracy, scored in zip(group, accuracies, after, strict=True):
                scores = [scores_by_layer(*results, subset) if results else {} for results in (before, scored)]
                measured.append(Measured(",".join(subset), accuracy, *scores))
            bar.update(len(group))
        return measured

    def _in_form(self, encoders: list[nn.Module]) -> list[nn.Module]:
        if not self.recalibrate:
            return encoders
        batches = self._batches("shared", self.max_forward)
        return recalibrate_batchnorm(encoders, batches, self.make_views, max_forward=self.max_forward)

    def _accuracy(self, encoders: list[nn.Module]) -> list[dict[str, Accuracy]]:
        """Of each encoder the accuracy on every data set."""
        options = ProbeOptions(max_forward=self.max_forward)
        by_dataset = [
            list(measure_accuracy(encoders, data, options, self.log, progress=False))
            for data in self.exchange.data.values()
        ]
        return [dict(zip(self.exchange.data, of_encoder, strict=True)) for of_encoder in zip(*by_dataset, strict=True)]

    def _layermem(self, encoders: Sequence[nn.Module], layers: Sequence[Subset]) -> list[OwnAndOther | None]:
        if self.partner is None:
            return [None] * len(encoders)
        own, other = (
            measure_layermem_of_copies(
                list(zip(encoders, layers, strict=True)),
                self.partner,
                self._batches(split, images_at_once(self.max_forward, self.options.views)),
                self.make_views,
                num_views=self.options.views,
                max_forward=self.max_forward,
            )
            for split in (self.exchange.member, PARTNERS[self.exchange.member])
        )
        return list(zip(own, other, strict=True))

    def _batches(self, split: str, batch_size: int) -> Batches:
        batches = self.images.batches(split, batch_size, dist.rank(), dist.world_size())
        self.log.images += len(batches.ids)
        return batches
