"""`analyze.py unitmem`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memlight.errors import at_least
from memlight.runs.flags import EncoderFlags, Member, Place, Results, Split, Trained

if TYPE_CHECKING:
    from memlight.batch import ViewMaker
    from memlight.data.images import ImageDataModule

FOLLOW_UPS: list[Callable[..., None]] = []
"""What else is asked of a released encoder once its units are measured; other questions add themselves to this list.

Each is called as ``follow_up(opened, encoder, measured, split, max_forward, logger, joined)``: the run with its images
read, the encoder, the directory of the result, values of the command's flags, and scores of others, or None."""


@dataclass(frozen=True)
class UnitMemOptions:
    """How UnitMem is measured; see `memlight.features.hooks.capture` and `memlight.metrics.unitmem` for the choices.

    Attributes:
        split: which images.
        views: views of each image, averaged.
        reference: the strongest image against the mean (paper) or the median (authors' code) of the others.
        activation: applied to every element before averaging over positions; identity for outputs of a ReLU.
        tokens: which tokens count, for token models.
        topk: how many of the strongest images of each unit are kept.
        view_set: augmentation set; the one that was trained with if unset.
        seed: of the views; the training's if unset.
        precision: of the encoder's forwards; bf16 is faster where the hardware has it, and about a hundredth off.
    """

    split: Split = "candidate"
    views: int = 10
    reference: Literal["mean", "median"] = "mean"
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs"
    tokens: Literal["mean", "patch", "cls"] = "mean"
    topk: int = 10
    view_set: str | None = None
    seed: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        at_least(1, views=self.views, topk=self.topk)

    def view_maker(self, data: "ImageDataModule") -> "ViewMaker":
        """What the encoder is shown of each image."""
        views = None if self.view_set is None else data.make_views(self.view_set)
        return data.view_maker(views, seed=self.seed)

    def decisive(self, data: "ImageDataModule") -> dict[str, Any]:
        """What decides the numbers, with nothing left to the data module; JSON-able."""
        chosen = asdict(self)
        views, view_set = chosen.pop("views"), chosen.pop("view_set")
        made = data.views if view_set is None else data.make_views(view_set)
        seed = data.seed if self.seed is None else self.seed
        return {**chosen, "num_views": views, "views": made.spec(), "seed": seed}


def unitmem(
    run: str | None = None,
    member: Member = "candidate",
    layers: list[str] | None = None,
    pair: bool = True,
    join: str | None = None,
    options: UnitMemOptions = UnitMemOptions(),
    released: EncoderFlags = EncoderFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What single units memorise: UnitMem of every unit, its null, held-out images, and the images that drive it.

    Results other than the candidate's on its own split are tagged by member and split, unless --tag says otherwise.

    Args:
        run: run directory; with --encoder where its results go, runs/ENCODER if unset.
        member: whose units; random is the same architecture with the run's initial weights.
        layers: layers to measure, by name or by pattern, as 'layer4.*'; all that the encoder has if unset.
        pair: also measure the other member, for the unit contrast (candidate and independent members on their own
            images only).
        join: file of scores that others computed of these images (.csv with id or path, .npz, .npy, .json), to compare.
        options: how UnitMem is measured
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    trained.require_for(member)
    checkpoint, split = trained.checkpoint, options.split
    from memlight.analyses.joined import joined_with
    from memlight.analyses.unitmem import ANALYSIS
    from memlight.analyses.unitmem.pictures import write_thumbnails
    from memlight.analyses.unitmem.resume import UnitMemProgress
    from memlight.analyses.unitmem.study import study_unitmem, unitmem_tag
    from memlight.data.score_files import ScoreFile
    from memlight.runs.released import open_chosen

    others = None if join is None else ScoreFile.read(Path(join))
    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(split, argument="split")
        opened.views(options.view_set)  # refuses an unknown set before the encoder is loaded
        encoder = opened.encoder(member, checkpoint)
        names = opened.layers(encoder, layers)
        on_own_images = member == split and member in ("candidate", "independent")
        partner = opened.partner(member, checkpoint) if pair and on_own_images else None
        if partner is not None:
            opened.require_images("candidate", "independent")
        tag = results.tag or unitmem_tag(member, split, trained.tag)
        kept = UnitMemProgress(
            opened.run.analysis("unitmem", tag).progress,
            {
                "member": member,
                "encoders": opened.hashes,
                "split_sha256": opened.split.sha256,
                "held_out": place.external,
                "layers": names,
                **({"on_error": place.on_error} if place.on_error == "skip" else {}),
                **options.decisive(opened.data),
            },
        )
        opened.read_images()
        joined = joined_with(opened, others, split)
        at_once = opened.at_once(place.max_forward)
        with opened.log(ANALYSIS, tag, results.logger, options.seed) as log:
            log.afterwards(kept.clear)
            measure = partial(study_unitmem, partner=partner, kept=kept, joined=joined, max_forward=at_once)
            measure(encoder, opened.data, names, options, log)
            write_thumbnails(opened.data, log)
        for follow_up in FOLLOW_UPS if released.given else ():
            follow_up(opened, encoder, log.final, split, place.max_forward, results.logger, joined)
