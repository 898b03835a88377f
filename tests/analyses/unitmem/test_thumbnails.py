"""Thumbnails of a real study: the images that its table names, each read once, the same every time."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from memlight.analyses import unitmem
from memlight.analyses.unitmem import thumbnails
from memlight.analyses.unitmem.browser.thumbnails import Thumbnails, driving_images, driving_rows
from memlight.analyses.unitmem.columns import UNITMEM_TOP
from memlight.data.images import ImageDataModule
from memlight.models.encoders import read_metadata
from memlight.report.page import write_report
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import read_table
from tests.tiny_pair import analyze


def study(run: RunDir, tag: str, *flags: str) -> AnalysisDir:
    assert analyze(run.root, "unitmem", f"--tag={tag}", "--layers=layer1", "--no-pair", *flags) == 0
    return run.analysis("unitmem", tag)


def test_every_strongest_image_is_there_with_its_pixels(trained: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "AT_ONCE", 5)
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

    monkeypatch.setattr(thumbnails, "MOST_IMAGES", 4)
    monkeypatch.setattr(data, "images_of", counted)
    made_from = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "cpu"}
    with AnalysisLog(trained, unitmem.ANALYSIS, tag="few", logger="csv", **made_from) as log:
        log.table("top", top)
        thumbnails.write_thumbnails(data, log, progress=False)
    kept = np.sort(driving_images(driving_rows(top))[:4]).tolist()
    assert Thumbnails.read(log.final.thumbnails).ids.tolist() == read == kept
