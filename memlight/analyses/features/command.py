"""`analyze.py features`."""

from pathlib import Path
from typing import Literal

from memlight.errors import UserError
from memlight.runs.flags import EncoderFlags, Member, Place, Split, Trained, at_least, require_views_for


def features(
    out: str,
    run: str | None = None,
    member: Member = "candidate",
    split: Split = "candidate",
    layers: list[str] | None = None,
    reduce: Literal["unit", "flat", "none"] = "unit",
    views: int = 0,
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] | None = None,
    tokens: Literal["mean", "patch", "cls"] | None = None,
    dtype: Literal["float16", "float32"] = "float16",
    shard_size: int = 1024,
    view_set: str | None = None,
    seed: int | None = None,
    released: EncoderFlags = EncoderFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
) -> None:
    """Write the outputs of layers to disk, whole or as units, to be read in a notebook.

    Called again after an interruption, it writes what is missing.

    Args:
        out: directory of the features, apart from the run.
        run: run directory; with --encoder where its results go, runs/ENCODER if unset.
        member: whose layers; random is the same architecture with the run's initial weights.
        split: which images.
        layers: layers to store; all that the encoder has if unset.
        reduce: unit averages each channel over positions, flat stores every position in a row, none in the shape it
            has.
        views: views of each image, stored one beside the other; 0 for the untouched image alone.
        activation: applied to every element before averaging over positions; abs if unset. Only with --reduce unit.
        tokens: which tokens count, for token models; mean if unset. Only with --reduce unit.
        dtype: of the numbers on the disk.
        shard_size: images in a file.
        view_set: augmentation set, with --views; the one that was trained with if unset.
        seed: of the views; the training's if unset.
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
    """
    at_least(0, views=views)
    at_least(1, shard_size=shard_size)
    if reduce != "unit":
        for flag, word in (("activation", activation), ("tokens", tokens)):
            if word is not None:
                raise UserError(f"--{flag} {word}: belongs to --reduce unit; {reduce} stores what the layer gives.")
    require_views_for(view_set, views)
    trained.require_for(member)
    from memlight.analyses.features.study import FeatureOptions, study_features
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(split, at_least=1, argument="split")
        options = FeatureOptions(
            split=split,
            reduce=reduce,
            num_views=views,
            activation=activation or ("abs" if reduce == "unit" else "identity"),
            tokens=tokens or "mean",
            dtype=dtype,
            shard_size=shard_size,
            views=opened.views(view_set),
            seed=seed,
            max_forward=opened.at_once(place.max_forward),
        )
        encoder = opened.encoder(member, trained.checkpoint)
        made_from = {
            "run": opened.run.name,
            "member": member,
            "network": opened.network,
            "checkpoint": trained.checkpoint,
            "encoder_sha256": next(iter(opened.hashes.values()), None),
        }
        names = opened.layers(encoder, layers)
        opened.read_images()
        study_features(encoder, opened.data, names, options, Path(out), made_from)
