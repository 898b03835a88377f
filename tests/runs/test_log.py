"""Disk first: whole analyses or none. W&B offline: read back what a run holds."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memlight.analyses import layermem, probe, unitmem
from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.display.pictures import image_grid
from memlight.errors import UserError
from memlight.runs import log as logs
from memlight.runs.log import AnalysisLog, git_commit
from memlight.runs.settings import SHORT_NAMES, comparable
from memlight.runs.sweep import VARIABLES
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from memlight.training.loggers import make_loggers
from tests.compared_runs import config, make_run
from tests.ddp import run_ddp
from tests.said import refused
from tests.storage.test_writing import small_disk
from tests.synthetic_run import layermem_table, probe_table, unitmem_layers, unitmem_table
from tests.tiny_pair import ROOT
from tests.wandb_files import OfflineRun, read_offline_run

MADE_FROM: dict[str, Any] = {
    "seed": 3,
    "split_sha256": "ab" * 32,
    "checkpoints": {"candidate": "cd" * 32},
    "device": "cpu",
}
GRID = image_grid(np.zeros((1, 8, 8, 3), np.uint8), ["id 7"])


@pytest.fixture(autouse=True)
def _no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_MODE", "WANDB_PROJECT", *VARIABLES):
        monkeypatch.delenv(name, raising=False)
    yield


def write_probe(run: RunDir, top1: float) -> None:
    table = probe_table() | {"top1": np.full(4, top1)}
    with AnalysisLog(run, probe.ANALYSIS, tag="x", logger="csv", **MADE_FROM) as log:
        log.table("table", table)
        log.figure("grid", GRID, "A caption.")
        log.headline({"top1": np.float64(top1)})
        log.images = 50


def test_an_analysis_leaves_tables_figures_and_how_it_was_made(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write_probe(run, 0.5)
    analysis = run.analysis("probe", "x")
    assert sorted(path.name for path in analysis.dir.iterdir()) == ["figures", "summary.json", "table.csv"]
    with Image.open(analysis.figures / "grid.png") as png:
        assert png.size == tuple((GRID.get_size_inches() * GRID.dpi).round())
    summary = read_json(analysis.summary, dict)
    assert summary["headline"] == {"top1": 0.5}
    assert summary["figures"] == {"grid": "A caption."}
    assert {key: summary[key] for key in MADE_FROM} == MADE_FROM
    assert set(summary["versions"]) == set(logs.PACKAGES)
    assert summary["images_per_second"] == pytest.approx(50 / summary["seconds"])
    assert summary["command_line"].endswith(shlex.join(sys.argv[1:]))


def test_the_commit_of_the_source_is_recorded_where_it_is_a_checkout() -> None:
    assert (git_commit() is not None) == (ROOT / ".git").exists()


def test_a_second_run_replaces_and_a_failed_one_leaves_the_old(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write_probe(run, 0.5)
    write_probe(run, 0.7)
    with pytest.raises(KeyboardInterrupt), AnalysisLog(run, probe.ANALYSIS, tag="x", logger="csv", **MADE_FROM) as log:
        log.table("table", probe_table() | {"top1": np.full(4, 0.9)})
        raise KeyboardInterrupt
    assert read_table(run.analysis("probe", "x").table())["top1"][0] == 0.7
    assert [path.name for path in (run.root / "analysis").iterdir()] == ["probe-x"]


def _analyse_on_a_rank(root: str) -> None:
    with AnalysisLog(RunDir(Path(root)), probe.ANALYSIS, logger="csv", **MADE_FROM) as log:
        log.table("table", probe_table())


@pytest.mark.ddp
def test_only_rank_0_writes(tmp_path: Path) -> None:
    run_ddp(_analyse_on_a_rank, 2, str(tmp_path))
    assert [path.name for path in (tmp_path / "analysis").iterdir()] == ["probe"]


def offline_run(directory: Path) -> OfflineRun:
    """The only one of a run directory, or of a member's."""
    (offline,) = (directory / "wandb").glob("offline-run-*")
    return read_offline_run(offline)


