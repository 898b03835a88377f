"""UnitMem over all layers, against the bare forward of the same views and against one thing at a time.

    python benchmarks/unitmem.py                                                    # CPU, ResNet9 at 32 px: 1-2 minutes
    python benchmarks/unitmem.py --device cuda --encoder resnet50 --stem imagenet --size 224 --images 512 --bf16

Measured with ResNet9 at 32 px (--threads 1): 0.93 to 0.99 of the bare forward on one CPU core,
and 29x the way that runs every layer, image and view alone in a forward of its own. More cores widen
that gap, since a batch of one cannot use them. Target: 0.9 on a GPU with ResNet-50 at 224 px.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch
from memlight.features import capture, list_layers
from memlight.metrics import measure_unitmem
from memlight.models.encoders import build_encoder


def arguments(description: str) -> argparse.Namespace:
    """What both benchmarks of measurements take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--stem", default="cifar", choices=("cifar", "imagenet"))
    parser.add_argument("--size", type=int, default=32, help="image side in pixels")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--alone", type=int, default=4, help="images for the way that takes one thing at a time")
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--max-forward", type=int, default=512, help="most views in one forward")
    parser.add_argument("--repeats", type=int, default=5, help="the fastest of so many counts")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def encoder_and_layers(options: argparse.Namespace, seed: int) -> tuple[nn.Module, list[str]]:
    """An encoder with random weights, ready for its device, and all its layers."""
    encoder = build_encoder(options.encoder, stem=options.stem, seed=seed, image_size=options.size).eval()
    encoder = encoder.to(options.device, memory_format=torch.channels_last)
    return encoder, list_layers(encoder, options.size)


def image_batches(options: argparse.Namespace) -> list[ImageBatch]:
    """Random images on the device, in batches of 100."""
    images = torch.randint(0, 256, (options.images, 3, options.size, options.size), dtype=torch.uint8)
    images, ids = images.to(options.device), torch.arange(options.images, device=options.device)
    return [ImageBatch(images[i : i + 100], ids[i : i + 100], ids[i : i + 100]) for i in range(0, len(ids), 100)]


def make_views(batch: ImageBatch, view: int) -> Tensor:
    """Cheap views, so that what is timed is the measurement and not the augmentation."""
    return batch.images.roll((view, 3 * view), dims=(2, 3)).float().mul_(1 / 255)


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, the device's work included."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def forward_only(encoders: list[nn.Module], batches: list[ImageBatch], views: int, max_forward: int) -> None:
    """The same views through every encoder, and nothing else."""
    with torch.no_grad():
        for batch in batches:
            for start in range(0, len(batch.ids), max(1, max_forward // views)):
                part = ImageBatch(*(tensor[start : start + max(1, max_forward // views)] for tensor in batch))
                images = torch.cat([make_views(part, view) for view in range(views)])
                for encoder in encoders:
                    encoder(images)


def one_at_a_time(encoder: nn.Module, batch: ImageBatch, layers: list[str], views: int) -> None:
    """Every layer, image and view in a forward of its own."""
    with torch.no_grad():
        for layer in layers:
            for image in range(len(batch.ids)):
                single = ImageBatch(*(tensor[image : image + 1] for tensor in batch))
                means = []
                for view in range(views):
                    with capture(encoder, [layer]) as captured:
                        encoder(make_views(single, view))
                    means.append(captured[layer])
                torch.stack(means).mean(0)


def main() -> None:
    """Print the three speeds, in views a second, and their ratios."""
    options = arguments(__doc__ or "")
    device = torch.device(options.device)
    encoder, layers = encoder_and_layers(options, seed=0)
    batches = image_batches(options)
    few = ImageBatch(*(tensor[: options.alone] for tensor in batches[0]))

    def bare_forward() -> None:
        forward_only([encoder], batches, options.views, options.max_forward)

    def measure() -> None:
        measure_unitmem(
            encoder,
            batches,
            make_views,
            layers,
            num_views=options.views,
            max_forward=options.max_forward,
            progress=False,
        )

    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
        times: dict[str, list[float]] = {"bare": [], "unitmem": []}
        for _ in range(options.repeats + 1):
            times["bare"].append(seconds(bare_forward, device))
            times["unitmem"].append(seconds(measure, device))
        alone = seconds(lambda: one_at_a_time(encoder, few, layers, options.views), device)
    bare, ours = (options.images * options.views / min(times[name][1:]) for name in ("bare", "unitmem"))
    slow = options.alone * options.views / alone
    print(f"{options.encoder} at {options.size} px on {device}, {len(layers)} layers, {options.views} views")
    print(f"bare forward      {bare:12,.0f} views/s")
    print(f"UnitMem           {ours:12,.0f} views/s   {ours / bare:.2f} of the bare forward")
    print(f"one at a time     {slow:12,.1f} views/s   UnitMem is {ours / slow:,.0f}x as fast")


if __name__ == "__main__":
    main()
