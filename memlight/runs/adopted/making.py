"""A run directory from two files of weights and a list of which image each encoder saw."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from memlight.data.images import ImageDataModule
from memlight.data.recipes import VIEW_SETS
from memlight.data.splits import SPLITS, PairSplit
from memlight.errors import UserError, named
from memlight.features.discovery import list_layers
from memlight.features.passes import require_encoder_takes
from memlight.models.encoders import encoder_spec, save_encoder
from memlight.models.foreign import load_weights
from memlight.models.hub import find_weights
from memlight.models.weight_files import weights_sha256
from memlight.runs.adopted.command import COUNTS, AdoptedFacts, AdoptedImages, AdoptedWeights
from memlight.runs.checkpoints import file_sha256
from memlight.runs.flags import EncoderFlags
from memlight.runs.launch import launch
from memlight.runs.released import SEED, build_named, normalisation_of, own_record
from memlight.runs.settings import LEARNING_OPTIONS
from memlight.storage.records import difference
from memlight.storage.run_files import AdoptedFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, write_json, write_yaml
from memlight.storage.writing import whole_directory

ADOPTED = "adopted"
"""The method of encoders of which nobody said how they were trained."""


def make_run(run: str, weights: AdoptedWeights, images: AdoptedImages, facts: AdoptedFacts) -> None:
    """Write the run directory, whole or not at all, and say what is in it.

    Args:
        run: the run directory.
        weights: the two files, and what architecture is in them.
        images: the images, and which of them each encoder saw.
        facts: what the files do not say.

    Raises:
        UserError: a file does not fit, an image is not there, a split is too small, or the directory is another run.
    """
    if (here := launch()) is not None and here.processes > 1:
        raise UserError("run", run, "adopting needs one process, and several were started", "start it without torchrun")
    directory = RunDir(Path(run))
    directory.require_writable()
    _require_free(directory)
    files = {"candidate": weights.candidate, "independent": weights.independent or weights.reference or ""}
    encoders: dict[str, nn.Module] = {}
    members: dict[str, dict[str, Any]] = {}
    recorded: Mapping[str, Any] = {}
    for role, file in files.items():
        argument = "candidate" if role == "candidate" else weights.other
        prefix = weights.prefix if role == "candidate" or weights.other_prefix is None else weights.other_prefix
        flags = _flags(weights, facts, file, prefix)
        with named(weights=argument, path=argument, prefix="prefix"):
            place = find_weights(file, weights.encoder)
            own = own_record(str(place.path))
            encoder = build_named(flags, own)
            loaded = load_weights(encoder, place.path, prefix=prefix, resample=flags.image_size is not None)
        encoders[role] = encoder
        recorded = recorded or own
        members[role] = {
            "file": place.name,
            "sha256": file_sha256(place.path),
            "prefix": loaded.prefix,
            "words": loaded.words,
            "weights_sha256": weights_sha256(encoder),
        }
    _require_two(weights, encoders, members)
    data = _images(weights, images, facts, encoders["candidate"], recorded)
    for encoder in encoders.values():
        require_encoder_takes(encoder, data.view_size, partial(UserError, "image_size", data.view_size))
    with named(root="root"):
        data.setup()
    _require_groups(data.split, weights)
    record = _record(weights, images, facts, members, data)
    if directory.adopted.is_file():
        _require_same(directory, record)
    else:
        with whole_directory(directory.root) as unfinished:
            _write(RunDir(unfinished), encoders, record, data, facts)
    print("\n".join([*data.facts, *words_of(record, data.split, str(directory.root))]))


def _require_free(directory: RunDir) -> None:
    """Refuse a directory that holds anything but an adoption."""
    if directory.adopted.is_file() or not directory.root.exists() or not any(directory.root.iterdir()):
        return
    raise UserError("run", directory.root, "holds something else already", "choose another `run`")


def _flags(weights: AdoptedWeights, facts: AdoptedFacts, file: str, prefix: str | None) -> EncoderFlags:
    """The encoder as the commands that measure a single one name it."""
    return EncoderFlags(
        encoder=weights.encoder,
        encoder_args=weights.encoder_args,
        weights=file,
        prefix=prefix,
        stem=weights.stem,
        image_size=weights.image_size,
        images="",
        mean=facts.mean,
        std=facts.std,
    )


def _require_two(
    weights: AdoptedWeights, encoders: Mapping[str, nn.Module], members: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse two architectures, and one encoder given twice."""
    specs = [asdict(encoder_spec(encoder)) for encoder in encoders.values()]
    other = getattr(weights, weights.other)
    if specs[0] != specs[1]:
        what = difference("encoder", *specs)
        raise UserError(weights.other, other, f"is of another architecture than the candidate ({what})")
    hashes = {member["weights_sha256"] for member in members.values()}
    if len(hashes) == 1:
        why = "holds the very weights of the candidate, so nothing can differ"
        raise UserError(weights.other, other, why, ["give the other encoder", "name its part with `other_prefix`"])


