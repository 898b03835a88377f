"""Somebody else's encoder on one's own images: what is opened, measured, recorded and refused."""

import argparse
import contextlib
import dataclasses
import io
import re
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

from memlight.analyses import probe, unitmem
from memlight.analyses.unitmem.command import UnitMemOptions
from memlight.analyses.unitmem.study import study_unitmem
from memlight.analyze import COMMANDS, main
from memlight.commands import build_parser
from memlight.data.augment import Views
from memlight.data.recipes import VIEW_SETS
from memlight.data.splits import PairSplit
from memlight.errors import UserError, flag_among
from memlight.metrics.knn import knn_accuracy
from memlight.models.encoders import build_encoder, save_encoder
from memlight.random import ANALYSIS
from memlight.report.page import write_report
from memlight.runs.flags import EncoderFlags, Place, Trained
from memlight.runs.given_images import GivenImages
from memlight.runs.released import IMAGENET_MEAN, IMAGENET_STD, ReleasedRun, open_chosen, open_released
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.close import SCORES
from tests.quick import without_charts
from tests.report.test_page import Reader
from tests.said import refused, said
from tests.synthetic_run import make_trained

SIDE = 16


def paint(folder: Path, names: list[str], start: int = 0) -> Path:
    """Images of 20 x 24 pixels, no two alike."""
    for number, name in enumerate(names, start):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images without classes."""
    return paint(tmp_path / "photos", [f"{i}.png" for i in range(6)])


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """Four more."""
    return paint(tmp_path / "others", [f"{i}.png" for i in range(4)], start=100)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Training images of three classes and validation images of two of them."""
    names = [f"train/{kind}/{i}.png" for kind in ("cat", "dog", "eel") for i in range(3)]
    return paint(tmp_path / "pets", [*names, "val/dog/0.png", "val/eel/0.png", "val/eel/1.png"])


def flags(images: Path | str, **changed: Any) -> EncoderFlags:
    return EncoderFlags(**{"encoder": "resnet9", "image_size": SIDE, "images": str(images), **changed})


def measure(opened: ReleasedRun, member: str = "candidate", tag: str | None = None) -> dict[str, Any]:
    """What `analyze.py unitmem` does with what was opened, but for the figures."""
    encoder = opened.encoder(member)
    layers = opened.layers(encoder, ["layer1"])
    assert opened.partner(member) is None
    opened.read_images()
    with without_charts("unitmem"), opened.log(unitmem.ANALYSIS, tag, "csv", None) as log:
        options = UnitMemOptions(views=2)
        study_unitmem(encoder, opened.data, layers, options, log, progress=False)
    return {name: read_table(log.final.table(name)) for name in ("table", "layers", "top")}


