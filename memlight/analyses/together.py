"""Every measurement of a pair from one pass over its images: the study behind `analyze.py all`.

Each image is decoded once, each of its views and the untouched image are made once and go through both encoders once;
LayerMem with membership, UnitMem of both members on both groups, ClassMem and the probes read the same forwards.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from memlight import dist
from memlight.analyses import classmem, layermem, probe, unitmem
from memlight.analyses.classmem.command import ClassMemOptions
from memlight.analyses.classmem.labels import ClassLabels
from memlight.analyses.classmem.study import classmem_tag, driven_most, write_classmem
from memlight.analyses.layermem.command import LayerMemOptions
from memlight.analyses.layermem.study import SPLITS, batches_of, write_layermem
from memlight.analyses.probe.accuracy import accuracy_of, write_probe
from memlight.analyses.probe.command import ProbeFlags
from memlight.analyses.unitmem.command import UnitMemOptions
from memlight.analyses.unitmem.pictures import Driving, Unit, write_thumbnails
from memlight.analyses.unitmem.study import UnitsOfPair, unitmem_tag, write_unitmem
from memlight.batch import ImageBatch, ViewMaker
from memlight.data.images import ImageDataModule
from memlight.data.splits import PARTNERS
from memlight.features.passes import Part, device_of, images_at_once, read_together
from memlight.metrics.classmem import ClassMemPass, ClassMemResult
from memlight.metrics.functional import alignment
from memlight.metrics.ids import distinct
from memlight.metrics.knn import embed_many
from memlight.metrics.layermem import LayerMemPass, LayerMemResult
from memlight.metrics.unitmem import UnitMemPass, UnitMemResult
from memlight.runs.analysis import Analysis
from memlight.runs.log import AnalysisLog, LoggerKind
from memlight.runs.opened import OpenedRun

MEMBERS = ("candidate", "independent")


def members_of(data: ImageDataModule) -> tuple[str, ...]:
    """The members with images of their own, whose units are measured: of half a pair the candidate alone."""
    return MEMBERS[:1] if data.split.half else MEMBERS


@dataclass
class Measured:
    """What one pass over all splits gave.

    Attributes:
        images: how many were read.
        layermem: split -> layer -> result, with traces.
        units: member -> split -> layer -> UnitMem; on external images as many as the member has of its own.
        classes: split -> layer -> ClassMem of the candidate encoder; empty without classes.
        clean: activations of the candidate encoder's units on its own untouched images, ``(N, U)``, and their ids.
        features: member -> split -> features ``(N, D)``, labels and ids of untouched images.
    """

    images: int = 0
    layermem: dict[str, dict[str, LayerMemResult]] = field(default_factory=dict)
    units: dict[str, dict[str, dict[str, UnitMemResult]]] = field(default_factory=lambda: {m: {} for m in MEMBERS})
    classes: dict[str, dict[str, ClassMemResult]] = field(default_factory=dict)
    clean: tuple[Tensor, Tensor] | None = None
    features: dict[str, dict[str, tuple[Tensor, Tensor, Tensor]]] = field(
        default_factory=lambda: {m: {} for m in MEMBERS}
    )


def measure_everything(
    encoders: Sequence[nn.Module],
    data: ImageDataModule,
    layers: Sequence[str],
    options: LayerMemOptions,
    labels: ClassLabels | None,
    *,
    max_forward: int = 1024,
    progress: bool = True,
) -> Measured:
    """Show every image's views and the untouched image to both encoders once.

    Args:
        encoders: the candidate and the independent encoder.
        data: splits and images.
        layers: module paths in execution order.
        options: views of LayerMem, which UnitMem sees too.
        labels: the classes of ClassMem; None leaves it out.
        max_forward: most views in one forward.
        progress: show bars.
    """
    measured = Measured()
    for split in SPLITS:
        batches = batches_of(split, data, images_at_once(max_forward, options.views + 1))
        if len(batches.ids) == 0:
            continue
        measured.images += len(batches.ids)
        passing = _SplitPass(split, encoders, data, layers, options.views, labels)
        with read_together(
            encoders,
            passing.scores.readings(),
            batches,
            _with_untouched(options.view_maker(data), data),
            num_views=options.views + 1,
            max_forward=max_forward,
            progress=progress,
            title=f"all: {split}",
        ) as parts:
            for part in parts:
                passing.update(part)
        passing.finish(measured)
    return measured


def _with_untouched(make_views: ViewMaker, data: ImageDataModule) -> ViewMaker:
    """View 0 is the untouched image, as probes and ClassMem see it, and the views follow."""
    untouched = data.view_maker(data.make_views("clean"))

    def make(batch: ImageBatch, view: int) -> Tensor:
        return make_views(batch, view - 1) if view else untouched(batch, 0)

    return make


class _SplitPass:
    """The images of one split going by, for all measurements at once; arguments as `measure_everything`."""

    def __init__(
        self,
        split: str,
        encoders: Sequence[nn.Module],
        data: ImageDataModule,
        layers: Sequence[str],
        num_views: int,
        labels: ClassLabels | None,
    ) -> None:
        self.split, self.data, self.layers, self.num_views = split, data, list(layers), num_views
        self.device = device_of(encoders[0])
        self.scores = LayerMemPass(layers, num_views, alignment, traces=True, before=1, device=self.device)
        self.units: dict[str, UnitMemPass] = {}
        self.labels = labels if split in ("candidate", "external") else None
        self.classes: ClassMemPass | None = None
        self.clean: list[Tensor] = []
        self.outputs: list[list[Tensor]] = []
        self.class_labels: list[Tensor] = []
        self.ids: list[Tensor] = []
        self.counted = {member: self._counted(member) for member in members_of(data)}

    def update(self, part: Part) -> None:
        """Take note of some images."""
        batch, captured, outputs = part
        count = len(batch.ids)
        self.ids.append(batch.ids)
        self.scores.update(part)
        mu = [torch.cat([captured[2 + e][layer] for layer in self.layers], dim=1) for e in (0, 1)]
        widths = {layer: captured[2][layer].shape[1] for layer in self.layers}
        for encoder, (member, chosen) in enumerate(self.counted.items()):
            if chosen is None:
                continue
            if member not in self.units:
                self.units[member] = UnitMemPass(widths, self.num_views, keep_table=True).to(self.device)
            rows = torch.isin(batch.ids, chosen)
            own = mu[encoder].view(self.num_views + 1, count, -1)[1:, rows]
            self.units[member].update(own, batch.ids[rows])
        self._update_classes(mu[0][:count], batch, widths)
        if self.split in ("shared", "external"):
            self.outputs.append([output[:count].float().flatten(1) for output in outputs])
            self.class_labels.append(batch.labels)

    def finish(self, measured: Measured) -> None:
        """Hand over what was found; every process gets it whole."""
        ids = torch.cat(self.ids)
        measured.layermem[self.split] = self.scores.compute()
        for member, units in self.units.items():
            measured.units[member][self.split] = units.compute()
        if self.classes is not None:
            measured.classes[self.split] = self.classes.compute()
        order = distinct(dist.gather_cat(ids))
        if self.clean:
            measured.clean = (dist.gather_cat(torch.cat(self.clean))[order], dist.gather_cat(ids)[order])
        for encoder, member in enumerate(MEMBERS if self.outputs else ()):
            own = (torch.cat([outputs[encoder] for outputs in self.outputs]), torch.cat(self.class_labels), ids)
            measured.features[member][self.split] = tuple(dist.gather_cat(column)[order] for column in own)  # type: ignore[assignment]

    def _counted(self, member: str) -> Tensor | None:
        """Which images of the split UnitMem of a member counts; None for none of them."""
        if self.split == "shared" or (self.split == "external" and len(self.data.split.external) < 2):
            return None
        limit = len(self.data.split.ids(member)) if self.split == "external" else None
        return torch.from_numpy(self.data.batches(self.split, limit=limit).ids).to(self.device)

    def _update_classes(self, clean_BU: Tensor, batch: ImageBatch, widths: Mapping[str, int]) -> None:
        chosen = self.counted["candidate"]
        if self.labels is None or chosen is None or (self.split == "external" and self._lacking(chosen)):
            return
        if self.classes is None:
            classes = torch.from_numpy(self.labels.of(chosen.cpu().numpy()))
            shuffles = ClassMemOptions().permutations if self.split == "candidate" else 0
            labelled = (chosen, classes, len(self.labels.names))
            self.classes = ClassMemPass(
                widths, *labelled, permutations=shuffles, seed=self.data.seed, device=self.device
            )
        rows = torch.isin(batch.ids, chosen)
        self.classes.update(clean_BU[rows], batch.ids[rows])
        if self.split == "candidate":
            self.clean.append(clean_BU)

    def _lacking(self, ids: Tensor) -> bool:
        return self.labels is None or len(ids) < 2 or self.labels.lacking(ids.cpu().numpy()) is not None


def study_everything(
    opened: OpenedRun,
    encoders: Sequence[nn.Module],
    layers: Sequence[str],
    options: LayerMemOptions,
    labels: ClassLabels | None,
    *,
    max_forward: int,
    tag: str | None,
    checkpoint: str | None,
    labels_file: str | None,
    probes: bool,
    logger: LoggerKind,
) -> None:
    """Measure everything in one pass and write what the single commands write.

    The places of all results are taken before the pass, so that another command that writes one of them is refused
    before the work and not after it; each is put in its place as soon as it is complete.

    Args:
        opened: the run, its images read.
        encoders: the candidate and the independent encoder.
        layers: module paths in execution order.
        options: views of LayerMem, which UnitMem sees too.
        labels: the classes of ClassMem; None leaves it out.
        max_forward: most views in one forward.
        tag: of all results; None for that of the checkpoint.
        checkpoint: which checkpoint it is; None for the finished encoders.
        labels_file: the file that the classes are from; None for the data set's own.
        probes: whether the images have classes of their own, for the probes.
        logger: where numbers go besides the disk.
    """
    data = opened.data

    with ExitStack() as everything:

        def begun(analysis: Analysis, own_tag: str | None) -> tuple[AnalysisLog, ExitStack]:
            stack = everything.enter_context(ExitStack())
            return stack.enter_context(opened.log(analysis, own_tag, logger, options.seed)), stack

        of_layers = begun(layermem.ANALYSIS, tag or checkpoint)
        of_units = {m: begun(unitmem.ANALYSIS, _units_tag(m, tag, checkpoint)) for m in members_of(data)}
        classes_tag = tag or classmem_tag("candidate", "candidate", checkpoint, labels_file)
        of_classes = [begun(classmem.ANALYSIS, classes_tag)] if labels is not None else []
        of_probes = [begun(probe.ANALYSIS, tag or checkpoint)] if probes else []
        measured = measure_everything(encoders, data, layers, options, labels, max_forward=max_forward)
        for log, done in _counting([of_layers], measured.images):
            write_layermem(measured.layermem, data, options, log, opened.device)
            done.close()
        for member, (log, done) in zip(of_units, _counting(list(of_units.values()), measured.images), strict=True):
            _write_units(member, measured, options, data, log)
            done.close()
        for log, done in _counting(of_classes, measured.images):
            assert labels is not None
            _write_classes(measured, labels, data, log)
            done.close()
        for log, done in _counting(of_probes, measured.images):
            _write_probes(measured, opened, encoders, log, max_forward)
            done.close()


def _counting(begun: Sequence[tuple[AnalysisLog, ExitStack]], images: int) -> Iterator[tuple[AnalysisLog, ExitStack]]:
    for log, done in begun:
        log.images += images
        yield log, done


def _units_tag(member: str, tag: str | None, checkpoint: str | None) -> str | None:
    if tag is None:
        return unitmem_tag(member, member, checkpoint)
    return tag if member == "candidate" else f"{tag}-{unitmem_tag(member, member, None)}"


def _write_units(
    member: str, measured: Measured, options: LayerMemOptions, data: ImageDataModule, log: AnalysisLog
) -> None:
    other, units = PARTNERS[member], measured.units
    found = units[member][member]
    of_pair = None
    if not data.split.half:
        of_pair = UnitsOfPair(found, units[member][other], units[other][member], units[other][other])
    own = UnitMemOptions(
        split=member,  # type: ignore[arg-type]
        views=options.views,
        view_set=options.view_set,
        seed=options.seed,
    )
    write_unitmem(of_pair or found, units[member].get("external"), data, own, log)
    write_thumbnails(data, log)


def _write_classes(measured: Measured, labels: ClassLabels, data: ImageDataModule, log: AnalysisLog) -> None:
    assert measured.clean is not None
    mu_NU, ids = (tensor.cpu().numpy() for tensor in measured.clean)
    results = measured.classes["candidate"]
    widths = [len(result.classmem) for result in results.values()]
    start_of = dict(zip(results, np.cumsum([0, *widths[:-1]]).tolist(), strict=True))

    def strongest(class_of: Mapping[Unit, int]) -> Mapping[Unit, Driving]:
        columns = [start_of[layer] + unit for layer, unit in class_of]
        return driven_most(mu_NU[:, columns], ids, labels.of(ids), class_of)

    write_classmem(results, measured.classes.get("external"), data, labels, ids, strongest, log)


def _write_probes(
    measured: Measured, opened: OpenedRun, encoders: Sequence[nn.Module], log: AnalysisLog, max_forward: int
) -> None:
    """Probes of both members and of the random encoder; what the pass did not show them is seen here, once."""
    data, options = opened.data, ProbeFlags()
    untouched = data.view_maker(data.make_views("clean"))
    sets: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in (*MEMBERS, "random")}
    for split in ("shared", "external"):
        batches = data.batches(split, max_forward, dist.rank(), dist.world_size())
        embed = partial(embed_many, make_views=untouched, max_forward=max_forward)
        (random,), labels, _ = embed([opened.encoder("random")], batches, title=f"random {split}")
        sets["random"].append((random, labels))
        seen = measured.features["candidate"][split][2]
        rest = batches.ids[~np.isin(batches.ids, seen.cpu().numpy())]
        others: list[Tensor] = []
        if len(rest):
            others, _, _ = embed(encoders, replace(batches, ids=rest), title=f"probe {split}")
        order = torch.cat([seen, torch.from_numpy(rest).to(seen.device)]).argsort()
        for number, member in enumerate(MEMBERS):
            own = torch.cat([measured.features[member][split][0], *others[number : number + 1]])[order]
            sets[member].append((own, labels))
        log.images += len(batches.ids) + len(MEMBERS) * len(rest)
    accuracies = {name: accuracy_of(train, test, data.num_classes, options) for name, (train, test) in sets.items()}
    write_probe(accuracies, log)
