"""`analyze.py unitmem`."""

from typing import Literal

from memlight.runs.flags import EncoderFlags, Member, Place, Results, Split, Trained, at_least


def unitmem(
    run: str | None = None,
    member: Member = "candidate",
    split: Split = "candidate",
    layers: list[str] | None = None,
    views: int = 10,
    reference: Literal["mean", "median"] = "mean",
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs",
    tokens: Literal["mean", "patch", "cls"] = "mean",
    topk: int = 10,
    pair: bool = True,
    view_set: str | None = None,
    seed: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
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
        split: which images.
        layers: layers to measure; all that the encoder has if unset.
        views: views of each image, averaged.
        reference: the strongest image against the mean (paper) or the median (authors' code) of the others.
        activation: applied to every element before averaging over positions; identity for outputs of a ReLU.
        tokens: which tokens count, for token models.
        topk: how many of the strongest images of each unit are kept.
        pair: also measure the other member, for the unit contrast (candidate and independent members on their own
            images only).
        view_set: augmentation set; the one that was trained with if unset.
        seed: of the views; the training's if unset.
        precision: of the encoder's forwards; bf16 is faster where the hardware has it, and about a hundredth off.
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    at_least(1, views=views, topk=topk)
    trained.require_for(member)
    checkpoint = trained.checkpoint
    from memlight.analyses.images.command import look_at_images
    from memlight.analyses.unitmem import ANALYSIS
    from memlight.analyses.unitmem.resume import UnitMemProgress
    from memlight.analyses.unitmem.study import UnitMemOptions, study_unitmem, unitmem_tag
    from memlight.analyses.unitmem.thumbnails import write_thumbnails
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(split, argument="split")
        options = UnitMemOptions(
            split=split,
            num_views=views,
            reference=reference,
            activation=activation,
            tokens=tokens,
            topk=topk,
            views=opened.views(view_set),
            seed=seed,
            max_forward=opened.at_once(place.max_forward),
            precision=precision,
        )
        encoder = opened.encoder(member, checkpoint)
        names = opened.layers(encoder, layers)
        own = member == split and member in ("candidate", "independent")
        partner = opened.partner(member, checkpoint) if pair and own else None
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
                **options.decisive(opened.data),
            },
        )
        opened.read_images()
        with opened.log(ANALYSIS, tag, results.logger, seed) as log:
            study_unitmem(encoder, opened.data, names, options, log, partner=partner, kept=kept)
            write_thumbnails(opened.data, log)
        kept.clear()
        if released.given:
            look_at_images(opened, encoder, log.final, split, place.max_forward, results.logger)
