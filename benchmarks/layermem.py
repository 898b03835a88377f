"""LayerMem over all layers, against two bare forwards of the same views and against one thing at a time.

    python benchmarks/layermem.py                                                   # CPU, ResNet9 at 32 px: 1-2 minutes
    python benchmarks/layermem.py --device cuda --encoder resnet50 --stem imagenet --size 224 --images 512 --bf16

Measured with ResNet9 at 32 px (--threads 1): 0.91 to 0.93 of two bare forwards on one CPU core,
and 30x the way that runs every layer, image and view alone in a forward of its own. More cores widen
that gap, since a batch of one cannot use them. Target: 0.8 on a GPU with ResNet-50 at 224 px.
"""

import torch
from torch import nn
from unitmem import arguments, encoder_and_layers, forward_only, image_batches, make_views, seconds

from memlight.batch import ImageBatch
from memlight.features import capture
from memlight.metrics import measure_layermem


def one_at_a_time(encoders: list[nn.Module], batch: ImageBatch, layers: list[str], views: int) -> None:
    """Every layer, image and view in a forward of its own, and the distances pair by pair."""
    with torch.no_grad():
        for layer in layers:
            for image in range(len(batch.ids)):
                single = ImageBatch(*(tensor[image : image + 1] for tensor in batch))
                for encoder in encoders:
                    features = []
                    for view in range(views):
                        with capture(encoder, [layer], reduce="flat") as captured:
                            encoder(make_views(single, view))
                        features.append(nn.functional.normalize(captured[layer][0], dim=0))
                    torch.stack([torch.dist(a, b) for i, a in enumerate(features) for b in features[:i]]).mean()


def main() -> None:
    """Print the three speeds, in views a second through both encoders, and their ratios."""
    options = arguments(__doc__ or "")
    device = torch.device(options.device)
    encoder_f, layers = encoder_and_layers(options, seed=0)
    encoder_g, _ = encoder_and_layers(options, seed=1)
    encoders = [encoder_f, encoder_g]
    batches = image_batches(options)
    few = ImageBatch(*(tensor[: options.alone] for tensor in batches[0]))

    def bare_forwards() -> None:
        forward_only(encoders, batches, options.views, options.max_forward)

    def measure() -> None:
        measure_layermem(
            encoder_f,
            encoder_g,
            batches,
            make_views,
            layers,
            num_views=options.views,
            max_forward=options.max_forward,
            progress=False,
        )

    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
        times: dict[str, list[float]] = {"bare": [], "layermem": []}
        for _ in range(options.repeats + 1):
            times["bare"].append(seconds(bare_forwards, device))
            times["layermem"].append(seconds(measure, device))
        alone = seconds(lambda: one_at_a_time(encoders, few, layers, options.views), device)
    bare, ours = (options.images * options.views / min(times[name][1:]) for name in ("bare", "layermem"))
    slow = options.alone * options.views / alone
    print(f"{options.encoder} at {options.size} px on {device}, {len(layers)} layers, {options.views} views")
    print(f"two bare forwards {bare:12,.0f} views/s")
    print(f"LayerMem          {ours:12,.0f} views/s   {ours / bare:.2f} of two bare forwards")
    print(f"one at a time     {slow:12,.1f} views/s   LayerMem is {ours / slow:,.0f}x as fast")


if __name__ == "__main__":
    main()
