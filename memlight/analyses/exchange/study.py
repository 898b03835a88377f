"""Layers of one encoder exchanged for another's: the study behind `analyze.py exchange` and the callback."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.effects import paired_drop
from memlight.analyses.exchange.chart import exchange_accuracy, exchange_layermem
from memlight.analyses.exchange.columns import DONOR, EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE, NONE, by_cost
from memlight.analyses.exchange.command import ExchangeOptions
from memlight.analyses.layermem.tables import contrast_interval
from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.verdicts import against_untreated
from memlight.batch import ImageBatch, ViewMaker
from memlight.data.images import ImageDataModule
from memlight.data.loading import Batches
from memlight.data.splits import PARTNERS
from memlight.errors import UserError, named
from memlight.features.discovery import list_layers
from memlight.features.layers import check_layers, is_pattern, with_patterns
from memlight.features.passes import device_of, images_at_once, one_pass
from memlight.interventions.exchange import exchange_layers, layer_tensors
from memlight.interventions.recalibrate import batchnorms, recalibrate_batchnorm
from memlight.metrics.layermem import LayerMem, LayerMemResult, aligner
from memlight.runs.log import AnalysisLog
from memlight.stats import Interval
from memlight.storage.schema import required
from memlight.storage.tables import Table, table_of

Subset = tuple[str, ...]
"""Layers that are exchanged together, in the order in which they run."""

ImageScores = Mapping[str, tuple[Tensor, Tensor]]
"""Layer -> scores of the images that only the recipient, and of those that only its partner was trained on."""

LayerScores = Mapping[str, tuple[float, Interval]]
"""Layer -> LayerMem, and the contrast with its 95 % interval over images."""

Accuracies = Mapping[str, Accuracy]
"""Data set -> accuracy of one encoder."""

Rows = list[tuple[object, ...]]

MEAN = "mean"
"""In place of a layer: the mean over the layers that are exchanged together."""

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


def named_subsets(model: nn.Module, layers: Sequence[str]) -> list[Subset]:
    """Read what was typed: every word is one subset, whose layers a comma joins.

    A pattern in it stands for all layers with weights that it matches, together; see `layers_with_weights`.

    Args:
        model: the recipient.
        layers: such as ``layer3``, ``layer4,layer6`` and ``layer4.*``.

    Raises:
        UserError: an unknown layer, one without weights, or one that is named twice; a subset that is named twice.
    """
    order = {name: position for position, (name, _) in enumerate(model.named_modules())}
    subsets: list[Subset] = []
    for word in layers:
        names = with_patterns([word], layers_with_weights(model))[0].split(",") if is_pattern(word) else word.split(",")
        check_layers(model, names)
        layer_tensors(model, names)
        subset = tuple(sorted(names, key=lambda layer: order[layer]))
        if subset in subsets:
            raise UserError("layers", word, "this subset is named twice")
        subsets.append(subset)
    return subsets


def all_subsets(model: nn.Module, subsets: Sequence[int], max_subsets: int) -> list[Subset]:
    """Every subset of so many of the layers that have weights.

    Args:
        model: the recipient.
        subsets: numbers of layers in a subset, from 1.
        max_subsets: the most subsets that are given.

    Raises:
        UserError: a number of layers that no subset has or that is given twice, or too many subsets.
    """
    layers = layers_with_weights(model)
    for position, size in enumerate(subsets):
        if not 1 <= size <= len(layers):
            why = f"this encoder has {len(layers)} layers with weights: 1 to {len(layers)}"
            raise UserError("subsets", size, why)
        if size in subsets[:position]:
            raise UserError("subsets", size, "given twice")
    if (count := sum(comb(len(layers), size) for size in subsets)) > max_subsets:
        why = f"{count} subsets of {len(layers)} layers, each with a new probe on two data sets"
        ways = ["name some with `layers`", f"ask for so many with `max_subsets={count}`"]
        raise UserError("subsets", list(subsets), why, ways)
    return [subset for size in subsets for subset in combinations(layers, size)]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Of the layers worth measuring those with weights of their own, in execution order, none within another."""
    state = model.state_dict()
    weighted = [layer for layer in list_layers(model) if any(name.startswith(f"{layer}.") for name in state)]
    return [layer for layer in weighted if not any(other.startswith(f"{layer}.") for other in weighted)]


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
    with tqdm(total=encoders, desc="exchange", unit="encoder", disable=not shown) as bar:
        measured = [_Form(exchange, options, log, max_forward, again) for again in forms]
        for form in measured:
            form.measure(subsets, bar)
    table = table_of(EXCHANGE_TABLE, measured[0].rows)
    log.table("table", table)
    for form in measured[1:]:
        log.table("recalibrated", table_of(EXCHANGE_TABLE, form.rows))
    rows = [row for form in measured for row in form.effects]
    effects = against_untreated(table_of(required(EXCHANGE_EFFECTS), rows), (NONE, DONOR))
    log.table("effects", effects)
    caption = (
        "Accuracy of a new linear probe after layers were exchanged; each interval is that of the difference to the "
        "unexchanged encoder (line) on the same test images, thin the one that holds all exchanges at once."
    )
    log.figure("accuracy", exchange_accuracy(effects), caption)
    if exchange.partner is not None:
        layers = table_of(EXCHANGE_LAYERS, [row for form in measured for row in form.layers])
        log.table("layers", layers)
        caption = (
            "The exchanged layers before and after; their mean where several were exchanged. Intervals are "
            "those of each layer by itself. The partner's memory of its own images is a part of the contrast too, and "
            "stays when the recipient's layers go."
        )
        log.figure("layermem", exchange_layermem(layers), caption)
    log.headline(exchange_headline(effects))
    return table


