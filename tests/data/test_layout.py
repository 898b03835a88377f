"""Which half and which class an image is of, by the folders that it lies in."""

from itertools import product

import pytest

from memlight.data.files import Listing, is_image
from memlight.data.layout import half_of, list_images

CLASSES = ("cat", "dog")


def in_folders(*folders: str, each: int = 1) -> list[str]:
    return [f"{folder}/{kind}/{number}.png" for folder in folders for kind in CLASSES for number in range(each)]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *(("train", other) for other in ("validation", "valid", "val", "dev", "test", "eval", "test_set")),
        *(("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing"), ("train2017", "val2017")),
        *(("train_images", "test_images"), ("training_set", "test_set"), ("images/train", "images/val")),
        ("ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val"),
    ],
)
def test_halves_of_any_usual_name_are_no_classes(train: str, test: str) -> None:
    mine, others = list_images(in_folders(train, test))
    assert mine == Listing(sorted(in_folders(train)), [0, 1], ["cat", "dog"])
    assert others == Listing(sorted(in_folders(test)), [0, 1], ["cat", "dog"])
    folders = [place.rpartition("/")[2] for place in (train, test)]
    assert mine.facts == (f"images: 2 in {folders[0]}/ to train on, 2 in {folders[1]}/ to test on",)


@pytest.mark.parametrize("folder", ["bottle", "trains", "testament", "value", "latest", "device", "train_station"])
def test_other_words_are_no_halves(folder: str) -> None:
    assert half_of(folder) is None


def test_images_for_validation_and_for_tests_are_both_used_and_it_is_said_which_is_which() -> None:
    mine, others = list_images(in_folders("train", "val", "test", each=2))
    assert len(mine.names) == 4 and others.names == sorted(in_folders("val", "test", each=2))
    assert others.labels == [0, 0, 1, 1] * 2
    assert mine.facts == ("images: 4 in train/ to train on, 4 in test/, 4 in val/ to test on",)


@pytest.mark.parametrize("folders", [("train",), ("val",), ("Validation",), ("val", "test"), ("a/b/test2017",)])
def test_halves_of_one_kind_alone_are_no_classes_either(folders: tuple[str, ...]) -> None:
    mine, others = list_images(in_folders(*folders))
    assert mine.classes == ["cat", "dog"] and mine.labels == [0, 1] * len(folders)
    assert others == Listing([], [], ["cat", "dog"])
    alone = [line for line in mine.facts if line.startswith("images: there is no folder of training images beside ")]
    assert len(alone) == (folders != ("train",))


def test_other_folders_beside_halves_are_left_out_and_named() -> None:
    mine, others = list_images([*in_folders("set/train", "set/val", "set/extra"), "cover.png", "docs/figure.png"])
    assert (len(mine.names), len(others.names)) == (2, 2)
    assert mine.facts[1] == "left out: 4 images outside of these folders (./, docs/, set/extra/)"


def test_halves_within_each_class() -> None:
    mine, others = list_images(
        ["bottle/train/good/0.png", "bottle/test/crack/1.png", "cable/train/2.png", "cable/test/3.png"]
    )
    assert (mine.classes, mine.labels, others.labels) == (["bottle", "cable"], [0, 1], [0, 1])


def test_one_folder_of_a_test_half_that_no_training_image_is_in_is_no_class() -> None:
    tiny = [f"train/{kind}/images/{kind}_0.JPEG" for kind in ("n1", "n2")]
    mine, others = list_images([*tiny, "val/images/val_0.JPEG", "test/images/test_0.JPEG"])
    assert (mine.classes, mine.labels, others.labels) == (["n1", "n2"], [0, 1], [-1, -1])
    assert mine.facts[1:] == ("labels: none in test/", "labels: none in val/")
    mine, others = list_images([*tiny, "val/n2/images/0.JPEG"])
    assert others.labels == [1]
    mine, others = list_images([*tiny, *(f"val/ILSVRC2012_val_{number:08}.JPEG" for number in range(3))])
    assert mine.classes == ["n1", "n2"] and others.labels == [-1] * 3 and mine.facts[-1] == "labels: none in val/"


@pytest.mark.parametrize(
    "names",
    [
        [f"{number // 10:05}/img{number:08}.png" for number in range(40)],
        [f"{number // 7:06}/{number:06}.png" for number in range(30)],
        [f"{number // 10 * 10:06}/{number:06}.png" for number in range(40)],
        [f"{shard:05}/{shard:05}{number:04}.jpg" for shard, number in product(range(3), range(4))],
        [f"{half}/{number // 10:05}/{number:05}.png" for half in ("train", "val") for number in range(40)],
    ],
)
def test_numbered_folders_that_only_store_images_are_no_classes(names: list[str]) -> None:
    mine, others = list_images(names)
    assert not mine.classes and set(mine.labels + others.labels) == {-1}
    assert "only store images, numbered through, and are no classes" in mine.facts[-1]


@pytest.mark.parametrize(
    "names",
    [
        [f"{digit}/{number:05}.png" for digit in range(10) for number in range(digit, 40, 10)],  # digits, as MNIST
        [f"{sign:05}/{track:05}_{number:05}.ppm" for sign, track, number in product(range(5), range(3), range(3))],
        [f"{kind:03}/{number * 3 + kind:04}.png" for kind in range(3) for number in range(9)],
        [f"{kind:03}.bird/bird_{kind:04}_{number}.jpg" for kind in range(3) for number in range(3)],
    ],
)
def test_classes_that_are_numbers_stay_classes(names: list[str]) -> None:
    mine, _ = list_images(names)
    assert mine.classes == sorted({name.split("/")[0] for name in names}) and -1 not in mine.labels


def test_shards_are_no_classes_and_say_which_half_they_are_of() -> None:
    names = [
        f"imagenet-{half}-{shard:03}.tar/{shard}_{number}.jpg"
        for half in ("train", "validation")
        for shard in (0, 1)
        for number in (0, 1)
    ]
    mine, others = list_images(names)
    assert not mine.classes and (len(mine.names), len(others.names)) == (4, 4)


def test_known_classes_come_before_folders_and_whole_numbers_are_in_order() -> None:
    labels = {"00000/0.png": "10", "00000/1.png": "9", "00001/2.png": None}
    mine, _ = list_images(list(labels), labels, ["labels: from dataset.json"])
    assert (mine.classes, mine.labels) == (["9", "10"], [1, 0, -1])
    assert mine.facts == ("labels: from dataset.json", "labels: 1 of 3 have none")


def test_endings_that_are_left_out_are_counted_and_named() -> None:
    kept = ["a/1.JPG", "a/2.jpeg", "b/3.PnG", "b/4.webp", "b/5.tif"]
    others = ["b/8.heic", "b/9.HEIC", "b/9.npy", "b/10.jpg.bak", "b/noext", "README.md", "a/1.xml", "a/.DS_Store"]
    mine, _ = list_images([*kept, *others, "__MACOSX/a/._1.raw", "a/Thumbs.db", "a/desktop.ini"])
    assert mine.names == kept
    assert mine.facts == (
        "left out: 2 .heic, 1 .npy, 1 .bak, 1 without an ending (endings that are not read as images)",
    )


def test_formats_that_this_pillow_reads_are_images() -> None:
    from PIL import Image

    Image.init()
    assert is_image("a/1.avif") == ("AVIF" in Image.OPEN) and is_image("a/1.JP2") == ("JPEG2000" in Image.OPEN)
