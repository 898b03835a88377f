"""Pairs on real digits: silent where both members saw the same images, and louder with the dose (minutes: slow)."""

from pathlib import Path

import numpy as np
import pytest

from memlight.analyses.layermem.section import finding, membership_words
from memlight.models.encoders import load_encoder, read_metadata, save_encoder
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_table
from tests.tiny_pair import ROLES, ROOT, analyze
from tests.tiny_pair import train_main as train

SIZES = ["--data.num_candidate=100", "--data.num_independent=100", "--trainer.max_epochs=8", "--logger=csv"]


def fit(run: Path, role: str, *flags: str) -> None:
    config = ["fit", "--config", str(ROOT / "configs/demo_digits.yaml"), f"--run={run}", f"--data.role={role}"]
    assert train([*config, *SIZES, *flags]) == 0


def measured(run: Path) -> tuple[Table, Table]:
    assert analyze(run, "layermem", "--views=10") == 0
    done = RunDir(run).analysis("layermem")
    return read_table(done.table()), read_table(done.table("membership"))


@pytest.mark.slow
def test_two_members_that_saw_the_same_images_memorise_nothing_apart(tmp_path: Path) -> None:
    """They differ in initial weights, views and order; both saw the candidates and neither the independent images."""
    run, other = tmp_path / "run", tmp_path / "other"
    fit(run, "candidate", "--data.repeat=16")
    fit(run, "independent", "--data.repeat=16")
    fit(other, "candidate", "--data.repeat=16", "--seed_everything=1", "--data.split_seed=0")
    path = RunDir(run).member("independent").encoder
    save_encoder(path, load_encoder(RunDir(other).member("candidate").encoder), read_metadata(path))
    table, membership = measured(run)
    assert finding(table).startswith("No memorisation is measured in any of 10 layers")
    assert "no layer's score tells better than guessing" in membership_words(membership)


@pytest.mark.slow
def test_contrast_and_auc_rise_with_the_dose(tmp_path: Path) -> None:
    areas, contrasts = [], []
    for repeat in (1, 4, 16):
        for role in ROLES:
            fit(tmp_path / f"r{repeat}", role, f"--data.repeat={repeat}")
        table, membership = measured(tmp_path / f"r{repeat}")
        row = membership["layer"].tolist().index("layer8")
        areas.append(float(membership["auc_pair"][row]))
        contrasts.append(float(table["contrast"][row]))
    assert contrasts[2] > max(contrasts[:2]) and areas[2] > max(areas[:2]), (contrasts, areas)
    assert np.all(np.isfinite(areas))