def _images(
    weights: AdoptedWeights,
    images: AdoptedImages,
    facts: AdoptedFacts,
    encoder: nn.Module,
    recorded: Mapping[str, Any],
) -> ImageDataModule:
    spec = encoder_spec(encoder)
    of_file = recorded.get("views", {})
    views = facts.views or of_file.get("name") or getattr(encoder, "view_set", "simclr")
    if views not in VIEW_SETS:
        raise UserError("views", views, f"choose one of {', '.join(VIEW_SETS)}")
    flags = _flags(weights, facts, weights.candidate, weights.prefix)
    mean, std = normalisation_of(flags, {**of_file, "name": views}, encoder)
    counts = {name: getattr(images, name) for name in COUNTS if getattr(images, name) is not None}
    if weights.reference is not None:
        counts.setdefault("num_independent", 0)
    return ImageDataModule(
        images.dataset,
        images.root,
        views=views,
        view_size=weights.image_size or of_file.get("size") or spec.input_size,
        mean=mean,
        std=std,
        image_size=images.resize,
        order=images.order or "random",
        splits=images.splits,
        randomised=facts.randomised,
        seed=images.seed,
        split_seed=images.split_seed,
        **counts,
    )


def _require_groups(split: PairSplit, weights: AdoptedWeights) -> None:
    """Refuse splits on which nothing can be compared."""
    needed = ("candidate", "external") if weights.reference is not None else ("candidate", "independent")
    for name in needed:
        if (count := len(split.ids(name))) < 2:
            argument, few = "splits", f"the {name} split has {count} images, and at least 2 are needed"
            ways = [f"name {name} images in the file of `splits`"]
            if name == "independent":
                ways.append("give the second encoder with `reference` if it saw neither group")
            raise UserError(argument, None, few, ways)
    if weights.reference is not None and len(split.independent):
        why = f"a reference saw neither group, and {len(split.independent)} independent images are named"
        raise UserError("reference", weights.reference, why, ["give it with `independent`", "leave those images out"])


def _record(
    weights: AdoptedWeights,
    images: AdoptedImages,
    facts: AdoptedFacts,
    members: Mapping[str, Mapping[str, Any]],
    data: ImageDataModule,
) -> dict[str, Any]:
    """What ``adopted.json`` says."""
    return {
        "members": members,
        "half": weights.reference is not None,
        "splits": data.split_file.words if data.split_file is not None else f"by rule ({images.order})",
        "splits_sha256": data.split.sha256,
        "views": data.views.spec(),
        "views_said": facts.views is not None,
        "normalisation_said": facts.mean is not None,
        "dealt": facts.dealt if data.split.order == "file" else _DEALT[data.split.order],
        "initial_weights": facts.initial_weights,
        "reference_saw": facts.reference_saw,
        "method": facts.method,
        "epochs": facts.epochs,
    }


