"""What chosen units do on every image, in one pass."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from memlight import dist
from memlight.batch import ImageBatch, ViewMaker
from memlight.features.hooks import Activation, Tokens, capture
from memlight.features.passes import device_of, observing, view_batches
from memlight.metrics.ids import distinct


def unit_activations(
    encoder: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    units: Sequence[tuple[str, int]],
    *,
    num_views: int = 1,
    activation: Activation = "abs",
    tokens: Tokens = "mean",
    max_forward: int = 512,
    progress: bool = True,
    title: str = "activations",
) -> tuple[Tensor, Tensor]:
    """Average the activation of each unit over the views of each image.

    The encoder, its buffers, its mode and the random generators are left as they were; with a process group up,
    every process gets all, each image once.

    Args:
        encoder: any encoder that `memlight.features.hooks.capture` can read.
        batches: images (this process's share of them).
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        units: layer and channel of each, R of them; a unit may be named twice.
        num_views: V, views whose activations are averaged.
        activation: see `memlight.features.hooks.capture`.
        tokens: likewise.
        max_forward: most views in one forward.
        progress: show a bar.
        title: the bar's text.

    Returns:
        ``(N, R)`` float32 and ids ``(N,)``, by ascending id, on the encoder's device.

    Raises:
        UserError: an unknown layer.
    """
    device = device_of(encoder)
    layers = list(dict.fromkeys(layer for layer, _ in units))
    activations = [torch.empty(0, len(units), device=device)]  # a process may have no image
    ids = [torch.empty(0, dtype=torch.int64, device=device)]
    with observing(encoder), capture(encoder, layers, activation=activation, tokens=tokens) as captured:
        for views, batch in view_batches(
            batches,
            make_views,
            num_views=num_views,
            max_forward=max_forward,
            device=device,
            progress=progress,
            title=title,
        ):
            encoder(views)
            of_views = torch.stack([captured[layer][:, unit] for layer, unit in units], dim=1)
            activations.append(of_views.view(num_views, -1, len(units)).mean(0))
            ids.append(batch.ids)
    all_ids = dist.gather_cat(torch.cat(ids))
    order = distinct(all_ids)
    return dist.gather_cat(torch.cat(activations))[order], all_ids[order]
