"""`analyze.py exchange`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from memlight.errors import UserError, named
from memlight.runs.flags import Place, Results, Trained, at_least


def exchange(
    run: str,
    donor: str,
    layers: list[str] | None = None,
    subsets: list[int] | None = None,
    max_subsets: int = 200,
    member: Literal["candidate", "independent"] = "candidate",
    views: int = 10,
    seed: int | None = None,
    donor_root: str | None = None,
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What layers trained on other images do in an encoder: accuracy on both data sets, LayerMem before and after.

    Args:
        run: run directory of the recipient.
        donor: run directory of an encoder of the same architecture; its finished member of the same role is used.
        layers: subsets of layers, each a word in which commas join the layers that are exchanged together, such as
            layer3 layer4,layer6.
        subsets: in place of --layers every subset of so many layers, such as 1 2 3.
        max_subsets: refuse --subsets that are more than this.
        member: which member of both runs.
        views: views of each image, for LayerMem.
        seed: of the views; the recipient's training's if unset.
        donor_root: where the donor's images are now; where they were at training if unset.
        trained: which state of the recipient's networks
        place: data and device
        results: results
    """
    at_least(2, views=views)
    if (layers is None) == (subsets is None):
        given = "neither is" if layers is None else "both are"
        raise UserError(
            f"--layers, --subsets: {given} given; name what to exchange with --layers layer3 layer4,layer6, or take "
            "every subset of some sizes with --subsets 1 2."
        )
    from memlight.analyses.exchange import ANALYSIS
    from memlight.analyses.exchange.study import Exchange, ExchangeOptions, dataset_names, study_exchange
    from memlight.analyses.exchange.subsets import all_subsets, named_subsets
    from memlight.analyses.probe.command import ProbeOptions
    from memlight.data.splits import PARTNERS
    from memlight.runs.opened import open_run, read_run
    from memlight.storage.rundir import member_tag

    with open_run(run, place, network=trained.network) as opened:
        recipient = opened.encoder(member, trained.checkpoint)
        with _about_the_donor(donor):
            other = read_run(
                donor, root=donor_root, network=trained.network, external=place.external, device=opened.device
            )
            giver = other.encoder(member)
            other.require_images("shared", "external")
        opened.require_images("shared", "external")
        _require_one_architecture(run, opened.metadata[member], donor, other.metadata[member])
        chosen = all_subsets(recipient, subsets, max_subsets) if subsets else named_subsets(recipient, layers or [])
        partner = None
        if PARTNERS[member] in opened.metadata:
            opened.require_images(*PARTNERS)
            f, g = opened.pair(trained.checkpoint)
            partner = g if member == "candidate" else f
        opened.hashes |= {f"donor {name}": digest for name, digest in other.hashes.items()}
        opened.read_images(labelled=True)
        with _about_the_donor(donor):
            other.read_images(labelled=True)
        names = dataset_names((opened.run.name, opened.data), (other.run.name, other.data))
        data = dict(zip(names, (opened.data, other.data), strict=True))
        options = ExchangeOptions(num_views=views, seed=seed, probe=ProbeOptions(max_forward=place.max_forward))
        tag = results.tag or member_tag(member, trained.tag)
        with opened.log(ANALYSIS, tag, results.logger, seed) as log:
            study_exchange(Exchange(recipient, giver, partner, member, data), chosen, options, log)


@contextmanager
def _about_the_donor(donor: str) -> Iterator[None]:
    """Errors that name the donor's flags."""
    try:
        with named(run="donor", root="donor_root"):
            yield
    except UserError as error:
        if error.argument not in ("donor", "donor_root"):
            raise UserError("donor", donor, str(error)) from error
        raise


def _require_one_architecture(run: str, mine: Mapping[str, Any], donor: str, theirs: Mapping[str, Any]) -> None:
    if mine["architecture"] != theirs["architecture"]:
        names = (
            "{name} ({stem} stem, {input_size} pixels)".format(**record["architecture"]) for record in (theirs, mine)
        )
        raise UserError(
            f"--donor {donor}: its encoder is {next(names)}, that of --run {run} is {next(names)}; layers are "
            "exchanged between encoders of one architecture."
        )
