"""Features on disk are what a forward gives, however the work was cut up."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from memlight.analyses.features.command import FeatureOptions
from memlight.analyses.features.study import feature_shapes, write_features
from memlight.analyze import COMMANDS, main
from memlight.batch import ImageBatch
from memlight.commands import build_parser
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.metrics.unitmem import measure_unitmem
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import RunDir
from memlight.storage.shards import FeatureStore, FeatureWriter
from memlight.storage.store import RowsFile
from tests.close import NETWORK
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views, one_by_one
from tests.tiny_pair import ROOT

TWO = ["--layers", "layer5", "res6"]


def features(run: Path, out: Path, *flags: str) -> int:
    """``analyze.py features`` in this process."""
    torch.set_num_threads(1)
    return main(["features", f"--run={run}", f"--out={out}", "--device=cpu", *flags])


def images_and_encoder(run: RunDir) -> tuple[ImageDataModule, nn.Module]:
    path = run.member("candidate").encoder
    data = ImageDataModule(**read_metadata(path)["data"])
    data.setup()
    return data, load_encoder(path)


def outputs_of(encoder: nn.Module, layers: list[str], image: torch.Tensor) -> dict[str, torch.Tensor]:
    """What layers give for one image, by plain hooks."""
    outputs: dict[str, torch.Tensor] = {}
    for name in layers:
        module = encoder.get_submodule(name)
        hook = module.register_forward_hook(lambda _, __, y, name=name: outputs.update({name: y[0].clone()}))
        with torch.no_grad():
            encoder(image)
        hook.remove()
    return outputs


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def stored(trained: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units of two layers in shards of 5, 5, 5 and 1."""
    out = tmp_path_factory.mktemp("features") / "units"
    assert features(trained.root, out, *TWO, "--shard-size=5") == 0
    return out


@pytest.mark.parametrize("reduce", ["unit", "flat", "none"])
def test_each_image_has_what_a_forward_of_it_alone_gives(trained: RunDir, tmp_path: Path, reduce: str) -> None:
    out = tmp_path / "features"
    flags = [f"--reduce={reduce}", "--dtype=float32", "--shard-size=7", "--max-forward=3", "--split=external"]
    assert features(trained.root, out, *TWO, *flags) == 0
    data, encoder = images_and_encoder(trained)
    store = FeatureStore(out)
    assert store.layers == TWO[1:]
    assert store.ids.tolist() == data.split.external.tolist()
    assert store.labels.tolist() == data.labels_of(store.ids).tolist()
    clean = data.make_views("clean")
    for row, id_ in enumerate(store.ids.tolist()):
        image = clean(data.images_of([id_]), torch.tensor([id_]))
        for name, y in outputs_of(encoder, store.layers, image).items():
            expected = {"unit": y.abs().mean((1, 2)), "flat": y.flatten(), "none": y}[reduce].numpy()
            assert store[name].shape[1:] == expected.shape
            np.testing.assert_allclose(store[name][row], expected, **NETWORK)


def test_views_are_an_axis_whose_mean_is_the_mu_of_unitmem(trained: RunDir, tmp_path: Path) -> None:
    flags = ["--layers=layer5", "--views=3", "--seed=4", "--dtype=float32"]
    assert features(trained.root, tmp_path / "views", *flags) == 0
    data, encoder = images_and_encoder(trained)
    store = FeatureStore(tmp_path / "views")
    batches, maker = data.batches("candidate"), data.view_maker(seed=4)
    measured = measure_unitmem(
        encoder, batches, maker, ["layer5"], num_views=3, keep_table=True, max_forward=1024, progress=False
    )["layer5"]
    assert store["layer5"].shape == (16, 3, 128)
    assert measured.mu is not None and measured.ids.tolist() == store.ids.tolist()
    np.testing.assert_allclose(store.read("layer5").mean(1), measured.mu, **NETWORK)
    assert np.abs(np.diff(store.read("layer5"), axis=1)).max() > 1e-3


