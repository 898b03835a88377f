"""`analyze.py probe`."""

from memlight.errors import UserError
from memlight.runs.flags import EncoderFlags, Member, Place, Results, Trained, at_least


def probe(
    run: str | None = None,
    members: list[Member] | None = None,
    k: int = 20,
    temperature: float = 0.1,
    l2: float = 1e-3,
    released: EncoderFlags = EncoderFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """How good the features are: a linear probe and nearest neighbours on the frozen encoders.

    Of a run both are trained on the shared images and tested on the external ones; of --encoder they are trained on
    --images and tested on --held-out.

    Args:
        run: run directory; with --encoder where its results go, runs/ENCODER if unset.
        members: which encoders; all that were trained, and the random one, if unset.
        k: neighbours.
        temperature: of the neighbours' votes.
        l2: penalty of the linear probe.
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    at_least(1, k=k)
    at_least(0, l2=l2)
    if temperature <= 0:
        raise UserError(f"--temperature {temperature}: must be above 0.")
    from memlight.analyses.probe import ANALYSIS
    from memlight.analyses.probe.accuracy import ProbeOptions
    from memlight.analyses.probe.study import study_probe
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(opened.probe_split, "external", at_least=1)
        encoders = {name: opened.encoder(name, trained.checkpoint) for name in members or opened.members()}
        opened.read_images(labelled=True)
        with opened.log(ANALYSIS, results.tag or trained.tag, results.logger, None) as log:
            options = ProbeOptions(k=k, temperature=temperature, l2=l2, max_forward=opened.at_once(place.max_forward))
            study_probe(encoders, opened.data, options, log, train_split=opened.probe_split)
