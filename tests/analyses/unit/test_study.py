"""`analyze.py unit`: the numbers by hand, a unit that was made to memorise is found, mistakes are told at once."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from memlight import modules
from memlight.analyses import unit
from memlight.analyses.unit.columns import UNIT_ACCURACY, UNIT_OTHERS, UNIT_TABLE
from memlight.analyses.unit.command import UnitOptions
from memlight.analyses.unit.objectives import (
    COMPARES_IMAGES,
    OnlyFirstTeach,
    Steps,
    activation_loss,
    load_method,
    training_loss,
)
from memlight.analyses.unit.study import chosen_unit, rank_of, require_one_process, study_unit, unit_tag
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.features.hooks import capture
from memlight.interventions.parts import unit_entries
from memlight.interventions.train_unit import train_unit
from memlight.metrics.unitmem import UnitMemResult
from memlight.models.encoders import build_encoder, load_encoder, read_metadata
from memlight.random import ANALYSIS
from memlight.runs.log import AnalysisLog
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_json, read_table
from tests.close import NETWORK, PIXELS, SCORES
from tests.tiny_pair import analyze, same_tensors, table_bytes

LAYER, VIEWS = "layer7", 2
SHORT = [f"--views={VIEWS}", "--context=8", f"--layer={LAYER}"]


@pytest.fixture(scope="module")
def ids(trained: RunDir) -> list[int]:
    """A candidate image and a shared one, which the measured split lacks."""
    splits = read_json(trained.splits, dict)
    return [splits["candidate"][5], splits["shared"][3]]


def unit_of(run: RunDir, ids: list[int], tag: str, *flags: str) -> AnalysisDir:
    assert analyze(run.root, "unit", *SHORT, "--ids", *map(str, ids), f"--tag={tag}", *flags) == 0
    return run.analysis("unit", tag)


@pytest.fixture(scope="module")
def data(trained: RunDir) -> ImageDataModule:
    module = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    module.setup()
    return module


@pytest.fixture(scope="module")
def living(trained: RunDir, data: ImageDataModule, ids: list[int]) -> int:
    """A unit that all images drive: which ones do depends on the training, and so on the machine's last digits."""
    scored = np.unique([*data.split.candidate, *ids])
    with torch.no_grad(), capture(encoder := load_encoder(trained.member("candidate").encoder), [LAYER]) as out:
        encoder(data.views(data.images_of(scored), torch.from_numpy(scored), view=0, epoch=ANALYSIS, seed=data.seed))
    unit = int(out[LAYER].amin(0).argmax())
    assert out[LAYER][:, unit].min() > 0
    return unit


@pytest.fixture(scope="module")
def done(trained: RunDir, ids: list[int], living: int) -> AnalysisDir:
    return unit_of(trained, ids, "own-loss", f"--unit={living}", "--epochs=4", "--points=2", "--lr=0.01")


def mu_of(run: RunDir, data: ImageDataModule, ids: list[int], unit: int) -> dict[int, float]:
    """The unit's activation on candidates and chosen images, one view of one image at a time."""
    encoder = load_encoder(run.member("candidate").encoder)
    found: list[float] = []
    encoder.get_submodule(LAYER).register_forward_hook(lambda _, __, y: found.append(float(y[0, unit].abs().mean())))
    scored = sorted({*data.split.candidate.tolist(), *ids})
    mu = {}
    with torch.no_grad():
        for id_ in scored:
            found.clear()
            for view in range(VIEWS):
                image, number = data.images_of([id_]), torch.tensor([id_])
                encoder(data.views(image, number, view=view, epoch=ANALYSIS, seed=data.seed))
            mu[id_] = sum(found) / VIEWS
    return mu


def of_method(table: Table, method: str) -> Table:
    return {name: column[table["method"] == method] for name, column in table.items()}


def test_the_first_row_is_what_one_image_at_a_time_gives(
    trained: RunDir, done: AnalysisDir, data: ImageDataModule, ids: list[int], living: int
) -> None:
    table = read_table(done.table(), UNIT_TABLE)
    mu = mu_of(trained, data, ids, living)
    assert len(mu) == 17
    strongest = max(mu, key=lambda id_: (mu[id_], -id_))
    rest = sum(value for id_, value in mu.items() if id_ != strongest) / (len(mu) - 1)
    best = max(mu[id_] for id_ in ids)
    expected = {
        "unitmem": (mu[strongest] - rest) / (mu[strongest] + rest),
        "mu_max": mu[strongest],
        "mu_rest": rest,
        "max_id": strongest,
        "mu_of_ids": sum(mu[id_] for id_ in ids) / 2,
        "rank": sum(value > best for value in mu.values()),
    }
    for method in ("masked", "restore"):
        rows = of_method(table, method)
        assert rows["epoch"].tolist() == [0, 2, 4]
        for column, value in expected.items():
            assert float(rows[column][0]) == pytest.approx(value, rel=NETWORK["rtol"], abs=SCORES["atol"]), column
        assert np.isnan(rows["loss"]).tolist() == [True, False, False]
        assert rows["unitmem"][2] != rows["unitmem"][0]


