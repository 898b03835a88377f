"""`analyze.py finetune`."""

from dataclasses import dataclass
from typing import Literal

from memlight.errors import UserError, at_least, named, positive
from memlight.runs.flags import Member, Place, Results, Trained

Ranking = Literal["delta", "layermem", "contrast", "random"]


@dataclass(frozen=True)
class TargetFlags:
    """The images that are fine-tuned on.

    Attributes:
        dataset: digits, cifar10, cifar100, svhn, stl10, fashion_mnist, mnist, or one's own images with classes:
            folder, archive, auto.
        dataset_root: where they are; digits needs none.
        train_images: at most so many labelled training images, drawn at random.
        test_images: at most so many labelled test images, drawn at random.
        view_set: augmentation of the training images; mae is a crop of 20 to 100 % of the area, and a flip.

    Raises:
        UserError: fewer than two images of a kind.
    """

    dataset: str
    dataset_root: str | None = None
    train_images: int = 2000
    test_images: int = 1000
    view_set: str = "mae"

    def __post_init__(self) -> None:
        at_least(2, train_images=self.train_images, test_images=self.test_images)


def finetune(
    run: str,
    target: TargetFlags,
    layers: list[str] | None = None,
    rank_by: list[Ranking] | None = None,
    count: list[int] | None = None,
    member: Member = "candidate",
    trials: int = 3,
    epochs: int = 20,
    lr: float = 1e-3,
    head_lr: float = 1e-2,
    batch_size: int = 128,
    seed: int | None = None,
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Which layers are worth fine-tuning on another data set: accuracy by layers, beside a linear classifier alone.

    --labels and --on-error are about the images that are fine-tuned on; no others are read.

    Args:
        run: run directory of a trained pair.
        target: the images that are fine-tuned on
        layers: arms to compare; layers of one arm are joined by commas, as in layer6 layer6,layer8, and 'layer4.*' is
            one arm of all layers of that form.
        rank_by: instead of --layers, arms of the layers that rank first by delta, LayerMem or contrast, as
            analyze.py layermem has measured them, and of random ones, drawn anew in each trial.
        count: with --rank-by, numbers of layers; 1 2 3 if unset.
        member: whose encoder; random is the same architecture with the run's initial weights.
        trials: repetitions with other orders, views and random layers; intervals need two or more.
        epochs: passes over the training images.
        lr: first learning rate of Adam for the layers; a cosine takes it to 0.
        head_lr: first learning rate of the linear classifier, which begins at zero; the same cosine.
        batch_size: images in a step.
        seed: of the images, orders, views and random layers; the training's if unset.
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    at_least(1, trials=trials, epochs=epochs)
    at_least(2, batch_size=batch_size)
    positive(lr=lr, head_lr=head_lr)
    if (layers is None) == (rank_by is None):
        why = "name the layers of each arm, or rank them"
        raise UserError("layers, rank_by", None, why, "give one of the two")
    if count is not None and rank_by is None:
        raise UserError("count", None, "belongs to `rank_by`", "join named layers by commas")
    for number in count or ():
        at_least(1, count=number)
    trained.require_for(member)
    from memlight.analyses.finetune import ANALYSIS
    from memlight.analyses.finetune.arms import head_arm, named_arms, ranked_arms
    from memlight.analyses.finetune.study import read_target, study_finetune
    from memlight.analyses.layermem.columns import LAYERMEM_TABLE
    from memlight.data.augment import Views
    from memlight.features.layers import with_patterns
    from memlight.interventions.exchange import layer_tensors
    from memlight.interventions.finetune import FinetuneOptions, finetunable_layers
    from memlight.runs.opened import open_run
    from memlight.storage.rundir import member_tag
    from memlight.storage.tables import read_table

    with open_run(run, place, network=trained.network) as opened:
        with named(name="view_set"):
            Views(target.view_set, opened.data.view_size)  # refuses a name that there is not
        layermem = None
        if rank_by is not None and set(rank_by) != {"random"}:
            table = opened.run.analysis("layermem", trained.tag).table()
            if not table.is_file():
                way_out = f"make it with `python analyze.py layermem --run {run}`"
                raise UserError("rank_by", rank_by[0], f"no {table}", way_out)
            layermem = read_table(table, LAYERMEM_TABLE)
        encoder = opened.encoder(member, trained.checkpoint)
        chosen_seed = opened.data.seed if seed is None else seed
        if rank_by is None:
            arms = named_arms(with_patterns(layers or [], finetunable_layers(encoder)), trials)
            for arm in arms:
                layer_tensors(encoder, arm.draws[0])  # refuses layers that there are not, and those without weights
        else:
            usable = finetunable_layers(encoder)
            arms = ranked_arms(rank_by, count or [1, 2, 3], layermem, usable, trials=trials, seed=chosen_seed)
        images = read_target(opened.data, target, chosen_seed, labels=place.labels, on_error=place.on_error)
        tag = results.tag or member_tag(member, trained.tag)
        with opened.log(ANALYSIS, tag, results.logger, seed) as log:
            study_finetune(
                encoder,
                images,
                [head_arm(trials), *arms],
                FinetuneOptions(epochs, lr, head_lr, batch_size),
                log,
                views=images.data.make_views(target.view_set),
                seed=chosen_seed,
                max_forward=place.max_forward,
            )