def test_an_offline_wandb_run_holds_tables_figures_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "WANDB_TABLE_ROWS", 9)
    run = make_run(tmp_path / "simclr", config(repeat=4))
    both = replace(layermem.ANALYSIS, tables={**layermem.ANALYSIS.tables, "probe": PROBE_TABLE})
    with AnalysisLog(run, both, tag="x", **MADE_FROM) as log:
        log.table("table", layermem_table())
        log.table("probe", probe_table())
        log.figure("grid", GRID, "A caption.")
        log.headline({"contrast/res6": 0.0655})
    (offline,) = (run.root / "wandb").glob("offline-run-*")
    (file,) = offline.glob("files/media/table/layermem/probe*.json")
    content = json.loads(file.read_text())
    assert content["columns"] == list(PROBE_TABLE)
    assert content["data"][0] == ["candidate", "pooled", "linear", 0.7044, 0.981, 40_000, 5_000]
    (png,) = offline.glob("files/media/images/layermem/grid*.png")
    analysis = run.analysis("layermem", "x")
    assert png.read_bytes() == (analysis.figures / "grid.png").read_bytes()
    assert (offline / "files/layermem-x-table.csv").read_bytes() == analysis.table().read_bytes()
    found = read_offline_run(offline)
    assert (found.name, found.group, found.job_type) == ("simclr/layermem-x", "simclr", "analyze")
    assert (found.project, found.sweep_id, found.exit_code) == ("memlight", "", 0)
    assert found.tags == ["cifar10", "layermem", "resnet9", "simclr"]
    assert found.config["analysis"]["figures"] == {"grid": "A caption."}
    assert found.config["analysis"]["seed"] == 3 and found.config["seed"] == 0  # of the views, and of the training
    assert (found.config["command"], found.config["role"], found.config["run"]) == ("layermem", "candidate", "simclr")


def test_the_headline_numbers_stand_at_the_top_level_and_layers_over_depth(tmp_path: Path) -> None:
    run, table = RunDir(tmp_path / "simclr"), layermem_table()
    with AnalysisLog(run, layermem.ANALYSIS, **MADE_FROM) as log:
        log.table("table", table)
    found = offline_run(run.root)
    summary = {name: found.summary[f"contrast/{name}"] for name in ("last", "last_low", "peak", "peak_layer")}
    assert summary == {"last": 0.0655, "last_low": 0.0655 - 0.0012, "peak": 0.0655, "peak_layer": "res6"}
    curve = [row for row in found.history if "layermem_by_depth/depth" in row]
    assert [row["layermem_by_depth/depth"] for row in curve] == list(range(1, 11))
    assert [row["layermem_by_depth/contrast"] for row in curve] == table["contrast"].tolist()
    assert [row["layermem_by_depth/relative_depth"] for row in curve] == [index / 9 for index in range(10)]
    assert "layermem_by_depth/delta" not in curve[0] and "layermem_by_depth/delta" in curve[1]  # NaN is left out


def test_trainings_and_analyses_of_a_run_group_by_the_same_keys(tmp_path: Path) -> None:
    settings = config(method="DINO", encoder="vit_tiny_patch4", repeat=16, seed=2)
    run = make_run(tmp_path / "dino", settings)
    for logger in make_loggers("wandb", run, "candidate", comparable(settings)):
        logger.log_metrics({"train/loss": 1.5}, 4)
        logger.finalize("success")
    import wandb

    wandb.finish()
    made_from = MADE_FROM | {"checkpoints": {"candidate": "cd" * 32, "independent": "ef" * 32}}
    layers = unitmem_layers(unitmem_table(np.random.default_rng(0)))
    with AnalysisLog(run, unitmem.ANALYSIS, **made_from) as log:
        log.table("layers", layers)
    training, analysis = offline_run(run.member("candidate").dir), offline_run(run.root)
    assert training.group == analysis.group == "dino"
    assert (training.job_type, analysis.job_type) == ("candidate", "analyze")
    assert (training.config["role"], analysis.config["role"]) == ("candidate", "pair")
    assert training.tags == ["candidate", "cifar10", "dino", "vit_tiny_patch4"]
    keys = (*SHORT_NAMES.values(), "run", "model", "data", "trainer")
    assert {key: training.config[key] for key in keys} == {key: analysis.config[key] for key in keys}
    expected = {"method": "dino", "encoder": "vit_tiny_patch4", "repeat": 16, "seed": 2, "epochs": 60, "lr": 0.06}
    assert {key: training.config[key] for key in expected} == expected
    assert analysis.summary["unitmem/last"] == pytest.approx(layers["mean"][-1], rel=1e-12)


