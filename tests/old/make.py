"""Makes the fixtures of `tests/test_old_runs.py` with the code before the move of modules (see README.md here).

    cd CHECKOUT_OF_THAT_COMMIT && python THIS_FILE OUT

Everything is made below one directory whose name tells nothing (`PLACE`): checkpoints hold its path. Weights are
thinned after every epoch, four of each row are kept and rounded to powers of two, so that archives are small.
"""

import contextlib
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.path.insert(0, os.getcwd())

import matplotlib
import numpy as np
import torch
from memlight.feature_writer import ShardFiles
from memlight.patches.writer import StoreWriter
from memlight.studies import unitmem_progress
from memlight.studies.unitmem_progress import PassProgress
from PIL import Image

from memlight import analyze, cli, removal
from memlight.modules.base import SSLModule

PLACE = Path("/tmp/memlight-old")
PAIR = """
seed_everything: 0
model:
  class_path: SimCLR
  init_args:
    image_size: 16
    output_dim: 16
    optim: {name: sgd, momentum: 0.0, warmup_epochs: 1, lr_batch_size: 8}
data:
  class_path: ImageDataModule
  init_args:
    {image_size: 16, view_size: 16, batch_size: 8, num_shared: 32, num_candidate: 8, num_independent: 8,
     num_external: 10}
trainer:
  max_epochs: 2
  accelerator: cpu
  log_every_n_steps: 1
  enable_model_summary: false
keep_every: 0
logger: csv
"""
CALLBACKS = """\
  callbacks:
    - {class_path: UnitMemCallback, init_args: {every_n_epochs: 2, num_views: 2, layers: [layer1]}}
    - {class_path: LayerMemCallback, init_args: {every_n_epochs: 2, num_views: 2, layers: [layer1, layer8]}}
    - {class_path: OnlineEvaluation, init_args: {every_n_epochs: 1}}
    - class_path: memlight.callbacks.PruneCallback
      init_args: {every_n_epochs: 3, num_views: 2, ratios: [0.2], scope: [model], modes: [top, random], trials: 2}
    - class_path: memlight.callbacks.ExchangeCallback
      init_args: {every_n_epochs: 3, num_views: 2, donor: runs/pair, subsets: ["layer1,layer8"]}
"""
SEQUENCE = """
seed_everything: 3
model:
  class_path: SequenceDAM
  init_args: {num_heads: 2, capacity: 7, replicas: 2}
data:
  class_path: SequenceDataModule
  init_args: {num_sequences: 20, num_bits: 8, batch_size: 6}
trainer:
  accelerator: cpu
  max_steps: 12
  log_every_n_steps: 3
  enable_model_summary: false
  callbacks:
    - {class_path: SequenceEvaluation, init_args: {every: 4}}
    - {class_path: Snapshot, init_args: {at: [6]}}
    - {class_path: DataSwitch, init_args: {at: [6]}}
logger: csv
"""
INTERVENTIONS = """
seed_everything: 5
model:
  class_path: SequenceAttention
  init_args: {heads: 2, features: 4, mlp_layers: 1, replicas: 2}
data:
  class_path: SequenceDataModule
  init_args: {num_sequences: 12, num_bits: 6, law: zipf, batch_size: 4}
trainer:
  accelerator: cpu
  max_steps: 12
  log_every_n_steps: 4
  enable_model_summary: false
  callbacks:
    - {class_path: SequenceEvaluation, init_args: {every: 4}}
    - {class_path: Snapshot, init_args: {at: [3, 6]}}
    - {class_path: memlight.callbacks.DataSwitch, init_args: {at: [6]}}
    - {class_path: Shuffle, init_args: {scope: mlp, at: [6]}}
    - {class_path: Reinit, init_args: {scope: head, at: [6]}}
    - {class_path: memlight.callbacks.ResetOptimizer, init_args: {at: [7]}}
    - {class_path: Restore, init_args: {scope: mlp, snapshot: 3, at: [8]}}
    - {class_path: Freeze, init_args: {scope: c_attn, at: [6]}}
    - {class_path: Swap, init_args: {scope: mlp+head, snapshot: 6}}
    - class_path: RelearnProbe
      init_args: {at: [9], scope: c_attn, num_sequences: 6, criterion: 0.6, limit: 5, check_every: 1}
logger: csv
"""


