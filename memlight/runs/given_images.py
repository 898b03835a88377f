"""Images that somebody gives to be measured, with others to compare them with: the data of a released encoder."""

import hashlib
import os

from memlight.data.datasets import open_listing
from memlight.data.files import Files, Listing, without_labels
from memlight.data.images import ImageDataModule
from memlight.data.places import name_of, open_images, place_of
from memlight.data.sources import JoinedSource
from memlight.data.splits import PairSplit
from memlight.errors import UserError, named

_DECODED_LARGER_FROM = 256
"""Side of views above which images are decoded at that size and not at their common one."""

_MOST_WORKERS = 8


class GivenImages(ImageDataModule):
    """Images to measure as the candidate split, images to compare with as the external one; the other two are empty.

    The splits are known at once, since they follow from the names of the files; `setup` reads the images.

    Args:
        images: folder, zip, tar or table. Where it holds train/ and test/ (or val/), its training images are measured.
        held_out: the same, of which the test images are taken, or all where it has no such parts. None takes the test
            images of ``images``; there may be none.
        limit: at most so many images to measure, and to compare with, evenly spaced; None for all.
        labels: file of classes, see `memlight.data.labels.LabelFile`.
        on_error: raise or skip, for files that cannot be decoded; the others keep their ids.
        views: augmentation set; see `memlight.data.recipes`.
        view_size: side of a view, pixels.
        mean: subtracted from each channel of a view in [0, 1].
        std: each channel is divided by it after that.

    Attributes:
        listed_facts: what somebody should know of how images and classes were found, a line each.
        strange_classes: those of held-out images alone, which are no classes here.

    Raises:
        UserError: nothing is there, there are no images, or both places are the same.
    """

    def __init__(
        self,
        images: str,
        held_out: str | None = None,
        *,
        limit: int | None = None,
        labels: str | None = None,
        on_error: str = "raise",
        views: str = "simclr",
        view_size: int = 224,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        if held_out is not None and place_of(held_out) == place_of(images):
            raise UserError("held_out", held_out, "the same as `images`, so nothing would be held out")
        files, measured, others = _listed("images", images)
        other_files, facts = files, list(measured.facts)
        self.strange_classes: list[str] = []
        if held_out is not None:
            other_files, rest, test = _listed("held_out", held_out)
            chosen = test if test.names else rest
            facts += [f"held out: {line}" for line in rest.facts if line.startswith(("labels: ", "left out: "))]
            others = _in_classes(chosen, measured.classes)
            if measured.classes:
                used = {chosen.classes[label] for label in chosen.labels if label >= 0}
                self.strange_classes = sorted(used - set(measured.classes))
        self._limited = [measured.names, others.names]
        self._measured = files, measured.spaced(limit)
        self._others = other_files, others.spaced(limit)
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
            on_error=on_error,
            labels=labels,
            num_workers=min(_MOST_WORKERS, os.cpu_count() or 1),
        )
        self.held_out = held_out
        if labels is not None:
            self.strange_classes = []
            facts = without_labels(facts)
        self.listed_facts = facts
        both = " ".join(listing.fingerprint() for _, listing in (self._measured, self._others))
        self._split = PairSplit.make(
            *counts,
            shared=0,
            candidate=counts[0],
            independent=0,
            external=counts[1],
            dataset=f"{name_of(place_of(images))} {hashlib.sha256(both.encode()).hexdigest()[:16]}",
        )

    def setup(self, stage: str | None = None) -> None:
        """Read the images; the second call does nothing.

        Args:
            stage: not used.

        Raises:
            UserError: an image cannot be decoded.
        """
        if self._source is None:
            source = self._open(download=False)
            limited = {name for names in self._limited for name in names} - set(source.names)
            self._relabel(source, sorted(limited))
            self._source = source

    def _open(self, download: bool) -> JoinedSource:
        """At the size that the images share; for large views at theirs, so that nothing is decoded smaller."""
        size = (self.view_size, self.view_size) if self.view_size > _DECODED_LARGER_FROM else None
        name, on_error = name_of(place_of(str(self.root))), "keep" if self.on_error == "skip" else "raise"
        with named(root="images"):
            measured = open_listing(name, *self._measured, size, on_error=on_error)
        with named(root="images" if self.held_out is None else "held_out"):
            others = open_listing(name, *self._others, measured.size, on_error=on_error)
            return JoinedSource(measured, others)


def _listed(argument: str, root: str) -> tuple[Files, Listing, Listing]:
    with named(root=argument):
        return open_images(os.path.expanduser(root))


def _in_classes(listing: Listing, classes: list[str]) -> Listing:
    """The same images with labels that count in other classes; -1 for a class that is not among them."""
    numbers = {name: number for number, name in enumerate(classes)}
    names = [listing.classes[label] if label >= 0 else "" for label in listing.labels]
    return Listing(listing.names, [numbers.get(name, -1) for name in names], classes)
