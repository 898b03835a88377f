"""What the JSON and YAML files of a run directory hold: the schemas by which they are read.

Only what is read is declared; whoever writes one may add to it, and what is not known here is kept. Fields that older
releases did not write are not required.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

Natural = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
MOST_SIDE = 13_377
"""Pixels on the side of the largest square image that is read; Pillow refuses more pixels as a bomb."""

Side = Annotated[int, Meta(ge=1, le=MOST_SIDE)]
Triple = tuple[float, float, float]
"""A number for each channel."""

PlainName = Annotated[str, Meta(pattern=r"^[^/\\\x00]+$")]
"""A name of a file without a directory."""

Json = dict[str, Any]
"""An object of which nothing is asked."""

Number = float | None
"""What was not finite is null in JSON."""


class Summary(TypedDict):
    """``analysis/<command>/summary.json``, which `memlight.runs.log.AnalysisLog` writes."""

    command_line: str
    headline: Json
    seed: int | None
    split_sha256: str | None
    checkpoints: dict[str, str]
    device: str
    versions: dict[str, str]
    git_commit: str | None
    finished: str
    seconds: Number
    images_per_second: Number
    figures: dict[PlainName, str]


class SplitsFile(TypedDict):
    """``splits.json``, which `memlight.data.splits.PairSplit` writes."""

    format: int
    sha256: str
    order: str
    seed: int
    num_train: Natural
    num_test: Natural
    dataset: str
    shared: list[Natural]
    candidate: list[Natural]
    independent: list[Natural]
    external: list[Natural]
    randomised: NotRequired[bool | None]


class Architecture(TypedDict):
    """An `memlight.models.encoders.EncoderSpec`."""

    name: str
    stem: Literal["cifar", "imagenet"]
    in_channels: Positive
    num_features: Positive
    input_size: Side
    args: NotRequired[Json | None]


class ViewsRecord(TypedDict):
    """What `memlight.data.augment.Views.spec` gives."""

    name: str
    size: Side
    mean: NotRequired[Triple | None]
    std: NotRequired[Triple | None]


class EncoderMetadata(TypedDict, total=False):
    """What training records with an encoder, in the header of its file and in a checkpoint."""

    method: str
    network: str
    architecture: Architecture
    layers: list[str]
    init_seed: int | None
    role: str
    split_sha256: str
    dataset: str
    views: ViewsRecord
    data: Json
    epochs: int
    without: "LeftOutRecord"
    init_from: "StartRecord"
    prefixes: Annotated[dict[str, str], Meta(min_length=1)]
    trained_on: str | None


class StartRecord(TypedDict):
    """The file that a training started from: `memlight.modules.base.SSLModule.started_from`."""

    file: str
    prefix: str
    words: str
    weights_sha256: str


class LeftOutRecord(TypedDict):
    """Which images a training left out: `memlight.data.splits.LeftOut.record`."""

    file: str
    sha256: str
    count: Natural


class WeightsRecord(TypedDict):
    """Where the weights of an encoder came from that was not trained here."""

    file: str
    sha256: str
    prefix: str
    words: str
    trained_on: NotRequired[str | None]


class Measured(TypedDict):
    """The views by which an encoder that was not trained here is measured."""

    name: str
    size: Side
    mean: Triple
    std: Triple


class ReleasedFile(TypedDict):
    """``encoder.json``, which `memlight.runs.released` writes."""

    encoder: str
    architecture: Architecture
    weights: WeightsRecord | None
    warning: NotRequired[str | None]
    init_seed: int
    views: Measured
    images: str
    held_out: str | None


class AdoptedMember(TypedDict):
    """One encoder that somebody else trained."""

    file: str
    sha256: str
    prefix: str
    words: str
    weights_sha256: str


class AdoptedFile(TypedDict):
    """``adopted.json``, which `memlight.runs.adopted` writes."""

    members: dict[str, AdoptedMember]
    half: bool
    splits: str
    splits_sha256: str
    views: Measured
    views_said: bool
    normalisation_said: bool
    dealt: Literal["random", "not-random", "unknown"]
    initial_weights: Literal["equal", "different", "unknown"]
    reference_saw: str | None
    method: str | None
    epochs: int | None


class ClassConfig(TypedDict):
    """A class and its options in a configuration."""

    class_path: str
    init_args: Json


class MethodConfig(TypedDict):
    """What ``config.yaml`` says of the method."""

    model: ClassConfig


class Config(MethodConfig):
    """``config.yaml`` of a training."""

    seed_everything: int | bool | None
    data: ClassConfig
    trainer: Json


class SequenceSet(TypedDict):
    """What is summarised of a sequence set."""

    evaluated_at_step: int


class SequenceEvent(TypedDict):
    """What was done to the members of a sequence experiment."""

    step: int
    kind: str
    words: str


class SequenceSummary(TypedDict):
    """``summary.json`` of a sequence experiment, which `memlight.sequences.results` writes."""

    members: Positive
    sets: Annotated[list[SequenceSet], Meta(min_length=1)]
    events: list[SequenceEvent]


class Extraction(TypedDict):
    """How patches were embedded, as far as pages say it."""

    extractor: str
    mode: str
    weights_sha256: NotRequired[str | None]


class SearchFile(TypedDict):
    """``search.json``, which `analyze.py patches search` writes."""

    queries: str
    index: str
    metric: str
    k: Positive
    backend: str
    approximate: str | None
    seconds: float
    query_patches: Natural
    index_patches: Natural
    grid: Positive
    query_images: str
    index_images: str
    extraction: Extraction
    recall_first: NotRequired[float]
    recall_queries: NotRequired[int]
