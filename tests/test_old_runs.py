"""What the code before the move of modules left still opens, resumes and reports (see `tests/old/README.md`).

Every number is compared with what that code recorded; it was recorded on one machine, so not to the last bit.
"""

import html
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from memlight.analyze import main as analyze_main
from memlight.cli import main as train_main
from memlight.patches.store import open_store
from memlight.sequences.results import SequenceResults
from memlight.storage.rundir import RunDir
from memlight.storage.shards import FeatureStore
from memlight.storage.tables import read_json, read_table

ARCHIVES = Path(__file__).parent / "old"
CPU, SMALL = "--device cpu --logger csv", "--layers layer1 layer8"
MEASURED = {
    "layermem": f"layermem --views 2 {SMALL} {CPU}",
    "unitmem": f"unitmem --views 2 --topk 3 --layers layer1 {CPU}",
    "unitmem-median": f"unitmem --views 2 --topk 3 --layers layer1 --reference median {CPU}",
    "probe": f"probe {CPU}",
    "prune": f"prune --views 2 --trials 2 --ratios 0.2 --layers layer1 layer2 {CPU}",
}
"""Analyses of the pair, and the commands that made them."""
FEATURES = "features --run runs/pair --layers layer1 res6 --shard-size 2 --device cpu --out"
PATCHES = "patches extract --extractor runs/pair/candidate --grid 2 --shard-size 2 --workers 0 --device cpu --images"
PICTURES = "--query-images images/made --index-images images/train"
SEARCH = f"patches search --queries patches/made --index patches/train {PICTURES} -k 2 --metric cosine {CPU} --out"
RELEASED = (
    "unitmem --encoder resnet9 --image-size 16 --images photos --layers layer1 --views 2 --topk 3 --reference median "
    f"--max-forward 2 {CPU} --run runs/released"
)

OTHERWISE = (
    *("bits_per_parameter", "bits_per_parameter_low", "bits_per_parameter_high"),  # then of every tenth sequence
    *("null_p95", "above_null_p95"),  # then as if every unit had an exponential tail
    *("contrast_low", "contrast_high"),  # then normal ones, however few images there were
)
"""What has other numbers now."""

