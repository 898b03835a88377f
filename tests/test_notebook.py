"""What a notebook imports from `memlight` itself."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memlight
from memlight import measure_pair, open_run
from memlight.errors import UserError
from memlight.storage.rundir import RunDir
from tests.tiny_pair import VIEWS, TinyPair, analyze, read_tables, same_tensors


@pytest.fixture(scope="module")
def measured(plain_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = plain_pair.copy(tmp_path_factory.mktemp("notebook") / "run")
    assert analyze(run, "layermem", short=False) == 0
    return run


def test_a_pair_from_arrays_is_the_pair_of_the_command(measured: Path) -> None:
    run = open_run(measured)
    f, g, split = run.encoder("candidate"), run.encoder("independent"), run.splits
    images = run.images(range(split.num_train + split.num_test))
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in (f, g)]
    labels = run._open().data.source.labels
    found = measure_pair(f, g, images, split, views=VIEWS, view_size=16, labels=labels, progress=False)
    assert same_tensors(before, [dict(network.state_dict()) for network in (f, g)])
    on_disk = read_tables(RunDir(measured).analysis("layermem"))
    for name in ("table", "membership", "samples", "placebos"):
        table = getattr(found, name)
        on_disk[name].pop("path", None)  # arrays are in no files
        assert list(table) == list(on_disk[name])
        for column, values in on_disk[name].items():
            if values.dtype.kind == "f":
                np.testing.assert_allclose(table[column], values, rtol=0, atol=1e-6, err_msg=f"{name} {column}")
            else:
                assert (table[column] == values).all(), (name, column)


class Plain(nn.Module):
    """A network that knows nothing of memlight."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(images).relu()).mean((2, 3))


def plain_case() -> tuple[nn.Module, nn.Module, torch.Tensor, list[str]]:
    images = torch.randint(0, 256, (20, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    words = ["candidate"] * 6 + ["independent"] * 6 + ["external"] * 4 + ["none"] * 4
    return Plain(1), Plain(2), images, words


def test_any_two_modules_and_a_word_for_each_image() -> None:
    f, g, images, words = plain_case()
    found = measure_pair(f, g, images, words, views=3, progress=False)
    assert found.table["layer"].tolist() == ["first", "second"]
    same = measure_pair(f, g, images.numpy(), {"candidate": range(6), "independent": [*range(6, 12)]}, views=3)
    np.testing.assert_array_equal(found.table["contrast"], same.table["contrast"])
    assert np.isnan(same.table["control_external"]).all() and set(same.samples["label"]) == {-1}
    half = measure_pair(f, g, images, {"candidate": range(6), "external": range(12, 16)}, ["second"], views=3)
    scores = {split: half.samples["score"][half.samples["split"] == split] for split in ("candidate", "external")}
    assert half.table["contrast"][0] == pytest.approx(scores["candidate"].mean() - scores["external"].mean())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images_u8": torch.zeros(20, 3, 8, 8)}, r"torch.float32 of shape \(20, 3, 8, 8\) where uint8"),
        ({"images_u8": torch.zeros(20, 8, 8, 3, dtype=torch.uint8)}, r"permute the axes"),
        ({"split": ["candidate"]}, "1 words for 20 images"),
        ({"split": {"cat": [1]}}, "no such split; splits are shared"),
        ({"split": {"candidate": [0, 1], "independent": [2, 20]}}, "ids 0 to 20 of 20 images"),
        ({"split": {"candidate": [0, 1], "independent": [2, 1]}}, "image 1 is in it twice"),
        ({"split": {"candidate": [0], "independent": [2, 1]}}, "1 candidate images"),
        ({"split": {"candidate": [0, 3]}}, "0 independent images"),
        ({"layers": ["third"]}, "third"),
        ({"view_set": "third"}, "third"),
        ({"labels": [1, 2]}, "2 labels of 20 images"),
        ({"views": 1}, "views"),
    ],
)
def test_bad_arguments_of_a_pair(change: dict[str, Any], words: str) -> None:
    f, g, images, split = plain_case()
    with pytest.raises(UserError, match=words):
        measure_pair(f, g, **{"images_u8": images, "split": split, "views": 3, "progress": False, **change})


def test_a_run_as_data_frames(measured: Path) -> None:
    pandas = pytest.importorskip("pandas")
    run = open_run(measured)
    assert repr(run) == f"<run {measured}: layermem>" and run.analyses() == ["layermem"]
    table = run.table("layermem")
    assert isinstance(table, pandas.DataFrame) and {"layer", "contrast", "p_adjusted"} <= {*table.columns}
    assert len(run.table("layermem", "samples")) > len(table)
    assert "contrast/layer8" in run.summary("layermem")["headline"]
    candidates = run.splits.ids("candidate")
    assert run.images(candidates[:2].tolist()).shape == (2, 3, 16, 16)
    with pytest.raises(UserError, match=r"has no such result; it has layermem; make it with `python analyze.py probe"):
        run.table("probe")
    with pytest.raises(UserError, match=r"layermem has no such table; it has agreement, intervals, membership"):
        run.table("layermem", "cats")


def test_without_pandas_a_table_says_what_to_install(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        open_run(measured).table("layermem")


def test_places_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory"):
        open_run(tmp_path / "nothing")


def test_names_are_loaded_when_they_are_asked_for() -> None:
    code = "import sys, memlight; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        memlight.nothing  # noqa: B018
