import hashlib
from pathlib import Path

import numpy as np
import pytest

from memlight.data.images import ImageDataModule
from memlight.data.splits import ROLES, LeftOut
from memlight.errors import UserError

SIZES = {"num_shared": 20, "num_candidate": 12, "num_independent": 12, "num_external": 4, "batch_size": 1}


def digits(role: str, path: Path | None, repeat: int = 1) -> ImageDataModule:
    without = None if path is None else str(path)
    data = ImageDataModule("digits", role=role, view_size=8, repeat=repeat, without=without, **SIZES)  # type: ignore[arg-type]
    data.setup()
    return data


def write(path: Path, ids: list[int]) -> Path:
    path.write_text("\n".join(["id", *map(str, ids)]) + "\n")
    return path


@pytest.mark.parametrize("role", ["candidate", "all"])
def test_training_leaves_them_out_and_the_splits_are_the_same(role: str, tmp_path: Path) -> None:
    whole = digits(role, None)
    own = [id_ for split in ROLES[role][1:] for id_ in whole.split.ids(split).tolist()]
    left_out = own[1::5]
    data = digits(role, write(tmp_path / "ids.csv", left_out[::-1]), repeat=2)
    assert data.split.sha256 == whole.split.sha256
    shown = [int(id_) for draw in data.train_dataloader() for id_ in draw.ids]
    kept = [id_ for id_ in own if id_ not in left_out]
    assert sorted(shown) == sorted([*whole.split.shared.tolist(), *kept, *kept])


def test_a_record_says_which_file_it_was(tmp_path: Path) -> None:
    path = tmp_path / "chosen.csv"
    path.write_text("\ufeffscore,id\n0.5,7\n\n0.25, 3 \n")
    left_out = LeftOut.read(path)
    assert left_out.ids.tolist() == [7, 3]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert left_out.record == {"file": "chosen.csv", "sha256": digest, "count": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", r"must name the column id, .* it is \[\]"),
        ("number\n1\n", r"must name the column id, .* it is \['number'\]"),
        ("id\n", "names no image"),
        ("id,score\n1,2\n\nx,3\n", "row 4 has no id: 'x,3'"),
        ("score,id\n1,2\n3\n", "row 3 has no id: '3'"),
        ("id\n-1\n", "row 2 has no id: '-1'"),
        ("id\n4\n5\n4\n", "id 4 is in it twice"),
    ],
)
def test_files_that_name_no_images(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(UserError, match=rf"^without=.*ids\.csv: .*{words}"):
        digits("candidate", tmp_path / "ids.csv")


def test_only_the_members_own_images_can_be_left_out(tmp_path: Path) -> None:
    split = digits("candidate", None).split
    own = split.candidate.tolist()
    for other in (split.shared, split.independent, split.external, np.array([10**9])):
        path = write(tmp_path / "ids.csv", [own[0], int(other[0])])
        words = rf"1 of 2 ids are not among the 12 images of the candidate member alone \(id {other[0]}\)"
        with pytest.raises(UserError, match=words):
            digits("candidate", path)
    assert len(digits("candidate", write(tmp_path / "ids.csv", own)).train_dataloader()) == 20  # all of them
