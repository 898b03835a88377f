"""What stands behind analyze.py: one typed function per command; its signature is the command line.

Nothing heavy is imported before a command runs, so that `--help` and mistakes in the command line answer at once.
"""

import sys
from collections.abc import Sequence
from typing import Literal

from memlight.commands import Command, build_parser, run_command
from memlight.errors import UserError

Logger = Literal["wandb", "wandb-online", "csv"]
Member = Literal["candidate", "independent", "all", "random"]


def layermem(
    run: str,
    layers: list[str] | None = None,
    views: int = 10,
    distance: Literal["l2", "l1", "cosine", "angular"] = "l2",
    pairs: Literal["all", "clean"] = "all",
    scale: Literal["ratio", "range", "none"] = "ratio",
    view_set: str | None = None,
    checkpoint: str | None = None,
    root: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    max_forward: int = 1024,
    logger: Logger = "wandb",
    tag: str | None = None,
) -> None:
    """Where a pair memorises: the contrast, LayerMem and its controls for every layer.

    Args:
        run: run directory of a trained pair.
        layers: layers to measure; all that the encoder has if unset.
        views: views of each image.
        distance: between the features of two views.
        pairs: all pairs of views, or each view against the untouched image (clean, as in the authors' code).
        scale: ratio (paper, eq 2), range (authors' code) or none (eq 1).
        view_set: augmentation set; the one that was trained with if unset.
        checkpoint: name of a checkpoint both members have, such as epoch=49; the finished encoders if unset.
        root: where the images are now; where they were at training if unset.
        seed: of the views; the training's if unset.
        device: auto, cpu, cuda, cuda:1.
        max_forward: most views in one forward; lower it when memory runs out.
        logger: wandb (offline), wandb-online, or csv for files alone.
        tag: keeps this result beside others, as analysis/layermem-TAG.
    """
    at_least(2, views=views)
    at_least(1, max_forward=max_forward)
    require_name("--tag", tag)
    from memlight.opening import open_run
    from memlight.studies.layermem import LayerMemOptions, study_layermem

    with open_run(run, root=root, device=device) as opened:
        opened.require_images("candidate", "independent")
        options = LayerMemOptions(
            num_views=views,
            distance=distance,
            pairs=pairs,
            scale=scale,
            views=opened.views(view_set),
            seed=seed,
            max_forward=max_forward,
        )
        f, g = opened.pair(checkpoint)
        names = opened.layers(f, layers)
        opened.read_images()
        with opened.log("layermem", tag or checkpoint, logger, seed) as log:
            study_layermem(f, g, opened.data, names, options, log)


def unitmem(
    run: str,
    member: Member = "candidate",
    split: Literal["candidate", "independent", "external", "shared"] = "candidate",
    layers: list[str] | None = None,
    views: int = 10,
    reference: Literal["mean", "median"] = "mean",
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs",
    tokens: Literal["mean", "patch", "cls"] = "mean",
    topk: int = 10,
    pair: bool = True,
    view_set: str | None = None,
    checkpoint: str | None = None,
    root: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    max_forward: int = 1024,
    logger: Logger = "wandb",
    tag: str | None = None,
) -> None:
    """What single units memorise: UnitMem of every unit, its null, held-out images, and the images that drive it.

    Args:
        run: run directory.
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
        checkpoint: name of a checkpoint, such as epoch=49; the finished encoder if unset.
        root: where the images are now; where they were at training if unset.
        seed: of the views; the training's if unset.
        device: auto, cpu, cuda, cuda:1.
        max_forward: most views in one forward; lower it when memory runs out.
        logger: wandb (offline), wandb-online, or csv for files alone.
        tag: keeps this result beside others, as analysis/unitmem-TAG; without it, results other than the candidate's
            on its own split are tagged by member and split.
    """
    at_least(1, views=views, topk=topk, max_forward=max_forward)
    if member == "random" and checkpoint is not None:
        raise UserError(f"--checkpoint {checkpoint}: the random member was not trained; leave it out.")
    require_name("--tag", tag)
    from memlight.opening import open_run
    from memlight.studies.unitmem import UnitMemOptions, study_unitmem, unitmem_tag

    with open_run(run, root=root, device=device) as opened:
        opened.require_images(split, flag="--split")
        options = UnitMemOptions(
            split=split,
            num_views=views,
            reference=reference,
            activation=activation,
            tokens=tokens,
            topk=topk,
            views=opened.views(view_set),
            seed=seed,
            max_forward=max_forward,
        )
        encoder = opened.encoder(member, checkpoint)
        names = opened.layers(encoder, layers)
        own = member == split and member in ("candidate", "independent")
        partner = opened.partner(member, checkpoint) if pair and own else None
        if partner is not None:
            opened.require_images("candidate", "independent")
        opened.read_images()
        with opened.log("unitmem", tag or unitmem_tag(member, split, checkpoint), logger, seed) as log:
            study_unitmem(encoder, opened.data, names, options, log, partner=partner)