@pytest.fixture(scope="module")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Images, the run in which random weights were measured on them, and what was said."""
    root = tmp_path_factory.mktemp("random")
    photos = paint(root / "photos", [f"{i}.png" for i in range(6)])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), open_released(flags(photos), run=str(root / "run")) as opened:
        measure(opened)
    return photos, root / "run", said.getvalue().splitlines()


def test_scores_are_those_of_plain_loops_over_files_in_the_order_of_their_names(random_run):
    photos, run, _ = random_run
    table = read_table(RunDir(run).analysis("unitmem").table())
    encoder = build_encoder("resnet9", seed=0).eval()
    kept: list[torch.Tensor] = []
    encoder.get_submodule("layer1").register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    views = Views("simclr", SIDE, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    mu = []
    for number, path in enumerate(sorted(photos.iterdir())):
        pixels = torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1).copy())[None]
        kept.clear()
        for view in range(2):
            with torch.no_grad():
                encoder(views(pixels, torch.tensor([number]), view=view, epoch=ANALYSIS, seed=0))
        mu.append([sum(float(k[0, unit].abs().mean()) for k in kept) / 2 for unit in range(kept[0].shape[1])])
    for unit in range(len(mu[0])):
        column = [row[unit] for row in mu]
        strongest = max(range(6), key=lambda i: column[i])
        top, rest = column[strongest], sum(value for i, value in enumerate(column) if i != strongest) / 5
        assert table["max_id"][unit] == strongest
        assert table["unitmem"][unit] == pytest.approx((top - rest) / (top + rest), abs=SCORES["atol"])


def test_random_weights_are_called_so_everywhere(random_run):
    _, run, said = random_run
    assert said[:3] == [
        "encoder: resnet9, random weights, seed 0: nothing was learned",
        "images: 6 of photos, none held out",
        "views: simclr unless --view-set names others, 16 pixels, mean (0.485, 0.456, 0.406), "
        "std (0.229, 0.224, 0.225)",
    ]
    summary = read_json(RunDir(run).analysis("unitmem").summary, dict)
    assert summary["checkpoints"] == {"encoder": "random weights, seed 0"} and summary["images"] == 6
    page = Reader(write_report(RunDir.open(run)).read_text(encoding="utf-8"))
    for words in ("random weights, seed 0: nothing was learned", "encoder random weights, seed 0"):
        assert words in page.text
    assert "nan" not in page.text and "; exchangeable images would score" in page.text


def test_a_second_command_adds_to_the_same_directory_and_gives_the_same_table(random_run):
    photos, run, _ = random_run
    with open_released(flags(photos), run=str(run)) as opened:
        again = measure(opened, tag="again")
        assert opened.views(None) is None and opened.data.views.name == "simclr"
        assert opened.views("weak").name == "weak"
    first = read_table(RunDir(run).analysis("unitmem").table())
    assert np.array_equal(again["table"]["unitmem"], first["unitmem"])


def test_the_report_says_what_encoder_and_leaves_out_what_needs_a_pair(photos, others, tmp_path):
    run = tmp_path / "run"
    torch.save(build_encoder("resnet9", seed=7).state_dict(), tmp_path / "w.pth")
    given = flags(photos, weights=str(tmp_path / "w.pth"), held_out=str(others))
    with open_released(given, run=str(run)) as opened:
        with opened.log(probe.ANALYSIS, None, "csv", None):
            pass
        RunDir(run).analysis("probe").summary.unlink()
        page = Reader(write_report(RunDir.open(run)).read_text(encoding="utf-8"))
        command = "python analyze.py unitmem --encoder resnet9 --weights w.pth --images photos"
        assert f"Not measured yet. Make it with {command} --run {run}" in page.text
        tables = measure(opened)
    assert opened.members() == ["encoder", "random"]
    assert np.isfinite(tables["layers"]["held_out_mean"]).all()
    assert set(tables["table"]["max_id"].tolist()) <= set(range(6))
    split, summary = PairSplit.load(RunDir.open(run).splits), read_json(RunDir(run).analysis("unitmem").summary, dict)
    assert split.candidate.tolist() == [0, 1, 2, 3, 4, 5] and split.external.tolist() == [6, 7, 8, 9]
    assert summary["split_sha256"] == split.sha256 and summary["images"] == 10
    page = Reader(write_report(RunDir.open(run)).read_text(encoding="utf-8"))
    digest = read_json(RunDir(run).released, dict)["weights"]["sha256"]
    for words in ("What encoder", "resnet9", "w.pth", digest, "6 of photos", "4 of others", f"encoder {digest[:12]}"):
        assert words in page.text
    for words in ("Where it memorises", "layermem", "Training", "Accuracy", "Not measured", "random weights, seed"):
        assert words not in page.text


def test_training_images_are_measured_and_the_others_held_out(pets, others):
    data = GivenImages(str(pets), view_size=SIDE)
    assert [len(data.split.ids(name)) for name in ("shared", "candidate", "independent", "external")] == [0, 9, 0, 3]
    data.setup()
    assert data.classes == ["cat", "dog", "eel"]
    assert data.labels_of(data.split.external).tolist() == [1, 2, 2]
    read = data.images_of([1, 9])
    for pixels, path in zip(read, ("train/cat/1.png", "val/dog/0.png"), strict=True):
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(Image.open(pets / path)))

    elsewhere = GivenImages(str(pets), str(others), view_size=SIDE)
    elsewhere.setup()
    assert elsewhere.labels_of(elsewhere.split.external).tolist() == [-1] * 4
    other_way = GivenImages(str(others), str(pets), view_size=SIDE)
    other_way.setup()
    assert len(other_way.split.external) == 3 and other_way.classes == []
    assert len({module.split.sha256 for module in (data, elsewhere, other_way)}) == 3


def test_held_out_labels_count_in_the_classes_of_the_measured_images(pets, tmp_path):
    mine = paint(tmp_path / "mine", ["eel/0.png", "ant/0.png", "cat/1.png"], start=50)
    data = GivenImages(str(pets), str(mine), view_size=SIDE)
    data.setup()
    assert data.labels_of(data.split.external).tolist() == [-1, 0, 2]  # ant, cat, eel


def test_a_limit_takes_evenly_spaced_images_of_both(pets):
    data = GivenImages(str(pets), limit=3, view_size=SIDE)
    data.setup()
    assert data.labels_of(data.split.candidate).tolist() == [0, 1, 2]
    assert len(data.split.external) == 3
    assert np.array_equal(
        data.images_of([2])[0].permute(1, 2, 0).numpy(), np.asarray(Image.open(pets / "train/eel/0.png"))
    )
    assert len(GivenImages(str(pets), limit=100, view_size=SIDE).split.candidate) == 9


def test_an_archive_is_the_same_images(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in photos.iterdir():
            archive.write(path, f"some/where/{path.name}")
    first, second = GivenImages(str(photos)), GivenImages(str(tmp_path / "photos.zip"))
    first.setup(), second.setup()
    ids = list(range(6))
    assert torch.equal(first.images_of(ids), second.images_of(ids))


def test_images_for_large_views_are_not_decoded_smaller(photos):
    data = GivenImages(str(photos), view_size=300)
    data.setup()
    assert data.source.size == (300, 300)
    small = GivenImages(str(photos), view_size=224)
    small.setup()
    assert small.source.size == (20, 24)


def test_weights_come_from_a_file_and_random_ones_stay_for_comparison(photos, tmp_path):
    theirs = build_encoder("resnet9", seed=7)
    torch.save({"teacher": {"backbone": theirs.state_dict()}}, tmp_path / "w.pth")
    with open_released(
        flags(photos, weights=str(tmp_path / "w.pth"), prefix="teacher"), run=str(tmp_path / "run")
    ) as opened:
        assert opened.members() == ["encoder", "random"]
        measured, random = opened.encoder("encoder"), opened.encoder("random")
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(measured.state_dict()[name], tensor)
        initial = build_encoder("resnet9", seed=0).state_dict()
        assert all(torch.equal(tensor, initial[name]) for name, tensor in random.state_dict().items())
        assert not measured.training and not random.training
        opened.read_images()
        with opened.log(unitmem.ANALYSIS, None, "csv", None):
            pass
    weights = read_json(RunDir(tmp_path / "run").released, dict)["weights"]
    assert (weights["file"], weights["prefix"]) == ("w.pth", "teacher.backbone")
    hashes = read_json(RunDir(tmp_path / "run").analysis("unitmem").summary, dict)["checkpoints"]
    assert hashes == {"encoder": weights["sha256"], "random": "random weights, seed 0"}


@pytest.mark.parametrize("kind", ["encoder.safetensors", "last.ckpt"])
def test_memlights_own_file_says_its_architecture_views_and_normalisation(kind, photos, tmp_path):
    mine = build_encoder("resnet9", seed=3, image_size=SIDE)
    views = {"name": "weak", "size": SIDE, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    save_encoder(tmp_path / "encoder.safetensors", mine, {"views": views})
    architecture = {"name": "resnet9", "stem": "cifar", "in_channels": 3, "num_features": 256, "input_size": SIDE}
    state = {f"encoder.{name}": tensor for name, tensor in mine.state_dict().items()}
    torch.save(
        {"state_dict": state, "memlight": {"architecture": architecture, "views": views}}, tmp_path / "last.ckpt"
    )
    given = EncoderFlags(weights=str(tmp_path / kind), images=str(photos))
    with open_released(given, run=str(tmp_path / "run")) as opened:
        assert opened.data.views.spec() == views
        assert torch.equal(opened.encoder("encoder").layer1.conv.weight, mine.layer1.conv.weight)
    changed = EncoderFlags(weights=str(tmp_path / kind), images=str(photos), mean=[0.0] * 3, std=[1.0] * 3)
    with open_released(changed, run=str(tmp_path / "run")) as opened:
        assert opened.data.views.spec() == views | {"mean": [0.0] * 3, "std": [1.0] * 3}


def test_normalisation_is_timms_own_else_imagenets(photos, tmp_path):
    for name, mean, side in (
        ("timm:test_vit", (0.5, 0.5, 0.5), 160),
        ("timm:mobilenetv3_small_050", (0.485, 0.456, 0.406), 224),
    ):
        with open_released(EncoderFlags(encoder=name, images=str(photos)), run=str(tmp_path / name)) as opened:
            assert (opened.data.mean, opened.data.view_size) == (mean, side)
    with open_released(flags(photos), run=str(tmp_path / "run")) as opened:
        assert (opened.data.mean, opened.data.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_results_go_to_a_directory_named_after_the_encoder(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_released(EncoderFlags(encoder="timm:test_vit", images=str(photos))) as opened:
        assert opened.run.root == Path("runs/timm-test_vit")
    assert not Path("runs").exists()  # nothing is written before something was measured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "timm:test_resnet"}, ["another encoder", "architecture.name: resnet9, now timm:test_resnet"]),
        ({"weights": "w.pth"}, ["another encoder", "weights: random weights, seed 0, now"]),
        ({"image_size": 24}, ["another encoder", "16, now 24"]),
        ({"mean": [0.0] * 3, "std": [1.0] * 3}, ["another encoder", "views.mean"]),
        ({"limit": 5}, ["other images (6 and 0 held out, now 5 and 0 held out)"]),
        ({"images": "others"}, ["other images (6 and 0 held out, now 4 and 0 held out)"]),
        ({"held_out": "others"}, ["other images (6 and 0 held out, now 6 and 4 held out)"]),
    ],
)
def test_a_directory_is_of_one_encoder_and_its_images(change, words, photos, others, tmp_path):
    torch.save(build_encoder("resnet9", seed=7).state_dict(), tmp_path / "w.pth")
    run = str(tmp_path / "run")
    with open_released(flags(photos), run=run) as opened, opened.log(unitmem.ANALYSIS, None, "csv", None):
        pass
    paths = {name: str(tmp_path / value) for name, value in change.items() if name in ("weights", "images", "held_out")}
    with (
        pytest.raises(UserError) as caught,
        open_released(flags(**{"images": photos, **change, **paths}), run=run),
    ):
        pass
    assert said(caught.value).startswith(f"--run {run}: holds results")
    assert [word for word in [*words, "choose another --run"] if word not in said(caught.value)] == []


def test_a_directory_of_a_training_is_left_alone(photos, tmp_path):
    run = make_trained(tmp_path / "run")
    with refused(r"--run .*run: holds a training"):
        open_released(flags(photos), run=str(run.root)).__enter__()


def opening(**changed: Any) -> Callable[[], Any]:
    return lambda: open_released(flags(changed.pop("images", "photos"), **changed)).__enter__()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (opening(images="nowhere"), ["--images nowhere: no such directory"]),
        (opening(images="empty"), ["--images empty: no images in it"]),
        (opening(images="one"), ["--images one:", "two or more"]),
        (opening(held_out="photos"), ["--held-out photos: the same as --images"]),
        (opening(held_out="nowhere"), ["--held-out nowhere: no such directory"]),
        (opening(encoder="resnet99"), ["--encoder resnet99: no such encoder"]),
        (opening(encoder="vit_tiny_patch16", image_size=40), ["--encoder vit_tiny_patch16", "--image-size 32 or 48"]),
        (opening(weights="none.pth"), ["--weights none.pth: no such file"]),
        (opening(weights="w.pth", prefix="student"), ["--weights w.pth: --prefix student"]),
        (opening(encoder=None, weights="w.pth"), ["--weights w.pth:", "name it with --encoder"]),
        (lambda: EncoderFlags(images="photos"), ["--images: belongs to an encoder"]),
        (lambda: EncoderFlags(held_out="photos"), ["--held-out: belongs to an encoder"]),
        (lambda: EncoderFlags(encoder="resnet18"), ["--images: name a folder"]),
        (lambda: flags("photos", prefix="teacher"), ["--prefix teacher:", "--weights"]),
        (lambda: flags("photos", limit=0), ["--limit 0"]),
        (lambda: flags("photos", image_size=0), ["--image-size 0"]),
        (lambda: flags("photos", mean=[0.5] * 3), ["--mean, --std"]),
        (lambda: flags("photos", mean=[0.5], std=[0.5]), ["three numbers"]),
        (lambda: flags("photos", mean=[0.5] * 3, std=[0.5, 0.5, 0.0]), ["--std 0.0: must be above 0"]),
    ],
)
def test_what_cannot_be_opened_names_the_flag(act, words, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    paint(tmp_path / "one", ["a.png"])
    torch.save(build_encoder("resnet9", seed=7).state_dict(), "w.pth")
    with pytest.raises(UserError) as caught:
        act()
    assert [word for word in words if word not in said(caught.value)] == [], caught.value
    assert "--data" not in said(caught.value) and "--model" not in said(caught.value)
    assert not Path("runs").exists()


def test_a_broken_image_is_named_without_offering_what_there_is_not(photos, tmp_path):
    (photos / "3.png").write_bytes(b"no image")
    with open_released(flags(photos), run=str(tmp_path / "run")) as opened, pytest.raises(UserError) as caught:
        opened.read_images()
    line = caught.value.in_flags(flag_among({"--images", "--held-out"}))
    assert line.startswith(f"--images: {photos / '3.png'} cannot be decoded")
    assert line.endswith("; replace or delete it.")


def test_what_belongs_to_a_run_is_refused(photos, tmp_path):
    with open_released(flags(photos), run=str(tmp_path / "run")) as opened:
        for member, checkpoint, words in (
            ("independent", None, "--member independent"),
            ("candidate", "epoch=1", "--checkpoint epoch=1"),
        ):
            with refused(words):
                opened.encoder(member, checkpoint)
        with refused("no pair"):
            opened.pair()
        with refused("--split shared: the shared split has 0 images"):
            opened.require_images("shared", argument="split")
        with refused(r"--images .*classes"):
            opened.read_images(labelled=True)
    for trained, where, words in (
        (Trained(network="student"), Place(), "--network student"),
        (Trained(checkpoint="last"), Place(), "--checkpoint last"),
        (Trained(), Place(root="x"), "--root x"),
    ):
        with refused(words), open_chosen(None, flags(photos), trained, where):
            pass


def test_a_command_opens_what_its_flags_name(photos, tmp_path, run):
    plain = Trained(), Place(device="cpu")
    with open_chosen(str(run), EncoderFlags(), *plain) as opened:
        assert opened.members() == ["candidate", "independent", "random"]
    with (
        open_chosen(str(tmp_path / "new"), flags(photos), *plain) as opened,
        opened.log(unitmem.ANALYSIS, None, "csv", None),
    ):
        assert opened.members() == ["encoder"]
    with refused(r"--encoder resnet9 --images again"):
        open_chosen(str(tmp_path / "new"), EncoderFlags(), *plain).__enter__()
    with refused("--run: name a run directory, or an encoder"):
        open_chosen(None, EncoderFlags(), *plain).__enter__()


@pytest.mark.parametrize("command", ["unitmem", "classmem", "features", "probe"])
def test_the_flags_of_an_encoder_all_have_their_help(command):
    parser = build_parser("analyze.py", "", COMMANDS)
    (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    names = {field.name for field in dataclasses.fields(EncoderFlags)}
    found = {action.dest: action.help for action in commands.choices[command]._actions if action.dest in names}
    assert found.keys() == names and all(found.values())


def test_a_probe_is_trained_on_the_given_images_and_tested_on_the_held_out_ones(pets, tmp_path, capsys):
    own = ["--encoder=resnet9", f"--image-size={SIDE}", f"--run={tmp_path / 'run'}", "--logger=csv", "--k=3"]
    assert main(["probe", f"--images={pets}", *own]) == 0
    table = read_table(RunDir(tmp_path / "run").analysis("probe").table())
    assert table["member"].tolist() == ["encoder"] * 2
    assert table["n_train"].tolist() == [9] * 2 and table["n_test"].tolist() == [3] * 2
    with open_released(flags(pets), run=str(tmp_path / "again")) as opened:
        opened.read_images(labelled=True)
        encoder, clean = opened.encoder("encoder"), opened.data.make_views("clean")
        sets = []
        for split in ("candidate", "external"):
            ids = opened.split.ids(split)
            with torch.no_grad():
                z = encoder(clean(opened.data.images_of(ids), torch.from_numpy(ids)))
            sets += [z, torch.from_numpy(opened.data.labels_of(ids))]
        nearest = knn_accuracy(*sets, k=3, temperature=0.1, num_classes=3)
    assert table["top1"][1] == pytest.approx(nearest)


def test_what_cannot_be_probed_names_the_flag(pets, photos, others, tmp_path, capsys):
    own = ["--encoder=resnet9", f"--image-size={SIDE}", f"--run={tmp_path / 'run'}", "--logger=csv"]
    for images, words in (
        ([f"--images={photos}"], "--held-out: 0 images; at least 1 are needed"),
        ([f"--images={photos}", f"--held-out={others}"], f"--images {photos}: images with classes"),
        (
            [f"--images={pets}", f"--held-out={others}"],
            f"--held-out {others}: none of the 4 held-out images has a class; give them with --labels FILE.",
        ),
        (
            [f"--images={pets}", f"--held-out={paint(tmp_path / 'more', ['ant/0.png', 'cat/1.png'])}"],
            f"--held-out {tmp_path / 'more'}: has images of classes (folders) that --images has not (ant); leave",
        ),
    ):
        assert main(["probe", *images, *own]) == 2
        assert capsys.readouterr().err.startswith(f"error: {words}")
    assert not (tmp_path / "run" / "analysis").exists()


DOCS = Path(__file__).resolve().parents[2] / "docs" / "ENCODERS.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("line", [line for line in "".join(blocks("bash")).splitlines() if " --images " in line])
def test_commands_of_the_page_name_encoders_that_there_are(line):
    words = shlex.split(line)
    assert words[:2] == ["python", "analyze.py"]
    given = build_parser("analyze.py", "", COMMANDS).parse_args(words[2:])
    assert getattr(given, "view_set", None) in (None, *VIEW_SETS)
    if given.encoder is not None and given.encoder.startswith("timm:"):
        assert timm.is_model(given.encoder.removeprefix("timm:"))
    elif given.encoder is not None and given.encoder.startswith("torchvision:"):
        assert given.encoder.removeprefix("torchvision:") in torchvision.models.list_models(module=torchvision.models)
    elif given.encoder is not None:
        build_encoder(given.encoder, stem=given.stem, seed=0)


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, str(DOCS), "exec"), names)
    said = capsys.readouterr().out
    assert "torch.Size([20, 512])" in said and "120 tensors from teacher; left out: teacher.fc (2)" in said
    assert len(names["scores"]) == len(names["layers"]) > 20
