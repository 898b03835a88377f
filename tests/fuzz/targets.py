"""Every format that a command reads: valid files, and what reads each as the commands do."""

import argparse
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features

from memlight.analyses.atypical.scores import ScoreFile
from memlight.analyses.classmem.labels import LabelFile
from memlight.analyses.patches.page import write_patches_page
from memlight.analyses.registry import ANALYSES
from memlight.analyses.sequence.reader import read_authors_results
from memlight.analyses.sequence.section import sequence_section, write_sequence_report
from memlight.analyses.unitmem.browser.thumbnails import Thumbnails
from memlight.analyses.unitmem.resume import UnitMemProgress
from memlight.data.archives import read_index
from memlight.data.decode import BROKEN, decode, header_size
from memlight.data.files import open_images
from memlight.data.joining import join_scores
from memlight.data.names import names_of
from memlight.data.score_files import ScoreFile as OthersFile
from memlight.data.sources import JoinedSource, MemorySource
from memlight.data.splits import LeftOut, PairSplit
from memlight.errors import UserError
from memlight.models.encoders import build_encoder, load_encoder
from memlight.models.foreign import load_weights
from memlight.models.weight_files import read_record
from memlight.modules.sequence.module import read_sequence_checkpoint
from memlight.patches.nearest import SearchProgress
from memlight.patches.results import read_results
from memlight.patches.store import open_store
from memlight.report.compare.runs import open_runs
from memlight.report.page import write_report
from memlight.runs.checkpoints import METADATA_KEY, checkpoint_metadata, checkpoint_state, encoder_from_checkpoint
from memlight.runs.opened import read_run
from memlight.runs.settings import recorded_settings
from memlight.sequences.results import SequenceResults
from memlight.storage.image_names import IMAGES, ImageNames
from memlight.storage.rundir import RunDir
from memlight.storage.shards import FeatureStore
from memlight.storage.tables import write_arrays, write_json, write_table
from memlight.training.arguments import require_configs
from memlight.training.loggers import last_values
from tests.fuzz.mutate import BYTES, CSV, JSON, PICKLE, SAFETENSORS, YAML, ZIP, Mutation

ARCHIVES = Path(__file__).parent.parent / "old"


@dataclass(frozen=True)
class Target:
    """A file and what reads it.

    Attributes:
        file: its path below the root of the corpus.
        mutations: what may be done to it.
        read: reads it, or what it is a part of; given the root.
        raises: what a reader's documentation says that it raises, besides `UserError`.
    """

    file: str
    mutations: Mapping[str, Mutation]
    read: Callable[[Path], object]
    raises: tuple[type[BaseException], ...] = ()


def make_corpus(root: Path) -> None:
    """Valid files of all formats, most of them as an older release wrote them."""
    for archive in sorted(ARCHIVES.glob("*.tar.xz")):
        with tarfile.open(archive) as file:
            file.extractall(root, filter="data")
    shutil.rmtree(root / "expected", ignore_errors=True)
    shutil.copytree(root / "runs/pair", root / "runs/pair2")
    _weights(root / "weights")
    _results(root / "results")
    _images(root / "pictures")
    _tables(root / "tables")