def test_a_training_logs_to_both_and_resumes_the_same_wandb_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_PROJECT", "elsewhere")
    run = RunDir(tmp_path / "simclr")
    for step in (4, 9):
        for logger in make_loggers("wandb", run, "candidate", comparable(config())):
            logger.log_metrics({"train/loss": 1.5}, step)
            logger.finalize("success")
        wandb.finish()
    np.testing.assert_array_equal(read_table(run.member("candidate").metrics)["step"], [4, 9])
    found = [read_offline_run(path) for path in run.member("candidate").dir.glob("wandb/offline-run-*")]
    assert len({one.run_id for one in found}) == 1
    for one in found:
        assert (one.name, one.project, one.summary["train/loss"]) == ("simclr/candidate", "elsewhere", 1.5)


def test_wandb_mode_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    assert len(make_loggers("csv", run, "all", {})) == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("WANDB_MODE", "shouting")
    with pytest.raises(UserError, match="WANDB_MODE=shouting"):
        make_loggers("wandb", run, "all", {})


def test_a_missing_login_names_the_flag_and_keeps_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    run = RunDir(tmp_path / "run")
    with (
        refused(r"--logger wandb-online: .*results are on disk"),
        AnalysisLog(run, probe.ANALYSIS, logger="wandb-online", **MADE_FROM) as log,
    ):
        log.table("table", probe_table())
    assert run.analysis("probe").summary.is_file()


# One writer at a time


def test_two_analyses_of_one_name_are_refused_and_of_two_names_are_not(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with (
        AnalysisLog(run, probe.ANALYSIS, tag="x", logger="csv", **MADE_FROM) as first,
        AnalysisLog(run, probe.ANALYSIS, tag="y", logger="csv", **MADE_FROM) as other,
        refused(rf"--run {run.analysis('probe', 'x').dir}: is being written by process \d+ on .* since 20"),
        AnalysisLog(run, probe.ANALYSIS, tag="x", logger="csv", **MADE_FROM),
    ):
        pass
    assert first.final.summary.is_file() and other.final.summary.is_file()
    assert sorted(path.name for path in (run.root / "analysis").iterdir()) == ["probe-x", "probe-y"]


def _enter_held(root: str) -> str:
    try:
        with AnalysisLog(RunDir(Path(root)), probe.ANALYSIS, logger="csv", **MADE_FROM):
            return "entered"
    except UserError as error:
        return error.why


@pytest.mark.ddp
def test_every_rank_is_refused_what_the_first_is(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with AnalysisLog(run, probe.ANALYSIS, logger="csv", **MADE_FROM):
        first, second = run_ddp(_enter_held, 2, str(run.root))
    assert first == second and first.startswith("is being written by process")


def test_what_is_done_afterwards_is_done_once_the_results_are_there_and_only_then(tmp_path: Path) -> None:
    run, seen = RunDir(tmp_path / "run"), []
    with AnalysisLog(run, probe.ANALYSIS, logger="csv", **MADE_FROM) as log:
        log.afterwards(lambda: seen.append(log.final.summary.is_file()))
    with pytest.raises(ZeroDivisionError), AnalysisLog(run, probe.ANALYSIS, logger="csv", **MADE_FROM) as log:
        log.afterwards(lambda: seen.append("never"))
        raise ZeroDivisionError
    assert seen == [True]


def test_a_run_that_is_removed_in_the_meantime_is_an_error_and_stays_removed(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with (
        refused("was removed or moved while it was being written"),
        AnalysisLog(run, probe.ANALYSIS, logger="csv", **MADE_FROM) as log,
    ):
        shutil.rmtree(run.root)
        log.table("table", probe_table())
    assert list(tmp_path.glob("run*")) == []


def test_a_full_disk_leaves_the_older_results(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write_probe(run, 0.5)
    before = run.analysis("probe", "x").table().read_bytes()
    with (
        refused("the disk of .*analysis is full; what was finished before is kept"),
        small_disk(),
        AnalysisLog(run, probe.ANALYSIS, tag="x", logger="csv", **MADE_FROM) as log,
    ):
        log.table("table", probe_table())
        log.figure("grid", GRID, "A" * 10_000)
        (log.partial.dir / "large").write_bytes(bytes(10_000))
    assert run.analysis("probe", "x").table().read_bytes() == before
    assert [path.name for path in (run.root / "analysis").iterdir()] == ["probe-x"]
