import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from memlight.analyze import main
from memlight.cli import main as train_main
from memlight.data.splits import SPLITS, PairSplit
from memlight.models.encoders import read_metadata
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.close import assert_tables_close
from tests.tiny_pair import ROLES, VIEWS, TinyPair, analyze, encoder_state, fit, read_tables

DIGITS = ["--dataset=digits", "--resize=16", "--image-size=16", "--encoder=resnet9"]
AS_TRAINED = ["--views=simclr", "--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.5", "0.5", "--dealt=random"]


def exported(run: Path, folder: Path) -> list[str]:
    """The pair as another program would have saved it: its names and prefixes, and a table of ids."""
    folder.mkdir(exist_ok=True)
    for role in ROLES:
        state = {f"module.backbone.{name}": tensor for name, tensor in encoder_state(run, role).items()}
        extra = {"module.projector.0.weight": torch.zeros(2, 2)}
        torch.save({"epoch": 3, "arch": "resnet9", "state_dict": {**state, **extra}}, folder / f"{role}.pth")
    split = PairSplit.load(RunDir(run).splits)
    with (folder / "splits.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split"])
        writer.writerows((id_, name) for name in SPLITS for id_ in split.ids(name))
    weights = [f"--{role}={folder / f'{role}.pth'}" for role in ROLES]
    return [*weights, f"--splits={folder / 'splits.csv'}"]


