"""Scores of others: their files as they are published, matched by id, path and order, labels compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memlight.data.joining import JoinedScores, join_scores
from memlight.data.names import names_of
from memlight.data.score_files import MOST, ScoreFile
from memlight.data.sources import JoinedSource, MemorySource
from tests.said import refused

TRAIN, TEST, CLASSES = 60, 12, 4
LABELS = (np.arange(TRAIN + TEST) * 7 % CLASSES).astype(np.int64)
MEM = np.random.default_rng(0).random(TRAIN).astype(np.float32)
PATHS = [f"{'train' if i < TRAIN else 'val'}/class{LABELS[i]}/n{LABELS[i]:02d}_{i}.JPEG" for i in range(TRAIN + TEST)]


def source(*, named: bool = True, classes: bool = True) -> JoinedSource:
    def half(rows: slice) -> MemorySource:
        labels = torch.from_numpy(LABELS[rows] if classes else np.full(len(LABELS[rows]), -1))
        images = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
        names = [f"class{c}" for c in range(CLASSES)] if classes else []
        return MemorySource("made up", images, labels, names, "", names=PATHS[rows] if named else [])

    return JoinedSource(half(slice(0, TRAIN)), half(slice(TRAIN, None)))


def joined(path: Path, *, named: bool = True, classes: bool = True) -> JoinedScores:
    data = source(named=named, classes=classes)
    return join_scores(ScoreFile.read(path), data, names_of(data))


def expect(scores: JoinedScores, name: str, values: NDArray[np.floating] = MEM) -> None:
    assert scores.names == [name]
    np.testing.assert_allclose(scores.values[:TRAIN, 0], values)
    assert np.isnan(scores.values[TRAIN:]).all()


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


# The layouts of the files that are published


def test_memorisation_of_feldman_and_zhang_by_order(tmp_path: Path) -> None:
    rows = {f"tr_classidx_{c}": np.flatnonzero(LABELS[:TRAIN] == c) for c in range(CLASSES)}
    matrices = {f"infl_matrix_class{c}": np.zeros((15, 3), np.float32) for c in range(CLASSES)}
    labels = {"tr_labels": LABELS[:TRAIN], "tt_labels": LABELS[TRAIN:]}
    path = saved(tmp_path / "cifar100_infl_matrix.npz", **matrices, **rows, **labels, tr_mem=MEM)
    scores = joined(path, named=False)
    expect(scores, "tr_mem")
    assert scores.words == "60 numbers taken for the training images in their order; 0 of 60 labels differ"


def test_memorisation_of_feldman_and_zhang_by_name_of_file(tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(TRAIN)
    files = np.array([PATHS[i].rpartition("/")[2].encode() for i in order], dtype=object)
    arrays = {"tr_filenames": files, "tr_labels": LABELS[order], "tr_mem": MEM[order], "tt_labels": LABELS[TRAIN:]}
    expect(joined(saved(tmp_path / "imagenet_index.npz", **arrays)), "tr_mem")


def test_pairs_of_high_influence_have_the_memorisation_and_not_the_influence(tmp_path: Path) -> None:
    which = np.array([3, 7, 3, 5, 3])
    pairs = {"tr_idx": which, "tt_idx": np.arange(5), "infl": np.linspace(0.2, 0.9, 5), "mem": MEM[which]}
    scores = joined(saved(tmp_path / "pairs.npz", **pairs))
    assert scores.names == ["mem"] and np.isfinite(scores.values).sum() == 3
    np.testing.assert_allclose(scores.of([3, 5, 7])[:, 0], MEM[[3, 5, 7]])


def test_consistency_scores_by_order_and_by_name_of_file(tmp_path: Path) -> None:
    expect(joined(saved(tmp_path / "c.npz", labels=LABELS[:TRAIN], scores=MEM)), "scores")
    files = np.array([path.rpartition("/")[2].encode() for path in PATHS[:TRAIN]])
    expect(joined(saved(tmp_path / "d.npz", labels=LABELS[:TRAIN], scores=MEM, filenames=files)), "scores")


def test_one_number_for_each_image(tmp_path: Path) -> None:
    np.save(tmp_path / "csl.npy", MEM)
    expect(joined(tmp_path / "csl.npy", named=False), "csl")
    (tmp_path / "list.json").write_text(json.dumps(MEM.tolist()))
    expect(joined(tmp_path / "list.json"), "list")
    (tmp_path / "by_id.json").write_text(json.dumps({str(i): float(v) for i, v in enumerate(MEM)}))
    expect(joined(tmp_path / "by_id.json"), "by_id")
    (tmp_path / "lists.json").write_text(json.dumps({"path": PATHS[:TRAIN], "csl": MEM.tolist()}))
    expect(joined(tmp_path / "lists.json"), "csl")


@pytest.mark.parametrize(
    "path_of",
    [
        lambda i: PATHS[i],
        lambda i: f"./{PATHS[i]}",
        lambda i: f"/elsewhere/imagenet/{PATHS[i]}",
        lambda i: PATHS[i].removeprefix("train/"),
        lambda i: PATHS[i].rpartition("/")[2],
        lambda i: PATHS[i].replace("/", "\\"),
    ],
)
def test_paths_may_begin_elsewhere(tmp_path: Path, path_of: Callable[[int], str]) -> None:
    rows = [f"{path_of(i)},{MEM[i]},x" for i in reversed(range(TRAIN))]
    (tmp_path / "s.csv").write_text("\n".join(["filename,mem,remark", *rows, "another/image.png,0.5,y"]) + "\n")
    scores = joined(tmp_path / "s.csv")
    expect(scores, "mem")
    assert scores.words == "60 of 61 rows matched by path"


def test_several_scores_by_id_with_gaps(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,a,b\n5,1,\n2,nan,3\n")
    scores = joined(tmp_path / "s.csv")
    assert scores.names == ["a", "b"]
    np.testing.assert_array_equal(scores.of([2, 5]), [[np.nan, 3], [1, np.nan]])


def test_labels_may_be_words_or_numbered_otherwise(tmp_path: Path) -> None:
    words = np.array([f"class{c}" for c in LABELS[:TRAIN]])
    expect(joined(saved(tmp_path / "w.npz", labels=words, scores=MEM)), "scores")
    other = joined(saved(tmp_path / "o.npz", labels=np.array([30, 10, 20, 0])[LABELS[:TRAIN]], scores=MEM))
    expect(other, "scores")
    assert other.words.endswith("labels agree, but classes are numbered otherwise")
    unlabelled = joined(saved(tmp_path / "u.npz", labels=LABELS[:TRAIN], scores=MEM), classes=False)
    assert unlabelled.words.endswith("labels were not compared, as the images have none")


# What cannot be right


def test_another_order_of_the_images_is_refused_with_how_many_labels_differ(tmp_path: Path) -> None:
    shuffled = np.random.default_rng(2).permutation(LABELS[:TRAIN])
    differ = (shuffled != LABELS[:TRAIN]).sum()
    with refused(f"--join .*: {differ} of 60 labels differ from those of the data set, .* in another order"):
        joined(saved(tmp_path / "s.npz", labels=shuffled, scores=MEM))


def test_paths_of_other_images_are_refused(tmp_path: Path) -> None:
    rows = [f"{PATHS[i]},{MEM[i]},{(LABELS[i] + i) % CLASSES}" for i in range(TRAIN)]
    (tmp_path / "s.csv").write_text("\n".join(["path,mem,label", *rows]) + "\n")
    with refused("45 of 60 labels differ .*, so its paths are of other images; leave the labels out"):
        joined(tmp_path / "s.csv")


def test_more_than_one_wrong_label_in_a_hundred_is_refused(tmp_path: Path) -> None:
    labels = LABELS[:TRAIN].copy()
    labels[3] = (labels[3] + 1) % CLASSES
    with refused("1 of 60 labels differ"):
        joined(saved(tmp_path / "s.npz", labels=labels, scores=MEM))


REFUSED = {
    "no key": ("mem\n1\n", "must name a column id or path"),
    "no score": ("id,name\n1,x\n", "no column of numbers beside name"),
    "empty": ("", "must name a column id or path"),
    "no rows": ("id,mem\n", "names no image"),
    "a word": ("id,mem\n1,0.5\n2,high\n", "'high' among the numbers of mem .place 2. is none"),
    "no id": ("id,mem\n1,0.5\n-1,0.5\n", "'-1' .place 2. is no id"),
    "too far": ("id,mem\n72,0.5\n", "has a score of id 72, and ids go from 0 to 71"),
    "twice": ("id,mem\n1,0.5\n1,0.6\n", "id 1 is in it more than once, with different scores"),
    "ragged": ("id,mem\n1,0.5,3\n", "row 2 has 3 cells where the first has 2"),
    "unknown": ("path,mem\nx/y.png,0.5\n", "none of its 1 paths is of an image here .*; paths are written as"),
    "columns": ("id,mem,mem\n1,1,1\n", "names a column twice"),
    "called nothing": ("id,\n1,0.5\n", "a score is called ''"),
    "called much": (f"id,{'m' * 61}\n1,0.5\n", "must have 1 to 60 letters in one line"),
    "called over lines": ('id,"me\nm"\n1,0.5\n', "a score is called 'me"),
    "many": (f"id,{','.join(f's{i}' for i in range(MOST + 1))}\n1{',1' * (MOST + 1)}\n", "has 9 columns of numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tables_that_do_not_say_what_is_needed_are_refused(tmp_path: Path, name: str) -> None:
    text, match = REFUSED[name]
    (tmp_path / "s.csv").write_text(text)
    with refused(f"--join {tmp_path}/s.csv: .*{match}"):
        joined(tmp_path / "s.csv")


def test_paths_that_fit_several_images_are_refused(tmp_path: Path) -> None:
    data = source()
    names = names_of(data)
    names.paths[1] = f"again/{names.paths[0]}"  # type: ignore[index]
    (tmp_path / "s.csv").write_text(f"path,mem\n{PATHS[0].rpartition('/')[2]},1\n")
    with refused("fits 2 images; write more of the paths"):
        join_scores(ScoreFile.read(tmp_path / "s.csv"), data, names)


def test_arrays_that_do_not_say_what_is_needed_are_refused(tmp_path: Path) -> None:
    with refused("has 59 numbers and does not say of which images; the data set has 60 training and 12 test images"):
        joined(saved(tmp_path / "s.npz", mem=MEM[:59]))
    with refused("lists have several lengths .a .3., b .4.."):
        joined(saved(tmp_path / "l.npz", a=np.ones(3), b=np.ones(4)))
    with refused("it has no list of numbers, only infl"):
        joined(saved(tmp_path / "m.npz", infl=np.ones((3, 4))))
    with refused("its name ends in none of .csv, .npz, .npy, .json"):
        ScoreFile.read(tmp_path / "scores.pkl")
    with refused("cannot be read .no such file."):
        ScoreFile.read(tmp_path / "gone.csv")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:100])
    with refused("cannot be read"):
        ScoreFile.read(tmp_path / "cut.npz")


class Runs:
    ran = False

    def __reduce__(self) -> tuple[object, ...]:
        return setattr, (Runs, "ran", True)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    files = np.array([Runs()] * TRAIN, dtype=object)
    with refused("cannot be read .names builtins.setattr, which could run code"):
        ScoreFile.read(saved(tmp_path / "s.npz", filenames=files, scores=MEM))
    assert not Runs.ran


def test_too_few_scores_of_a_split_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,mem\n" + "".join(f"{i},{i}\n" for i in range(9)))
    scores = joined(tmp_path / "s.csv")
    with refused("9 of 20 candidate images have a number in mem, and 10 are needed"):
        scores.require("candidate", np.arange(20))


def test_what_stands_under_pictures(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,mem\n" + "".join(f"{i},{i / 10}\n" for i in range(11)))
    scores = joined(tmp_path / "s.csv")
    assert scores.captions([3, 40]) == ["mem 0.3", ""]
    np.testing.assert_allclose(scores.shades([0, 5, 10, 40], np.arange(20)), [0, 0.5, 1, np.nan])