def test_no_other_unit_of_the_layer_changes(done: AnalysisDir, living: int) -> None:
    others = read_table(done.table("units"), UNIT_OTHERS)
    for method in ("masked", "restore"):
        rows = of_method(others, method)
        assert np.flatnonzero(rows["trained"]).tolist() == [living] and len(rows["unit"]) == 256
        for score in ("unitmem", "max_id"):
            same = rows[f"{score}_before"] == rows[f"{score}_after"]
            assert same[~rows["trained"]].all()
        assert rows["unitmem_before"][living] != rows["unitmem_after"][living]
    headline = read_json(done.summary, dict)["headline"]
    assert (headline["others_changed/masked"], headline["others_changed/restore"]) == (0, 0)


def test_new_probes_and_where_the_chosen_images_come_from_are_reported(
    trained: RunDir, done: AnalysisDir, ids: list[int], living: int
) -> None:
    accuracy = read_table(done.table("accuracy"), UNIT_ACCURACY)
    assert accuracy["encoder"].tolist() == ["original", "masked", "restore"]
    assert (accuracy["n_train"].tolist(), accuracy["n_test"].tolist()) == ([48] * 3, [15] * 3)
    headline = read_json(done.summary, dict)["headline"]
    assert headline["split_of_ids"] == {str(ids[0]): "candidate", str(ids[1]): "shared"}
    assert (headline["layer"], headline["unit"], headline["objective"]) == (LAYER, living, "training")
    assert headline["probe_top1/masked"] == accuracy["probe_top1"][1]
    table = of_method(read_table(done.table()), "restore")
    assert headline["unitmem_after/restore"] == table["unitmem"][2]
    assert headline["rank_before/restore"] == table["rank"][0]


def test_a_second_call_gives_the_same_bytes(trained: RunDir, done: AnalysisDir, ids: list[int], living: int) -> None:
    again = unit_of(trained, ids, "again", f"--unit={living}", "--epochs=4", "--points=2", "--lr=0.01")
    assert table_bytes(again) == table_bytes(done)


@pytest.fixture(scope="module")
def patchwork(tmp_path_factory: pytest.TempPathFactory) -> ImageDataModule:
    """Images of 16 random squares each, without classes, seen as they are: any encoder tells them apart."""
    folder = tmp_path_factory.mktemp("patchwork")
    draws = np.random.default_rng(0).integers(0, 256, (14, 4, 4, 3), dtype=np.uint8)
    for number, squares in enumerate(draws):
        Image.fromarray(squares.repeat(4, 0).repeat(4, 1)).save(folder / f"{number:02}.png")
    counts = {"num_shared": 0, "num_candidate": 14, "num_independent": 0, "num_external": 0}
    module = ImageDataModule("folder", str(folder), views="clean", view_size=16, batch_size=2, **counts)
    module.setup()
    return module


def test_a_unit_that_is_made_to_memorise_is_found(patchwork: ImageDataModule, tmp_path: Path) -> None:
    encoder = build_encoder("resnet9", seed=0, image_size=16).eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    options = UnitOptions([9], epochs=20, points=2, objective="activation", context=13, views=1, lr=1e-3)
    made = {"seed": 0, "split_sha256": None, "checkpoints": {}, "device": "CPU"}
    with AnalysisLog(RunDir(tmp_path), unit.ANALYSIS, logger="csv", **made) as log:
        table = study_unit(encoder, None, patchwork, "layer4", options, log, progress=False)
    assert same_tensors(dict(encoder.state_dict()), before)
    for method in ("masked", "restore"):
        rows = of_method(table, method)
        assert rows["rank"][0] > 0 and rows["max_id"][0] != 9
        assert (rows["rank"][2], rows["max_id"][2]) == (0, 9)
        assert rows["unitmem"][2] > rows["unitmem"][0] + 0.5
        assert float(rows["loss"][2]) == pytest.approx(-1, abs=0.01)
    for column in set(table) - {"method"}:  # a unit's own activation has no gradient for the others
        np.testing.assert_array_equal(of_method(table, "masked")[column], of_method(table, "restore")[column])
    analysis = RunDir(tmp_path).analysis("unit")
    assert not analysis.table("accuracy").exists()
    assert sorted(path.name for path in analysis.figures.iterdir()) == ["images.png", "training.png"]


