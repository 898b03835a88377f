"""LayerMem over all layers, against two bare forwards of the same views and against one thing at a time.

    python benchmarks/layermem.py                                                   # CPU, ResNet9 at 32 px: 1-2 minutes
    python benchmarks/layermem.py --device cuda --encoder resnet50 --stem imagenet --size 224 --images 512 --bf16

The ratios are those of benchmarks/unitmem.py, for a pair of encoders. Expected with ResNet9 at 32 px on two CPU cores:
.9 of two bare forwards; see docs/RESULTS.md. Target on a GPU with ResNet-50 at 224 px: .8.
"""

import argparse

import torch
from torch import nn
from unitmem import (
    arguments,
    as_scripts_have_it,
    encoder_and_layers,
    forward_only,
    image_batches,
    race,
    scripted_view,
)

from memlight.batch import ImageBatch, ViewMaker
from memlight.features.hooks import capture
from memlight.metrics import measure_layermem


def one_at_a_time(encoders: list[nn.Module], batch: ImageBatch, layers: list[str], options: argparse.Namespace) -> None:
    """Every layer, image and view in a forward of its own, its view made alone, and the distances pair by pair."""
    make_view = scripted_view(options)
    with torch.no_grad():
        for layer in layers:
            for image in batch.images:
                views = [make_view(image) for _ in range(options.views)]
                for encoder in encoders:
                    features = []
                    for view in views:
                        with capture(encoder, [layer], reduce="flat") as captured:
                            encoder(view)
                        features.append(nn.functional.normalize(captured[layer][0], dim=0))
                    torch.stack([torch.dist(a, b) for i, a in enumerate(features) for b in features[:i]]).mean()


def main() -> None:
    """Print the three speeds, in views a second through both encoders, and their ratios."""
    options = arguments(__doc__ or "")
    encoder_f, layers = encoder_and_layers(options, seed=0)
    encoder_g, _ = encoder_and_layers(options, seed=1)
    encoders = [encoder_f, encoder_g]
    batches = image_batches(options)
    few = ImageBatch(*(tensor[: options.alone] for tensor in batches[0]))
    plain = [as_scripts_have_it(encoder) for encoder in encoders]

    def bare_forwards() -> None:
        forward_only(encoders, batches, options.views, options.max_forward)

    def measure(maker: ViewMaker) -> None:
        measure_layermem(
            encoder_f,
            encoder_g,
            batches,
            maker,
            layers,
            num_views=options.views,
            max_forward=options.max_forward,
            progress=False,
        )

    bare, ours, whole, slow = race(options, bare_forwards, measure, lambda: one_at_a_time(plain, few, layers, options))
    print(f"{options.encoder} at {options.size} px on {options.device}, {len(layers)} layers, {options.views} views")
    print(f"two bare forwards {bare:12,.0f} views/s")
    print(f"LayerMem          {ours:12,.0f} views/s   {ours / bare:.2f} of two bare forwards")
    print(f"LayerMem + views  {whole:12,.0f} views/s")
    print(f"one at a time     {slow:12,.1f} views/s   LayerMem + views is {whole / slow:,.0f}x as fast")


if __name__ == "__main__":
    main()