_DEALT = {"random": "random", "index": "not-random"}


def _write(
    run: RunDir,
    encoders: Mapping[str, nn.Module],
    record: Mapping[str, Any],
    data: ImageDataModule,
    facts: AdoptedFacts,
) -> None:
    data.split.save(run.splits)
    write_json(run.adopted, record)
    write_yaml(run.config, _config(encoders["candidate"], data, facts))
    for role, encoder in encoders.items():
        save_encoder(run.member(role).encoder, encoder, _metadata(role, encoder, record, data, facts))


def _metadata(
    role: str, encoder: nn.Module, record: Mapping[str, Any], data: ImageDataModule, facts: AdoptedFacts
) -> dict[str, Any]:
    """What training would have recorded with an encoder, as far as it is known."""
    return {
        "format": 1,
        "method": facts.method or ADOPTED,
        "network": "encoder",
        "layers": list_layers(encoder),
        "init_seed": SEED,
        "role": role,
        "split_sha256": data.split.sha256,
        "dataset": data.split.dataset,
        "views": data.views.spec(),
        "data": _options(data),
        "adopted": {name: record["members"][role][name] for name in ("file", "sha256", "prefix", "words")},
        **({} if facts.epochs is None else {"epochs": facts.epochs}),
    }


def _options(data: ImageDataModule) -> dict[str, Any]:
    """The arguments of the images, with the sizes that the splits have."""
    counts = {f"num_{name}": len(data.split.ids(name)) for name in SPLITS}
    return {**data.options(), "order": data.split.order, **counts}


def _config(encoder: nn.Module, data: ImageDataModule, facts: AdoptedFacts) -> dict[str, Any]:
    """A configuration that says what is known, for `compare` and for readers."""
    spec = encoder_spec(encoder)
    model = {"encoder": spec.name, "stem": spec.stem, "image_size": spec.input_size, "encoder_args": spec.args}
    trainer = {**dict.fromkeys(LEARNING_OPTIONS), "max_epochs": facts.epochs}
    return {
        "seed_everything": None,
        "model": {"class_path": facts.method or ADOPTED, "init_args": model},
        "data": {"class_path": "memlight.data.ImageDataModule", "init_args": _options(data)},
        "trainer": trainer,
    }


def _require_same(directory: RunDir, record: Mapping[str, Any]) -> None:
    """Refuse to adopt others in the place of a pair that is there; the same again is nothing new."""
    saved = {**read_json(directory.adopted, AdoptedFile)}
    if saved != record:
        what = difference("adopted", saved, dict(record))
        raise UserError("run", directory.root, f"another pair was adopted here ({what})", "choose another `run`")


def words_of(record: Mapping[str, Any], split: PairSplit, run: str) -> list[str]:
    """What was adopted and what is not known of it, in a line each, and what to type next."""
    half = record["half"]
    members, views = record["members"], record["views"]
    sizes = ", ".join(f"{len(split.ids(name))} {name}" for name in SPLITS if not (half and name == "independent"))
    mean, std = (", ".join(f"{value:g}" for value in views[name]) for name in ("mean", "std"))
    unsaid = "" if record["views_said"] and record["normalisation_said"] else " (not said by you; see --views, --mean)"
    lines = [
        *(
            f"{'reference' if half and role == 'independent' else role}: {member['file']}: {member['words']}"
            for role, member in members.items()
        ),
        f"images: {split.dataset}: {sizes} ({record['splits']})",
        f"views: {views['name']}, {views['size']} pixels, mean ({mean}), std ({std}){unsaid}",
    ]
    if record["dealt"] != "random":
        known = "were not dealt" if record["dealt"] == "not-random" else "may not have been dealt (see --dealt)"
        lines.append(f"the groups {known} at random: the contrast then rests on an assumption, which the report states")
    return [*lines, f"next: python analyze.py layermem --run {run}"]