Unpack = Callable[..., Path]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of all archives. Shared: tests change copies."""
    root = tmp_path_factory.mktemp("old")
    for archive in sorted(ARCHIVES.glob("*.tar.xz")):
        with tarfile.open(archive) as file:
            file.extractall(root, filter="data")
    return root


@pytest.fixture
def unpack(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Unpack:
    """Copies directories to where the test then is: old files name each other by relative paths."""
    monkeypatch.chdir(tmp_path)
    picture = next((unpacked / "runs/pair/analysis/layermem/figures").glob("*.png")).read_bytes()

    def undrawn(self: Figure, to: Any, **options: Any) -> None:
        """Drawing takes longest, and other tests look at figures."""
        if isinstance(to, str | Path):
            Path(to).write_bytes(picture)
        else:
            to.write(picture)

    monkeypatch.setattr(Figure, "savefig", undrawn)
    torch.set_num_threads(1)

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(unpacked / name, tmp_path / name)
        return tmp_path

    return copy


def measure(words: str) -> None:
    assert analyze_main(words.split()) == 0


def train(words: str) -> None:
    assert train_main(words.split()) == 0


def assert_same_csv(old: Path, new: Path) -> None:
    """Words, ids and counts are equal, other numbers to a thousandth; new columns stand behind the old ones."""
    a, b = read_table(old), read_table(new)
    assert list(b)[: len(a)] == list(a), old
    for column, values in a.items():
        if column in OTHERWISE:
            continue
        if values.dtype.kind == "f":
            np.testing.assert_allclose(b[column], values, rtol=1e-3, atol=1e-4, err_msg=f"{old} {column}")
        else:
            np.testing.assert_array_equal(b[column], values, err_msg=f"{old} {column}")


def assert_same_analysis(old: Path, new: Path) -> None:
    """Equal tables under equal names, and the same headline; there may be more of both now."""
    assert {path.name for path in new.glob("*.csv")} >= {path.name for path in old.glob("*.csv")}
    for path in old.glob("*.csv"):
        assert_same_csv(path, new / path.name)
    before, after = (read_json(where / "summary.json", dict)["headline"] for where in (old, new))
    assert [name for name in after if name in before] == list(before)
    for name, value in before.items():
        if name.partition("/")[0] in OTHERWISE:
            continue
        known = value is not None and not isinstance(value, str)
        assert after[name] == (pytest.approx(value, rel=1e-3, abs=1e-4) if known else value), f"{old} {name}"


def page_of(run: str) -> str:
    """The text of the report; every figure that an old analysis has is in it."""
    measure(f"report --run {run}")
    page = (Path(run) / "report.html").read_text(encoding="utf-8")
    text = html.unescape(page)
    for summary in sorted(Path(run).glob("analysis/*/summary.json")):
        for name, caption in read_json(summary, dict)["figures"].items():
            assert caption in text, f"{summary}: {name}"
    assert "nan" not in text.lower().replace("finan", "").split()
    return text


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def as_made_here(store: Path) -> None:
    """The manifest with the versions of this machine: another torch is refused, as its last bits may differ."""
    from importlib.metadata import version

    manifest = read_json(store / "manifest.json", dict)
    made = manifest.get("made_with", {})
    for name in ("torch", "torchvision", "timm", "pillow"):
        if name in made:
            made[name] = version(name)
    if "torch" in manifest:
        manifest["torch"] = torch.__version__
    (store / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


# A finished pair


@pytest.mark.parametrize("name", MEASURED)
def test_an_old_pair_is_measured_to_the_old_numbers(name: str, unpack: Unpack) -> None:
    root = unpack("runs/pair")
    measure(f"{MEASURED[name]} --run runs/pair --tag again")
    command = name.partition("-")[0]
    assert_same_analysis(root / f"runs/pair/analysis/{name}", root / f"runs/pair/analysis/{command}-again")


def test_an_old_pair_is_reported(unpack: Unpack) -> None:
    root = unpack("runs/pair")
    text = page_of("runs/pair")
    assert "Not measured yet" not in text
    made = {path.parent.name for path in root.glob("runs/pair/analysis/*/summary.json")}
    assert made == {
        *("classmem-by-labels", "exchange", "finetune", "images", "layermem", "probe", "prune", "removal-2", "unit"),
        *("unitmem", "unitmem-median"),
    }


def test_old_pairs_are_compared(unpack: Unpack) -> None:
    root = unpack("runs/pair")
    shutil.copytree(root / "runs/pair", root / "runs/other")
    measure("compare --runs runs/pair runs/other --out runs/compared")
    measure("report --runs runs/pair runs/other --out runs/repeated")
    layermem = read_table(root / "runs/pair/analysis/layermem/table.csv")
    assert layermem["contrast"].any()
    for table in (root / "runs/repeated").glob("layers.csv"):
        assert "layer8" in table.read_text(encoding="utf-8")


# A pair in training, with callbacks as they are saved in config.yaml


def test_an_old_training_goes_on_to_the_old_numbers(unpack: Unpack) -> None:
    root = unpack("runs/pair", "runs/unfinished", "expected/unfinished")
    resume = "fit --config runs/unfinished/config.yaml --run runs/unfinished --resume true --data.role"
    finished = bytes_of(root / "runs/unfinished/candidate")
    train(f"{resume} candidate")
    assert bytes_of(root / "runs/unfinished/candidate") == finished
    train(f"{resume} independent")
    assert_same_csv(
        root / "expected/unfinished/independent/metrics.csv", root / "runs/unfinished/independent/metrics.csv"
    )
    for old in (root / "expected/unfinished/analysis").iterdir():
        assert_same_analysis(old, root / "runs/unfinished/analysis" / old.name)
    saved = RunDir(root / "runs/unfinished").config.read_text(encoding="utf-8")
    assert "memlight.callbacks.ExchangeCallback" in saved and "donor: runs/pair" in saved


# Stores


def test_an_old_feature_store_opens(unpack: Unpack) -> None:
    root = unpack("features/whole", "runs/pair")
    store = FeatureStore(root / "features/whole")
    assert store.layers == ["layer1", "res6"] and len(store) == 8
    assert store.ids.tolist() == sorted(read_json(root / "runs/pair/splits.json", dict)["candidate"])
    raw = np.concatenate([np.load(path) for path in sorted((root / "features/whole/res6").glob("*.npy"))])
    assert np.array_equal(store.read("res6"), raw) and np.array_equal(store["res6"][[5, 2]], raw[[5, 2]])


def test_old_features_are_gone_on_with(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    root = unpack("features", "runs/pair")
    for name, there in (("whole", 4), ("cut", 2)):
        as_made_here(root / "features" / name)
        before = bytes_of(root / "features" / name)
        capsys.readouterr()
        measure(f"{FEATURES} features/{name}")
        assert f"{there} of 4 shards are there" in capsys.readouterr().out
        after = bytes_of(root / "features" / name)
        assert {path: after[path] for path in before} == before
    whole, cut = (FeatureStore(root / "features" / name) for name in ("whole", "cut"))
    assert np.array_equal(whole.labels, cut.labels) and whole.manifest == cut.manifest
    for layer in whole.layers:
        np.testing.assert_allclose(cut.read(layer), whole.read(layer), rtol=1e-2, atol=1e-3)


def test_old_patches_are_gone_on_with(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    root = unpack("patches", "images", "runs/pair")
    for name, images, there in (("train", "train", 3), ("cut", "made", 1)):
        as_made_here(root / "patches" / name)
        before = bytes_of(root / "patches" / name)
        capsys.readouterr()
        measure(f"{PATCHES} images/{images} --out patches/{name}")
        assert f"{there} of {2 if name == 'cut' else 3} shards are there" in capsys.readouterr().out
        after = bytes_of(root / "patches" / name)
        before.pop("images.json")  # which is written again, as images may have moved
        assert {path: after[path] for path in before} == before
    made, cut = (open_store(root / "patches" / name) for name in ("made", "cut"))
    assert (cut.num_rows, cut.names) == (made.num_rows, made.names) == (16, [f"{i}.png" for i in range(4)])
    for a, b in zip(made.shards, cut.shards, strict=True):
        np.testing.assert_allclose(np.load(b.path), np.load(a.path), rtol=1e-2, atol=1e-3)


def test_old_patches_are_searched_to_the_old_neighbours_and_reported(unpack: Unpack) -> None:
    root = unpack("patches", "images", "runs/patches")
    measure(f"{SEARCH} runs/again")
    assert_same_analysis(root / "runs/patches/analysis/patches", root / "runs/again/analysis/patches")
    with (
        np.load(root / "runs/patches/analysis/patches/neighbours.npz") as old,
        np.load(root / "runs/again/analysis/patches/neighbours.npz") as new,
    ):
        assert sorted(old) == sorted(new)
        for name in old:
            np.testing.assert_allclose(new[name], old[name], rtol=1e-3, atol=1e-4)
    measure(f"patches report --run runs/patches {PICTURES} --logger csv")
    assert "training images on average" in (root / "runs/patches/report.html").read_text(encoding="utf-8")


# An encoder that was not trained here


def test_an_old_study_of_a_released_encoder_goes_on(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    root = unpack("photos", "runs/released", "expected/released")
    progress = root / "runs/released/analysis/.unitmem.progress"
    assert sorted(path.name for path in progress.iterdir()) == ["candidate-0.npy", "candidate-0.safetensors"]
    measure(RELEASED)
    assert "UnitMem candidate: 4 of 8 images were measured by a call that was cut short" in capsys.readouterr().out
    for name in ("unitmem", "images"):
        assert_same_analysis(root / f"expected/released/analysis/{name}", root / f"runs/released/analysis/{name}")
    assert not progress.exists()
    assert "random weights, seed 0: nothing was learned" in page_of("runs/released")
    page_of("expected/released")


# Sequences


@pytest.mark.parametrize("name", ["sequence", "interventions"])
def test_an_old_sequence_experiment_is_measured_and_reported(name: str, unpack: Unpack) -> None:
    root = unpack(f"runs/{name}")
    measure(f"sequence --run runs/{name} --logger csv --tag again")
    assert_same_analysis(root / f"runs/{name}/analysis/sequence", root / f"runs/{name}/analysis/sequence-again")
    assert "Not measured yet" not in page_of(f"runs/{name}")


@pytest.mark.parametrize("name", ["sequence", "interventions"])
def test_an_old_sequence_training_goes_on_to_the_old_numbers(name: str, unpack: Unpack) -> None:
    root = unpack(f"runs/{name}", f"runs/{name}-cut")
    cut = root / f"runs/{name}-cut"
    train(f"fit --config {cut}/config.yaml --run {cut} --resume true")
    old, new = (SequenceResults.read(root / f"runs/{run}") for run in (name, f"{name}-cut"))
    for key, value in vars(old).items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(getattr(new, key), value, rtol=1e-3, atol=1e-4, err_msg=key)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(new, key), value, err_msg=key)
    assert new.events == old.events
    assert_same_csv(root / f"runs/{name}/metrics.csv", cut / "metrics.csv")


def test_a_finished_old_sequence_training_is_left_alone(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    root = unpack("runs/sequence")
    before = bytes_of(root / "runs/sequence")
    train("fit --config runs/sequence/config.yaml --run runs/sequence --resume true")
    assert "nothing to train" in capsys.readouterr().out
    assert bytes_of(root / "runs/sequence") == before
