"""LayerMem: how much better the encoder that saw an image aligns its views, layer by layer ([P] eq 1-4)."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import UserError
from memlight.features.passes import Part, Reading, device_of, read_together
from memlight.metrics.functional import Distance, Pairs, Scale, alignment, sslmem, sslmem_of_sets
from memlight.metrics.ids import ImageMetric, distinct
from memlight.metrics.traces import Traces, TracesPass, tracer


class LayerMemResult:
    """LayerMem of one layer, with the score of every image.

    Attributes:
        layermem: mean score, 0-d float64.
        scores: ``(N,)`` SSLMem of each image.
        ids: ``(N,)`` int64, ascending and distinct.
        align_f: ``(N,)`` alignment under the candidate encoder.
        align_g: ``(N,)`` alignment under the independent encoder.
        traces: what else each encoder's layer leaves of the images; None unless it was asked for.
    """

    def __init__(
        self, align_f: Tensor, align_g: Tensor, ids: Tensor, scale: Scale, scores: Tensor | None = None
    ) -> None:
        self.traces: tuple[Traces, Traces] | None = None
        self.ids = ids
        self.align_f = align_f
        self.align_g = align_g
        self.scores = sslmem(align_f, align_g, scale) if scores is None else scores
        self.layermem = self.scores.mean(dtype=torch.float64)


def in_one_unit(
    results: Mapping[str, Mapping[str, LayerMemResult]], scale: Scale
) -> dict[str, dict[str, LayerMemResult]]:
    """The results of several splits, layer by layer in one unit; see `memlight.metrics.functional.sslmem_of_sets`.

    Args:
        results: split -> layer -> result; the splits have the same layers.
        scale: of the scores.
    """
    scored: dict[str, dict[str, LayerMemResult]] = {split: {} for split in results}
    for layer in next(iter(results.values()), {}):
        of_splits = {split: of_layers[layer] for split, of_layers in results.items()}
        scores = sslmem_of_sets([(result.align_f, result.align_g) for result in of_splits.values()], scale)
        for (split, result), own in zip(of_splits.items(), scores, strict=True):
            scored[split][layer] = LayerMemResult(result.align_f, result.align_g, result.ids, scale, own)
            scored[split][layer].traces = result.traces
    return scored


class LayerMem(ImageMetric):
    """Mean SSLMem over images, each counted once however often it is seen, on one process or several.

    Args:
        num_samples: how many distinct images are expected; None takes what comes.
        scale: of the score, see `memlight.metrics.functional.sslmem`.
    """

    align_f: list[Tensor]
    align_g: list[Tensor]

    def __init__(self, num_samples: int | None = None, scale: Scale = "ratio") -> None:
        super().__init__()
        self.num_samples = num_samples
        self.scale: Scale = scale
        self.add_rows("align_f", torch.float64)
        self.add_rows("align_g", torch.float64)

    def update(self, align_f_B: Tensor, align_g_B: Tensor, ids_B: Tensor) -> None:
        """Add the alignments ``(B,)`` of images ``ids_B`` under both encoders."""
        if not align_f_B.shape == align_g_B.shape == ids_B.shape:
            raise ValueError(f"shapes {align_f_B.shape}, {align_g_B.shape} and {ids_B.shape} differ")
        self.align_f.append(align_f_B.double())
        self.align_g.append(align_g_B.double())
        self.ids.append(ids_B)

    def compute(self) -> LayerMemResult:
        """Score every image seen so far.

        Raises:
            ValueError: when no image was seen, or not ``num_samples`` of them.
        """
        ids = self.rows("ids")
        once = distinct(ids)
        if once.numel() == 0 or self.num_samples not in (None, once.numel()):
            raise ValueError(f"{once.numel()} distinct images were seen, not {self.num_samples or 'one or more'}")
        return LayerMemResult(self.rows("align_f")[once], self.rows("align_g")[once], ids[once], self.scale)


def measure_layermem(
    encoder_f: nn.Module,
    encoder_g: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    layers: Sequence[str],
    *,
    num_views: int = 10,
    distance: Distance = "l2",
    normalize: bool = True,
    pairs: Pairs = "all",
    scale: Scale = "ratio",
    traces: bool = False,
    max_forward: int = 512,
    device: torch.device | str | None = None,
    progress: bool = True,
    title: str = "LayerMem",
) -> dict[str, LayerMemResult]:
    """Score every image on every layer in one pass; both encoders see the same views.

    Alignment is reduced inside the hooks, so no feature map outlives its layer. Encoders, buffers, modes and
    random generators are left as they were; with a process group up, every process gets the whole result.

    Args:
        encoder_f: the candidate encoder, which saw the candidate images.
        encoder_g: the independent encoder, which did not.
        batches: images of one split (this process's share of them).
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        layers: module paths that both encoders have.
        num_views: V, at least 2.
        distance: ``l2``, ``l1``, ``cosine`` or ``angular``; see `memlight.metrics.functional.alignment`.
        normalize: divide every representation by its l2 norm first.
        pairs: ``all`` pairs of views, or ``clean``: view 0 against the others, where ``make_views`` gives the untouched
            image as view 0 (``ImageDataModule.view_maker(clean_first=True)`` does).
        scale: ``ratio``, ``range`` or ``none``; see `memlight.metrics.functional.sslmem`.
        traces: also keep norm, sketch and units of each image for membership; see `memlight.metrics.traces`.
        max_forward: most views in one forward.
        device: where both encoders are; None asks ``encoder_f``.
        progress: show a bar.
        title: the bar's text.

    Returns:
        A result for each layer, in the order of ``layers``.

    Raises:
        UserError: fewer than two views, no image, an unknown layer, or activations that are not finite.
    """
    if num_views < 2:
        raise UserError("num_views", num_views, "LayerMem compares views of an image", "use `num_views` 2 or more")
    device = torch.device(device) if device is not None else device_of(encoder_f)

    def align(z_VBD: Tensor) -> Tensor:
        return alignment(z_VBD, distance, normalize, pairs)

    running = LayerMemPass(layers, num_views, align, scale, traces=traces, device=device)
    with read_together(
        [encoder_f, encoder_g],
        running.readings(),
        batches,
        make_views,
        num_views=num_views,
        max_forward=max_forward,
        device=device,
        progress=progress,
        title=title,
    ) as parts:
        for part in parts:
            running.update(part)
    return running.compute()


class LayerMemPass:
    """LayerMem of all layers of a pair while images go by, with what membership needs besides if asked for.

    Args:
        layers: module paths that both encoders have, in execution order.
        num_views: V, views that are compared.
        align: gives the alignment ``(b,)`` of features ``(V, b, D)``.
        scale: see `memlight.metrics.functional.sslmem`.
        traces: also keep norm, sketch and units of each image; see `memlight.metrics.traces`.
        before: views of each image that come before those, and are not compared.
        device: where the encoders are.
    """

    def __init__(
        self,
        layers: Sequence[str],
        num_views: int,
        align: Callable[[Tensor], Tensor],
        scale: Scale = "ratio",
        *,
        traces: bool = False,
        before: int = 0,
        device: torch.device,
    ) -> None:
        self.layers, self.num_views, self.before = list(layers), num_views, before
        self._reduce = tracer(align) if traces else align
        self._metrics = {layer: LayerMem(scale=scale).to(device) for layer in layers}
        self._traces = [TracesPass(layers) for _ in range(2 if traces else 0)]
        self._ids: list[Tensor] = []

    def readings(self) -> list[Reading]:
        """What is read of encoders f and g: both alignments, then with traces the units of both."""
        reduce = by_view(self.before + self.num_views, lambda z_VBD: self._reduce(z_VBD[self.before :]))
        units = [Reading(encoder, self.layers) for encoder in range(len(self._traces))]
        return [*(Reading(encoder, self.layers, reduce) for encoder in (0, 1)), *units]

    def update(self, part: Part) -> None:
        """Add what the readings gave of some images."""
        batch, captured, _ = part
        self._ids.append(batch.ids)
        for layer, metric in self._metrics.items():
            of_f, of_g = (captured[encoder][layer] for encoder in (0, 1))
            metric.update(*((of_f[:, 0], of_g[:, 0]) if self._traces else (of_f, of_g)), batch.ids)
        first = self.before * len(batch.ids)
        for encoder, keeper in enumerate(self._traces):
            units = {layer: values[first:] for layer, values in captured[2 + encoder].items()}
            keeper.update(captured[encoder], units, self.num_views)

    def compute(self) -> dict[str, LayerMemResult]:
        """The result of every layer, over the images of all processes."""
        results = {layer: metric.compute() for layer, metric in self._metrics.items()}
        if self._traces:
            ids = torch.cat(self._ids)
            of_f, of_g = (keeper.compute(ids) for keeper in self._traces)
            for layer, result in results.items():
                result.traces = (of_f[layer], of_g[layer])
        return results


def aligner(
    num_views: int, distance: Distance = "l2", normalize: bool = True, pairs: Pairs = "all"
) -> Callable[[Tensor], Tensor]:
    """What reduces a layer's ``(V * b, ...)`` features, view-major, to the alignment ``(b,)`` of each image's views."""
    return by_view(num_views, lambda z_VBD: alignment(z_VBD, distance, normalize, pairs))


def by_view(num_views: int, reduce: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Hand ``(V * b, ...)`` features, view-major, to ``reduce`` as ``(V, b, D)``, in any fixed order of positions."""

    def flattened(features: Tensor) -> Tensor:
        if features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last):
            features = features.permute(0, 2, 3, 1)  # alignment and sketch do not ask for a particular order
        return reduce(features.reshape(num_views, -1, features[0].numel()))

    return flattened
