"""Pruning from the command line: against copies pruned and probed by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.prune import ANALYSIS
from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE, PRUNE_UNITS
from memlight.analyses.prune.command import PruneOptions
from memlight.analyses.prune.study import layers_to_prune, study_prune
from memlight.analyses.unitmem.columns import UNITMEM_TABLE
from memlight.data.images import ImageDataModule
from memlight.features.hooks import capture
from memlight.interventions import prune_units
from memlight.metrics.knn import knn_accuracy
from memlight.models.encoders import build_encoder, load_encoder, read_metadata
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import AnalysisDir, RunDir, member_tag
from memlight.storage.tables import Table, read_json, read_table
from tests.ddp import run_ddp
from tests.quick import short_probe
from tests.tiny_net import assert_unchanged, snapshot
from tests.tiny_pair import analyze, assert_same_tables, table_bytes

TABLES = ["effects", "table", "unitmem", "units"]
LAYERS = [f"layer{number}" for number in range(1, 9)]
TRIALS = 2


def prune(run: RunDir, tag: str, *flags: str) -> AnalysisDir:
    assert analyze(run.root, "prune", "--views=2", "--k=5", f"--trials={TRIALS}", f"--tag={tag}", *flags) == 0
    return run.analysis("prune", tag)


@pytest.fixture(scope="module")
def done(trained: RunDir) -> AnalysisDir:
    return prune(trained, "all")


def rows_of(table: Table, **chosen: object) -> Table:
    keep = np.logical_and.reduce([table[name] == value for name, value in chosen.items()])
    return {name: column[keep] for name, column in table.items()}


def lost_units(units: Table, **copy: object) -> dict[str, list[int]]:
    rows = rows_of(units, **copy)
    return {
        layer: [int(unit) for unit in pruned.split()]
        for layer, pruned in zip(rows["layer"].tolist(), rows["pruned"].tolist(), strict=True)
    }


def test_an_unpruned_copy_has_exactly_the_accuracy_of_the_probe_command(trained: RunDir, done: AnalysisDir) -> None:
    assert analyze(trained.root, "probe", "--members", "candidate", "--k=5") == 0
    probed = read_table(trained.analysis("probe").table())
    first = {name: column[0] for name, column in read_table(done.table(), PRUNE_TABLE).items()}
    assert [first[name] for name in ("mode", "scope", "ratio", "trial", "units", "drop")] == [
        "none",
        "none",
        0,
        0,
        0,
        0,
    ]
    assert [first["probe_top1"], first["knn_top1"]] == probed["top1"].tolist()


def test_every_copy_is_there_once_and_its_drop_is_the_difference(done: AnalysisDir) -> None:
    table = read_table(done.table())
    copies = [("none", "none", 0.0, 0)]
    for scope in ("layer", "model"):
        for ratio in (0.1, 0.2):
            copies += [("top", scope, ratio, 0), *[("random", scope, ratio, t) for t in range(TRIALS)]]
            copies += [("low", scope, ratio, 0)]
    assert list(zip(*(table[name].tolist() for name in [*PRUNE_TABLE][:4]), strict=True)) == copies
    sizes = {"none": {0.0: 0}, "layer": {0.1: 3 + 3 * 6 + 12 + 3 * 25, 0.2: 6 + 3 * 12 + 25 + 3 * 51}}
    sizes["model"] = {0.1: 112, 0.2: 224}
    assert table["units"].tolist() == [sizes[scope][ratio] for _, scope, ratio, _ in copies]
    np.testing.assert_array_equal(table["drop"], table["probe_top1"][0] - table["probe_top1"])
    assert len(np.unique(table["probe_top1"])) > 2


def test_units_are_chosen_by_the_scores_that_unitmem_gives(trained: RunDir, done: AnalysisDir) -> None:
    assert analyze(trained.root, "unitmem", "--views=2", "--layers", *LAYERS, "--no-pair", "--tag=scores") == 0
    scores = read_table(done.table("unitmem"), UNITMEM_TABLE)
    assert done.table("unitmem").read_bytes() == trained.analysis("unitmem", "scores").table().read_bytes()
    units = read_table(done.table("units"), PRUNE_UNITS)
    dead = set(zip(scores["layer"][scores["dead"]].tolist(), scores["unit"][scores["dead"]].tolist(), strict=True))
    rows = list(zip(scores["unitmem"].tolist(), scores["layer"].tolist(), scores["unit"].tolist(), strict=True))
    for mode, sign in (("top", -1), ("low", 1)):
        ranked = [row[1:] for row in sorted(rows, key=lambda row, sign=sign: sign * row[0])]  # stable
        expected: dict[str, list[int]] = {layer: [] for layer in LAYERS}
        for layer, unit in ranked[:112]:
            expected[layer].append(unit)
        expected = {layer: sorted(chosen) for layer, chosen in expected.items()}
        assert lost_units(units, mode=mode, scope="model", ratio=0.1) == expected
        expected = {layer: [u for name, u in ranked if name == layer] for layer in LAYERS}
        expected = {layer: sorted(chosen[: int(0.2 * len(chosen))]) for layer, chosen in expected.items()}
        assert lost_units(units, mode=mode, scope="layer", ratio=0.2) == expected
    silent = [
        sum((layer, int(unit)) in dead for unit in pruned.split())
        for layer, pruned in zip(units["layer"].tolist(), units["pruned"].tolist(), strict=True)
    ]
    assert units["dead"].tolist() == silent
    assert units["units"].tolist() == [len(pruned.split()) for pruned in units["pruned"].tolist()]


@pytest.mark.parametrize(("mode", "scope", "trial"), [("top", "layer", 0), ("low", "model", 0), ("random", "model", 1)])
def test_a_copy_pruned_by_hand_has_its_accuracy(
    trained: RunDir, done: AnalysisDir, mode: str, scope: str, trial: int
) -> None:
    copy = {"mode": mode, "scope": scope, "ratio": 0.2, "trial": trial}
    right = hand_pruned(trained, lost_units(read_table(done.table("units")), **copy))
    row = rows_of(read_table(done.table()), **copy)
    assert [float(row["probe_top1"][0]), float(row["knn_top1"][0])] == pytest.approx(right, abs=1e-6)


def hand_pruned(run: RunDir, units: dict[str, list[int]]) -> tuple[float, float]:
    """Channels of a block set to 0 on its way out, image by image; linear probe and neighbours."""
    path = run.member("candidate").encoder
    encoder, data = load_encoder(path), ImageDataModule(**read_metadata(path)["data"])
    data.setup()
    for layer, lost in units.items():

        def silence(_: object, __: object, y: torch.Tensor, lost: list[int] = lost) -> torch.Tensor:
            return y.index_fill(1, torch.tensor(lost, dtype=torch.int64), 0)

        encoder.get_submodule(layer).register_forward_hook(silence)
    sets = []
    for split in ("shared", "external"):
        ids = torch.from_numpy(data.split.ids(split))
        with torch.no_grad():
            z = encoder(data.make_views("clean")(data.images_of(ids.numpy()), ids))
        sets += [z, torch.from_numpy(data.labels_of(ids.numpy()))]
    return short_probe(*sets, num_classes=10).top1, knn_accuracy(*sets, k=5, num_classes=10)


def test_effects_are_drops_against_the_draws_of_their_share(done: AnalysisDir) -> None:
    table, effects = read_table(done.table()), read_table(done.table("effects"), PRUNE_EFFECTS)
    keys = list(zip(*(effects[name].tolist() for name in ("scope", "ratio", "mode")), strict=True))
    assert keys == [(s, r, m) for s in ("layer", "model") for r in (0.1, 0.2) for m in ("top", "low")]
    for row, (scope, ratio, mode) in enumerate(keys):
        drop = rows_of(table, mode=mode, scope=scope, ratio=ratio)["drop"]
        draws = rows_of(table, mode="random", scope=scope, ratio=ratio)["drop"]
        half = 12.706204736174698 * draws.std(ddof=1) * np.sqrt(1 + 1 / TRIALS)  # t of 1 degree of freedom
        expected = [drop[0], draws.mean(), draws.mean() - half, draws.mean() + half, drop[0] - draws.mean(), TRIALS]
        names = ("drop", "random", "random_low", "random_high", "excess", "draws")
        assert [effects[name][row] for name in names] == pytest.approx(expected, abs=1e-6)
        assert effects["excess_high"][row] - effects["excess"][row] >= half - 1e-6
        verdict = "costs more" if effects["excess"][row] > 0 else "costs less"
        assert effects["verdict"][row] == (verdict if effects["p_adjusted"][row] <= 0.05 else "not decidable")
        assert effects["excess_simultaneous_low"][row] < effects["excess_low"][row]
    headline = read_json(done.summary, dict)["headline"]
    assert headline["probe_top1"] == table["probe_top1"][0]
    assert headline["drop/top/layer-0.1"] == table["drop"][1]
    assert headline["excess_high/low/model-0.2"] == effects["excess_high"][-1]


def test_a_draw_depends_on_no_other_flag(trained: RunDir, done: AnalysisDir) -> None:
    alone = prune(trained, "alone", "--modes=random", "--trials=1", "--ratios=0.2", "--scope=layer", "--layers=layer6")
    units = read_table(alone.table("units"))
    draw = {"mode": "random", "scope": "layer", "ratio": 0.2, "trial": 0}
    of_all = lost_units(read_table(done.table("units")), **draw)
    assert lost_units(units, **draw) == {"layer6": of_all["layer6"]}
    effects = read_table(alone.table("effects"), PRUNE_EFFECTS)
    assert len(effects["mode"]) == 0  # only what is chosen by its score is compared
    other = prune(trained, "seed", "--modes=random", "--trials=1", "--ratios=0.2", "--scope=layer", "--seed=1")
    assert lost_units(read_table(other.table("units")), **draw) != of_all


def test_without_random_draws_nothing_is_compared(trained: RunDir) -> None:
    alone = prune(trained, "scores-only", "--modes=top", "--ratios=0.2", "--scope=model", "--member=random")
    effects = read_table(alone.table("effects"))
    assert effects["verdict"].tolist() == ["no random draws"]
    assert np.isnan(effects["excess"]).all() and np.isfinite(effects["drop_low"]).all()
    assert not any(name.startswith("excess") for name in read_json(alone.summary, dict)["headline"])


def test_the_hidden_units_of_a_vit_are_pruned_and_the_encoder_is_left_as_it_was(
    trained: RunDir, tmp_path: Path
) -> None:
    data = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    data.setup()
    vit = build_encoder("vit_tiny_patch8", seed=0, image_size=16)
    vit.blocks = vit.blocks[:2]
    options = PruneOptions(ratios=(0.25,), scope=("model",), trials=2, views=2)
    layers = layers_to_prune(vit, None, options)
    assert layers == [
        "patch_embed.proj",
        *(f"blocks.{n}.{part}" for n in (0, 1) for part in ("attn", "mlp.act", "mlp")),
    ]
    before = snapshot(vit)
    made = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "cpu"}
    with AnalysisLog(RunDir(tmp_path), ANALYSIS, logger="csv", **made) as log:
        study_prune(vit, data, layers, options, ProbeOptions(), log, progress=False)
    assert_unchanged(vit, before)
    lost = lost_units(read_table(log.final.table("units")), mode="top")
    assert list(lost) == layers and sum(map(len, lost.values())) == (192 * 5 + 768 * 2) // 4
    assert lost["blocks.0.mlp.act"]
    pruned = prune_units(vit, lost).eval()
    with torch.no_grad(), capture(pruned, layers, reduce="none") as out:
        pruned(torch.randn(3, 3, 16, 16))
        for layer, units in lost.items():
            y = out[layer] if out[layer].ndim == 3 else out[layer].flatten(2).mT
            silent = (y == 0).flatten(0, 1).all(0)
            assert silent[units].all() and silent.sum() == len(units)


def test_results_are_told_apart_by_member_and_checkpoint() -> None:
    tags = {member_tag(m, c) for m in ("candidate", "independent", "all", "random") for c in (None, "epoch=1")}
    assert len(tags) == 8
    assert member_tag("candidate", None) is None
    assert member_tag("independent", "epoch=1") == "independent-epoch=1"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ratios", "1"], "--ratios 1: must be above 0 and below 1."),
        (["--ratios", "0.1", "0.02"], "--ratios 0.02: is none of the 32 units of layer1; use 0.032 or more."),
        (["--ratios", "0.2", "0.2"], "--ratios 0.2: named twice."),
        (["--modes", "top", "top"], "--modes top: named twice."),
        (["--layers", "layer1", "res2"], "--layers res2: its units are not rows of one layer's weights"),
        (["--layers", "layer1", "layer1.conv"], "--layers layer1.conv: has the same units as layer1"),
        (["--layers", "layer9"], "--layers layer9: no such layer"),
        (["--trials", "0"], "--trials 0: must be 1 or more."),
        (["--temperature", "0"], "--temperature 0.0: must be above 0."),
        (["--member", "all"], "no all/encoder.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_named_before_any_image_is_read(
    trained: RunDir, flags: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageDataModule, "setup", lambda _: pytest.fail("images were read"))
    before = {path.name for path in (trained.root / "analysis").iterdir()}
    assert analyze(trained.root, "prune", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert {path.name for path in (trained.root / "analysis").iterdir()} == before


def prune_few(run: str, tag: str, *flags: str) -> int:
    few = ["--views=2", "--trials=2", "--ratios=0.2", "--scope=layer", "--modes", "low", "random"]
    return analyze(Path(run), "prune", *few, f"--tag={tag}", *flags)


@pytest.fixture(scope="module")
def few(trained: RunDir) -> AnalysisDir:
    assert prune_few(str(trained.root), "few") == 0
    return trained.analysis("prune", "few")


def test_a_second_call_gives_the_same_bytes_and_batch_size_does_not_matter(trained: RunDir, few: AnalysisDir) -> None:
    assert prune_few(str(trained.root), "again") == prune_few(str(trained.root), "of-7", "--max-forward=7") == 0
    assert table_bytes(few) == table_bytes(trained.analysis("prune", "again"))
    assert_same_tables(few, trained.analysis("prune", "of-7"), TABLES, answers=15)


@pytest.mark.ddp
def test_two_processes_give_the_tables_of_one(trained: RunDir, few: AnalysisDir) -> None:
    assert run_ddp(prune_few, 2, str(trained.root), "two-processes") == [0, 0]
    assert_same_tables(few, trained.analysis("prune", "two-processes"), TABLES, answers=15)