def run(main: Callable[[Sequence[str]], int], program: str, words: str, expected: int = 0) -> None:
    """One command in this process, as if it had been typed."""
    print(f"$ {program} {words}")
    torch.set_num_threads(1)
    with patch.object(sys, "argv", [program, *words.split()]):
        status = main(words.split())
    assert status == expected, status


def train(words: str, expected: int = 0) -> None:
    run(cli.main, "train.py", words, expected)


def measure(words: str, expected: int = 0) -> None:
    run(analyze.main, "analyze.py", words, expected)


def thin(module: SSLModule) -> None:
    """Few weights, each a power of two; all other numbers to the precision of bfloat16."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim > 1:
                rows = tensor.flatten(1).abs()
                least = rows.topk(min(4, rows.shape[1])).values[:, -1:]
                kept = (rows >= least).view_as(tensor)
                tensor.copy_(torch.where(kept, tensor.sign() * tensor.abs().log2().round().exp2(), 0.0))
            elif tensor.is_floating_point():
                tensor.copy_(tensor.bfloat16().float())


@contextlib.contextmanager
def thinned() -> Iterator[None]:
    end = SSLModule.on_train_epoch_end

    def thin_first(self: SSLModule) -> None:
        thin(self)
        end(self)

    with patch.object(SSLModule, "on_train_epoch_end", thin_first):
        yield


def stops(owner: type, method: str, before_call: int) -> Any:
    """Ctrl-C in place of this call of a method."""
    original, calls = getattr(owner, method), []

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == before_call:
            raise KeyboardInterrupt
        return original(self, *given, **named)

    return patch.object(owner, method, counted)


def here(commands: Sequence[Sequence[str]], environment: object) -> int:
    """Stands for the processes in which arms of a removal study train."""
    return max(cli.main(command[command.index("memlight.cli") + 1 :]) for command in commands)


def pictures(folder: Path, count: int, seed: int) -> None:
    """Images of few colours, so that their files are small."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = (rng.integers(0, 2, (4, 4, 3), dtype=np.uint8) * 200).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(folder / f"{number}.png", optimize=True)


def make_pair() -> None:
    """A finished pair with the results of every analysis of a run."""
    with thinned():
        for role in ("candidate", "independent"):
            train(f"fit --config pair.yaml --run runs/pair --data.role {role}")
    shutil.copytree("runs/pair", "runs/donor")
    small, csv = "--layers layer1 layer8", "--device cpu --logger csv"
    measure(f"layermem --run runs/pair --views 2 {small} {csv}")
    measure(f"unitmem --run runs/pair --views 2 --topk 3 --layers layer1 {csv}")
    measure(f"unitmem --run runs/pair --views 2 --topk 3 --layers layer1 --reference median --tag median {csv}")
    rows = [f"{number},{('even', 'odd')[number % 2]}" for number in range(1797)]
    Path("labels.csv").write_text("\n".join(["id,label", *rows]) + "\n", encoding="utf-8")
    measure(f"classmem --run runs/pair --labels labels.csv --permutations 3 --layers layer1 {csv}")
    measure(f"probe --run runs/pair {csv}")
    measure(f"prune --run runs/pair --views 2 --trials 2 --ratios 0.2 --layers layer1 layer2 {csv}")
    measure(f"exchange --run runs/pair --donor runs/donor --views 2 {small} {csv}")
    ids = "--ids 3 5"
    measure(f"unit --run runs/pair --layer layer1 --unit 3 {ids} --epochs 2 --points 1 --views 2 --context 4 {csv}")
    target = "--dataset digits --train-images 32 --test-images 20"
    measure(f"finetune --run runs/pair {target} --layers layer8 --epochs 1 --batch-size 16 --trials 2 {csv}")
    measure(f"images --run runs/pair {csv}")
    with thinned(), patch.object(removal, "in_turn", here):
        train("removal --run runs/pair --remove 2 --trials 2 --logger csv")
    measure("report --run runs/pair")
    shutil.rmtree("runs/donor")
    shutil.rmtree("runs/pair/removal-2")
    for name in ("candidate", "independent"):
        shutil.rmtree(f"runs/pair/{name}/checkpoints")


def make_unfinished() -> None:
    """A pair that measures while it trains, stopped in the second epoch of its second member."""
    with thinned():
        train("fit --config callbacks.yaml --run runs/unfinished --data.role candidate")
        with stops(SSLModule, "training_step", 6 + 1):
            train("fit --config callbacks.yaml --run runs/unfinished --data.role independent", 130)
    os.remove("runs/unfinished/candidate/checkpoints/last.ckpt")
    again = Path(shutil.copytree("runs/unfinished", "expected/unfinished"))
    train(f"fit --config {again}/config.yaml --run {again} --data.role independent --resume true")
    for weights in [*again.rglob("*.ckpt"), *again.rglob("*.safetensors")]:
        weights.unlink()


