"""`analyze.py patches search` and `report` on images with known answers, and the scripts that make such images."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from memlight.analyses.patches import study
from memlight.analyses.patches.columns import PATCHES_COMPARE, PATCHES_IMAGES, PATCHES_NEAREST, PATCHES_TABLE
from memlight.analyze import main
from memlight.patches import nearest
from memlight.patches.approximate import approximate_patches
from memlight.patches.index import Index, Piece
from memlight.patches.results import read_results
from memlight.patches.search import nearest_patches
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.patches.pixel_stores import GRID, pixel_store, save_images

COPIES = ("search", "--queries", "stores/copies", "--index", "stores/train", "--out", "x")
SCRIPTS = Path(__file__).resolve().parents[3] / "configs" / "patches"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def few_pictures() -> Iterator[None]:
    """Drawing is what takes time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "ROWS", 1)
        patch.setattr(study, "TOP_SOURCES", 3)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Searches of held-out images, copies and mosaics in 30 training images."""
    root = tmp_path_factory.mktemp("patches")
    save_images(root / "images/train", 30, 0)
    save_images(root / "images/test", 12, 1)
    script("known_answers").make(root / "images", root / "known", 12, GRID, 2, 0)
    pixel_store(root / "stores/train", root / "images/train")
    for kind in ("held_out", "copies", "mosaics"):
        pixel_store(root / f"stores/{kind}", root / f"known/{kind}")
        assert search(root, kind, "--metric", "l2") == 0
    return root


def search(root: Path, kind: str, *more: str, out: str | None = None) -> int:
    stores = ["--queries", str(root / f"stores/{kind}"), "--index", str(root / "stores/train")]
    return main(
        ["patches", "search", *stores, "-k", "3", "--out", str(root / "runs" / (out or kind)), "--logger=csv", *more]
    )


def test_copies_mosaics_and_held_out_images_are_told_apart(runs: Path) -> None:
    by_kind = {}
    for kind in ("held_out", "copies", "mosaics"):
        table = read_table(RunDir(runs / "runs" / kind).analysis("patches").table(), PATCHES_TABLE)
        by_kind[kind] = dict(zip(table["statistic"].tolist(), table["value"].tolist(), strict=True))
    assert by_kind["copies"]["mean_distance"] == by_kind["mosaics"]["mean_distance"] == 0
    assert by_kind["held_out"]["mean_distance"] > 1
    assert [by_kind[kind]["sources_per_image"] for kind in ("copies", "mosaics")] == [1, 2]
    assert by_kind["held_out"]["sources_per_image"] > 2
    assert by_kind["copies"]["top_contributor_share"] == 1
    assert by_kind["mosaics"]["top_contributor_share"] == 0.5
    assert by_kind["copies"]["same_position"] == by_kind["mosaics"]["same_position"] == 1


def test_every_patch_of_a_mosaic_is_traced(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("known_answers").check(runs / "runs/mosaics", runs / "known/mosaics.csv")
    out = capsys.readouterr().out
    assert "48 patches of 12 images" in out
    assert "true patch nearest           100.0000%" in out


def test_members_are_counted(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (runs / "known/copies.csv").read_text().splitlines()[1:]
    (tmp_path / "members.txt").write_text("\n".join({row.split(",")[2] for row in rows[: 6 * GRID**2]}) + "\n")
    script("known_answers").members(runs / "runs/copies", tmp_path / "members.txt")
    out = capsys.readouterr().out
    assert "6 of 30 sources are members" in out
    assert "nearest patch in a member    50.000%" in out


def test_tables_and_arrays_agree(runs: Path) -> None:
    analysis = RunDir(runs / "runs/held_out").analysis("patches")
    results = read_results(runs / "runs/held_out")
    nearest = read_table(analysis.table("nearest"), PATCHES_NEAREST)
    assert results.indices.shape == (48, 3)
    assert np.array_equal(nearest["source"] * GRID**2 + nearest["source_patch"], results.indices[:, 0])
    images = read_table(analysis.table("images"), PATCHES_IMAGES)
    np.testing.assert_allclose(images["mean_distance"], results.distances[:, 0].reshape(12, 4).mean(1), rtol=1e-6)
    assert images["name"][3] == "00003.png"
    assert json.loads(analysis.search.read_text())["index_patches"] == 120
    figures = {path.stem for path in analysis.figures.iterdir()}
    assert figures == {"distances", "origins", "top_sources", "lowest_distance", "highest_distance"}
    assert not analysis.progress.exists()


def test_both_backends_and_the_approximate_one_write_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert search(runs, "held_out", "--metric", "l2", "--backend", "faiss", out="faiss") == 0
    assert search(runs, "held_out", "--metric", "l2", "--approximate", "Flat", out="flat") == 0
    assert "finds the nearest patch of 100.00% of 48 queries" in capsys.readouterr().out
    exact = read_results(runs / "runs/held_out")
    for other in ("faiss", "flat"):
        found = read_results(runs / "runs" / other)
        assert np.array_equal(found.indices, exact.indices) and np.array_equal(found.distances, exact.distances)


def test_what_was_found_for_other_images_is_not_gone_on_with(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Index.read

    def stopping(self: Index, piece: Piece, device: torch.device) -> torch.Tensor:
        if self.num_rows == 120 and piece.shard == 4:
            raise KeyboardInterrupt
        return read(self, piece, device)

    with monkeypatch.context() as patched:
        patched.setattr(nearest, "SAVE_SECONDS", 0)
        patched.setattr(Index, "read", stopping)
        assert search(runs, "copies", "--metric", "l2", out="shared") == 130
    assert RunDir(runs / "runs/shared").analysis("patches").progress.is_file()
    assert search(runs, "held_out", "--metric", "l2", out="shared") == 0  # as many patches as the copies
    shared, alone = (read_results(runs / "runs" / name) for name in ("shared", "held_out"))
    assert np.array_equal(shared.indices, alone.indices) and np.array_equal(shared.distances, alone.distances)


def test_an_approximate_index_says_what_it_misses() -> None:
    rng = np.random.default_rng(0)
    rows, queries = rng.standard_normal((2000, 8), np.float32), rng.standard_normal((100, 8), np.float32)
    found, recall = approximate_patches(queries, rows, "IVF32,Flat", 5, "cosine", nprobe=1)
    exact = nearest_patches(queries, rows, 5, "cosine")
    assert recall.first == (found.indices[:, 0] == exact.indices[:, 0]).mean() < 1
    hits = [len(set(a) & set(b)) for a, b in zip(found.indices.tolist(), exact.indices.tolist(), strict=True)]
    assert recall.among_k == pytest.approx(np.mean(hits) / 5)
    again, recall = approximate_patches(queries, rows, "IVF32,Flat", 5, "cosine", nprobe=32)
    assert recall.first == recall.among_k == 1
    assert np.array_equal(again.indices, exact.indices)


def test_the_page_shows_sources_and_what_differs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs / "runs/mosaics"
    others = ["--compare", str(runs / "runs/copies"), "--held-out", str(runs / "runs/held_out")]
    assert main(["patches", "report", "--run", str(run), *others, "--logger=csv"]) == 0
    assert f"report: {run / 'report.html'}" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "come from 2.00 training images on average" in page
    sentence = page.partition("Against as many held-out images (held_out) these differ beyond chance: ")[2]
    assert "mean distance" in sentence.partition(".")[0]
    assert page.count('data-p="') == 12 * GRID**2
    assert page.count("<figcaption>0000") == 10
    table = read_table(RunDir(run).analysis("patches_compare").table(), PATCHES_COMPARE)
    assert dict.fromkeys(table["model"].tolist()) == dict.fromkeys(["mosaics", "copies", "held_out"])
    row = (table["model"] == "copies") & (table["statistic"] == "sources_per_image")
    assert table["over_held_out"][row] < 0 and table["over_high"][row] < 0
    assert np.isnan(table["over_held_out"][table["model"] == "held_out"]).all()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["report", "--run", "runs/none"], "no patch search in it"),
        (["report", "--run", "runs/copies", "--compare", "runs/cosine"], "another metric"),
        (["report", "--run", "runs/copies", "--compare", "runs/copies"], "is called copies too"),
        (
            ["search", "--queries", "stores/none", "--index", "stores/train", "--out", "x"],
            "--queries stores/none: no patches here",
        ),
        ([*COPIES, "-k", "0"], "--k 0"),
        ([*COPIES, "--nprobe", "3"], "--nprobe 3: belongs to an approximate search"),
        ([*COPIES, "--approximate", "Flit"], "--approximate Flit: faiss cannot build it"),
    ],
)
def test_what_cannot_be_done_is_said(
    flags: list[str], says: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    if "runs/cosine" in flags and not (runs / "runs/cosine").exists():
        assert search(runs, "held_out", out="cosine") == 0
    more = ["--logger=csv"]
    assert main(["patches", *flags, *more]) == 2
    assert says in capsys.readouterr().err


def test_generators_learn_and_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = save_images(tmp_path / "images", 6, 0)
    steps = ["--vae-steps", "2", "--diffusion-steps", "2", "--batch", "4", "--every", "2", "--count", "2"]
    monkeypatch.setattr("sys.argv", ["generators.py", "--images", str(images), "--out", str(tmp_path / "out"), *steps])
    script("generators").main()
    assert (tmp_path / "out/members.txt").read_text().split() == ["000.png", "002.png", "004.png"]
    assert len(list((tmp_path / "out/vae").iterdir())) == len(list((tmp_path / "out/diffusion").iterdir())) == 2
