"""UnitMem over all layers, against the bare forward of the same views and against one thing at a time.

    python benchmarks/unitmem.py                                                    # CPU, ResNet9 at 32 px: 1-2 minutes
    python benchmarks/unitmem.py --device cuda --encoder resnet50 --stem imagenet --size 224 --images 512 --bf16

The first ratio is the cost of measuring: cheap ready-made views on both sides, so that only hooks and metric differ.
The second is the whole job from uint8 images, SimCLR views included: ours against a script that takes every layer,
image and view alone, with torchvision's transforms and the encoder as torch makes it. Expected with ResNet9 at 32 px
on two CPU cores: .9 of the bare forward; see docs/RESULTS.md. Target on a GPU with ResNet-50 at 224 px: .9.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image

from memlight.batch import ImageBatch, ViewMaker
from memlight.data.augment import Views
from memlight.features.discovery import list_layers
from memlight.features.hooks import capture
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
    return encoder, list_layers(encoder, image_size=options.size)


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


def simclr_views(options: argparse.Namespace) -> ViewMaker:
    """Our views, a batch at a time."""
    views = Views("simclr", options.size)
    return lambda batch, view: views(batch.images, batch.ids, view=view)


def scripted_view(options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """The same augmentations as scripts write them: torchvision's, on one PIL image."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(options.size),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    return lambda image: transform(to_pil_image(image.cpu()))[None].to(options.device)


def as_scripts_have_it(encoder: nn.Module) -> nn.Module:
    """A copy in torch's default memory format."""
    return deepcopy(encoder).to(memory_format=torch.contiguous_format)


def one_at_a_time(encoder: nn.Module, batch: ImageBatch, layers: list[str], options: argparse.Namespace) -> None:
    """Every layer, image and view in a forward of its own, its view made alone."""
    make_view = scripted_view(options)
    with torch.no_grad():
        for layer in layers:
            for image in batch.images:
                means = []
                for _ in range(options.views):
                    with capture(encoder, [layer]) as captured:
                        encoder(make_view(image))
                    means.append(captured[layer])
                torch.stack(means).mean(0)


def race(
    options: argparse.Namespace,
    bare: Callable[[], object],
    measure: Callable[[ViewMaker], object],
    alone: Callable[[], object],
) -> tuple[float, float, float, float]:
    """Views a second, taken in turn: the bare forward, the measurement, the same with SimCLR views, one at a time."""
    device = torch.device(options.device)
    turns: list[Callable[[], object]] = [bare, lambda: measure(make_views), lambda: measure(simclr_views(options))]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
        rounds = [[seconds(turn, device) for turn in turns] for _ in range(options.repeats + 1)][1:]
        slowest = min(seconds(alone, device) for _ in range(2))
    views = options.images * options.views
    first, second, third = (views / min(times) for times in zip(*rounds, strict=True))
    return first, second, third, options.alone * options.views / slowest


def main() -> None:
    """Print the three speeds, in views a second, and their ratios."""
    options = arguments(__doc__ or "")
    encoder, layers = encoder_and_layers(options, seed=0)
    batches = image_batches(options)
    few = ImageBatch(*(tensor[: options.alone] for tensor in batches[0]))
    plain = as_scripts_have_it(encoder)

    def bare_forward() -> None:
        forward_only([encoder], batches, options.views, options.max_forward)

    def measure(maker: ViewMaker) -> None:
        measure_unitmem(
            encoder,
            batches,
            maker,
            layers,
            num_views=options.views,
            max_forward=options.max_forward,
            progress=False,
        )

    bare, ours, whole, slow = race(options, bare_forward, measure, lambda: one_at_a_time(plain, few, layers, options))
    print(f"{options.encoder} at {options.size} px on {options.device}, {len(layers)} layers, {options.views} views")
    print(f"bare forward      {bare:12,.0f} views/s")
    print(f"UnitMem           {ours:12,.0f} views/s   {ours / bare:.2f} of the bare forward")
    print(f"UnitMem + views   {whole:12,.0f} views/s")
    print(f"one at a time     {slow:12,.1f} views/s   UnitMem + views is {whole / slow:,.0f}x as fast")


if __name__ == "__main__":
    main()
