"""Names of images by id: as cells of tables, under pictures, and read back from a run."""

import csv
from pathlib import Path

import numpy as np
import pytest

from memlight.errors import UserError
from memlight.storage.image_names import IMAGES, ImageNames, printable, shortened, with_paths
from memlight.storage.schema import columns, path_of
from memlight.storage.tables import read_table, write_table

AWKWARD = [
    *("train/cat/a.png", "train/dog/a.png", "=1+1.png", "+2.png", "-3.png", "@x/4.png", "\tt.png", 'a,"b".png'),
    *("two\nlines.png", "back\rturned.png", "bytes\udc80\udcff.png", "<script>alert(1)</script>.png", "日本 $x$.png"),
]


def file_of(path: Path, paths: list[str]) -> Path:
    count = len(paths)
    names = ImageNames(paths, are_files=True)
    table = {"id": np.arange(count), "path": names.path(np.arange(count)), "label": np.full(count, -1)}
    words = {"split": np.full(count, "candidate"), "sha256": np.full(count, "")}
    write_table(path, {**table, **words}, IMAGES)
    return path


def test_names_come_back_as_they_were_whatever_is_in_them(tmp_path: Path) -> None:
    read = ImageNames.read(file_of(tmp_path / "images.csv", AWKWARD))
    assert read is not None and list(read.paths) == AWKWARD and read.are_files


def test_no_cell_is_a_formula_and_each_still_names_its_file(tmp_path: Path) -> None:
    path = file_of(tmp_path / "images.csv", AWKWARD)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = [row["path"] for row in csv.DictReader(file)]
    assert len(cells) == len(AWKWARD)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert [Path(cell) for cell in cells] == [Path(name) for name in AWKWARD]


def test_a_run_without_the_file_has_no_names_and_an_edited_one_is_refused(tmp_path: Path) -> None:
    assert ImageNames.read(tmp_path / "images.csv") is None
    path = file_of(tmp_path / "images.csv", ["a.png", "b.png"])
    path.write_text(path.read_text().replace("\n1,", "\n7,"))
    with pytest.raises(UserError, match="its ids do not count from 0; delete it"):
        ImageNames.read(path)
    path.write_text(path.read_text().replace("\n7,", f"\n{10**30},"))
    with pytest.raises(UserError, match="was edited"):
        ImageNames.read(path)


def test_what_stands_under_a_picture() -> None:
    names = ImageNames(["a/n01440764_10026.JPEG", "b/c.png", "two\nlines\udc80.png"], are_files=True)
    assert names.short([0, 1]) == ["n0144\N{HORIZONTAL ELLIPSIS}6.JPEG", "c.png"]
    assert names.captions([1, 0], ["1", "0"], ["+0.5", ""]) == [
        "c.png\n1\n+0.5",
        "n0144\N{HORIZONTAL ELLIPSIS}6.JPEG\n0",
    ]
    assert "\n" not in names.short([2], 40)[0] and "\udc80" not in names.short([2], 40)[0]
    assert names.under_pictures == "name and id"


def test_images_in_no_files_are_called_by_their_place_and_show_their_id_alone(tmp_path: Path) -> None:
    names = ImageNames(["train/0", "train/1", "test/0"], are_files=False)
    assert names.captions([2], ["2"]) == ["2"] and names.path([2]).tolist() == ["test/0"]
    read = ImageNames.read(file_of(tmp_path / "images.csv", list(names.paths)))
    assert read is not None and not read.are_files


@pytest.mark.parametrize(("name", "short"), [("abcdefgh", "abcdefgh"), ("abcdefghi", "abc\N{HORIZONTAL ELLIPSIS}fghi")])
def test_long_names_lose_their_middle(name: str, short: str) -> None:
    assert shortened(name, 8) == short and len(shortened(name, 8)) == 8


def test_letters_without_a_shape_are_escaped() -> None:
    assert printable("ü日.png") == "ü日.png"
    assert printable("a\nb\u202ec\udc80") == "a\\nb\\u202ec\\udc80"


def test_tables_get_the_paths_of_their_ids(tmp_path: Path) -> None:
    names = ImageNames(["a.png", "b.png"], are_files=True)
    schema = {**columns(int, "max_id_before", "other"), **path_of("max_id_before", "path_before")}
    table = with_paths({"max_id_before": np.array([1, 0, 1]), "other": np.arange(3)}, schema, names)
    assert table["path_before"].tolist() == ["b.png", "a.png", "b.png"]
    write_table(tmp_path / "t.csv", table, schema)
    read = read_table(tmp_path / "t.csv", schema)["path_before"]
    assert read.dtype == object and read[0] is read[2]
