"""Disk first: whole analyses or none. W&B offline: read back what a run holds."""

import json
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memlight import logs
from memlight.errors import UserError
from memlight.logs import AnalysisLog, make_loggers
from memlight.pictures import image_grid
from memlight.rundir import RunDir
from memlight.tables import LAYERMEM_TABLE, PROBE_TABLE, read_json, read_table
from tests.ddp import run_ddp
from tests.synthetic_run import layermem_table, probe_table

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
    monkeypatch.delenv("WANDB_MODE", raising=False)
    yield


def write_probe(run: RunDir, top1: float) -> None:
    table = probe_table() | {"top1": np.full(4, top1)}
    with AnalysisLog(run, "probe", tag="x", logger="csv", **MADE_FROM) as log:
        log.table("table", table, PROBE_TABLE)
        log.figure("grid", GRID, "A caption.")
        log.headline({"top1": np.float64(top1)})
        log.images = 50


def read_finished(file: Path, last: bytes) -> bytes:
    """A .wandb file once W&B's writer process has flushed it."""
    for _ in range(100):
        if last in (record := file.read_bytes()):
            return record
        time.sleep(0.1)
    raise AssertionError(f"{last!r} never reached {file}")


def test_an_analysis_leaves_tables_figures_and_how_it_was_made(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write_probe(run, 0.5)
    analysis = run.analysis("probe", "x")
    assert sorted(path.name for path in analysis.dir.iterdir()) == ["figures", "summary.json", "table.csv"]
    with Image.open(analysis.figures / "grid.png") as png:
        assert png.size == tuple((GRID.get_size_inches() * GRID.dpi).round())
    summary = read_json(analysis.summary)
    assert summary["headline"] == {"top1": 0.5}
    assert summary["figures"] == {"grid": "A caption."}
    assert {key: summary[key] for key in MADE_FROM} == MADE_FROM
    assert set(summary["versions"]) == set(logs.PACKAGES)
    assert summary["images_per_second"] == pytest.approx(50 / summary["seconds"])
    assert summary["command_line"].endswith(shlex.join(sys.argv[1:]))


def test_a_second_run_replaces_and_a_failed_one_leaves_the_old(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    write_probe(run, 0.5)
    write_probe(run, 0.7)
    with pytest.raises(KeyboardInterrupt), AnalysisLog(run, "probe", tag="x", logger="csv", **MADE_FROM) as log:
        log.table("other", probe_table(), PROBE_TABLE)
        raise KeyboardInterrupt
    assert read_table(run.analysis("probe", "x").table())["top1"][0] == 0.7
    assert [path.name for path in (run.root / "analysis").iterdir()] == ["probe-x"]


def _analyse_on_a_rank(root: str) -> None:
    with AnalysisLog(RunDir(Path(root)), "probe", logger="csv", **MADE_FROM) as log:
        log.table("table", probe_table(), PROBE_TABLE)


@pytest.mark.ddp
def test_only_rank_0_writes(tmp_path: Path) -> None:
    run_ddp(_analyse_on_a_rank, 2, str(tmp_path))
    assert [path.name for path in (tmp_path / "analysis").iterdir()] == ["probe"]


def test_an_offline_wandb_run_holds_table_figure_headline_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "WANDB_TABLE_ROWS", 9)
    run = RunDir(tmp_path / "simclr")
    table = layermem_table()
    with AnalysisLog(run, "layermem", **MADE_FROM) as log:
        log.table("table", table, LAYERMEM_TABLE)
        log.table("probe", probe_table(), PROBE_TABLE)
        log.figure("grid", GRID, "A caption.")
        log.headline({"contrast_res6": 0.0655})
    (offline,) = (run.root / "wandb").glob("offline-run-*")
    (file,) = offline.glob("files/media/table/layermem/probe*.json")
    content = json.loads(file.read_text())
    assert content["columns"] == list(PROBE_TABLE)
    assert content["data"][0] == ["candidate", "pooled", "linear", 0.7044, 0.981, 40_000, 5_000]
    (png,) = offline.glob("files/media/images/layermem/grid*.png")
    assert png.read_bytes() == (run.analysis("layermem").figures / "grid.png").read_bytes()
    assert (offline / "files/layermem-table.csv").read_bytes() == run.analysis("layermem").table().read_bytes()
    (file,) = offline.glob("*.wandb")
    record = read_finished(file, b"contrast_res6")
    for text in (b"memlight", b"simclr/layermem", b"analyze", b"split_sha256", b"A caption."):
        assert text in record


def test_a_training_logs_to_both_and_resumes_the_same_wandb_run(tmp_path: Path) -> None:
    import wandb

    run = RunDir(tmp_path / "simclr")
    ids = set()
    for step in (4, 9):
        for logger in make_loggers("wandb", run, "candidate", {"lr": 0.25}):
            logger.log_metrics({"train/loss": 1.5}, step)
            logger.finalize("success")
        assert wandb.run is not None
        ids.add(wandb.run.id)
        assert (wandb.run.group, wandb.run.job_type, wandb.run.name) == ("simclr", "candidate", "simclr/candidate")
        assert (wandb.run.project, wandb.run.config["lr"], wandb.run.offline) == ("memlight", 0.25, True)
        wandb.finish()
    assert len(ids) == 1
    np.testing.assert_array_equal(read_table(run.member("candidate").metrics)["step"], [4, 9])
    files = list(run.member("candidate").dir.glob("wandb/offline-run-*/*.wandb"))
    assert files
    for file in files:
        read_finished(file, b"train/loss")


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
        pytest.raises(UserError, match=r"--logger wandb-online: .*results are on disk"),
        AnalysisLog(run, "probe", logger="wandb-online", **MADE_FROM) as log,
    ):
        log.table("table", probe_table(), PROBE_TABLE)
    assert run.analysis("probe").summary.is_file()
