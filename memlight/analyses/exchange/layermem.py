"""LayerMem of several copies of an encoder against one partner: all see the same views, the partner only once."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from torch import nn

from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import named
from memlight.features.hooks import capture, check_finite
from memlight.features.passes import device_of, observing, require_images, view_batches
from memlight.metrics.layermem import LayerMem, LayerMemResult, aligner


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
    device = device_of(partner)
    reduce = aligner(num_views)
    every = list(dict.fromkeys(layer for _, layers in copies for layer in layers))
    metrics = [{layer: LayerMem().to(device) for layer in layers} for _, layers in copies]
    seen = False
    with observing(partner, *(copy for copy, _ in copies)), ExitStack() as stack:
        align_g = stack.enter_context(capture(partner, every, reduce=reduce))
        align_f = [stack.enter_context(capture(copy, layers, reduce=reduce)) for copy, layers in copies]
        for views, batch in view_batches(
            batches,
            make_views,
            num_views=num_views,
            max_forward=max_forward,
            device=device,
            progress=False,
            title="LayerMem",
        ):
            seen = True
            partner(views)
            check_finite(align_g)
            for (copy, _), aligned, scores in zip(copies, align_f, metrics, strict=True):
                copy(views)
                with named(encoder="donor"):
                    check_finite(aligned)
                for layer, score in scores.items():
                    score.update(aligned[layer], align_g[layer], batch.ids)
    require_images(seen, device)
    return [{layer: score.compute() for layer, score in scores.items()} for scores in metrics]