@pytest.fixture(scope="module")
def theirs(plain_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The pair of this house exported, and adopted back; and the flags of that."""
    folder = tmp_path_factory.mktemp("theirs")
    flags = [*exported(plain_pair.root, folder), *DIGITS, *AS_TRAINED]
    assert main(["adopt", f"--run={folder / 'run'}", *flags]) == 0
    return folder / "run", flags


def test_an_adopted_pair_measures_as_the_same_pair_trained_here(
    plain_pair: TinyPair, theirs: tuple[Path, list[str]], tmp_path: Path
) -> None:
    ours = plain_pair.copy(tmp_path / "ours")
    tables = {}
    for run in (ours, theirs[0]):
        assert analyze(run, "layermem", short=False) == 0
        tables[run] = read_tables(RunDir(run).analysis("layermem"))
    assert tables[ours].keys() == tables[theirs[0]].keys()
    for name, table in tables[ours].items():
        for column, values in table.items():
            other = tables[theirs[0]][name][column]
            if values.dtype.kind == "f":
                np.testing.assert_allclose(other, values, rtol=0, atol=1e-6, err_msg=f"{name} {column}")
            else:
                assert (values == other).all(), (name, column)
    contrast = tables[ours]["table"]["contrast"]
    assert np.isfinite(contrast).all() and np.abs(contrast).max() > 1e-4


@pytest.mark.parametrize(
    "command",
    [
        ["unitmem"],
        ["prune", "--ratios=0.2", "--modes=top", "--layers=layer8"],
        [
            "unit",
            "--layer=layer8",
            "--unit=3",
            "--ids",
            "{candidate}",
            "--objective=activation",
            "--context=8",
            "--epochs=1",
        ],
        ["probe"],
        ["classmem", "--split=shared"],
        ["dejavu"],
        ["finetune", "--layers=layer8", "--epochs=1", "--dataset=digits", "--batch-size=32", "--trials=1"],
    ],
    ids=lambda command: command[0],
)
def test_other_analyses_work_on_an_adopted_pair(
    command: list[str], theirs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = PairSplit.load(RunDir(theirs[0]).splits).candidate[0]
    done = analyze(theirs[0], command[0], *(word.format(candidate=candidate) for word in command[1:]))
    assert done == 0, capsys.readouterr().err


def test_the_report_says_what_is_known(theirs: tuple[Path, list[str]]) -> None:
    assert analyze(theirs[0], "layermem") == 0
    assert analyze(theirs[0], "report") == 0
    page = RunDir(theirs[0]).report.read_text().replace("\N{NO-BREAK SPACE}", " ")
    for words in ("What was adopted", "candidate.pth", "dealt at random, as whoever gave the splits says", "not known"):
        assert words in page
    record = read_metadata(RunDir(theirs[0]).member("candidate").encoder)
    assert record["adopted"]["prefix"] == "state_dict.module.backbone" and record["method"] == "adopted"


def test_the_same_again_is_nothing_new_and_another_is_refused(
    theirs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = theirs
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert main(["adopt", f"--run={run}", *flags]) == 0
    assert "next: python analyze.py layermem --run" in capsys.readouterr().out
    assert main(["adopt", f"--run={run}", *flags, "--dealt=unknown"]) == 2
    assert "another pair was adopted here (adopted.dealt: random, now unknown)" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_adopted_pair_is_not_trained_here(
    theirs: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(theirs[0]) == 2
    assert "holds a pair that was trained elsewhere; choose another --run" in capsys.readouterr().err
    assert train_main(["removal", f"--run={theirs[0]}", "--remove=3"]) == 2
    assert "its encoders were trained elsewhere" in capsys.readouterr().err
    assert analyze(theirs[0], "layermem", "--view-epoch=1") == 2
    assert "the views of their training cannot be made again" in capsys.readouterr().err
    candidate = PairSplit.load(RunDir(theirs[0]).splits).candidate[0]
    assert analyze(theirs[0], "unit", "--layer=layer8", "--unit=3", "--ids", str(candidate), "--context=8") == 2
    assert "no candidate/checkpoints/last.ckpt" in capsys.readouterr().err


def half(folder: Path, flags: list[str]) -> list[str]:
    """The flags of half a pair: the independent encoder is a reference, its images are nobody's."""
    rows = (folder / "splits.csv").read_text().splitlines()
    (folder / "half.csv").write_text("\n".join(row for row in rows if "independent" not in row) + "\n")
    kept = [flag.replace("--independent=", "--reference=") for flag in flags if "--splits" not in flag]
    return [*kept, f"--splits={folder / 'half.csv'}", "--reference-saw=other digits"]


def test_half_a_pair_compares_candidates_with_external_images(
    plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = half(tmp_path, [*exported(plain_pair.root, tmp_path), *DIGITS, *AS_TRAINED])
    run = tmp_path / "half"
    assert main(["adopt", f"--run={run}", *flags]) == 0
    assert "reference: independent.pth" in capsys.readouterr().out
    assert analyze(run, "layermem", short=False) == 0
    tables = read_tables(RunDir(run).analysis("layermem"))
    table, samples = tables["table"], tables["samples"]
    for row, layer in enumerate(table["layer"].tolist()):
        of = {
            split: samples["score"][(samples["split"] == split) & (samples["layer"] == layer)]
            for split in ("candidate", "external")
        }
        difference = of["candidate"].mean() - of["external"].mean()
        assert table["contrast"][row] == pytest.approx(difference, abs=1e-9)
        area = np.mean([(score > of["external"]).mean() for score in of["candidate"]])
        assert tables["membership"]["auc_pair"][row] == pytest.approx(area, abs=1e-9)
        assert tables["membership"]["auc_attack"][row] == pytest.approx(area, abs=1e-9)
    assert np.isnan(table["control_independent"]).all()
    assert set(tables["placebos"]["placebo"]) == {"shared", "external"}
    assert analyze(run, "unitmem", short=False) == 0 and analyze(run, "report") == 0
    units = read_tables(RunDir(run).analysis("unitmem"))
    assert analyze(run, "all", f"--views={VIEWS}", short=False) == 0
    assert_tables_close(read_tables(RunDir(run).analysis("layermem")), tables)
    assert_tables_close(read_tables(RunDir(run).analysis("unitmem")), units)
    page = RunDir(run).report.read_text().replace("\N{NO-BREAK SPACE}", " ")
    for words in ("half a pair", "the reference saw other digits", "with no division by two"):
        assert words in page
    capsys.readouterr()
    assert analyze(run, "dejavu") == 2
    assert "is half a pair: no image was seen by the independent encoder alone" in capsys.readouterr().err


def test_plain_torchvision_code_and_lists_of_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two checkpoints of torchvision's ResNet-18, images in folders, a list for each group."""
    from PIL import Image

    generator = np.random.default_rng(0)
    names: list[str] = []
    for part, count in (("train", 12), ("val", 6)):
        for number in range(count):
            path = tmp_path / "images" / part / ("cat" if number % 2 else "dog") / f"{part}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
            names.append(str(path))
    groups = {"shared": names[:4], "candidate": names[4:8], "independent": names[8:12], "external": names[12:]}
    for name, paths in groups.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(paths))
    for role, seed in (("f", 1), ("g", 2)):
        torch.manual_seed(seed)
        torch.save({"model": resnet18().state_dict()}, tmp_path / f"{role}.pth")
    run = tmp_path / "run"
    flags = [f"--candidate={tmp_path / 'f.pth'}", f"--independent={tmp_path / 'g.pth'}", "--encoder=resnet18"]
    splits = ["--splits", *(f"{name}={tmp_path / f'{name}.txt'}" for name in groups)]
    assert main(["adopt", f"--run={run}", *flags, "--image-size=32", f"--root={tmp_path / 'images'}", *splits]) == 0
    said = capsys.readouterr().out
    assert "4 shared, 4 candidate, 4 independent, 6 external" in said and "(not said by you; see --views" in said
    assert "may not have been dealt (see --dealt) at random" in said
    assert analyze(run, "layermem", "--layers", "layer1", "layer4") == 0
    table = read_table(RunDir(run).analysis("layermem").table())
    assert np.isfinite(table["contrast"]).all()


def test_the_rule_of_the_authors_and_its_numbers(
    plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = exported(plain_pair.root, tmp_path)[:-1]
    counts = ["--num-shared=40", "--num-candidate=20", "--num-independent=10", "--num-external=5"]
    args = ["adopt", *weights, *DIGITS, f"--run={tmp_path / 'run'}", "--order=random", "--split-seed=3", *counts]
    assert main(args) == 0
    split = PairSplit.load(RunDir(tmp_path / "run").splits)
    assert (split.order, len(split.shared), len(split.candidate), len(split.external)) == ("random", 40, 20, 5)
    assert read_json(RunDir(tmp_path / "run").adopted, dict)["dealt"] == "random"
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--independent": None}, "--independent, --reference: give one of the two"),
        ({"--reference": "x.pth"}, "--independent, --reference: give one of the two"),
        ({"--splits": None}, "--splits, --order: say which image each encoder was trained on"),
        ({"--order": "index"}, "--splits, --order: say which image"),
        ({"--num-shared": "3"}, "--num-shared 3: the file of --splits says which and how many"),
        ({"--candidate": "missing.pth"}, "--candidate missing.pth: "),
        ({"--independent": "{candidate}"}, "holds the very weights of the candidate, so nothing can differ"),
        ({"--encoder": "resnet18"}, "--candidate "),
        ({"--encoder": "resnet99"}, "--encoder resnet99: no such encoder"),
        ({"--prefix": "nothing"}, "--prefix"),
        ({"--views": "nothing"}, "--views nothing: choose one of"),
        ({"--dataset": "nothing"}, "--dataset nothing: choose one of"),
        ({"--image-size": "3"}, "--image-size"),
        ({"--splits": "missing.csv"}, "--splits missing.csv: cannot be read"),
        ({"--splits": "{few}"}, "the independent split has 1 images, and at least 2 are needed"),
        ({"--splits": "{beyond}"}, "1 of 4 ids are of no image here (2000)"),
        ({"--run": "{full}"}, "holds something else already; choose another --run"),
        ({"--mean": "0.5"}, "--mean"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_bad_input_is_one_line_and_leaves_nothing(
    change: dict[str, Any],
    words: str,
    plain_pair: TinyPair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "folder"
    weights = exported(plain_pair.root, folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    texts = {
        "few": "id,split\n0,candidate\n1,candidate\n2,independent\n",
        "beyond": "id,split\n0,candidate\n1,candidate\n2,independent\n2000,independent\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    places = {
        "candidate": str(folder / "candidate.pth"),
        "full": str(tmp_path / "full"),
        **{name: str(tmp_path / f"{name}.csv") for name in texts},
    }
    options = dict(flag.split("=", 1) for flag in [*weights, *DIGITS, f"--run={tmp_path / 'run'}"])
    options |= {flag: value if value is None else value.format(**places) for flag, value in change.items()}
    args = [f"{flag}={value}" for flag, value in options.items() if value is not None]
    before = sorted(path for path in tmp_path.rglob("*"))
    assert main(["adopt", *args]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1, said
    assert sorted(path for path in tmp_path.rglob("*") if path.name != ".run.lock") == before


def test_adopted_json_opens_and_a_damaged_one_is_one_line(
    theirs: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    import shutil

    shutil.copytree(theirs[0], run)
    record = json.loads((run / "adopted.json").read_text())
    (run / "adopted.json").write_text(json.dumps({**record, "members": 3}))
    assert analyze(run, "report") == 2
    assert capsys.readouterr().err.count("\n") == 1
