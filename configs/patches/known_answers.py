"""Three kinds of "generated" images whose sources are known, and the test that a patch search finds them.

    python configs/patches/known_answers.py make --images data/cifar10 --out data/known               # 1 minute
    for kind in train held_out copies mosaics; do ...                        # docs/PATCHES.md: extract each, search
    python configs/patches/known_answers.py check --run runs/known_mosaics --answers data/known/mosaics.csv
    python configs/patches/known_answers.py members --run runs/vae --members data/generated/members.txt

`make` writes 1000 images of each kind as PNG files: OUT/held_out (test images), OUT/copies (training images as they
are) and OUT/mosaics (each of 4 training images, every patch from one of them at its own place), with a table of every
patch's source for the last two. `check` prints the share of patches whose nearest patch is in the true image, and is
the true patch itself. Patches that cannot be told apart (equal pixels in two training images, at distance 0) count as
found; how many is printed. Expected in crop mode: all of them. `members` prints the share of patches whose nearest is
in one of the images that a generator has learned from, beside those images' share of the index.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memlight.patches.grid import patch_boxes
from memlight.patches.results import read_results
from memlight.patches.store import open_store
from memlight.stats import clustered_mean

Pixels = NDArray[np.uint8]


def make(images: Path, out: Path, count: int, grid: int, sources: int, seed: int) -> None:
    """Write the three kinds of images, and the tables of their sources."""
    rng = np.random.default_rng(seed)
    names = {split: files_of(images / split) for split in ("train", "test")}
    chosen = sorted(rng.choice(len(names["test"]), count, replace=False))
    for number, place in enumerate(chosen):
        save(out / "held_out", number, read(images / "test", names["test"][place]))
    copied = sorted(rng.choice(len(names["train"]), count, replace=False))
    rows = []
    for number, place in enumerate(copied):
        name = names["train"][place]
        save(out / "copies", number, read(images / "train", name))
        rows += [(f"{number:05d}.png", patch, name, patch) for patch in range(grid**2)]
    write_answers(out / "copies.csv", rows)
    rows = []
    for number in range(count):
        donors = rng.choice(len(names["train"]), sources, replace=False)
        of_patch = donors[rng.permutation(np.arange(grid**2) % sources)]
        pixels = {donor: read(images / "train", names["train"][donor]) for donor in donors}
        mosaic = pixels[donors[0]].copy()
        for patch, (box, donor) in enumerate(zip(patch_boxes(*mosaic.shape[:2], grid), of_patch, strict=True)):
            part = (slice(box.top, box.bottom), slice(box.left, box.right))
            mosaic[part] = pixels[donor][part]
            rows.append((f"{number:05d}.png", patch, names["train"][donor], patch))
        save(out / "mosaics", number, mosaic)
    write_answers(out / "mosaics.csv", rows)


def check(run: Path, answers: Path) -> None:
    """Print how many patches were traced to their source."""
    results = read_results(run)
    queries, index = open_store(results.queries), open_store(results.index)
    place = {name: number for number, name in enumerate(index.names)}
    query_place = {name: number for number, name in enumerate(queries.names)}
    patches = index.patches
    with answers.open(newline="", encoding="utf-8") as file:
        rows = [(query_place[r["image"]], int(r["patch"]), place[r["source"]], int(r["source_patch"]))
                for r in csv.DictReader(file)]  # fmt: skip
    image, patch, source, source_patch = np.array(rows).T
    found = results.indices[image * patches + patch, 0]
    distance = results.distances[image * patches + patch, 0]
    true = source * patches + source_patch
    to_true = np.linalg.norm(
        queries.rows(image * patches + patch).astype(np.float64) - index.rows(true).astype(np.float64), axis=1
    )
    exact = found == true
    twins = ~exact & (distance == 0) & (to_true == 0)
    print(f"{len(rows)} patches of {len(np.unique(image))} images")
    print(f"true patch nearest           {exact.mean():.4%}")
    print(f"  or one equal to it         {(exact | twins).mean():.4%}  ({twins.sum()} patches)")
    print(f"a patch of the true image    {(found // patches == source).mean():.4%}")
    print(f"distance 0 to the true patch {(to_true == 0).mean():.4%}")


def members(run: Path, names: Path) -> None:
    """Print how many patches have their nearest in an image that a generator has learned from."""
    results = read_results(run)
    index = open_store(results.index)
    learned = set(names.read_text(encoding="utf-8").split())
    is_member = np.array([name in learned for name in index.names])
    hits = is_member[results.indices[:, 0] // index.patches]
    images = np.arange(len(hits)) // index.patches
    share = clustered_mean(hits, images)
    print(f"{len(hits)} patches of {images[-1] + 1} images; {is_member.sum()} of {len(is_member)} sources are members")
    print(f"nearest patch in a member    {share.value:.3%} [{share.low:.3%}, {share.high:.3%}]")
    print(f"  if sources did not matter  {is_member.mean():.3%}")


def files_of(folder: Path) -> list[str]:
    """Names of all files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def read(folder: Path, name: str) -> Pixels:
    """The pixels of an image, ``(H, W, 3)``."""
    return np.asarray(Image.open(folder / name).convert("RGB"))


def save(folder: Path, number: int, pixels: Pixels) -> None:
    """Write one image."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"{number:05d}.png")


def write_answers(path: Path, rows: Sequence[tuple[str, int, str, int]]) -> None:
    """Write the source of every patch."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "patch", "source", "source_patch"))
        writer.writerows(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("--images", type=Path, required=True, help="folder with train/ and test/")
    maker.add_argument("--out", type=Path, required=True)
    maker.add_argument("--count", type=int, default=1000, help="images of each kind")
    maker.add_argument("--grid", type=int, default=4, help="patches on a side")
    maker.add_argument("--sources", type=int, default=4, help="training images in a mosaic")
    maker.add_argument("--seed", type=int, default=0)
    checker = commands.add_parser("check")
    checker.add_argument("--run", type=Path, required=True, help="what `analyze.py patches search` wrote")
    checker.add_argument("--answers", type=Path, required=True, help="the table of sources")
    counter = commands.add_parser("members")
    counter.add_argument("--run", type=Path, required=True, help="what `analyze.py patches search` wrote")
    counter.add_argument("--members", type=Path, required=True, help="file of names, as generators.py writes it")
    options = parser.parse_args()
    if options.command == "make":
        make(options.images, options.out, options.count, options.grid, options.sources, options.seed)
    elif options.command == "check":
        check(options.run, options.answers)
    else:
        members(options.run, options.members)


if __name__ == "__main__":
    main()
