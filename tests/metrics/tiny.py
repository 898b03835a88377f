"""A tiny encoder, tiny images, and views that depend on nothing but (id, view)."""

import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch

LAYERS = ["stem", "body.0", "body.3", "head"]


class TinyEncoder(nn.Module):
    """Everything an observer could disturb: BatchNorm, dropout, and an in-place ReLU after a captured layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = nn.Conv2d(3, 6, 3, padding=1)
            self.body = nn.Sequential(
                nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(True)
            )
            self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def image_batches(count: int, batch_size: int, ids: Tensor | None = None) -> list[ImageBatch]:
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    ids = torch.arange(1000, 1000 + count) if ids is None else ids
    images = images[ids - 1000]
    return [
        ImageBatch(images[i : i + batch_size], ids[i : i + batch_size] % 3, ids[i : i + batch_size])
        for i in range(0, len(ids), batch_size)
    ]


def make_views(batch: ImageBatch, view: int) -> Tensor:
    phase = batch.ids[:, None, None, None] * 0.37 + view * 1.3 + torch.arange(8)
    return batch.images.float() / 255 + 0.2 * torch.sin(phase)


def one_by_one(encoder: nn.Module, count: int, num_views: int) -> dict[str, Tensor]:
    """Every layer's output for every image and view, one image and one view at a time: layer -> (N, V, ...)."""
    stored: dict[str, list[Tensor]] = {layer: [] for layer in LAYERS}
    hooks = [
        encoder.get_submodule(layer).register_forward_hook(
            lambda _, __, output, layer=layer: stored[layer].append(output[0].double().clone())
        )
        for layer in LAYERS
    ]
    mode = encoder.training
    encoder.eval()
    with torch.no_grad():
        for batch in image_batches(count, 1):
            for view in range(num_views):
                encoder(make_views(batch, view))
    encoder.train(mode)
    for hook in hooks:
        hook.remove()
    return {layer: torch.stack(outputs).unflatten(0, (count, num_views)) for layer, outputs in stored.items()}