def test_only_the_chosen_images_teach(trained: RunDir, data: ImageDataModule, ids: list[int]) -> None:
    method = load_method(trained, "candidate")
    encoder = method.encoder
    steps = Steps(data, ids, data.split.shared, 6, 40, torch.device("cpu"))
    batch = steps.batch(2)
    assert batch.ids[:2].tolist() == ids and batch.epochs is not None and (batch.epochs == 42).all()
    others = batch.ids[2:].tolist()
    assert len(set(others)) == 6 and set(others) <= set(data.split.shared.tolist()) - set(ids)
    assert steps.batch(3).ids[2:].tolist() != others
    for place, id_ in enumerate(batch.ids.tolist()):
        alone = data.views(data.images_of([id_]), torch.tensor([id_]), view=1, epoch=42, seed=data.seed)
        torch.testing.assert_close(batch.views[1][place], alone[0], **PIXELS)

    def by_hand() -> Tensor:
        h = [encoder(view) for view in batch.views]
        h_0, h_1 = (torch.cat([features[:2], features[2:].detach()]) for features in h)
        loss: Tensor = method.criterion(method.head(h_0), method.head(h_1))
        return loss

    weight = encoder.get_parameter(f"{LAYER}.conv.weight")
    (expected,) = torch.autograd.grad(by_hand(), weight)
    loss = training_loss(method, encoder, steps)(2)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert expected.abs().max() > 0
    rounding = NETWORK["atol"] * float(expected.abs().max())
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=rounding)
    assert isinstance(method.encoder, OnlyFirstTeach)


def test_the_contrast_that_plants_a_unit(trained: RunDir, data: ImageDataModule, ids: list[int], living: int) -> None:
    encoder = load_encoder(trained.member("candidate").encoder)
    steps = Steps(data, ids, data.split.candidate, 5, 40, torch.device("cpu"))
    found = float(activation_loss(encoder, LAYER, living, "abs", 3, steps)(1).detach())
    mu: list[float] = []
    encoder.get_submodule(LAYER).register_forward_hook(lambda _, __, y: mu.append(float(y[0, living].abs().mean())))
    with torch.no_grad():
        for id_, views in [(ids[0], 3), (ids[1], 3), *((int(id_), 1) for id_ in steps.drawn(1))]:
            for view in range(views):
                encoder(data.views(data.images_of([id_]), torch.tensor([id_]), view=view, epoch=41, seed=data.seed))
    chosen, others = sum(mu[:6]) / 6, sum(mu[6:]) / 5
    assert found == pytest.approx(-(chosen - others) / (chosen + others), abs=SCORES["atol"])


@pytest.mark.parametrize(
    ("kind", "options", "layer"),
    [
        (modules.SimSiam, {"hidden_dim": 16, "output_dim": 16, "prediction_dim": 8}, LAYER),
        (modules.VICReg, {"hidden_dim": 16, "output_dim": 16}, LAYER),
        (modules.Supervised, {}, LAYER),
        (
            modules.MAE,
            {"encoder": "vit_tiny_patch4", "decoder_dim": 16, "decoder_depth": 1, "decoder_heads": 2},
            "blocks.0.mlp.act",
        ),
        (
            modules.DINO,
            {"encoder": "timm:test_vit", "hidden_dim": 8, "bottleneck_dim": 4, "output_dim": 8},
            "blocks.0.mlp.act",
        ),
    ],
)
def test_the_loss_of_every_method_reaches_the_unit_and_nothing_else(
    kind: Any, options: dict[str, Any], layer: str, data: ImageDataModule, ids: list[int]
) -> None:
    method = kind(image_size=16, **options).eval()
    encoder, before = method.encoder, {name: tensor.clone() for name, tensor in method.state_dict().items()}
    context = 6 if isinstance(method, COMPARES_IMAGES) else 0
    loss = training_loss(
        method, deepcopy(encoder), Steps(data, ids, data.split.shared, context, 40, torch.device("cpu"))
    )
    entries = unit_entries(encoder, {layer: [3]}, 16)
    assert all(value.isfinite() for value in train_unit(encoder, loss, entries, epochs=2, lr=0.01))
    moved = {
        name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[f"encoder.{name}"])
    }
    assert moved and moved <= set(entries)
    others = {name: tensor for name, tensor in method.state_dict().items() if not name.startswith("encoder.")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in others.items())


