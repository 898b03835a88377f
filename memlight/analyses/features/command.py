"""`analyze.py features`, and what it stores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memlight.errors import UserError, at_least
from memlight.runs.flags import EncoderFlags, Member, Place, Split, Trained, require_views_for

Activation = Literal["identity", "abs", "relu", "abs_of_mean"]
Tokens = Literal["mean", "patch", "cls"]


@dataclass(frozen=True)
class FeatureOptions:
    """What is stored of which images.

    Attributes:
        split: which images.
        reduce: unit averages each channel over positions, flat stores every position in a row, none in the shape it
            has.
        views: views of each image, stored one beside the other; 0 for the untouched image alone.
        activation: applied to every element before averaging over positions; abs if unset. Only with --reduce unit.
        tokens: which tokens count, for token models; mean if unset. Only with --reduce unit.
        dtype: of the numbers on the disk.
        shard_size: images in a file.
        view_set: augmentation set, with --views; the one that was trained with if unset.
        seed: of the views; the training's if unset.

    Raises:
        UserError: a number out of range, or two options that do not go together.
    """

    split: Split = "candidate"
    reduce: Literal["unit", "flat", "none"] = "unit"
    views: int = 0
    activation: Activation | None = None
    tokens: Tokens | None = None
    dtype: Literal["float16", "float32"] = "float16"
    shard_size: int = 1024
    view_set: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        at_least(0, views=self.views)
        at_least(1, shard_size=self.shard_size)
        for name, choice in (("activation", self.activation), ("tokens", self.tokens)):
            if self.reduce != "unit" and choice is not None:
                why = f"belongs to `reduce='unit'`; {self.reduce} stores what the layer gives"
                raise UserError(name, choice, why)
        require_views_for(self.view_set, self.views)

    @property
    def of_unit(self) -> tuple[Activation, Tokens]:
        """Activation and tokens, as `memlight.features.capture` takes them, with their defaults for what is unset."""
        return self.activation or ("abs" if self.reduce == "unit" else "identity"), self.tokens or "mean"


def features(
    out: str,
    run: str | None = None,
    member: Member = "candidate",
    layers: list[str] | None = None,
    options: FeatureOptions = FeatureOptions(),
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
        layers: layers to store, by name or by pattern, as 'layer4.*'; all that the encoder has if unset.
        options: what is stored of which images
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
    """
    trained.require_for(member)
    from memlight.analyses.features.study import study_features
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(options.split, at_least=1, argument="split")
        opened.views(options.view_set)  # refuses a name that there is not
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
        at_once = opened.at_once(place.max_forward)
        study_features(encoder, opened.data, names, options, Path(out), made_from, max_forward=at_once)
