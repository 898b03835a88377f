"""UnitMem over all layers of VAR's encoder, against the bare forward of the same views.

    python benchmarks/vqvae.py                                   # CPU, 32 channels at 64 px: a minute
    python benchmarks/vqvae.py --device cuda --encoder var_vqvae --size 256 --images 100 --max-forward 20 --bf16

The cheap views of benchmarks/unitmem.py on both sides, taken in turn in one run, so that only hooks and metric differ.
Target on a GPU with the published size at 256 px: .9 of the bare forward.
"""

import argparse

import torch
from unitmem import encoder_and_layers, forward_only, image_batches, make_views, seconds

from memlight.features.hooks import count_units
from memlight.metrics import measure_unitmem


def arguments() -> argparse.Namespace:
    """What is measured, and where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--encoder", default="var_vqvae_ch32", help="var_vqvae is the published size")
    parser.add_argument("--size", type=int, default=64, help="image side in pixels")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--max-forward", type=int, default=20, help="most views in one forward")
    parser.add_argument("--repeats", type=int, default=5, help="the fastest of so many counts")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    options = parser.parse_args()
    options.stem = "imagenet"
    torch.set_num_threads(options.threads)
    return options


def main() -> None:
    """Print both speeds, in views a second, and their ratio."""
    options = arguments()
    device = torch.device(options.device)
    encoder, layers = encoder_and_layers(options, seed=0)
    units = sum(count_units(encoder, layers).values())
    batches = image_batches(options)

    def bare() -> None:
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
        rounds = [(seconds(bare, device), seconds(measure, device)) for _ in range(options.repeats + 1)][1:]
    first, second = (options.images * options.views / min(times) for times in zip(*rounds, strict=True))
    print(f"{options.encoder} at {options.size} px on {options.device}, {len(layers)} layers, {units} units")
    print(f"bare forward {first:10,.1f} views/s")
    print(f"UnitMem      {second:10,.1f} views/s   {second / first:.2f} of the bare forward")
    if device.type == "cuda":
        print(f"peak memory  {torch.cuda.max_memory_allocated(device) / 2**30:10,.1f} GiB")


if __name__ == "__main__":
    main()