def _weights(place: Path) -> None:
    place.mkdir()
    torch.manual_seed(0)
    state = {
        name: tensor.half() for name, tensor in build_encoder("resnet9", seed=0, image_size=16).state_dict().items()
    }
    small = {name: tensor for name, tensor in state.items() if tensor.numel() < 5000}
    torch.save({"state_dict": small, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, place / "zip.pth")
    torch.save({"model": small}, place / "stream.pth", _use_new_zipfile_serialization=False)


def _results(place: Path) -> None:
    place.mkdir()
    logs = [{"step": step, "loss": 0.5, "accuracy": torch.tensor(0.5), "phase": "train"} for step in range(20)]
    torch.save({"args": argparse.Namespace(N=4), "logs": logs, "model_state_dict": OrderedDict()}, place / "memory.pt")
    log = {"num_apppearances": np.zeros(8), "train_loss": np.float64(0.5), "appearances": [np.zeros(4, dtype=np.int64)]}
    tested = {"sequence_rank": np.arange(2), "accuracy": np.ones(2), "logsoftmaxloss": np.ones(2)}
    record = {"args": {"K": 8}, "logs": [{**log, "test_metrics": tested}] * 3, "model": {"w": torch.zeros(2)}}
    (place / "transformer.pkl").write_bytes(pickle.dumps(record))


def _images(place: Path) -> None:
    place.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF", "tif": "TIFF", "ppm": "PPM"}
    kinds |= {"jp2": "JPEG2000"} if features.check("jpg_2000") else {}
    for suffix, kind in kinds.items():
        Image.fromarray(pixels).save(place / f"a.{suffix}", kind)
    for compression, name in ((zipfile.ZIP_STORED, "stored.zip"), (zipfile.ZIP_DEFLATED, "deflated.zip")):
        with zipfile.ZipFile(place / name, "w", compression) as archive:
            for number in range(3):
                archive.writestr(f"train/{number}/a.png", (place / "a.png").read_bytes())
    with tarfile.open(place / "tar.tar", "w") as archive:
        for number in range(3):
            entry = tarfile.TarInfo(f"train/{number}/a.png")
            entry.size = (place / "a.png").stat().st_size
            archive.addfile(entry, io.BytesIO((place / "a.png").read_bytes()))
    read_index(str(place / "stored.zip"), place / "kept.npz")


def _tables(place: Path) -> None:
    place.mkdir()
    (place / "without.csv").write_text("id,layer\n1,a\n2,a\n")
    (place / "labels.csv").write_text("id,label\n1,a\n2,b\n")
    (place / "scores.csv").write_text("id,difficulty,loss\n1,0.5,2\n2,,1e-3\n")
    _joined_files(place)
    Thumbnails(np.array([1, 2]), [b"abc", b"de"]).write(place / "thumbnails.npz")
    identity = json.dumps({"queries": 3, "k": 2}, sort_keys=True)
    zeros = np.zeros((3, 2))
    write_arrays(place / "search.npz", identity=np.array(identity), distances=zeros.astype(np.float32),
                 rows=zeros.astype(np.int64), done=np.array([0]))  # fmt: skip
    write_json(place / "nothing.json", {})


JOINED = {"csv": CSV, "npz": {**ZIP, **PICKLE}, "npy": BYTES, "json": JSON}
NAMES = ["train/0.png", "train/1.png", "train/2.png"]


def _joined_files(place: Path) -> None:
    """Scores of others in every format, and the list of images that they are of."""
    (place / "joined.csv").write_text("path,label,mem\n0.png,0,0.5\n1.png,1,\n")
    files = np.array([name.encode() for name in NAMES], dtype=object)
    np.savez(place / "joined.npz", tr_filenames=files, tr_labels=np.arange(3), tr_mem=np.linspace(0, 1, 3))
    np.save(place / "joined.npy", np.linspace(0, 1, 3))
    (place / "joined.json").write_text(json.dumps({"id": [0, 2], "csl": [1.5, None]}))
    ids = np.arange(3)
    named = {"id": ids, "path": np.array(NAMES), "label": ids, "split": np.full(3, ""), "sha256": np.full(3, "")}
    write_table(place / "images.csv", named, IMAGES)


def _joined(suffix: str) -> Callable[[Path], object]:
    def read(root: Path) -> object:
        images = torch.zeros(3, 3, 1, 1, dtype=torch.uint8)
        train = MemorySource("x", images, torch.arange(3), ["a", "b", "c"], "", names=NAMES)
        source = JoinedSource(train, MemorySource("x", images[:0], torch.arange(0), ["a", "b", "c"], ""))
        return join_scores(OthersFile.read(root / f"tables/joined.{suffix}"), source, names_of(source))

    return read


def _section(name: str, run: str) -> Callable[[Path], object]:
    (analysis,) = [analysis for analysis in ANALYSES if analysis.name == name]
    assert analysis.section is not None
    return lambda root: analysis.section(RunDir(root / run))  # type: ignore[misc]


def _everything(root: Path) -> None:
    read_run(str(root / "runs/pair"))
    recorded_settings(RunDir(root / "runs/pair"))


def _encoder(root: Path) -> None:
    load_encoder(root / "runs/pair/candidate/encoder.safetensors")
    read_run(str(root / "runs/pair"))


def _checkpoint(root: Path) -> None:
    path = root / "runs/unfinished/candidate/checkpoints/last.ckpt"
    checkpoint_metadata(path)
    checkpoint_state(path)
    encoder_from_checkpoint(path)


def _patches(root: Path) -> None:
    store = open_store(root / "patches/train", "full", images=str(root / "images/train"))
    store.rows([0, store.num_rows - 1])
    store.image(0)


def _features(root: Path) -> None:
    store = FeatureStore(root / "features/whole")
    for layer in store.layers:
        store.read(layer)


def _archive(name: str) -> Callable[[Path], object]:
    def read(root: Path) -> None:
        files, train, test = open_images(str(root / "pictures" / name))
        for image in (*train.names, *test.names):
            header_size(files.read(image))
            decode(files.read(image), (8, 8))

    return read


def _image(suffix: str) -> Callable[[Path], object]:
    def read(root: Path) -> None:
        data = (root / f"pictures/a.{suffix}").read_bytes()
        header_size(data)
        decode(data, (8, 8))

    return read


def _weights_of(name: str) -> Callable[[Path], object]:
    def read(root: Path) -> None:
        path = root / "weights" / name
        read_record(path, METADATA_KEY)
        load_weights(build_encoder("resnet9", image_size=16, seed=0), path)

    return read


def _released(root: Path) -> None:
    run = RunDir(root / "runs/released")
    recorded_settings(run)
    write_report(run)


def _progress(root: Path) -> None:
    directory = root / "runs/released/analysis/.unitmem.progress"
    made_from = {"any": 1}
    try:
        UnitMemProgress(directory, made_from)
    except UserError as error:
        if "measured otherwise" not in str(error):
            raise
    from memlight.analyses.unitmem.resume import PassProgress

    PassProgress(directory / "candidate", 4, made_from, True).load()
    PassProgress(directory / "candidate-0", 4, made_from, True).load()


def _search(root: Path) -> None:
    SearchProgress(root / "tables/search.npz", {}, 3, 2).load()


def _sequence(root: Path) -> None:
    SequenceResults.read(root / "runs/sequence").summary()


def make_targets(root: Path) -> dict[str, Target]:
    """By name; files of a corpus that `make_corpus` made at ``root``."""
    found: dict[str, Target] = {}

    def add(file: str, mutations: Mapping[str, Mutation], read: Callable[[Path], object], *raises: Any) -> None:
        if (root / file).is_file():
            found[f"{file}"] = Target(file, mutations, read, raises)

    for summary in sorted((root / "runs/pair/analysis").glob("*/summary.json")):
        section = _section(summary.parent.name.partition("-")[0], "runs/pair")
        for path in sorted(summary.parent.glob("*.csv")):
            add(str(path.relative_to(root)), CSV, section)
        add(str(summary.relative_to(root)), JSON, section)
    section = lambda root: sequence_section(RunDir(root / "runs/sequence"))  # noqa: E731
    for path in sorted((root / "runs/sequence/analysis/sequence").glob("*.csv")):
        add(str(path.relative_to(root)), CSV, section)
    add("runs/sequence/analysis/sequence/summary.json", JSON, section)
    add("runs/sequence/summary.json", JSON, lambda root: write_sequence_report(RunDir(root / "runs/sequence")))
    page = lambda root: write_patches_page(RunDir(root / "runs/patches"), "")  # noqa: E731
    for path in sorted((root / "runs/patches/analysis/patches").glob("*.csv")):
        add(str(path.relative_to(root)), CSV, page)
    add("runs/patches/analysis/patches/summary.json", JSON, page)
    add("runs/patches/analysis/patches/search.json", JSON, page)
    whole = lambda root: write_report(RunDir(root / "runs/pair"))  # noqa: E731
    add("runs/pair/independent/metrics.csv", CSV, whole)
    add("runs/unfinished/splits.json", JSON, lambda root: write_report(RunDir(root / "runs/unfinished")))
    both = lambda root: open_runs([str(root / "runs/pair"), str(root / "runs/pair2")])  # noqa: E731
    add("runs/pair2/analysis/layermem/summary.json", JSON, both)
    add("runs/pair2/analysis/layermem/table.csv", CSV, both)
    add("runs/pair2/config.yaml", YAML, both)
    add("runs/pair/splits.json", JSON, lambda root: PairSplit.load(root / "runs/pair/splits.json"))
    add("runs/pair/config.yaml", YAML, lambda root: require_configs(["--config", str(root / "runs/pair/config.yaml")]))
    add("runs/pair/candidate/metrics.csv", CSV, lambda root: last_values(root / "runs/pair/candidate/metrics.csv"))
    add("runs/pair/candidate/encoder.safetensors", SAFETENSORS, _encoder)
    add("runs/unfinished/candidate/checkpoints/last.ckpt", ZIP, _checkpoint)
    last = "runs/sequence/checkpoints/last.ckpt"
    add(last, ZIP, lambda root: read_sequence_checkpoint(root / last))
    add("runs/released/encoder.json", JSON, _released)
    for name in ("manifest.json", "images.json", "00000.json", "00001.json"):
        add(f"patches/train/{name}", JSON, _patches)
    add("patches/train/00000.npy", BYTES, _patches)
    for name in ("manifest.json", "ids-00000.npy", "layer1/00000.npy"):
        add(f"features/whole/{name}", JSON if name.endswith("json") else BYTES, _features)
    add("runs/patches/analysis/patches/neighbours.npz", ZIP, lambda root: read_results(root / "runs/patches"))
    add("runs/sequence/results.npz", ZIP, _sequence)
    add("runs/sequence/sequences.npz", ZIP, _sequence)
    progress = "runs/released/analysis/.unitmem.progress/candidate-0.safetensors"
    add(progress, SAFETENSORS, _progress)
    add("weights/zip.pth", {**ZIP, **PICKLE}, _weights_of("zip.pth"))
    add("weights/stream.pth", PICKLE, _weights_of("stream.pth"))
    add("results/memory.pt", {**ZIP, **PICKLE}, lambda root: read_authors_results(root / "results/memory.pt"))
    transformer = "results/transformer.pkl"
    add(transformer, PICKLE, lambda root: read_authors_results(root / transformer))
    for path in sorted((root / "pictures").glob("a.*")):
        add(f"pictures/{path.name}", BYTES, _image(path.suffix[1:]), *BROKEN)
    for name in ("stored.zip", "deflated.zip", "tar.tar"):
        add(f"pictures/{name}", ZIP if name.endswith("zip") else BYTES, _archive(name), *BROKEN)
    kept = "pictures/kept.npz"
    add(kept, ZIP, lambda root: open_images(str(root / "pictures/stored.zip"), root / "pictures/copy.npz"))
    add("tables/without.csv", CSV, lambda root: LeftOut.read(root / "tables/without.csv"))
    add("tables/labels.csv", CSV, lambda root: LabelFile.read(root / "tables/labels.csv"))
    add("tables/scores.csv", CSV, lambda root: ScoreFile.read(root / "tables/scores.csv"))
    for suffix, mutations in JOINED.items():
        add(f"tables/joined.{suffix}", mutations, _joined(suffix))
    add("tables/images.csv", CSV, lambda root: ImageNames.read(root / "tables/images.csv"))
    add("tables/thumbnails.npz", ZIP, lambda root: Thumbnails.read(root / "tables/thumbnails.npz"))
    add("tables/search.npz", ZIP, _search)
    return found
