"""`analyze.py layermem` with the choices of the authors' released code, against plain loops."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from memlight.data.images import ImageDataModule
from memlight.features import capture
from memlight.models.encoders import load_encoder, read_metadata
from memlight.random import ANALYSIS
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.close import NETWORK
from tests.tiny_pair import ROLES, VIEWS, analyze

LAYERS = ("layer1", "layer8")


@pytest.fixture(scope="module")
def measured(trained: RunDir) -> RunDir:
    flags = ("--pairs=clean", "--scale=range", "--tag=code", "--layers", *LAYERS)
    assert analyze(trained.root, "layermem", *flags) == 0
    return trained


def test_clean_pairs_compare_every_view_with_the_untouched_image(measured: RunDir) -> None:
    samples = read_table(measured.analysis("layermem", "code").table("samples"))
    data = ImageDataModule(**read_metadata(measured.member("candidate").encoder)["data"])
    data.setup()
    encoders = {role: load_encoder(measured.member(role).encoder) for role in ROLES}
    for split in ("candidate", "external"):
        ids = data.split.ids(split)
        images, numbers = data.images_of(ids), torch.from_numpy(ids)
        untouched = data.make_views("clean")(images, numbers)
        others = [data.views(images, numbers, view=v, epoch=ANALYSIS, seed=data.seed) for v in range(1, VIEWS)]
        for role, column in zip(ROLES, ("align_f", "align_g"), strict=True):
            z: dict[str, list[torch.Tensor]] = {layer: [] for layer in LAYERS}
            for view in (untouched, *others):
                with torch.no_grad(), capture(encoders[role], LAYERS, reduce=lambda output: output.flatten(1)) as out:
                    encoders[role](view)
                    for layer in LAYERS:
                        z[layer].append(normalize(out[layer].double(), dim=1))
            for layer in LAYERS:
                rows = (samples["split"] == split) & (samples["layer"] == layer)
                assert samples["id"][rows].tolist() == ids.tolist()
                expected = sum((z[layer][0] - other).norm(dim=1) for other in z[layer][1:]) / (VIEWS - 1)
                np.testing.assert_allclose(samples[column][rows], expected, **NETWORK)


def test_all_splits_are_scored_in_one_range(measured: RunDir) -> None:
    done = measured.analysis("layermem", "code")
    samples, table = read_table(done.table("samples")), read_table(done.table())
    for at, layer in enumerate(LAYERS):
        rows = samples["layer"] == layer
        difference = samples["align_g"][rows] - samples["align_f"][rows]
        scores = difference / (difference.max() - difference.min())
        np.testing.assert_allclose(samples["score"][rows], scores, rtol=1e-6, atol=1e-9)
        mean = {split: scores[samples["split"][rows] == split].mean() for split in ("candidate", "independent")}
        assert table["contrast"][at] == pytest.approx((mean["candidate"] - mean["independent"]) / 2, abs=1e-6)
