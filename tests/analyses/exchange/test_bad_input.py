"""What is wrong with an exchange is one line that names the flag, before any long work."""

from pathlib import Path

import pytest

from memlight.analyses.exchange.command import about_the_donor
from memlight.errors import UserError, flag_among
from memlight.models.encoders import build_encoder, read_metadata, save_encoder
from memlight.storage.rundir import RunDir
from tests.test_bad_input import only_line
from tests.tiny_pair import TinyPair, analyze, callback_flags, fit


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--layers, --subsets: neither is given; name what to exchange with --layers layer3"),
        (["--layers=layer1", "--subsets=1"], "--layers, --subsets: both are given"),
        (["--layers=layer99"], "--layers layer99: no such layer; nearest: layer"),
        (["--layers=layer1,res2"], "--layers res2: has no weights of its own"),
        (["--subsets=9"], "--subsets 9: this encoder has 8 layers with weights"),
        (["--subsets=3", "--max-subsets=55"], "--subsets 3: 56 subsets of 8 layers"),
        (["--layers=layer1", "--views=1"], "--views 1: must be 2 or more"),
        (["--layers=layer1", "--donor=nowhere"], "--donor nowhere: no such directory"),
        (["--layers=layer1", "--donor-root=nowhere"], "--donor-root nowhere: the images are not there"),
        (["--layers=layer1", "--network=teacher"], "--network teacher: "),
        (["--layers=layer1", "--checkpoint=epoch=77"], "--checkpoint epoch=77: candidate/ has no such checkpoint"),
    ],
)
def test_flags_of_analyze_exchange(
    plain_pair: TinyPair, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    donor = [] if any(flag.startswith("--donor=") for flag in flags) else [f"--donor={plain_pair.root}"]
    assert analyze(plain_pair.root, "exchange", *donor, *flags) == 2
    assert only_line(capsys).startswith(words)
    assert not (plain_pair.root / "analysis").exists()


def test_a_donor_of_another_architecture_is_named_with_the_recipients(
    plain_pair: TinyPair, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = RunDir(run).member("candidate").encoder
    save_encoder(path, build_encoder("resnet18", image_size=16), read_metadata(path))
    assert analyze(plain_pair.root, "exchange", f"--donor={run}", "--layers=layer1") == 2
    line = only_line(capsys)
    assert line.startswith(f"--donor {run}: its encoder is resnet18 (cifar stem, 16 pixels), that of --run")
    assert "is resnet9 (cifar stem, 16 pixels)" in line


def test_a_donor_without_the_member(plain_pair: TinyPair, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDir(run).member("candidate").encoder.unlink()
    assert analyze(plain_pair.root, "exchange", f"--donor={run}", "--layers=layer1") == 2
    assert only_line(capsys).startswith(f"--donor {run}: no candidate/encoder.safetensors; train it")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("root", "--donor-root x: is not there; give another --donor-root."),
        ("run", "--donor x: is not there; give another --donor-root."),
        ("network", "--donor runs/b: --network x: is not there; give another --donor-root."),
    ],
)
def test_what_is_wrong_with_the_donor_is_said_of_it(argument: str, words: str) -> None:
    with pytest.raises(UserError) as raised, about_the_donor("runs/b", root="donor_root"):
        raise UserError(argument, "x", "is not there", "give another `root`")
    assert raised.value.in_flags(flag_among({"--run", "--root", "--network", "--donor", "--donor-root"})) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subsets": "[layer99]"}, "--trainer.callbacks.subsets layer99: no such layer"),
        ({"subsets": "[layer1]", "donor": "nowhere"}, "--trainer.callbacks.donor nowhere: "),
        ({"subsets": "[layer1]", "num_views": 1}, "--trainer.callbacks.num_views 1: must be 2 or more"),
    ],
)
def test_the_callback_refuses_before_the_first_step(
    plain_pair: TinyPair, tmp_path: Path, options: dict[str, object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = callback_flags("ExchangeCallback", **{"donor": plain_pair.root, **options})
    assert fit(tmp_path / "run", *flags) == 2
    assert only_line(capsys).startswith(words)
