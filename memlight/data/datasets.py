"""From the name of a data set, or a folder or archive of images, to numbered images."""

import hashlib
import math
import os
import warnings
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from memlight.data.decode import BROKEN, CHUNK, Size, decode_chunks, fit, header_size, require_room
from memlight.data.files import Files, Listing, few_words
from memlight.data.layout import half_of
from memlight.data.places import name_of, open_images
from memlight.data.sources import FileSource, ImageSource, MemorySource, require_whole
from memlight.data.tables import HUB, is_table
from memlight.errors import UserError

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]
"""Images ``(N, H, W)`` or ``(N, H, W, 3)``, labels ``(N,)`` (-1 for none), names of the classes."""

FILE_DATASETS = ("auto", "folder", "archive")
"""Names for one's own images; whether ``root`` is a directory or an archive is seen from what it is."""

NAMED = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
    "stl10": "STL10",
    "fashion_mnist": "FashionMNIST",
    "mnist": "MNIST",
}
"""Name -> class of ``torchvision.datasets``."""

DATASETS = ("digits", *NAMED, *FILE_DATASETS)
"""Every name that `open_source` takes."""

_CHUNK_GB = 4.0
"""Memory for the images that are decoded together, where less is given for all of them: 10^9 bytes."""

_DIGITS_WHITE = 16
_DIGITS_TEST_EVERY = 6
_HEADERS_LOOKED_AT = 1024
_LARGEST_COMMON_SIDE = 256


def open_source(
    dataset: str,
    root: str | None,
    train: bool,
    *,
    image_size: int | Size | None = None,
    memory_limit_gb: float = 4.0,
    on_error: str = "raise",
    download: bool = False,
) -> ImageSource:
    """Open the training images or the test images of a data set.

    A named data set whose ``root`` holds ``train/<class>/`` and ``test/<class>/`` is read from those folders. Images
    of one's own that have no ``train/`` and ``test/`` (or ``val/`` and the like) are all training images; see
    `memlight.data.layout`.

    Args:
        dataset: one of ``DATASETS``, or ``hf:`` and a name on Hugging Face in place of ``root``.
        root: directory, archive or table, see `memlight.data.places`; None for digits.
        train: training images or test images.
        image_size: side of the square that every image is brought to, or (height, width); None keeps the size that
            all share, and otherwise takes the median shorter side, 256 at most.
        memory_limit_gb: files whose pixels fit in so many 10^9 bytes are decoded now and kept in memory.
        on_error: what happens when a file is broken: "raise"; "skip", which leaves it out and numbers the others
            without it; or "keep", which leaves it a number, and reads it as black. For these two every file is decoded
            once now.
        download: let torchvision fetch what is missing.

    Raises:
        UserError: nothing is there, or it cannot be read.
    """
    opened = _opener(dataset, root, memory_limit_gb, on_error, download)
    return opened(train, image_size)


def open_sources(
    dataset: str,
    root: str | None,
    *,
    image_size: int | None = None,
    memory_limit_gb: float = 4.0,
    on_error: str = "raise",
    download: bool = False,
) -> tuple[ImageSource, ImageSource]:
    """Open the training images and the test images, at one size; arguments as for `open_source`."""
    opened = _opener(dataset, root, memory_limit_gb, on_error, download)
    train = opened(True, image_size)
    return train, opened(False, train.size)


_Opener = Callable[[bool, int | Size | None], ImageSource]


def _opener(dataset: str, root: str | None, memory_limit_gb: float, on_error: str, download: bool) -> _Opener:
    """What opens one half of the data set at a size, the folder or archive being listed once for both."""
    if dataset.startswith(HUB):
        dataset, root = "auto", dataset
    if dataset not in DATASETS:
        raise UserError("dataset", dataset, f"choose one of {', '.join(DATASETS)}, or hf:NAME")
    if on_error not in ("raise", "skip", "keep"):
        raise UserError("on_error", on_error, "choose raise or skip")
    root = None if root is None else os.path.expanduser(root)
    if dataset not in FILE_DATASETS and not _holds_class_folders(root):
        return lambda train, size: _from_arrays(
            dataset, named_arrays(dataset, root, train, download), size, memory_limit_gb
        )
    if root is None:
        raise UserError("root", None, f"data set {dataset} needs a directory or an archive of images")
    files, train_listing, test_listing = open_images(root)
    name = name_of(root) if dataset in FILE_DATASETS else dataset

    def opened(train: bool, size: int | Size | None) -> ImageSource:
        listing = train_listing if train else test_listing
        square = (size, size) if isinstance(size, int) else size
        return open_listing(name, files, listing, square, memory_limit_gb=memory_limit_gb, on_error=on_error)

    return opened


def _holds_class_folders(root: str | None) -> bool:
    if root is None:
        return False
    if not os.path.isdir(root):
        return is_table(root) or os.path.isfile(root)
    return {"train", "test"} <= {half_of(file) for file in os.listdir(root) if os.path.isdir(os.path.join(root, file))}


def named_arrays(dataset: str, root: str | None, train: bool, download: bool) -> Arrays:
    """Load one half of a data set that scikit-learn ships or torchvision knows.

    Args:
        dataset: ``digits`` or a key of ``NAMED``.
        root: where torchvision keeps, or puts, its files; not used for digits.
        train: the training half or the test half.
        download: fetch what is missing.

    Raises:
        UserError: the files are not there.
    """
    if dataset == "digits":
        return _digits(train)
    if root is None:
        raise UserError("root", None, f"{dataset} needs a directory", "fetch it there with `download=True`")
    try:
        return _torchvision(dataset, root, train, download)
    except (RuntimeError, OSError) as error:
        raise UserError(
            "root",
            root,
            f"no {dataset} here, neither as train/<class>/ and test/<class>/ nor as torchvision's files "
            f"({' '.join(str(error).split())})",
            ["point it at them", "fetch them with `download=True`"],
        ) from error


