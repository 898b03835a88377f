"""Views a second on one core: ours, lightly's and torchvision's, in turn and side by side.

    python benchmarks/views.py
    python benchmarks/views.py --size 224 --source-size 256 --batch 32
    python benchmarks/views.py --device cuda --batch 4096 --compile

Fifteen seconds. On one core at 32 pixels ours makes about 10 times as many SimCLR views as lightly's
``SimCLRTransform(input_size=32, gaussian_blur=0)``; 9 to 12 were seen while other work kept the cores busy. With
``--device`` ours runs there and the others stay on the core.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from lightly.transforms.simclr_transform import SimCLRTransform
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import to_pil_image

from memlight.data.augment import Views
from memlight.data.geometry import blur_kernel_size

ROUNDS = 7


def smooth_images(count: int, size: int) -> Tensor:
    """Random but photograph-like images, ``uint8 (count, 3, size, size)``."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 255).to(torch.uint8)


def ours(images: Tensor, size: int, device: torch.device, compile: bool) -> Callable[[], int]:
    """Two views of the whole batch."""
    views = Views("simclr", size, mean=(0.5,) * 3, std=(0.5,) * 3, compile=compile)
    there, ids = images.to(device), torch.arange(len(images), device=device)

    def run() -> int:
        made = [views(there, ids, view=view) for view in range(2)]
        float(made[-1][-1, 0, 0, 0])  # a device has finished when its last value is here
        return sum(len(view) for view in made)

    return run


def lightly(images: Tensor, size: int, count: int) -> Callable[[], int]:
    """Two views of each image, from PIL, as lightly's DataLoader workers make them."""
    transform = SimCLRTransform(input_size=size, gaussian_blur=0.5 if size >= 64 else 0.0)
    pictures = [to_pil_image(image) for image in images[:count]]
    return lambda: sum(len(transform(picture)) for picture in pictures)


def torchvision(images: Tensor, size: int, count: int) -> Callable[[], int]:
    """One view of each image, one at a time: the only way its transforms draw for every image."""
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop(size, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        v2.RandomGrayscale(0.2),
    ]
    if size >= 64:
        steps.append(v2.RandomApply([v2.GaussianBlur(blur_kernel_size(size), (0.1, 2.0))], p=0.5))
    transform = v2.Compose([*steps, v2.Normalize((0.5,) * 3, (0.5,) * 3)])
    return lambda: sum(len(transform(image)[None]) for image in images[:count])


def main() -> None:
    """Parse the flags, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=torch.device, default=torch.get_default_device(), help="where ours runs")
    parser.add_argument("--size", type=int, default=32, help="pixels of a view")
    parser.add_argument("--source-size", type=int, default=None, help="pixels of an image; the view's if not given")
    parser.add_argument("--batch", type=int, default=512, help="images in one call of ours")
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(1)

    images = smooth_images(args.batch, args.source_size or args.size)
    one_at_a_time = max(8, min(args.batch, 256 * 32 // args.size))
    contenders = {
        "ours": ours(images, args.size, args.device, args.compile),
        "lightly": lightly(images, args.size, one_at_a_time),
        "torchvision": torchvision(images, args.size, one_at_a_time),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start = time.perf_counter()
            made = run()
            rates[name].append(made / (time.perf_counter() - start))

    median = {name: statistics.median(values[1:]) for name, values in rates.items()}
    print(f"SimCLR views/s, {args.size} px, batch {args.batch}; ours on {args.device}, the others on one core")
    for name, rate in median.items():
        print(f"{name:12s} {rate:12,.0f}   ours / it = {median['ours'] / rate:6.1f}")


if __name__ == "__main__":
    main()
