"""`analyze.py adopt`."""

from dataclasses import dataclass
from typing import Literal

from memlight.errors import UserError, at_least

COUNTS = ("num_shared", "num_candidate", "num_independent", "num_external")


@dataclass(frozen=True)
class AdoptedWeights:
    """Whose weights are adopted.

    Attributes:
        candidate: weights of the encoder that saw the candidates: a file (.pth, .pt, .ckpt, .tar, .safetensors), hub or
            hf:ORG/NAME[/FILE]; no code in the file is run.
        independent: weights of the other encoder, which saw the independent images instead.
        reference: in place of --independent, weights of an encoder that saw neither group, such as hub for a released
            one: half a pair, which compares candidates with external images.
        encoder: architecture of both: resnet18, vit_small_patch16, torchvision:NAME, timm:NAME, or one's own as
            package.module:Class (or :function); what the file says if
            unset and it is one of memlight.
        encoder_args: what a class or function of one's own is called with, as width=64 depth=3, or one JSON object.
        stem: first layers of resnet18, resnet34 and resnet50; cifar is a 3x3 convolution without max-pooling.
        prefix: which part of each file is the encoder, such as module.backbone; the only part that fits if unset.
        other_prefix: the same of --independent or --reference, where it is called otherwise there.
        image_size: side of the views in pixels; the encoder's own if unset.
    """

    candidate: str
    independent: str | None = None
    reference: str | None = None
    encoder: str | None = None
    encoder_args: list[str] | None = None
    stem: Literal["imagenet", "cifar"] = "imagenet"
    prefix: str | None = None
    other_prefix: str | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        if (self.independent is None) == (self.reference is None):
            why = "give one of the two: the encoder that saw the other group of images, or one that saw neither"
            raise UserError("independent, reference", None, why)
        if self.image_size is not None:
            at_least(1, image_size=self.image_size)

    @property
    def other(self) -> str:
        """The argument that names the second file."""
        return "independent" if self.independent is not None else "reference"


@dataclass(frozen=True)
class AdoptedImages:
    """Which images there are, and which of them each encoder saw.

    Attributes:
        dataset: digits, cifar10, cifar100, svhn, stl10, fashion_mnist, mnist, or one's own images: auto (a folder or an
            archive).
        root: where they are.
        resize: side in pixels of the square that every image is brought to before views are made, as in training; the
            size that all share, and otherwise the median shorter side (256 at most), if unset.
        splits: file that says which image is in which split: a .csv (id,split or path,split), a .json or .npz (a list
            for each split); or a list of ids or paths for each, as candidate=FILE independent=FILE shared=FILE
            external=FILE. External images that it does not name are drawn from the test images.
        order: in place of --splits, the rule by which ids were dealt out: index (shared ids come first, then
            candidates, then independent ones, as in the authors' code) or random (memlight's own, by --split-seed).
        num_shared: by the rule, images that both encoders saw; 40000 if unset.
        num_candidate: by the rule, images that only the candidate saw; 5000 if unset.
        num_independent: by the rule, images that only the other saw; 5000 if unset.
        num_external: test images, which no encoder saw; 5000 if unset (of a file that names none, at most 5000).
        split_seed: of the random rule.
        seed: of the views that analyses draw.
    """

    dataset: str = "auto"
    root: str | None = None
    resize: int | None = None
    splits: list[str] | None = None
    order: Literal["index", "random"] | None = None
    num_shared: int | None = None
    num_candidate: int | None = None
    num_independent: int | None = None
    num_external: int | None = None
    split_seed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.splits is None) == (self.order is None):
            why = "say which image each encoder was trained on, in one of two ways"
            ways = ["a file with `splits`", "the rule with `order='index'` and `num_shared`, `num_candidate` ..."]
            raise UserError("splits, order", None, why, ways)
        counts = {name: getattr(self, name) for name in COUNTS}
        for name, count in counts.items():
            if count is not None:
                at_least(0, **{name: count})
                if self.splits is not None and name != "num_external":
                    raise UserError(name, count, "the file of `splits` says which and how many", "leave it out")


@dataclass(frozen=True)
class AdoptedFacts:
    """What the files do not say; it is written into the run and said in its report.

    Attributes:
        dealt: whether candidates and independent images were dealt at random, which makes the contrast an experiment.
        initial_weights: whether both encoders started from equal weights.
        reference_saw: of half a pair, what the reference was trained on, in words.
        method: how they were trained, in a word, such as simclr.
        epochs: how long they were trained.
        views: augmentation set that they were trained with, and that analyses show them.
        mean: of the three channels, in [0, 1], as in training; what belongs to the encoder (timm's own, else that of
            the views, else ImageNet's) if unset.
        std: of the three channels, as in training.
    """

    dealt: Literal["random", "not-random", "unknown"] = "unknown"
    initial_weights: Literal["equal", "different", "unknown"] = "unknown"
    reference_saw: str | None = None
    method: str | None = None
    epochs: int | None = None
    views: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None:
            at_least(1, epochs=self.epochs)

    @property
    def randomised(self) -> bool | None:
        """Whether the groups were dealt at random; None if nobody knows."""
        return {"random": True, "not-random": False}.get(self.dealt)


def adopt(
    run: str,
    weights: AdoptedWeights,
    images: AdoptedImages,
    facts: AdoptedFacts = AdoptedFacts(),
) -> None:
    """Make a run of two encoders that somebody else trained, on which every analysis works.

    Args:
        run: the run directory to make.
        weights: encoders
        images: images
        facts: what the files do not say
    """
    from memlight.runs.adopted.making import make_run

    make_run(run, weights, images, facts)
