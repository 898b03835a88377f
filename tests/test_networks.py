"""Methods with two networks: both are kept, one is analysed by default, a flag chooses the other."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memlight.errors import UserError
from memlight.models.encoders import read_metadata
from memlight.runs.checkpoints import encoder_from_checkpoint, initial_encoder, load_pair
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.quick import without_charts
from tests.tiny_pair import (
    KEPT,
    ROLES,
    VIEWS,
    TinyPair,
    analyze,
    assert_same_tables,
    callback_flags,
    checkpoint,
    encoder_state,
    fit,
    same_tensors,
)

DINO = [
    "--model=memlight.modules.DINO",
    "--model.encoder=timm:test_vit",
    "--model.image_size=16",
    "--model.optim.warmup_epochs=0",
    "--model.hidden_dim=16",
    "--model.bottleneck_dim=8",
    "--model.output_dim=32",
    "--model.momentum_start=0.5",
    "--data.views=dino",
    "--data.num_views=2",
]
LAYERS = ["--layers", "blocks.0.attn", "blocks.0.norm2@in", "blocks.1"]


@pytest.fixture(scope="module")
def dino_pair(tmp_path_factory: pytest.TempPathFactory) -> TinyPair:
    """Both members; the second with callbacks that look at the student."""
    root = tmp_path_factory.mktemp("dino") / "run"
    options = {"every_n_epochs": 2, "num_views": VIEWS, "layers": f"[{','.join(LAYERS[1:])}]", "network": "student"}
    names = ("UnitMemCallback", "LayerMemCallback")
    callbacks = [flag for name in names for flag in callback_flags(f"memlight.callbacks.{name}", **options)]
    with without_charts("unitmem", "layermem"):
        for role in ROLES:
            assert fit(root, *DINO, *callbacks, role=role) == 0
    return TinyPair(root, {})


def test_both_networks_are_kept_and_the_teacher_is_the_default(dino_pair: TinyPair) -> None:
    member = RunDir(dino_pair.root).member("candidate")
    kept = {"teacher": member.encoder, "student": member.network("student")}
    assert member.networks() == ["student"]
    weights = {name: load_file(path) for name, path in kept.items()}
    assert not same_tensors(weights["teacher"], weights["student"])
    state = checkpoint(dino_pair.root)["state_dict"]
    for name, prefix in {"teacher": "teacher.", "student": "encoder."}.items():
        assert read_metadata(kept[name])["network"] == name
        for key, tensor in weights[name].items():
            assert torch.equal(tensor, state[prefix + key])


def test_a_checkpoint_gives_either_network(dino_pair: TinyPair) -> None:
    last = RunDir(dino_pair.root).member("candidate").checkpoints / "last.ckpt"
    for network, path in {None: "encoder", "teacher": "encoder", "student": "encoder-student"}.items():
        encoder = encoder_from_checkpoint(last, network=network)
        assert same_tensors(dict(encoder.state_dict()), load_file(last.parents[1] / f"{path}.safetensors"))
    with pytest.raises(UserError, match=r"network='head': .* has no such network; it has teacher, student"):
        encoder_from_checkpoint(last, network="head")


def test_a_pair_of_students(dino_pair: TinyPair) -> None:
    pair = load_pair(dino_pair.root, network="student")
    assert pair.metadata_f["network"] == pair.metadata_g["network"] == "student"
    assert same_tensors(dict(load_pair(dino_pair.root).f.state_dict()), encoder_state(dino_pair.root))


def test_teacher_and_student_start_from_the_initial_weights(dino_pair: TinyPair) -> None:
    from memlight.modules import DINO as Method

    module = Method("timm:test_vit", image_size=16, hidden_dim=16, bottleneck_dim=8, output_dim=32)
    start = dict(initial_encoder(read_metadata(RunDir(dino_pair.root).member("candidate").encoder)).state_dict())
    for network in module.networks.values():
        assert same_tensors(dict(network.state_dict()), start)
    assert same_tensors(dict(module.head.state_dict()), dict(module.teacher_head.state_dict()))


def test_analyses_of_the_student_stand_beside_those_of_the_teacher(dino_pair: TinyPair, tmp_path: Path) -> None:
    run = dino_pair.copy(tmp_path / "run")
    for flags in ([], ["--network=student"], ["--network=teacher", "--tag=named"]):
        assert analyze(run, "layermem", *LAYERS, *flags) == 0
    default, student, named = (RunDir(run).analysis("layermem", tag) for tag in (None, "student", "named"))
    assert_same_tables(
        default, named, ["agreement", "blocks", "intervals", "membership", "placebos", "samples", "table", "tests"]
    )
    assert not (read_table(default.table())["contrast"] == read_table(student.table())["contrast"]).any()
    files = {
        tag: read_json(RunDir(run).analysis("layermem", tag).summary, dict)["checkpoints"] for tag in (None, "student")
    }
    assert list(files[None]) == ["candidate", "independent"]
    assert list(files["student"]) == ["candidate student", "independent student"]


def test_a_network_that_does_not_exist_is_refused(
    dino_pair: TinyPair, plain_pair: TinyPair, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze(dino_pair.root, "layermem", "--network=pupil") == 2
    assert "--network pupil: candidate/ has no such network; it has teacher, student" in capsys.readouterr().err
    assert analyze(plain_pair.root, "unitmem", "--network=student") == 2
    assert "--network student: candidate/ has no such network; it has encoder" in capsys.readouterr().err


def test_callbacks_measure_the_network_they_are_asked_for(dino_pair: TinyPair, tmp_path: Path) -> None:
    run = dino_pair.copy(tmp_path / "run")
    tag = f"student-{KEPT}"
    for command, flags in (("layermem", []), ("unitmem", ["--no-pair"])):
        during = RunDir(run).analysis(command, tag)
        assert analyze(run, command, "--network=student", f"--checkpoint={KEPT}", "--tag=after", *flags, *LAYERS) == 0
        after = RunDir(run).analysis(command, "after")
        assert_same_tables(during, after, [path.stem for path in sorted(after.dir.glob("*.csv"))])


def test_a_callback_refuses_a_network_the_method_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "run", *callback_flags("memlight.callbacks.UnitMemCallback", network="student")) == 2
    assert "--trainer.callbacks.network student: SimCLR has encoder" in capsys.readouterr().err
    assert not (tmp_path / "run" / "candidate" / "checkpoints").exists()