def probe(
    run: str,
    members: list[Member] | None = None,
    k: int = 20,
    temperature: float = 0.1,
    l2: float = 1e-3,
    checkpoint: str | None = None,
    root: str | None = None,
    device: str = "auto",
    max_forward: int = 1024,
    logger: Logger = "wandb",
    tag: str | None = None,
) -> None:
    """How good the features are: a linear probe and nearest neighbours on the frozen encoders.

    Args:
        run: run directory.
        members: which encoders; all that were trained, and the random one, if unset.
        k: neighbours.
        temperature: of the neighbours' votes.
        l2: penalty of the linear probe.
        checkpoint: name of a checkpoint, such as epoch=49; the finished encoders if unset.
        root: where the images are now; where they were at training if unset.
        device: auto, cpu, cuda, cuda:1.
        max_forward: most images in one forward.
        logger: wandb (offline), wandb-online, or csv for files alone.
        tag: keeps this result beside others, as analysis/probe-TAG.
    """
    at_least(1, k=k, max_forward=max_forward)
    at_least(0, l2=l2)
    if temperature <= 0:
        raise UserError(f"--temperature {temperature}: must be above 0.")
    require_name("--tag", tag)
    from memlight.opening import open_run
    from memlight.studies.probe import study_probe

    with open_run(run, root=root, device=device) as opened:
        opened.require_images("shared", "external", at_least=1)
        encoders = {name: opened.encoder(name, checkpoint) for name in members or opened.members()}
        opened.read_images(labelled=True)
        with opened.log("probe", tag or checkpoint, logger, None) as log:
            study_probe(encoders, opened.data, log, k=k, temperature=temperature, l2=l2, max_forward=max_forward)


def report(run: str) -> None:
    """One self-contained HTML page from everything the run directory holds.

    Args:
        run: run directory.
    """
    from memlight.report import write_report
    from memlight.rundir import RunDir

    opened = RunDir.open(run)
    opened.require_writable()
    print(f"report: {write_report(opened)}")


def at_least(minimum: int, **values: float) -> None:
    """Refuse numbers that are too small, by the names of their flags.

    Raises:
        UserError: names the first.
    """
    for name, value in values.items():
        if not value >= minimum:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be {minimum} or more.")


def require_name(flag: str, name: str | None) -> None:
    """Refuse what cannot be part of a directory's name.

    Raises:
        UserError: it is empty, or holds a slash.
    """
    if name is not None and (not name or "/" in name or "\\" in name):
        raise UserError(f"{flag} {name!r}: becomes part of a directory's name; use a word such as more-views.")


COMMANDS: dict[str, Command] = {"layermem": layermem, "unitmem": unitmem, "probe": probe, "report": report}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of analyze.py.

    Returns:
        Exit status: 0; 2 with one line on standard error when the user can fix it; 130 after ctrl-C.
    """
    parser = build_parser("analyze.py", "Measure what the encoders of a run memorised.", COMMANDS)
    try:
        run_command(parser, COMMANDS, sys.argv[1:] if argv is None else argv)
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; results of earlier commands are as they were", file=sys.stderr)
        return 130
