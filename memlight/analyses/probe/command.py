"""`analyze.py probe`, and how frozen features are evaluated wherever a probe is trained."""

from dataclasses import dataclass

from memlight.errors import at_least, positive
from memlight.runs.flags import EncoderFlags, Member, Place, Results, Trained


@dataclass(frozen=True)
class ProbeFlags:
    """How frozen features are evaluated, as flags of a command.

    Attributes:
        k: neighbours.
        temperature: of the neighbours' votes.
        l2: penalty of the linear probe.

    Raises:
        UserError: no neighbour, a temperature of 0 or less, or a negative penalty.
    """

    k: int = 20
    temperature: float = 0.1
    l2: float = 1e-3

    def __post_init__(self) -> None:
        at_least(1, k=self.k)
        at_least(0, l2=self.l2)
        positive(temperature=self.temperature)

    def within(self, max_forward: int) -> "ProbeOptions":
        """The same evaluation with at most so many images in one forward, as `Place` and the encoder allow."""
        return ProbeOptions(self.k, self.temperature, self.l2, max_forward)


@dataclass(frozen=True)
class ProbeOptions(ProbeFlags):
    """How frozen features are evaluated: `ProbeFlags`, and how many images an encoder sees at once.

    Attributes:
        max_forward: most images in one forward; it changes no number.
    """

    max_forward: int = 1024


def probe(
    run: str | None = None,
    members: list[Member] | None = None,
    evaluation: ProbeFlags = ProbeFlags(),
    released: EncoderFlags = EncoderFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """How good the features are: a linear probe and nearest neighbours on the frozen encoders.

    Of a run both are trained on the shared images and tested on the external ones; of --encoder they are trained on
    --images and tested on --held-out. Images without a class are left out, and a class of the test images that none to
    train on has is refused.

    Args:
        run: run directory; with --encoder where its results go, runs/ENCODER if unset.
        members: which encoders; all that were trained, and the random one, if unset.
        evaluation: how the features are evaluated
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    from memlight.analyses.probe import ANALYSIS
    from memlight.analyses.probe.accuracy import study_probe
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(opened.probe_split, "external", at_least=1)
        encoders = {name: opened.encoder(name, trained.checkpoint) for name in members or opened.members()}
        opened.read_images(labelled=True)
        options = evaluation.within(opened.at_once(place.max_forward))
        tag = results.tag or place.tag(trained.tag, own_classes=bool(opened.data.source.train.classes))
        with opened.log(ANALYSIS, tag, results.logger, None) as log:
            study_probe(encoders, opened.data, options, log, train_split=opened.probe_split)
