from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from memlight.analyses.exchange.columns import EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE
from memlight.models.encoders import load_encoder, read_metadata, save_encoder
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_json, read_table
from tests.close import SCORES
from tests.ddp import run_ddp
from tests.tiny_pair import ROLES, analyze, assert_same_tables, read_tables

TABLES = ["effects", "layers", "recalibrated", "table"]
SUBSETS = ["layer3", "layer2,layer8"]
WEIGHTS = ",".join(f"layer{n}" for n in range(1, 9))


def exchange(run: Path, donor: Path, tag: str, *flags: str) -> int:
    return analyze(run, "exchange", f"--donor={donor}", "--views=3", f"--tag={tag}", *flags)


@pytest.fixture(scope="module")
def donor(trained: RunDir, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run in which both members have changed places, so that its candidate is another encoder."""
    swapped = RunDir(tmp_path_factory.mktemp("donor") / "donor")
    swapped.root.mkdir()
    swapped.splits.write_bytes(trained.splits.read_bytes())
    for role, other in (ROLES, ROLES[::-1]):
        metadata = read_metadata(trained.member(role).encoder)
        swapped.member(role).dir.mkdir()
        save_encoder(swapped.member(role).encoder, load_encoder(trained.member(other).encoder), metadata)
    return swapped


@pytest.fixture(scope="module")
def exchanged(trained: RunDir, donor: RunDir) -> RunDir:
    assert exchange(trained.root, donor.root, "plain", "--layers", *SUBSETS, WEIGHTS) == 0
    return trained


def row(table: Table, **values: object) -> dict[str, object]:
    """The one row with these values."""
    (found,) = np.flatnonzero(np.all([table[name] == value for name, value in values.items()], axis=0))
    return {name: column[found] for name, column in table.items()}


def test_a_row_for_every_subset_and_data_set(exchanged: RunDir) -> None:
    tables = read_tables(exchanged.analysis("exchange", "plain"))
    assert sorted(tables) == TABLES
    columns = {"table": EXCHANGE_TABLE, "recalibrated": EXCHANGE_TABLE}
    columns |= {"effects": EXCHANGE_EFFECTS, "layers": EXCHANGE_LAYERS}
    assert {name: list(table) for name, table in tables.items()} == {name: [*of] for name, of in columns.items()}
    names = ["none", "donor", *SUBSETS, WEIGHTS]
    for name in ("table", "recalibrated"):
        table = tables[name]
        assert table["layers"].tolist() == [layers for layers in names for _ in range(2)]
        assert table["dataset"].tolist() == ["run", "donor"] * len(names)
        assert np.isfinite(table["layermem_after"][4:]).all() and np.isnan(table["layermem_after"][:4]).all()
    assert (tables["table"]["probe_top1"] != tables["recalibrated"]["probe_top1"]).any()
    assert tables["effects"]["recalibrated"].tolist() == [False] * 10 + [True] * 10


def test_the_unexchanged_encoder_scores_what_probe_and_layermem_say(exchanged: RunDir) -> None:
    assert analyze(exchanged.root, "probe", "--members", *ROLES) == 0
    assert analyze(exchanged.root, "layermem") == 0
    probed = read_table(exchanged.analysis("probe").table())
    top1 = {name: row(probed, member=name, evaluation="linear")["top1"] for name in ROLES}
    table = read_table(exchanged.analysis("exchange", "plain").table())
    assert row(table, layers="none", dataset="run")["probe_top1"] == top1["candidate"]
    assert row(table, layers="donor", dataset="run")["probe_top1"] == top1["independent"]
    assert row(table, layers=WEIGHTS, dataset="run")["probe_top1"] == top1["independent"]
    by_layer = read_table(exchanged.analysis("exchange", "plain").table("layers"))
    layermem = read_table(exchanged.analysis("layermem").table())
    for layers in (*SUBSETS, WEIGHTS):
        for layer in layers.split(","):
            found, wanted = row(by_layer, layers=layers, layer=layer, recalibrated=False), row(layermem, layer=layer)
            assert found["layermem_before"] == pytest.approx(wanted["layermem"], abs=SCORES["atol"])
            for name in ("contrast", "contrast_low", "contrast_high"):
                before = found[name.replace("contrast", "contrast_before")]
                assert before == pytest.approx(wanted[name], abs=SCORES["atol"])


def test_with_all_layers_the_copy_is_the_partner_and_scores_nothing(exchanged: RunDir) -> None:
    """The donor's candidate is the recipient's partner: before its own interval, after it exact zeros."""
    by_layer = read_table(exchanged.analysis("exchange", "plain").table("layers"))
    copy = by_layer["layers"] == WEIGHTS
    assert copy.sum() == 2 * (8 + 1)
    for name in ("layermem_after", "contrast_after", "contrast_after_low", "contrast_after_high"):
        assert not by_layer[name][copy].any(), name
        assert (by_layer[name.replace("after", "before")][copy] != 0).all()


def test_several_layers_have_their_mean_and_the_table_shows_it(exchanged: RunDir) -> None:
    tables = read_tables(exchanged.analysis("exchange", "plain"))
    for recalibrated in (False, True):
        table = tables["recalibrated" if recalibrated else "table"]
        for when in ("before", "after"):
            one, two, mean = (
                row(tables["layers"], layers=SUBSETS[1], layer=layer, recalibrated=recalibrated)
                for layer in ("layer2", "layer8", "mean")
            )
            for name in (f"layermem_{when}", f"contrast_{when}"):
                assert mean[name] == pytest.approx((one[name] + two[name]) / 2, abs=1e-7)
            shown = row(table, layers=SUBSETS[1], dataset="donor")[f"layermem_{when}"]
            assert shown == mean[f"layermem_{when}"]


def test_drops_are_differences_to_the_unexchanged_encoder_of_the_same_form(exchanged: RunDir) -> None:
    effects = read_table(exchanged.analysis("exchange", "plain").table("effects"))
    quantile = stats.norm.ppf(0.975)
    for position in range(len(effects["layers"])):
        dataset, form = effects["dataset"][position], effects["recalibrated"][position]
        none = row(effects, layers="none", dataset=dataset, recalibrated=form)
        lost = none["top1"] - effects["top1"][position]
        assert effects["drop"][position] == pytest.approx(lost, abs=1e-6)
        half = effects["drop_high"][position] - effects["drop"][position]
        assert half == pytest.approx(effects["drop"][position] - effects["drop_low"][position], abs=1e-12)
        # paired over 15 images, c of which one of the two alone classifies correctly: sd follows from c and the drop
        changed = ((half / quantile) ** 2 * 14 * 15 + 15 * lost**2) if half else 15 * lost**2
        assert changed == pytest.approx(round(changed), abs=1e-4)
    assert (effects["drop"] != 0).any()


def test_a_run_that_is_its_own_donor_keeps_every_number(exchanged: RunDir) -> None:
    assert exchange(exchanged.root, exchanged.root, "self", "--subsets=8") == 0
    tables = read_tables(exchanged.analysis("exchange", "self"))
    assert tables["table"]["dataset"].tolist() == ["run", "run (donor)"] * 3
    for name in ("drop", "drop_low", "drop_high"):
        assert not tables["effects"][name].any()
    for name in ("layermem", "contrast", "contrast_low", "contrast_high"):
        before, after = (
            name.replace("layermem", f"layermem_{w}").replace("contrast", f"contrast_{w}") for w in ("before", "after")
        )
        assert np.array_equal(tables["layers"][before], tables["layers"][after])


@pytest.mark.ddp
def test_two_processes_and_other_batches_give_the_tables_of_one(exchanged: RunDir, donor: RunDir) -> None:
    flags = ("two", "--max-forward=21", "--layers", *SUBSETS, WEIGHTS)
    assert run_ddp(exchange, 2, exchanged.root, donor.root, *flags) == [0, 0]
    assert_same_tables(
        exchanged.analysis("exchange", "plain"), exchanged.analysis("exchange", "two"), TABLES, answers=15
    )


def test_the_independent_member_is_scored_on_its_own_images(exchanged: RunDir, donor: RunDir) -> None:
    assert exchange(exchanged.root, donor.root, "other", "--member=independent", "--layers=layer8") == 0
    mine, theirs = (read_table(exchanged.analysis("exchange", tag).table("layers")) for tag in ("plain", "other"))
    candidate = row(mine, layers=WEIGHTS, layer="layer8", recalibrated=False)
    independent = row(theirs, layers="layer8", layer="layer8", recalibrated=False)
    assert independent["contrast_before"] == pytest.approx(candidate["contrast_before"], abs=SCORES["atol"])
    assert independent["layermem_before"] != pytest.approx(candidate["layermem_before"], abs=1e-3)


def test_without_a_partner_layermem_is_left_out_and_accuracy_is_what_it_was(
    exchanged: RunDir, donor: RunDir, run: Path
) -> None:
    for path in (run / "independent").glob("encoder*"):
        path.unlink()
    assert exchange(run, donor.root, "alone", "--layers=layer3") == 0
    alone = read_tables(RunDir(run).analysis("exchange", "alone"))
    assert sorted(alone) == ["effects", "recalibrated", "table"]
    assert np.isnan(alone["table"]["layermem_before"]).all()
    plain = read_table(exchanged.analysis("exchange", "plain").table())
    for dataset in ("run", "donor"):
        for layers in ("none", "layer3"):
            wanted = row(plain, layers=layers, dataset=dataset)["probe_top1"]
            assert row(alone["table"], layers=layers, dataset=dataset)["probe_top1"] == wanted


def test_the_summary_names_the_donor_and_the_extremes(exchanged: RunDir) -> None:
    summary = read_json(exchanged.analysis("exchange", "plain").summary, dict)
    assert sorted(summary["checkpoints"]) == ["candidate", "donor candidate", "independent"]
    assert summary["checkpoints"]["donor candidate"] != summary["checkpoints"]["candidate"]
    effects = read_table(exchanged.analysis("exchange", "plain").table("effects"))
    for dataset in ("run", "donor"):
        here = (effects["dataset"] == dataset) & ~effects["recalibrated"]
        copies = here & ~np.isin(effects["layers"], ["none", "donor"])
        assert summary["headline"][f"largest_drop/{dataset}"] == effects["drop"][copies].max()
        assert summary["headline"][f"smallest_drop/{dataset}"] == effects["drop"][copies].min()
        assert summary["headline"][f"none_top1/{dataset}"] == effects["top1"][here][0]
