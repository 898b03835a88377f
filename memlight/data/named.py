"""Data sets known by name: scikit-learn's digits, which ship with it, and torchvision's."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]
"""Images ``(N, H, W)`` or ``(N, H, W, 3)``, labels ``(N,)`` (-1 for none), names of the classes."""

_DIGITS_WHITE = 16
_DIGITS_TEST_EVERY = 6


def named_arrays(dataset: str, root: str | None, train: bool, download: bool) -> Arrays:
    """Load one half of a data set.

    Args:
        dataset: a key of ``NAMED``.
        root: where torchvision keeps, or puts, its files; not used for digits.
        train: the training half or the test half.
        download: fetch what is missing.

    Raises:
        UserError: the files are not there.
    """
    if dataset == "digits":
        return _digits(train)
    if root is None:
        raise UserError(f"--data.root: {dataset} needs a directory (add --data.download true to fetch it there).")
    try:
        return NAMED[dataset](root, train, download)
    except (RuntimeError, OSError) as error:
        wrong = " ".join(str(error).split())
        raise UserError(
            f"--data.root {root}: no {dataset} here, neither as train/<class>/ and test/<class>/ nor as torchvision's "
            f"files ({wrong}). Point it at them, or fetch them with --data.download true."
        ) from error


def _digits(train: bool) -> Arrays:
    """8x8 grey handwritten digits; every 6th is a test image."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    kept = (np.arange(len(digits.target)) % _DIGITS_TEST_EVERY != 0) == train
    images = np.round(digits.images[kept] * (255 / _DIGITS_WHITE)).astype(np.uint8)
    return images, digits.target[kept].astype(np.int64), [str(name) for name in digits.target_names]


def _in_arrays(name: str) -> Callable[[str, bool, bool], Arrays]:
    """CIFAR and the MNIST family: ``data (N, H, W[, 3])`` and ``targets``."""

    def load(root: str, train: bool, download: bool) -> Arrays:
        import torchvision.datasets

        found: Any = getattr(torchvision.datasets, name)(root, train=train, download=download)
        return np.asarray(found.data), np.asarray(found.targets, dtype=np.int64), list(found.classes)

    return load


def _svhn(root: str, train: bool, download: bool) -> Arrays:
    from torchvision.datasets import SVHN

    found = SVHN(root, split="train" if train else "test", download=download)
    classes = [str(digit) for digit in range(10)]
    return found.data.transpose(0, 2, 3, 1), found.labels.astype(np.int64), classes


def _stl10(root: str, train: bool, download: bool) -> Arrays:
    """The 5000 labelled training images come first, then the 100 000 without labels."""
    from torchvision.datasets import STL10

    found = STL10(root, split="train+unlabeled" if train else "test", download=download)
    return found.data.transpose(0, 2, 3, 1), found.labels.astype(np.int64), list(found.classes)


NAMED: dict[str, Callable[[str, bool, bool], Arrays]] = {
    "cifar10": _in_arrays("CIFAR10"),
    "cifar100": _in_arrays("CIFAR100"),
    "svhn": _svhn,
    "stl10": _stl10,
    "fashion_mnist": _in_arrays("FashionMNIST"),
    "mnist": _in_arrays("MNIST"),
}
"""Name -> loader of torchvision's data sets."""
