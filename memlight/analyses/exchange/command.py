"""`analyze.py exchange`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from memlight.errors import UserError, at_least, named
from memlight.runs.flags import Place, Results, Trained


@dataclass(frozen=True)
class ExchangeOptions:
    """How LayerMem of the exchanged layers is measured.

    Attributes:
        views: views of each image, for LayerMem.
        seed: of the views; the recipient's training's if unset.
    """

    views: int = 10
    seed: int | None = None

    def __post_init__(self) -> None:
        at_least(2, views=self.views)


def exchange(
    run: str,
    donor: str,
    layers: list[str] | None = None,
    subsets: list[int] | None = None,
    max_subsets: int = 200,
    member: Literal["candidate", "independent"] = "candidate",
    donor_root: str | None = None,
    options: ExchangeOptions = ExchangeOptions(),
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What layers trained on other images do in an encoder: accuracy on both data sets, LayerMem before and after.

    Args:
        run: run directory of the recipient.
        donor: run directory of an encoder of the same architecture; its finished member of the same role is used.
        layers: subsets of layers, each a word in which commas join the layers that are exchanged together, such as
            layer3 layer4,layer6; 'layer4.*' is all layers of that form together.
        subsets: in place of --layers every subset of so many layers, such as 1 2 3.
        max_subsets: refuse --subsets that are more than this.
        member: which member of both runs.
        donor_root: where the donor's images are now; where they were at training if unset.
        options: LayerMem of the exchanged layers
        trained: which state of the recipient's networks
        place: data and device
        results: results
    """
    if (layers is None) == (subsets is None):
        ways = ["name what to exchange with `layers=layer3 layer4,layer6`"]
        ways.append("take every subset of some sizes with `subsets=1 2`")
        raise UserError("layers, subsets", None, f"{'neither is' if layers is None else 'both are'} given", ways)
    from memlight.analyses.exchange import ANALYSIS
    from memlight.analyses.exchange.study import Exchange, all_subsets, dataset_names, named_subsets, study_exchange
    from memlight.runs.opened import open_run, read_run
    from memlight.storage.rundir import member_tag

    with open_run(run, place, network=trained.network) as opened:
        recipient = opened.encoder(member, trained.checkpoint)
        with about_the_donor(donor, root="donor_root"):
            other = read_run(
                donor,
                root=donor_root,
                on_error=place.on_error,
                network=trained.network,
                external=place.external,
                device=opened.device,
            )
            giver = other.encoder(member)
            other.require_images("shared", "external")
        opened.require_images("shared", "external")
        theirs, ours = (one.metadata[member]["architecture"] for one in (other, opened))
        if theirs != ours:
            why = f"its encoder is {_in_words(theirs)}, that of `run` {run} is {_in_words(ours)}"
            raise UserError("donor", donor, why, "layers are exchanged between encoders of one architecture")
        chosen = all_subsets(recipient, subsets, max_subsets) if subsets else named_subsets(recipient, layers or [])
        partner = opened.partner(member, trained.checkpoint)
        if partner is not None:
            opened.require_images("candidate", "independent")
        opened.hashes |= {f"donor {name}": digest for name, digest in other.hashes.items()}
        opened.read_images(labelled=True)
        with about_the_donor(donor, root="donor_root"):
            other.read_images(labelled=True)
        names = dataset_names((opened.run.name, opened.data), (other.run.name, other.data))
        data = dict(zip(names, (opened.data, other.data), strict=True))
        tag = results.tag or member_tag(member, trained.tag)
        with opened.log(ANALYSIS, tag, results.logger, options.seed) as log:
            who = Exchange(recipient, giver, partner, member, data)
            study_exchange(who, chosen, options, log, max_forward=place.max_forward)


def _in_words(architecture: dict[str, Any]) -> str:
    given = f", {architecture['args']}" if architecture.get("args") else ""
    return f"{architecture['name']} ({architecture['stem']} stem, {architecture['input_size']} pixels{given})"


@contextmanager
def about_the_donor(donor: str, **names: str) -> Iterator[None]:
    """Errors within it are about the donor's run: they name its arguments, or the donor before any other.

    Args:
        donor: its run directory.
        names: arguments of a run -> what the donor's are called.
    """
    names = {"run": "donor", "path": "donor", "donor": "donor", **names}
    try:
        with named(**names):
            yield
    except UserError as error:
        if error.argument in names.values():
            raise
        value = "" if error.value is None else f"={error.value}"
        why = f"`{error.argument}{value}`: {error.why}" if error.why else error.argument
        raise UserError("donor", donor, why, error.way_out) from error