def make_features() -> None:
    """Features of the pair's candidate: all shards, and the first two of four."""
    flags = "features --run runs/pair --layers layer1 res6 --shard-size 2 --device cpu"
    measure(f"{flags} --out features/whole")
    with stops(ShardFiles, "append", 6):
        measure(f"{flags} --out features/cut", 130)


def make_patches() -> None:
    """Patches of two folders by the pair's candidate, the second cut short; and what a search found in them."""
    pictures(Path("images/train"), 6, 0)
    pictures(Path("images/made"), 4, 1)
    flags = "--extractor runs/pair/candidate --grid 2 --shard-size 2 --workers 0 --device cpu"
    measure(f"patches extract --images images/train --out patches/train {flags}")
    measure(f"patches extract --images images/made --out patches/made {flags}")
    with stops(StoreWriter, "write", 2):
        measure(f"patches extract --images images/made --out patches/cut {flags}", 130)
    found = "--queries patches/made --index patches/train -k 2 --metric cosine --device cpu --logger csv"
    measure(f"patches search {found} --out runs/patches")
    measure("patches report --run runs/patches --logger csv")


def make_released() -> None:
    """UnitMem of random weights on a folder of images, stopped in the fifth of eight batches."""
    pictures(Path("photos"), 8, 2)
    flags = "unitmem --encoder resnet9 --image-size 16 --images photos --layers layer1 --views 2 --topk 3"
    flags += " --reference median --max-forward 2 --device cpu --logger csv"
    with patch.object(unitmem_progress, "SAVE_SECONDS", 0.0), stops(PassProgress, "add", 5):
        measure(f"{flags} --run runs/released", 130)
    measure(f"{flags} --run expected/released")


def make_sequence() -> None:
    """A sequence experiment with its analysis, one with every intervention, and both stopped at the switch."""
    for name in ("sequence", "interventions"):
        train(f"fit --config {name}.yaml --run runs/{name}")
        measure(f"sequence --run runs/{name} --logger csv")
        measure(f"report --run runs/{name}")
        cut = Path(shutil.copytree(f"runs/{name}", f"runs/{name}-cut"))
        shutil.copy(cut / "checkpoints/switch_0.ckpt", cut / "checkpoints/last.ckpt")
        shutil.rmtree(cut / "analysis")
        for left in ("results.npz", "sequences.npz", "summary.json", "report.html"):
            (cut / left).unlink()
    shutil.rmtree("runs/interventions/checkpoints")


def shrink_figures() -> None:
    """Figures in four grays and a few pixels, so that archives are small; what they show is not read again."""
    for path in Path().rglob("figures/*.png"):
        Image.open(path).convert("L").resize((12, 9)).quantize(4).save(path, optimize=True)


def pack(archive: Path, *names: str) -> None:
    """These directories, in the order of their names and without dates or owners."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as file:
        for name in names:
            for path in sorted(Path(name).rglob("*")):
                if path.is_file() and path.name != "report.html":
                    file.add(path, filter=plain)
    print(f"{archive.name}: {archive.stat().st_size} bytes")


def main(out: Path) -> None:
    """Make all archives."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    os.chdir(PLACE)
    Path("expected").mkdir()
    callbacks = PAIR.replace("summary: false\n", f"summary: false\n{CALLBACKS}").replace("every: 0", "every: 2")
    configs = {"pair": PAIR, "callbacks": callbacks}
    for name, text in {**configs, "sequence": SEQUENCE, "interventions": INTERVENTIONS}.items():
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    with matplotlib.rc_context({"savefig.dpi": 30}):
        make_pair()
        make_unfinished()
        make_features()
        make_patches()
        make_released()
        make_sequence()
    shrink_figures()
    pack(out / "runs.tar.xz", "runs/pair", "runs/unfinished", "expected/unfinished")
    pack(out / "stores.tar.xz", "features", "images", "patches", "runs/patches")
    pack(out / "released.tar.xz", "photos", "runs/released", "expected/released")
    of_sequences = [f"runs/{name}{cut}" for name in ("sequence", "interventions") for cut in ("", "-cut")]
    pack(out / "sequences.tar.xz", *of_sequences)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
