import json
from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.data.images import ImageDataModule
from memlight.data.sources import JoinedSource, MemorySource
from memlight.data.split_files import SplitFile
from memlight.data.splits import PairSplit
from memlight.errors import UserError
from memlight.storage.rundir import RunDir

NAMES = ["train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "train/dog/c.png", "test/cat/a.png", "test/dog/d.png"]
GROUPS = {"shared": [3], "candidate": [0], "independent": [1, 2], "external": [5]}


def source(names: list[str] | None = None) -> JoinedSource:
    images = torch.zeros(6, 3, 2, 2, dtype=torch.uint8)
    labels = torch.zeros(6, dtype=torch.int64)
    names = NAMES if names is None else names
    return JoinedSource(
        MemorySource("some", images[:4], labels[:4], [], "a", names=names[:4]),
        MemorySource("some", images[4:], labels[4:], [], "b", names=names[4:]),
    )


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def by_row(key: str, values: list[object]) -> str:
    rows = [f"{split},{values[id_]}" for split, ids in GROUPS.items() for id_ in ids]
    return "\n".join([f"split,{key}", *rows, ""])


def files(tmp_path: Path) -> dict[str, list[str] | str]:
    """The same splits in every form that is read."""
    numbers: list[object] = [*range(6)]
    paths = {split: [NAMES[id_] for id_ in ids] for split, ids in GROUPS.items()}
    objects = [{"image": NAMES[id_], "split": split} for split, ids in GROUPS.items() for id_ in ids]
    np.savez(tmp_path / "all.npz", **{split: np.array(ids) for split, ids in GROUPS.items()})  # type: ignore[arg-type]
    np.save(tmp_path / "independent.npy", np.array([2, 1], dtype=np.int32))
    lists = [
        "candidate=" + write(tmp_path / "c.txt", "0\n"),
        f"Independents={tmp_path / 'independent.npy'}",
        "shared=" + write(tmp_path / "s.csv", "note,id\nx,3\n"),
        "test=" + write(tmp_path / "e.json", "[5]"),
    ]
    made = PairSplit.given(4, 2, {split: np.array(ids) for split, ids in GROUPS.items()}, randomised=True)
    made.save(tmp_path / "splits.json")
    return {
        "ids": write(tmp_path / "ids.csv", by_row("id", numbers)),
        "paths": write(tmp_path / "paths.csv", by_row("path", [*NAMES])),
        "their paths": write(tmp_path / "theirs.csv", by_row("filename", [f"/data/x/{name}" for name in NAMES])),
        "windows": write(tmp_path / "windows.csv", by_row("file", ["C:\\" + n.replace("/", "\\") for n in NAMES])),
        "tabs": write(tmp_path / "ids.tsv", by_row("id", numbers).replace(",", "\t")),
        "groups": write(tmp_path / "groups.json", json.dumps({**paths, "seed": 3})),
        "objects": write(tmp_path / "objects.json", json.dumps(objects)),
        "lines": write(tmp_path / "objects.jsonl", "\n".join(map(json.dumps, objects))),
        "by image": write(tmp_path / "by.json", json.dumps({i: s for s, ids in GROUPS.items() for i in ids})),
        "npz": str(tmp_path / "all.npz"),
        "lists": lists,
        "a run's": str(tmp_path / "splits.json"),
    }


FORMS = [
    *("ids", "paths", "their paths", "windows", "tabs", "groups", "objects", "lines", "by image", "npz", "lists"),
    "a run's",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_splits_in_every_form(form: str, tmp_path: Path) -> None:
    found = SplitFile.read(files(tmp_path)[form]).ids(source())
    assert {split: ids.tolist() for split, ids in found.items()} == GROUPS


def test_images_that_belong_to_no_split_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "id,split\n0,candidate\n1,none\n2,independent\n3,\n")
    assert SplitFile.read(path).keys == {"candidate": [0], "independent": [2]}


def test_paths_of_images_in_no_files(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "path,split\ntrain/1,candidate\ntest/1.png,external\n")
    found = SplitFile.read(path).ids(source([]))
    assert {split: ids.tolist() for split, ids in found.items()} == {"candidate": [1], "external": [5]}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("s.csv", "", r"must name the columns id,split or path,split"),
        ("s.csv", "id,score\n1,2\n", "must name the columns"),
        ("s.csv", "id,split\n1\n", "row 2 has no id, or other columns: '1'"),
        ("s.csv", "id,split\n1,train\n", "'train' is no split; splits are shared, candidate"),
        ("s.csv", "id,split\n1,shared\n", "names no candidate"),
        ("s.csv", "id,split\n1,candidate\nx.png,shared\n", "some images are named by id and others by path"),
        ("s.json", "{", "is not JSON"),
        ("s.json", "[[1], [2]]", "holds neither a list for each split"),
        ("s.json", '[{"id": 1}]', "entry 1 has no id or path, or no split"),
        ("s.json", '{"candidate": [1.5]}', "1.5: is neither an id nor a path"),
        ("s.json", '{"candidate": [true]}', "True: is neither an id nor a path"),
        ("s.yaml", "a", "files that end with .yaml are not read"),
        ("s.npz", "a", "cannot be read"),
    ],
)
def test_files_that_are_no_splits(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        SplitFile.read(write(tmp_path / name, text))


@pytest.mark.parametrize("place", ["missing.csv", "candidate=missing.txt", "candidate=missing.npy", "nothing=x.txt"])
def test_files_that_are_not_there(place: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read|no split"):
        SplitFile.read([place])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "id,split\n0,candidate\n6,external\n",
            r"1 of 2 ids are of no image here \(6\); ids are: training images 0 to 3",
        ),
        ("id,split\n0,candidate\n0,shared\n", r"train/cat/a.png is in candidate and in shared|in shared and in cand"),
        ("id,split\n0,candidate\n0,candidate\n", "train/cat/a.png is in candidate twice"),
        ("id,split\n0,candidate\n0,external\n", "ids of test images begin at 4"),
        ("path,split\na.png,candidate\n", r"1 of 1 paths are of no image here, or of more than one \(a.png\)"),
        ("path,split\ntrain/cat/z.png,candidate\n", r"\(train/cat/z.png\); write them as train/cat/a.png"),
    ],
)
def test_images_that_are_not_there(rows: str, words: str, tmp_path: Path) -> None:
    file = SplitFile.read(write(tmp_path / "s.csv", rows))
    with pytest.raises(UserError, match=words):
        file.ids(source())


