"""Which units get a picture."""

import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from memlight.analyses import unitmem
from memlight.analyses.unitmem import pictures
from memlight.analyses.unitmem.browser.thumbnails import Thumbnails, driving_images, driving_rows
from memlight.analyses.unitmem.columns import UNITMEM_TOP
from memlight.analyses.unitmem.pictures import EXTREMES, ROWS, bottom_units, units_shown
from memlight.data.images import ImageDataModule
from memlight.metrics.unitmem import UnitMem
from memlight.models.encoders import read_metadata
from memlight.report.page import write_report
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_table
from tests.tiny_pair import analyze


def test_bottom_units_are_the_lowest_living_ones() -> None:
    results = {}
    for seed, (layer, units) in enumerate((("a", 30), ("b", 4))):
        mu = torch.rand(40, units, generator=torch.Generator().manual_seed(seed)) ** (1 + 4 * seed)
        mu[:, 2] = 0
        metric = UnitMem(units)
        metric.update(mu, torch.arange(40))
        results[layer] = metric.compute()
    every = [
        (float(result.unitmem[unit]), layer, unit)
        for layer, result in results.items()
        for unit in range(result.unitmem.numel())
        if not result.dead[unit]
    ]
    lowest = [(layer, unit) for _, layer, unit in sorted(every)[:EXTREMES]]
    assert bottom_units(results) == lowest and len(lowest) == EXTREMES
    assert bottom_units({"b": results["b"]}) == sorted(
        [("b", 0), ("b", 1), ("b", 3)], key=lambda named: float(results["b"].unitmem[named[1]])
    )
    shown = units_shown({layer: result.unitmem for layer, result in results.items()})
    assert shown["top_units"] == [(layer, unit) for _, layer, unit in sorted(every)[::-1][:ROWS]]
    assert [layer for layer, _ in shown["top_unit_of_each_layer"]] == ["a", "b"]


def study(run: RunDir, tag: str, *flags: str) -> AnalysisDir:
    assert analyze(run.root, "unitmem", f"--tag={tag}", "--layers=layer1", "--no-pair", *flags) == 0
    return run.analysis("unitmem", tag)


def test_every_strongest_image_is_there_with_its_pixels(trained: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "AT_ONCE", 5)
    done = study(trained, "pictures", "--topk=2")
    stored = Thumbnails.read(done.thumbnails)
    top = read_table(done.table("top"), UNITMEM_TOP)
    expected = sorted(set(top["id"][top["mu"] > 0].tolist()))
    assert stored.ids.tolist() == expected and len(expected) > 5
    data = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    data.setup()
    images = data.images_of(stored.ids).permute(0, 2, 3, 1).numpy()
    for webp, image in zip(stored.webp, images, strict=True):
        assert (np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")) == image).all()


def test_a_second_study_writes_the_same_bytes_and_the_report_shows_them(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (study(trained, tag) for tag in ("first", "second"))
    assert first.thumbnails.read_bytes() == second.thumbnails.read_bytes()
    report = write_report(trained).read_text(encoding="utf-8")
    assert "Browse units and images" in report and '<div id="browser">' in report
    assert "Each has a picture here" in report
    monkeypatch.setattr("memlight.report.page.PAGE_BYTES", 0)
    assert "are left out, so that the page stays below 30 MB" in write_report(trained).read_text(encoding="utf-8")


def test_only_those_that_matter_most_are_kept_and_each_is_read_once(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = read_table(study(trained, "many").table("top"), UNITMEM_TOP)
    data = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    data.setup()
    read: list[int] = []
    original = data.images_of

    def counted(ids: NDArray[np.int64]) -> Tensor:
        read.extend(ids.tolist())
        return original(ids)

    monkeypatch.setattr(pictures, "MOST_IMAGES", 4)
    monkeypatch.setattr(data, "images_of", counted)
    made_from = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "cpu"}
    with AnalysisLog(trained, unitmem.ANALYSIS, tag="few", logger="csv", **made_from) as log:
        log.table("top", top)
        pictures.write_thumbnails(data, log, progress=False)
    kept = np.sort(driving_images(driving_rows(top))[:4]).tolist()
    assert Thumbnails.read(log.final.thumbnails).ids.tolist() == read == kept