def test_rank_counts_the_images_above_the_best_of_the_chosen() -> None:
    mu, numbers = [0.3, 0.9, 0.3, 0.0, 0.7, 0.3], [2, 3, 5, 8, 9, 11]
    for chosen in ([5], [2], [11, 8], [8], [3], [9, 11]):
        best = max((mu[numbers.index(id_)], -id_) for id_ in chosen)
        above = sum((value, -id_) > best for value, id_ in zip(mu, numbers, strict=True))
        assert rank_of(torch.tensor(mu), torch.tensor(numbers), chosen) == above


def test_the_median_unit_is_one_that_fires() -> None:
    top = torch.tensor([[4.0, 0.0, 9.0, 3.0, 1.0], [1.0] * 5]).double()[:, None]
    result = UnitMemResult(top, top[0, 0] + 1, torch.tensor([1, 2]), topk=1)
    result.dead = torch.tensor([False, True, False, False, False])
    assert chosen_unit(result, None) == 3
    assert chosen_unit(result, 1) == 1
    result.dead = torch.ones(5, dtype=torch.bool)
    with pytest.raises(UserError, match="layer: none of its units fires"):
        chosen_unit(result, None)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--layer=layer9"], "--layer layer9: no such layer"),
        (["--layer=res2"], "--layer res2: "),
        (["--unit=256"], "--unit 256: layer7 has units 0 to 255."),
        (["--unit=-1"], "--unit -1: layer7 has units 0 to 255."),
        (["--ids", "1497"], "--ids 1497: is a test image; training images have ids 0 to 1496."),
        (["--ids", "99999"], "--ids 99999: no such image"),
        (["--ids", "7", "7"], "--ids 7: named twice."),
        (["--context=49"], "--context 49: there are 48 shared images besides the chosen; use fewer."),
        (["--context=17", "--objective=activation"], "--context 17: there are 16 candidate images besides"),
        (["--epochs=0"], "--epochs 0: must be 1 or more."),
        (["--lr=0"], "--lr 0.0: must be above 0."),
        (["--member=all"], "no all/encoder.safetensors"),
        (["--network=teacher"], "--network teacher: candidate/ has no such network"),
    ],
)
def test_mistakes_are_told_before_images_are_read(
    trained: RunDir, flags: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageDataModule, "setup", lambda *_: pytest.fail("images were read"))
    first = ["--ids", "7"] if "--ids" not in flags else []
    assert analyze(trained.root, "unit", *SHORT, *first, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not trained.analysis("unit").dir.exists()


def test_a_run_without_its_last_checkpoint_can_still_be_planted_in(
    run: Path, ids: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "candidate/checkpoints/last.ckpt").unlink()
    short = [*SHORT, "--ids", str(ids[0]), "--epochs=1", "--points=3", "--method", "masked"]
    assert analyze(run, "unit", *short) == 2
    assert "no candidate/checkpoints/last.ckpt" in capsys.readouterr().err
    assert analyze(run, "unit", *short, "--objective=activation") == 0
    table = read_table(RunDir(run).analysis("unit", "activation").table(), UNIT_TABLE)
    assert table["epoch"].tolist() == [0, 1]


def test_a_second_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    require_one_process()
    monkeypatch.setattr("memlight.dist.world_size", lambda: 2)
    with pytest.raises(UserError, match="in one process; start it without torchrun"):
        require_one_process()


def test_results_that_are_not_the_plain_one_have_a_tag() -> None:
    assert unit_tag("candidate", None, "training") is None
    assert unit_tag("independent", "student", "activation") == "independent-student-activation"


def test_constants_of_a_batch_are_the_original_s_features() -> None:
    encoder, original = (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)) for _ in range(2))
    views = torch.randn(6, 3, 2, 2)
    teaching = OnlyFirstTeach(encoder, original, 1, 3)(views)
    first = torch.tensor([True, False, False] * 2)[:, None]
    torch.testing.assert_close(teaching, torch.where(first, encoder(views), original(views)))
    grads = [torch.autograd.grad(teaching[row].sum(), encoder[1].bias, retain_graph=True)[0] for row in (0, 1, 3, 5)]
    assert [bool(grad.any()) for grad in grads] == [True, False, True, False]