def test_the_second_call_writes_nothing_and_a_lost_shard_comes_back_as_it_was(
    trained: RunDir, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(stored)
    lost = stored / "res6" / "00002.npy"
    kept = {path: path.stat().st_mtime_ns for path in stored.rglob("*.npy") if path.name[-9:] != "00002.npy"}
    lost.unlink()
    for there in (3, 4):
        assert features(trained.root, stored, *TWO, "--shard-size=5") == 0
        assert f"16 images, 2 layers, 12.5 kB, {there} of 4 shards are there" in capsys.readouterr().out
        assert files(stored) == before
        assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_killed_call_goes_on_to_the_same_bytes(
    trained: RunDir, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "features"
    append, calls = RowsFile.append, []

    def dies(self: RowsFile, rows: np.ndarray) -> None:
        calls.append(rows)
        if len(calls) == 2 * (2 + 2) + 2 + 2:  # in the third shard, after ids, labels and one layer
            raise KeyboardInterrupt
        append(self, rows)

    monkeypatch.setattr(RowsFile, "append", dies)
    assert features(trained.root, out, *TWO, "--shard-size=5") == 130
    assert sorted(p.name for p in (out / "layer5").iterdir()) == ["00000.npy", "00001.npy"]
    monkeypatch.setattr(RowsFile, "append", append)
    assert features(trained.root, out, *TWO, "--shard-size=5") == 0
    assert files(out) == files(stored)


def _two_layers(run: str, out: str) -> int:
    return features(Path(run), Path(out), *TWO, "--shard-size=5")


@pytest.mark.ddp
def test_two_processes_write_the_files_of_one(trained: RunDir, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    assert run_ddp(_two_layers, 2, str(trained.root), str(out)) == [0, 0]
    assert files(out) == files(stored)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--member=independent"], "--out {out}: holds other features (member: candidate, now independent"),
        (["--split=shared"], "--out {out}: holds other features (split: candidate, now shared"),
        (["--views=2"], "--out {out}: holds other features (views: 0, now 2)"),
        (["--activation=identity"], "--out {out}: holds other features (activation: abs, now identity"),
        (["--dtype=float32"], "--out {out}: holds other features (dtype: float16, now float32)"),
        (["--reduce=flat", "--activation=abs"], "--activation abs: belongs to --reduce unit"),
        (["--reduce=none", "--tokens=mean"], "--tokens mean: belongs to --reduce unit"),
        (["--tokens=cls"], "--tokens cls: this encoder has no class token"),
        (["--view-set=weak"], "--view-set weak: no views are made; ask for some with --views 10."),
        (["--views=-1"], "--views -1: must be 0 or more."),
        (["--shard-size=0"], "--shard-size 0: must be 1 or more."),
        (["--member=random", "--checkpoint=epoch=1"], "--checkpoint epoch=1: the random member was not trained"),
        (["--layers", "layer99"], "--layers layer99: no such layer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_and_change_nothing(
    trained: RunDir, stored: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(stored)
    layers = [] if "--layers" in flags else TWO
    assert features(trained.root, stored, "--shard-size=5", *layers, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words.format(out=stored)}")
    assert files(stored) == before


class Tiny:
    """A store of the tiny encoder's layers, written by hand."""

    def __init__(self, root: Path, encoder: nn.Module, options: FeatureOptions, shards: int = 1) -> None:
        self.encoder, self.options = encoder, options
        self.size = 6 // shards
        self.batches = image_batches(6, self.size)
        shapes = feature_shapes(encoder, self.batches[0], make_views, LAYERS, options)
        ids = np.arange(1000, 1006)
        self.writer = FeatureWriter(root, {}, shapes, options.dtype, ids, ids, self.size)
        self.writer.begin()

    def write(self, batches: list[ImageBatch] | None = None) -> None:
        shards = self.writer.layout.missing()
        given = self.batches if batches is None else batches
        write_features(self.encoder, given, make_views, self.writer, shards, self.options, progress=False)


def test_one_forward_gives_all_layers_and_leaves_the_encoder_as_it_was(tmp_path: Path) -> None:
    encoder = TinyEncoder().train()
    tiny = Tiny(tmp_path / "tiny", encoder, FeatureOptions(dtype="float32", views=2), shards=3)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    random_state, forwards = torch.get_rng_state(), []
    hook = encoder.register_forward_pre_hook(lambda _, inputs: forwards.append(len(inputs[0])))
    tiny.write()
    hook.remove()
    assert forwards == [4, 4, 4]  # two views of two images
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in encoder.modules())
    assert not encoder.stem._forward_hooks and not encoder._forward_hooks
    store = FeatureStore(tmp_path / "tiny")
    for layer, outputs in one_by_one(encoder, 6, 2).items():
        mean = outputs.abs().flatten(3).mean(-1) if outputs.ndim > 3 else outputs.abs()
        np.testing.assert_allclose(store.read(layer), mean, **NETWORK)


def test_numbers_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    for reduce in ("unit", "none"):
        encoder = TinyEncoder()
        with torch.no_grad():
            encoder.head.weight.mul_(1e7)
        half = Tiny(tmp_path / f"half-{reduce}", encoder, FeatureOptions(reduce=reduce))
        with pytest.raises(UserError, match=r"^dtype='float16': layer head reaches .*e\+0\d, more than float16 holds"):
            half.write()
        assert not list(half.writer.layout.root.rglob("*.npy"))
        Tiny(tmp_path / f"full-{reduce}", encoder, FeatureOptions(reduce=reduce, dtype="float32")).write()
        with torch.no_grad():
            encoder.stem.bias.fill_(torch.nan)
        broken = Tiny(tmp_path / f"broken-{reduce}", encoder, FeatureOptions(reduce=reduce))
        with pytest.raises(UserError, match=r"^run: layer stem gives NaN"):
            broken.write()


def test_images_of_other_shards_are_refused(tmp_path: Path) -> None:
    tiny = Tiny(tmp_path / "tiny", TinyEncoder(), FeatureOptions(), shards=3)
    for wrong, words in (
        (tiny.batches[1:], "image 0 is not that of the shards"),
        ([*tiny.batches, tiny.batches[0]], "image 6 is not that of the shards"),
        (tiny.batches[:1], "shard 1 was not filled"),
    ):
        with pytest.raises(ValueError, match=words):
            tiny.write(wrong)
        tiny = Tiny(tmp_path / words, TinyEncoder(), FeatureOptions(), shards=3)


@pytest.mark.parametrize("page", ["FEATURES.md", "CLASSMEM.md"])
def test_the_commands_of_the_documentation_parse(page: str) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    lines = [line for line in "".join(blocks).splitlines() if line]
    assert lines
    for line in lines:
        words = shlex.split(line.removeprefix("torchrun --nproc_per_node 4").removeprefix("python"))
        assert words[0] == "analyze.py"
        assert build_parser("analyze.py", "", COMMANDS).parse_args(words[1:]).command in ("features", "classmem")


def test_the_python_of_the_documentation_runs_and_agrees(trained: RunDir, stored: Path) -> None:
    text = (ROOT / "docs" / "FEATURES.md").read_text()
    first, second = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    every = stored.parent / "every-layer"
    assert features(trained.root, every) == 0
    names: dict[str, object] = {}
    exec(first.replace("features/digits", str(every)), names)
    exec(second.replace("runs/demo_digits", str(trained.root)), names)
    store, out = names["store"], names["out"]
    assert isinstance(store, FeatureStore) and isinstance(out, dict)
    assert store["layer8"].shape == (16, 256)
    for layer in ("layer8", "res6"):
        np.testing.assert_allclose(store.read(layer), out[layer], rtol=1e-3, atol=1e-6)