def test_ids_that_count_other_images_are_told_by_their_classes(tmp_path: Path) -> None:
    data = ImageDataModule("digits", view_size=8, num_shared=9, num_candidate=9, num_independent=9, num_external=9)
    data.setup()
    labels = data.source.labels.tolist()
    right = "".join(f"{id_},candidate,{labels[id_]}\n" for id_ in range(200))
    found = SplitFile.read(write(tmp_path / "right.csv", f"id,split,label\n{right}")).ids(data.source)
    assert len(found["candidate"]) == 200
    shifted = "".join(f"{id_},candidate,{labels[id_ + 1]}\n" for id_ in range(200))
    file = SplitFile.read(write(tmp_path / "shifted.csv", f"id,split,label\n{shifted}"))
    with pytest.raises(UserError, match=r"of 200 images are of another class than it says: its ids mean"):
        file.ids(data.source)


def test_a_training_takes_the_splits_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", by_row("id", [10, 20, 30, 40, 0, 1700]))
    given = ImageDataModule("digits", view_size=8, splits=path, randomised=True, run=str(tmp_path / "run"))
    given.setup()
    assert given.split.order == "file" and given.split.dealt_at_random is True and not given.split.half
    assert given.split.independent.tolist() == [20, 30]
    assert PairSplit.load(RunDir(tmp_path / "run").splits).sha256 == given.split.sha256
    again = ImageDataModule("digits", view_size=8)
    again.use_split(PairSplit.load(RunDir(tmp_path / "run").splits))
    again.setup()
    assert again.split.sha256 == given.split.sha256


def test_a_file_without_external_images_leaves_them_to_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "id,split\n3,candidate\n1600,shared\n")
    data = ImageDataModule("digits", view_size=8, splits=[path], num_external=40)
    data.setup()
    external = data.split.external
    assert len(external) == 40 and 1600 not in external and (external >= data.split.num_train).all()
    assert data.split.half and data.split.dealt_at_random is None


def test_fewer_external_images_of_a_file() -> None:
    ids = {"candidate": np.arange(3), "external": np.arange(10, 20)}
    split = PairSplit.given(10, 10, ids)
    fewer = split.with_external(4).external
    assert len(fewer) == 4 and np.isin(fewer, split.external).all()
    with pytest.raises(UserError, match="10 external images were given by a file; choose 10 or fewer"):
        split.with_external(11)
