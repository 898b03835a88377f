"""Features of all layers written to disk, against the bare forward of the same views and against one thing at a time.

    python benchmarks/features.py --views 1 --images 500 --threads 1                # CPU, ResNet9 at 32 px: 2 minutes
    python benchmarks/features.py --device cuda --encoder resnet50 --stem imagenet --size 224 --views 1 --bf16

Once as units and once as the layers give them, float16, files synced. The ratio is the cost of capturing and writing:
ready-made views on both sides. The other way takes every layer and image in a forward of its own, and saves it alone.
Expected with ResNet9 at 32 px on a busy CPU core: .8 of the bare forward for units, .7 for whole layers.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from unitmem import (
    arguments,
    as_scripts_have_it,
    encoder_and_layers,
    forward_only,
    image_batches,
    make_views,
    race,
    scripted_view,
)

from memlight.analyses.features.command import FeatureOptions
from memlight.analyses.features.study import feature_shapes, write_features
from memlight.batch import ImageBatch, ViewMaker
from memlight.features.hooks import Reduce, capture
from memlight.storage.shards import FeatureWriter


def one_at_a_time(
    encoder: nn.Module, batch: ImageBatch, layers: list[str], reduce: Reduce, options: argparse.Namespace
) -> None:
    """Every layer, image and view in a forward of its own, its view made alone, each in a file of its own."""
    make_view = scripted_view(options)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for layer in layers:
            for number, image in enumerate(batch.images):
                for view in range(options.views):
                    with capture(encoder, [layer], reduce=reduce) as captured:
                        encoder(make_view(image))
                    features = captured[layer][0].cpu().numpy().astype(np.float16)
                    np.save(f"{folder}/{layer}-{number}-{view}.npy", features)


def main() -> None:
    """Print speeds, in views a second, and their ratios, for both ways to store a layer."""
    options = arguments(__doc__ or "")
    encoder, layers = encoder_and_layers(options, seed=0)
    batches = image_batches(options)
    few = ImageBatch(*(tensor[: options.alone] for tensor in batches[0]))
    plain = as_scripts_have_it(encoder)
    ids = np.arange(options.images)
    print(f"{options.encoder} at {options.size} px on {options.device}, {len(layers)} layers, {options.views} views")

    def bare_forward() -> None:
        forward_only([encoder], batches, options.views, options.max_forward)

    def compare(reduce: Reduce) -> None:
        stored = FeatureOptions(reduce=reduce, views=options.views)
        shapes = feature_shapes(encoder, batches[0], make_views, layers, stored)

        def write(maker: ViewMaker) -> None:
            with tempfile.TemporaryDirectory() as folder:
                writer = FeatureWriter(Path(folder), {}, shapes, "float16", ids, ids, len(ids))
                writer.begin()
                most = options.max_forward
                write_features(encoder, batches, maker, writer, [0], stored, max_forward=most, progress=False)

        def alone() -> None:
            one_at_a_time(plain, few, layers, reduce, options)

        bare, ours, whole, slow = race(options, bare_forward, write, alone)
        per_view = sum(int(np.prod(shape[1:])) for shape in shapes.values()) * 2 / 1000
        print(f"--reduce {reduce}: {per_view:.1f} kB a view")
        print(f"  bare forward      {bare:12,.0f} views/s")
        print(f"  features          {ours:12,.0f} views/s   {ours / bare:.2f} of the bare forward")
        print(f"  features + views  {whole:12,.0f} views/s")
        print(f"  one at a time     {slow:12,.1f} views/s   features + views is {whole / slow:,.0f}x as fast")

    compare("unit")
    compare("none")


if __name__ == "__main__":
    main()
