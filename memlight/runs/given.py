"""Images named on the command line: some to measure, others to compare with, no training in sight."""

import hashlib
import os

from memlight.data.datasets import open_listing
from memlight.data.files import Files, Listing, list_images, open_files
from memlight.data.images import ImageDataModule
from memlight.data.sources import JoinedSource
from memlight.data.splits import PairSplit
from memlight.errors import UserError, named

_DECODED_LARGER_FROM = 256
_MOST_WORKERS = 8


class GivenImages(ImageDataModule):
    """Images to measure as the candidate split, images to compare with as the external one; the other two are empty.

    The splits are known at once, since they follow from the names of the files; `setup` reads the images.

    Args:
        images: folder, zip or tar. Where it holds train/ and test/ (or val/), its training images are measured.
        held_out: folder, zip or tar, of which the test images are taken, or all where it has no such parts. None takes
            the test images of ``images``; there may be none.
        limit: at most so many images to measure, and to compare with, evenly spaced; None for all.
        views: augmentation set; see `memlight.data.recipes`.
        view_size: side of a view, pixels.
        mean: subtracted from each channel of a view in [0, 1].
        std: each channel is divided by it after that.

    Raises:
        UserError: nothing is there, there are no images, or both places are the same.
    """

    def __init__(
        self,
        images: str,
        held_out: str | None = None,
        *,
        limit: int | None = None,
        views: str = "simclr",
        view_size: int = 224,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        if held_out is not None and _place(held_out) == _place(images):
            raise UserError("held_out", held_out, "the same as `images`, so nothing would be held out")
        files, measured, others = _listed("images", images)
        other_files = files
        if held_out is not None:
            other_files, rest, test = _listed("held_out", held_out)
            others = _in_classes(test if test.names else rest, measured.classes)
        self._measured = files, _spaced(measured, limit)
        self._others = other_files, _spaced(others, limit)
        counts = [len(listing.names) for _, listing in (self._measured, self._others)]
        super().__init__(
            "auto",
            images,
            views=views,
            view_size=view_size,
            mean=mean,
            std=std,
            num_shared=0,
            num_candidate=counts[0],
            num_independent=0,
            num_external=counts[1],
            num_workers=min(_MOST_WORKERS, os.cpu_count() or 1),
        )
        self.held_out = held_out
        both = " ".join(listing.fingerprint() for _, listing in (self._measured, self._others))
        self._split = PairSplit.make(
            *counts,
            shared=0,
            candidate=counts[0],
            independent=0,
            external=counts[1],
            dataset=f"{os.path.basename(_place(images))} {hashlib.sha256(both.encode()).hexdigest()[:16]}",
        )

    def setup(self, stage: str | None = None) -> None:
        """Read the images; the second call does nothing.

        Args:
            stage: not used.

        Raises:
            UserError: an image cannot be decoded.
        """
        if self._source is None:
            self._source = self._open(download=False)

    def _open(self, download: bool) -> JoinedSource:
        """At the size that the images share; for large views at theirs, so that nothing is decoded smaller."""
        size = (self.view_size, self.view_size) if self.view_size > _DECODED_LARGER_FROM else None
        name = os.path.basename(_place(str(self.root)))
        with named(root="images"):
            measured = open_listing(name, *self._measured, size)
        with named(root="images" if self.held_out is None else "held_out"):
            return JoinedSource(measured, open_listing(name, *self._others, measured.size))


def _listed(argument: str, root: str) -> tuple[Files, Listing, Listing]:
    with named(root=argument):
        files = open_files(os.path.expanduser(root))
        train, test = list_images(files.names)
    if not train.names:
        raise UserError(argument, root, "no images in it (looked for .jpg, .png, .webp and the like)")
    return files, train, test


def _spaced(listing: Listing, limit: int | None) -> Listing:
    """At most so many, evenly spaced, since files are often sorted by class."""
    count = len(listing.names)
    if limit is None or limit >= count:
        return listing
    kept = [number * count // limit for number in range(limit)]
    return Listing([listing.names[i] for i in kept], [listing.labels[i] for i in kept], listing.classes)


def _in_classes(listing: Listing, classes: list[str]) -> Listing:
    """The same images with labels that count in other classes; -1 for a class that is not among them."""
    numbers = {name: number for number, name in enumerate(classes)}
    names = [listing.classes[label] if label >= 0 else "" for label in listing.labels]
    return Listing(listing.names, [numbers.get(name, -1) for name in names], classes)


def _place(root: str) -> str:
    return os.path.realpath(os.path.expanduser(root))
