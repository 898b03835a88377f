"""Accuracy of pruned copies: many copies on one pass over the images, against one copy at a time.

    python benchmarks/prune.py                                                    # CPU, ResNet9 at 32 px: a minute
    python benchmarks/prune.py --device cuda --encoder resnet50 --size 64 --images 2000 --copies 24

Both sides give the same numbers, which is checked. One at a time, every copy decodes the PNG files and makes its views
again before its forwards; ours decodes and makes them once for all copies that fit the memory. Forwards, probe and
neighbours are the same work on both sides and bound the ratio: expected 1.2 on two CPU cores, where forwards are nearly
all of it; more on a GPU, where decoding is. The bare forwards of all copies are timed beside them.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.prune.study import choose_units
from memlight.data.images import ImageDataModule
from memlight.features.hooks import count_units
from memlight.interventions import prune_units
from memlight.interventions.parts import prunable_layers
from memlight.models.encoders import build_encoder

CLASSES = 4


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder", default="resnet9")
    parser.add_argument("--size", type=int, default=32, help="image side in pixels; the files have twice that")
    parser.add_argument("--images", type=int, default=400, help="images, a quarter of them for testing")
    parser.add_argument("--copies", type=int, default=8, help="pruned copies")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many counts")
    return parser.parse_args()


def image_folder(root: Path, options: argparse.Namespace) -> ImageDataModule:
    """PNG files of noise over a colour for each class, opened as a run opens its own."""
    rng = np.random.default_rng(0)
    side = 2 * options.size
    for number in range(options.images):
        folder = root / ("test" if number % 4 == 3 else "train") / f"class{number // 4 % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 160, (side, side, 3)) + 20 * (number // 4 % CLASSES)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:06d}.png")
    train = options.images - options.images // 4
    data = ImageDataModule(
        "folder",
        str(root),
        image_size=side,
        view_size=options.size,
        num_shared=train,
        num_candidate=0,
        num_independent=0,
        num_external=options.images // 4,
        memory_limit_gb=0,  # as data sets are that do not fit the memory
    )
    data.setup()
    return data


def pruned_copies(encoder: nn.Module, count: int) -> list[nn.Module]:
    """Copies that lost random tenths of their units."""
    sizes = count_units(encoder, prunable_layers(encoder))
    scores = {layer: np.zeros(units) for layer, units in sizes.items()}
    choices = [choose_units(scores, "random", "layer", 0.1, trial=trial) for trial in range(count)]
    return [prune_units(encoder, choice.units) for choice in choices]


def fastest(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest of some calls, the device's work included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the seconds of both ways and of the bare forwards, and the ratio."""
    options = arguments()
    device = torch.device(options.device)
    encoder = build_encoder(options.encoder, seed=0, image_size=options.size).eval()
    encoder = encoder.to(device).to(memory_format=torch.channels_last)
    probe = ProbeOptions(max_forward=256)
    with tempfile.TemporaryDirectory() as folder:
        data = image_folder(Path(folder), options)
        copies = pruned_copies(encoder, options.copies)
        results: dict[str, list[Accuracy]] = {}

        def together() -> None:
            results["together"] = list(measure_accuracy(copies, data, probe, progress=False))

        def one_at_a_time() -> None:
            alone = [next(iter(measure_accuracy([copy], data, probe, progress=False))) for copy in copies]
            results["alone"] = alone

        images = torch.rand(options.images, 3, options.size, options.size, device=device)

        def forwards() -> None:
            with torch.no_grad():
                for copy in copies:
                    for part in images.split(256):
                        copy(part)

        together()
        slow = fastest(one_at_a_time, device, options.repeats)
        fast = fastest(together, device, options.repeats)
        bare = fastest(forwards, device, options.repeats)
    for one, other in zip(results["together"], results["alone"], strict=True):
        assert one[0][:4] == other[0][:4] and one.knn == other.knn, "the two ways disagree"
    print(f"{options.copies} pruned copies of {options.encoder} at {options.size} px, {options.images} files, {device}")
    print(f"one copy at a time   {slow:8.2f} s")
    print(f"all on one pass      {fast:8.2f} s   {slow / fast:.2f}x as fast")
    print(f"their bare forwards  {bare:8.2f} s   {bare / fast:.2f} of it")


if __name__ == "__main__":
    main()
