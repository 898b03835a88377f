"""Which images are for training and which for tests, and of which class each is, as the names of files say it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from memlight.data.files import Listing, common_depth, ending, few_words, is_hidden, is_image, suffixes

Half = Literal["train", "test"]
"""Images to train on, or images to test on."""

_WORDS: dict[str, Half] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation"), "test"),
    **dict.fromkeys(("test", "testing", "tst", "holdout", "heldout"), "test"),
}
"""What folders of a split are called. Images for validation are test images here: nobody trains on them."""

_SPLIT = re.compile(rf"({'|'.join(_WORDS)})[-_ .]?(?:set|split|data|images|imgs|\d+)?", re.IGNORECASE)
_IN_SHARD = re.compile(r"[-_.]")
_SHARD_ENDING = ".tar"
_NUMBERED = re.compile(r"\d{3,}")
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
_COMPANIONS = frozenset(
    (
        *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".rst", ".html", ".htm", ".pdf"),
        *(".cls", ".id", ".idx", ".lst", ".log", ".md5", ".sha256", ".ini", ".cfg", ".db", ".py", ".sh", ".mat"),
    )
)
"""Endings of files that go with images and are never taken for them, so that nobody misses them."""

Labels = Mapping[str, str | None]
"""The class of each image that something other than its folder tells it of; None for one that has none."""


def half_of(folder: str) -> Half | None:
    """The half that a folder holds by its name, in any case, such as ``train2017`` or ``Validation``; None for others.

    Of a shard (``imagenet-train-0001.tar``) any word of its name may say it.
    """
    if folder.endswith(_SHARD_ENDING):
        words = _IN_SHARD.split(folder.removesuffix(_SHARD_ENDING))
        return next((half for word in words if (half := half_of(word)) is not None), None)
    match = _SPLIT.fullmatch(folder)
    return _WORDS[match[1].lower()] if match else None


def list_images(
    names: Iterable[str], labels: Labels | None = None, facts: Sequence[str] = ()
) -> tuple[Listing, Listing]:
    """Sort image files into training and test images and into classes, by their paths.

    Folders that hold every image are skipped. Where folders of training images (`half_of`) lie beside folders of
    images for tests or validation, those are the halves, at whatever depth; other images are left out. Otherwise every
    image is a training image. A folder of a half is no class. The first other folder is the class, but for folders
    that only store images, numbered through (``00000/img00000012.png``). One folder that holds every image is no class,
    nor is one that holds all images for tests and none to train on (``val/images/``), and an image that lies in no
    folder has none.

    Args:
        names: names of all files, images or not.
        labels: classes that are known otherwise; the folders of these images tell none.
        facts: what is to be said of these.

    Returns:
        The training images and the test images; equal files give equal lists, whatever holds them. What was found,
        in words, stands in the ``facts`` of the training images.
    """
    names = list(names)
    images = sorted(name for name in names if is_image(name))
    folders = {folder: tuple(folder.split("/")) if folder else () for folder in {_folder(name) for name in images}}
    halves = _Halves(set(folders.values()), common_depth(images))
    by_half: dict[str, list[str]] = {"train": [], "test": []}
    outside: list[str] = []
    for name in images:
        half = halves.of(folders[_folder(name)])
        (outside if half is None else by_half[half]).append(name)
    parts = {
        half: _by_folder(by_half[half], lambda name: halves.folder(folders[_folder(name)]))
        for half in ("train", "test")
    }
    said = [*halves.said(parts), *_outside(outside, halves, folders), *_left_out(names)]
    class_of, about_classes = _classes_by_folder(parts, lambda name: halves.rest(folders[_folder(name)]), labels or {})
    found = {name: class_of(name) for half in by_half.values() for name in half}
    classes = sorted({name for name in found.values() if name is not None})
    if labels and all(name.isdecimal() for name in classes):
        classes.sort(key=int)
    if len(classes) < 2 and not labels:
        classes = []
    numbers = {name: number for number, name in enumerate(classes)}

    def listing(half: str, facts: Sequence[str] = ()) -> Listing:
        of = by_half[half]
        return Listing(of, [numbers.get(found[name] or "", -1) for name in of], classes, tuple(facts))

    train, test = listing("train"), listing("test")
    unknown = _without_class(parts, train, test) if classes else []
    return listing("train", [*said, *facts, *about_classes, *unknown]), test


class _Halves:
    """Which folders hold training images and which images for tests.

    Args:
        folders: every folder that holds an image, as its parts.
        common: how many leading folders hold every image.
    """

    def __init__(self, folders: set[tuple[str, ...]], common: int) -> None:
        beside: dict[tuple[str, ...], set[Half]] = {}
        for parts in folders:
            for depth, part in enumerate(parts):
                if (half := half_of(part)) is not None:
                    beside.setdefault(parts[:depth], set()).add(half)
        pairs = [place for place, found in beside.items() if len(found) == 2]
        self.places: set[tuple[str, ...]] = set()
        self.depth, self.start = common, common
        if pairs:
            self.depth = min(map(len, pairs))
            self.places = {place for place in pairs if len(place) == self.depth}
            first, last = min(self.places), max(self.places)
            same = [a == b for a, b in zip(first, last, strict=True)]
            self.start = same.index(False) if False in same else self.depth
        tops = {parts[common] for parts in folders if len(parts) > common}
        self.alone = not pairs and bool(tops) and all(half_of(top) is not None for top in tops)
        around = next(iter(folders))[:common] if folders and not pairs else ()
        alone = tops if self.alone else set()
        self.of_test_alone = sorted({part for part in (*around, *alone) if half_of(part) == "test"})

    def of(self, parts: tuple[str, ...]) -> Half | None:
        """The half of the images in a folder; None where they are in neither."""
        if not self.places:
            return "train"
        here = parts[self.depth : self.depth + 1]
        return half_of(here[0]) if here and parts[: self.depth] in self.places else None

    def folder(self, parts: tuple[str, ...]) -> str:
        """The folder of the half, or of all images where there are none, to be named."""
        return parts[self.depth] if self.places else ""

    def rest(self, parts: tuple[str, ...]) -> tuple[str, ...]:
        """The folders that may be classes: those above a half (where it has several), and those below it."""
        if self.places:
            return parts[self.start : self.depth] + parts[self.depth + 1 :]
        return parts[self.start + (1 if self.alone and len(parts) > self.start else 0) :]

    def said(self, parts: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
        """Which folders were taken for which half."""
        if self.places:
            to_train, to_test = (
                ", ".join(f"{len(names)} in {folder}/" for folder, names in sorted(parts[half].items()))
                for half in ("train", "test")
            )
            return [f"images: {to_train} to train on, {to_test} to test on"]
        if self.of_test_alone:
            folders = " and ".join(f"{folder}/" for folder in self.of_test_alone)
            return [f"images: there is no folder of training images beside {folders}, so these are taken as such"]
        return []


def _classes_by_folder(
    parts: Mapping[str, Mapping[str, Sequence[str]]], rest: Callable[[str], tuple[str, ...]], labels: Labels
) -> tuple[Callable[[str], str | None], list[str]]:
    """What gives the class of an image, and what is to be said of folders that are none."""

    def folder_of(name: str) -> str:
        return next((part for part in rest(name) if not part.endswith(_SHARD_ENDING)), "")

    by_folder = {
        half: {at: [name for name in names if name not in labels] for at, names in folders.items()}
        for half, folders in parts.items()
    }
    stores = [_store_in_numbers(names, folder_of) for folders in by_folder.values() for names in folders.values()]
    if any(stores) and all(found is not False for found in stores):
        shown = next(found for found in stores if found)
        said = f"labels: none; {shown} and the like only store images, numbered through, and are no classes"
        return labels.get, [f"{said} (a file of labels can give them some)"]
    to_train = {folder_of(name) for names in by_folder["train"].values() for name in names}
    stray = {
        at
        for at, names in by_folder["test"].items()
        if len(found := {folder_of(name) for name in names}) == 1 and len(to_train - {""}) > 1 and not found & to_train
    }
    unlabelled = {name for at in stray for name in by_folder["test"][at]}

    def class_of(name: str) -> str | None:
        if name in labels:
            return labels[name]
        return None if name in unlabelled else folder_of(name) or None

    return class_of, []


def _store_in_numbers(names: Sequence[str], folder_of: Callable[[str], str]) -> str | bool | None:
    """The first of several folders that store images by their numbers; False where folders do not, None without any.

    Folder d stores those from d K to d K + K - 1 for some K (StyleGAN, EDM2, img2dataset), or those from d up to the
    next folder (``000000/``, ``001000/`` of EDM2's own images, FFHQ).
    """
    numbers: dict[str, list[int]] = {}
    for name in names:
        folder = folder_of(name)
        if not folder:
            continue
        match = _LAST_NUMBER.search(name.rpartition("/")[2].rpartition(".")[0])
        if not _NUMBERED.fullmatch(folder) or match is None:
            return False
        numbers.setdefault(folder, []).append(int(match[0]))
    if not numbers:
        return None
    if len({len(folder) for folder in numbers}) > 1:
        return False
    ends = sorted((int(folder), min(of), max(of)) for folder, of in numbers.items())
    least = max(high // (folder + 1) + 1 for folder, _, high in ends)
    most = min((low // folder for folder, low, _ in ends if folder), default=least)
    following = [folder for folder, _, _ in ends[1:]]
    from_own = all(low >= folder for folder, low, _ in ends) and all(
        high < after for (_, _, high), after in zip(ends[:-1], following, strict=True)
    )
    return f"{min(numbers)}/" if least <= most or from_own else False


def _without_class(parts: Mapping[str, Mapping[str, Sequence[str]]], train: Listing, test: Listing) -> list[str]:
    """Which images have no class though others have."""
    lines = []
    for half, listing in (("train", train), ("test", test)):
        none = {name for name, label in zip(listing.names, listing.labels, strict=True) if label < 0}
        for folder, names in sorted(parts[half].items()):
            if count := sum(name in none for name in names):
                share = "none" if count == len(names) else f"{count} of {len(names)} have none"
                lines.append(f"labels: {share}{f' in {folder}/' if folder else ''}")
    return lines


def _outside(outside: Sequence[str], halves: _Halves, folders: Mapping[str, tuple[str, ...]]) -> list[str]:
    if not outside:
        return []
    tops = Counter("/".join(parts[: halves.depth + 1]) or "." for name in outside for parts in [folders[_folder(name)]])
    places = few_words(f"{top}/" for top in sorted(tops))
    return [f"left out: {len(outside)} images outside of these folders ({places})"]


def _left_out(names: Iterable[str]) -> list[str]:
    """How many files of which endings are neither images nor what goes with them."""
    counts: Counter[str] = Counter()
    for name in names:
        suffix = ending(name)
        if suffix not in _COMPANIONS and suffix not in suffixes() and not is_hidden(name):
            counts[suffix] += 1
    if not counts:
        return []
    shown = few_words(f"{count} {suffix or 'without an ending'}" for suffix, count in counts.most_common())
    return [f"left out: {shown} (endings that are not read as images)"]


def _by_folder(names: Sequence[str], folder: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(folder(name), []).append(name)
    return found


def _folder(name: str) -> str:
    return name.rpartition("/")[0]
