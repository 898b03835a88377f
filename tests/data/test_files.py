import os
import random
from pathlib import Path

import pytest

from memlight.data.files import Folder, Listing
from memlight.data.layout import list_images
from memlight.data.places import open_files
from memlight.errors import UserError


def test_train_and_test_directories_are_the_halves() -> None:
    train, test = list_images(["train/b/2.jpg", "test/a/1.jpg", "train/a/9.PNG", "train/b/10.jpg", "notes.txt"])
    assert train == Listing(["train/a/9.PNG", "train/b/10.jpg", "train/b/2.jpg"], [0, 1, 1], ["a", "b"])
    assert test == Listing(["test/a/1.jpg"], [0], ["a", "b"])


def test_val_is_a_test_half_too() -> None:
    train, test = list_images(["train/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg", "val/c/1.jpg"])
    assert test == Listing(["val/b/1.jpg", "val/c/1.jpg"], [1, 2], ["a", "b", "c"])
    assert train.classes == ["a", "b", "c"]
    _, test = list_images(["train/a/1.jpg", "test/a/1.jpg", "val/a/2.jpg"])
    assert test.names == ["test/a/1.jpg", "val/a/2.jpg"]


def test_classes_without_halves_are_all_training_images() -> None:
    train, test = list_images(["b/x/1.jpg", "a/1.jpg", "train/1.jpg"])
    assert train == Listing(["a/1.jpg", "b/x/1.jpg", "train/1.jpg"], [0, 1, 2], ["a", "b", "train"])
    assert test == Listing([], [], ["a", "b", "train"])


@pytest.mark.parametrize("prefix", ["", "pets/", "some/where/pets/"])
def test_directories_around_everything_do_not_count(prefix: str) -> None:
    names = ["train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg"]
    train, test = list_images([prefix + name for name in names])
    plain_train, plain_test = list_images(names)
    assert train.labels == [0, 1]
    assert test.labels == [0]
    assert (train.fingerprint(), test.fingerprint()) == (plain_train.fingerprint(), plain_test.fingerprint())


@pytest.mark.parametrize("names", [["1.jpg", "2.jpg"], ["images/1.jpg", "images/2.jpg"], ["a/b/1.jpg"]])
def test_images_without_classes(names: list[str]) -> None:
    train, _ = list_images(names)
    assert train == Listing(names, [-1] * len(names), [])


def test_one_directory_in_each_half_is_no_class() -> None:
    train, test = list_images(["train/images/1.jpg", "test/images/1.jpg"])
    assert (train.labels, test.labels, train.classes) == ([-1], [-1], [])


def test_image_beside_class_directories_has_no_label() -> None:
    train, _ = list_images(["a/1.jpg", "b/1.jpg", "cover.jpg"])
    assert train.labels == [0, 1, -1]


def test_order_does_not_depend_on_how_files_were_found() -> None:
    names = [f"{label}/{number}.jpg" for label in "abc" for number in range(20)]
    shuffled = random.Random(0).sample(names, k=len(names))
    assert list_images(shuffled) == list_images(names)


def test_other_files_are_left_out() -> None:
    names = [
        *("a.jpg", "b.JPEG", "c.webp", "d.txt", "e.jpg.part", ".hidden.jpg", "f"),
        *("__MACOSX/a.jpg", ".thumbs/b.jpg", "._a.jpg", "g.npy"),
    ]
    assert list_images(names)[0].names == ["a.jpg", "b.JPEG", "c.webp"]
    assert list_images([]) == (Listing([], [], []), Listing([], [], []))


def test_fingerprint_tells_other_images_and_other_labels_apart() -> None:
    listings = [
        Listing(["a/1.jpg", "b/1.jpg"], [0, 1], ["a", "b"]),
        Listing(["a/1.jpg", "b/2.jpg"], [0, 1], ["a", "b"]),
        Listing(["a/1.jpg", "b/1.jpg"], [1, 0], ["a", "b"]),
        Listing(["a/1.jpg"], [0], ["a", "b"]),
        Listing([], [], []),
    ]
    assert len({listing.fingerprint() for listing in listings}) == len(listings)


def test_without() -> None:
    listing = Listing(["a/1.jpg", "a/2.jpg", "b/1.jpg"], [0, 0, 1], ["a", "b"])
    assert listing.without({"a/2.jpg"}) == Listing(["a/1.jpg", "b/1.jpg"], [0, 1], ["a", "b"])


def test_folder_lists_and_reads(tree: Path) -> None:
    folder = open_files(str(tree))
    assert sorted(folder.names) == sorted(
        path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()
    )
    assert folder.read("test/dog/01.png") == (tree / "test/dog/01.png").read_bytes()


def test_linked_classes_are_followed_and_loops_end(tree: Path) -> None:
    elsewhere = tree.rename(tree.with_name("elsewhere"))
    tree.mkdir()
    (tree / "train").symlink_to(elsewhere / "train")
    (tree / "test").symlink_to(elsewhere / "test")
    (elsewhere / "train" / "loop").symlink_to(tree)
    train, test = list_images(Folder(str(tree)).names)
    assert (len(train.names), len(test.names)) == (9, 5)


def test_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"content")
    folder = open_files(str(tmp_path))
    train, _ = list_images(folder.names)
    assert folder.read(train.names[0]) == b"content"
    assert len(train.fingerprint()) == 64


def test_missing_root() -> None:
    with pytest.raises(UserError, match=r"^root='nowhere': no such directory or archive"):
        open_files("nowhere")