def _digits(train: bool) -> Arrays:
    """8x8 grey handwritten digits; every 6th is a test image."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    kept = (np.arange(len(digits.target)) % _DIGITS_TEST_EVERY != 0) == train
    images = np.round(digits.images[kept] * (255 / _DIGITS_WHITE)).astype(np.uint8)
    return images, digits.target[kept].astype(np.int64), [str(name) for name in digits.target_names]


def _torchvision(dataset: str, root: str, train: bool, download: bool) -> Arrays:
    """Of STL10 the 5000 labelled training images come first, then the 100 000 without labels."""
    import torchvision.datasets

    kind: Any = getattr(torchvision.datasets, NAMED[dataset])
    if dataset not in ("svhn", "stl10"):
        loaded = kind(root, train=train, download=download)
        return np.asarray(loaded.data), np.asarray(loaded.targets, dtype=np.int64), list(loaded.classes)
    split = "test" if not train else "train" if dataset == "svhn" else "train+unlabeled"
    loaded = kind(root, split=split, download=download)
    classes = [str(digit) for digit in range(10)] if dataset == "svhn" else list(loaded.classes)
    return loaded.data.transpose(0, 2, 3, 1), loaded.labels.astype(np.int64), classes


def _physical_gb() -> float:
    """The memory of this machine, in 10^9 bytes; no limit where the system does not say."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def _from_arrays(dataset: str, arrays: Arrays, size: int | Size | None, room_gb: float) -> MemorySource:
    images, labels, classes = arrays
    square = (size, size) if isinstance(size, int) else size
    require_room(len(images), square or images.shape[1:3], max(room_gb, _physical_gb()))
    if square is not None and square != images.shape[1:3]:
        images = np.stack([np.asarray(fit(Image.fromarray(image), square)) for image in images])
    colour = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=3)
    identity = hashlib.sha256(f"{dataset} {len(labels)} ".encode() + labels.astype("<i8").tobytes()).hexdigest()
    pixels = torch.from_numpy(np.ascontiguousarray(colour.transpose(0, 3, 1, 2)))
    return MemorySource(dataset, pixels, torch.from_numpy(labels), classes, identity)


def open_listing(
    name: str,
    files: Files,
    listing: Listing,
    size: Size | None,
    *,
    memory_limit_gb: float = 4.0,
    on_error: str = "raise",
) -> ImageSource:
    """Open listed files: in memory where that fits, otherwise decoded on demand.

    Args:
        name: what the images are, for people.
        files: where they are.
        listing: which of them, in order.
        size: (height, width) that every image is brought to; None as for `open_source`.
        memory_limit_gb: as for `open_source`.
        on_error: "raise", "skip" or "keep", as for `open_source`.

    Raises:
        UserError: an image cannot be decoded.
    """
    size = size or common_size(files, listing.names)
    require_room(CHUNK, size, max(memory_limit_gb, _CHUNK_GB))
    in_memory = len(listing.names) * 3 * size[0] * size[1] <= memory_limit_gb * 1e9
    if not in_memory and on_error == "raise":
        return FileSource(name, files, listing, size)
    images = np.empty((len(listing.names) if in_memory else 0, 3, *size), dtype=np.uint8)
    kept = 0
    broken: dict[str, str] = {}
    with (
        closing(decode_chunks(files, listing.names, size)) as chunks,
        tqdm(total=len(listing.names), desc=f"decoding {name}", unit="image", disable=None) as bar,
    ):
        for names, decoded, wrong in chunks:
            if on_error == "raise":
                require_whole(files, wrong)
            broken |= wrong
            whole = decoded[[name not in wrong for name in names]] if wrong and on_error == "skip" else decoded
            if in_memory:
                images[kept : kept + len(whole)] = whole
            kept += len(whole)
            bar.update(len(names))
    skipped = [files.where(name) for name in broken]
    if broken:
        _require_some(files, broken, len(listing.names))
    if broken and on_error == "skip":
        _warn_of_skipped(skipped, len(listing.names))
        listing = listing.without(broken)
    held = {number: files.where(name) for number, name in enumerate(listing.names) if name in broken}
    if not in_memory:
        return FileSource(name, files, listing, size, skipped, held)
    labels = torch.tensor(listing.labels, dtype=torch.int64)
    pixels = torch.from_numpy(images[:kept])
    source = MemorySource(name, pixels, labels, listing.classes, listing.fingerprint(), skipped, listing.names, held)
    source.facts = listing.facts
    return source


def _require_some(files: Files, broken: dict[str, str], total: int) -> None:
    if len(broken) == total:
        name, why = next(iter(broken.items()))
        raise UserError("root", None, f"none of {total} images can be decoded; {files.where(name)}: {why}")


def _warn_of_skipped(skipped: list[str], total: int) -> None:
    warnings.warn(f"{len(skipped)} of {total} images are broken and left out: {few_words(skipped)}", stacklevel=2)


def common_size(files: Files, names: list[str]) -> Size:
    """The size that all images share, or else the square of their median shorter side.

    Of many files, ``_HEADERS_LOOKED_AT`` evenly spaced ones tell.
    """
    every = max(1, len(names) // _HEADERS_LOOKED_AT)
    sizes = []
    for name in names[::every]:
        try:
            sizes.append(header_size(files.read(name)))
        except BROKEN:
            continue
    if not sizes:
        require_whole(files, {names[0]: "neither this one nor any other that was tried is an image"})
    if len(set(sizes)) == 1:
        return sizes[0]
    side = min(_LARGEST_COMMON_SIDE, int(median(min(size) for size in sizes)))
    return side, side