def exchange_headline(effects: Table) -> dict[str, float | str]:
    """Accuracy of both encoders on every data set, and which exchange costs most and least there.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``; encoders as they are count, and those with new statistics do not.
    """
    numbers: dict[str, float | str] = {}
    for dataset in dict.fromkeys(effects["dataset"].tolist()):
        row_of = by_cost(effects, dataset)
        for name in (NONE, DONOR):
            numbers[f"{name}_top1/{dataset}"] = float(effects["top1"][row_of[name]])
        copies = [*row_of][2:]
        for name, layers in (("largest_drop", copies[-1]), ("smallest_drop", copies[0])):
            numbers[f"{name}/{dataset}"] = float(effects["drop"][row_of[layers]])
            numbers[f"{name}_layers/{dataset}"] = layers
    return numbers


def measure_layermem_of_copies(
    copies: Sequence[tuple[nn.Module, Sequence[str]]],
    partner: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    num_views: int = 10,
    max_forward: int = 512,
) -> list[dict[str, LayerMemResult]]:
    """`measure_layermem` of each copy and its partner, in one pass for all: the partner sees each view once.

    Args:
        copies: each with the layers to score, which the partner has too; they take the place of ``encoder_f``.
        partner: the encoder that did not see what the copies were trained on, ``encoder_g``.
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
    """All encoders in one form: as they are, or with the statistics of every BatchNorm measured anew.

    Attributes:
        rows: of ``EXCHANGE_TABLE``.
        effects: of ``EXCHANGE_EFFECTS``: accuracy lost against the unexchanged encoder of the same form, paired over
            test images.
        layers: of ``EXCHANGE_LAYERS``.
    """

    exchange: Exchange
    options: ExchangeOptions
    log: AnalysisLog
    max_forward: int
    recalibrate: bool
    rows: Rows = field(default_factory=list)
    effects: Rows = field(default_factory=list)
    layers: Rows = field(default_factory=list)

    def __post_init__(self) -> None:
        self.images = next(iter(self.exchange.data.values()))
        self.make_views = self.images.view_maker(seed=self.options.seed)
        partner = self.exchange.partner
        self.partner = None if partner is None else self._in_form([partner])[0]

    def measure(self, subsets: Sequence[Subset], bar: "tqdm[NoReturn]") -> None:
        """Add rows of the unexchanged encoder, of the donor, and of a copy for each subset."""
        recipient, donor = self.exchange.recipient, self.exchange.donor
        originals = self._in_form([recipient, donor])
        every: Subset = tuple(dict.fromkeys(layer for subset in subsets for layer in subset))
        before = self._layermem(originals[:1], [every])[0]
        none, of_donor = self._accuracy(originals)
        self._add(NONE, none, none, {}, {})
        self._add(DONOR, of_donor, none, {}, {})
        bar.update(len(originals))
        for start in range(0, len(subsets), AT_ONCE):
            group = subsets[start : start + AT_ONCE]
            copies = self._in_form([exchange_layers(recipient, donor, subset) for subset in group])
            measured = zip(group, self._accuracy(copies), self._layermem(copies, group), strict=True)
            for subset, accuracy, after in measured:
                self._add(",".join(subset), accuracy, none, _scores_of(before, subset), _scores_of(after, subset))
            bar.update(len(group))

    def _add(self, name: str, accuracy: Accuracies, none: Accuracies, before: LayerScores, after: LayerScores) -> None:
        """Add the rows of one encoder; ``none`` is the accuracy of the unexchanged one."""
        layermem = [[*scores.values()][-1][0] if scores else np.nan for scores in (before, after)]  # last: the mean
        for dataset, (linear, knn) in accuracy.items():
            self.rows.append((name, dataset, linear.top1, *layermem))
            drop = paired_drop(none[dataset].linear.right, linear.right)
            about = (knn, linear.n_train, linear.n_test)
            self.effects.append((name, dataset, self.recalibrate, linear.top1, *drop, *about))
        for layer, (score, contrast) in after.items():
            score_before, contrast_before = before[layer]
            scores = (score_before, score, *contrast_before, *contrast)
            self.layers.append((name, layer, self.recalibrate, *scores))

    def _in_form(self, encoders: list[nn.Module]) -> list[nn.Module]:
        if not self.recalibrate:
            return encoders
        batches = self._batches("shared", self.max_forward)
        return recalibrate_batchnorm(encoders, batches, self.make_views, max_forward=self.max_forward)

    def _accuracy(self, encoders: list[nn.Module]) -> list[Accuracies]:
        """Of each encoder the accuracy on every data set."""
        options = ProbeOptions(max_forward=self.max_forward)
        by_dataset = [
            list(measure_accuracy(encoders, data, options, self.log, progress=False))
            for data in self.exchange.data.values()
        ]
        return [dict(zip(self.exchange.data, of_encoder, strict=True)) for of_encoder in zip(*by_dataset, strict=True)]

    def _layermem(self, encoders: Sequence[nn.Module], layers: Sequence[Subset]) -> list[ImageScores]:
        """Of each encoder the scores of all images on its layers; none without a partner."""
        if self.partner is None:
            return [{} for _ in encoders]
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
        return [{layer: (a[layer].scores, b[layer].scores) for layer in a} for a, b in zip(own, other, strict=True)]

    def _batches(self, split: str, batch_size: int) -> Batches:
        batches = self.images.batches(split, batch_size, dist.rank(), dist.world_size())
        self.log.images += len(batches.ids)
        return batches


def _scores_of(images: ImageScores, layers: Subset) -> LayerScores:
    """LayerMem and contrast of each layer, then of the mean over layers where there are several."""
    of_layers = {layer: images[layer] for layer in layers if images}
    if len(of_layers) > 1:
        own, other = (torch.stack(scores).mean(0) for scores in zip(*of_layers.values(), strict=True))
        of_layers[MEAN] = own, other
    return {
        name: (float(own.mean(dtype=torch.float64)), contrast_interval(own, other))
        for name, (own, other) in of_layers.items()
    }
