"""`analyze.py layers`."""

from dataclasses import dataclass
from typing import Literal

from memlight.errors import UserError, at_least
from memlight.runs.flags import EncoderFlags, Member


@dataclass(frozen=True)
class ArchitectureFlags:
    """An encoder that is not a run's.

    Attributes:
        encoder: resnet18, vit_small_patch16, var_vqvae, torchvision:NAME, timm:NAME, or one's own as
            package.module:Class (or :function).
        encoder_args: what a class or function of one's own is called with, as width=64 depth=3, or one JSON object.
        stem: first layers of resnet18, resnet34 and resnet50; cifar is a 3x3 convolution without max-pooling.
        image_size: side of the images in pixels; the encoder's own if unset.
    """

    encoder: str | None = None
    encoder_args: list[str] | None = None
    stem: Literal["imagenet", "cifar"] = "imagenet"
    image_size: int | None = None

    def __post_init__(self) -> None:
        if self.encoder is None and self.encoder_args is not None:
            raise UserError("encoder_args", None, "are for a class of one's own", "name it with `encoder`")
        if self.image_size is not None:
            at_least(1, image_size=self.image_size)

    @property
    def whole(self) -> EncoderFlags:
        """The same as the flags of an encoder that is measured."""
        return EncoderFlags(
            encoder=self.encoder,
            encoder_args=self.encoder_args,
            stem=self.stem,
            image_size=self.image_size,
            images="",
        )


def layers(
    run: str | None = None,
    member: Member = "candidate",
    layers: list[str] | None = None,
    released: ArchitectureFlags = ArchitectureFlags(),
    trust: list[str] | None = None,
) -> None:
    """Which layers an encoder has, with their units and the sizes of their outputs; nothing is measured or written.

    Args:
        run: run directory of a trained encoder.
        member: whose layers.
        layers: only these, by name or by pattern, as 'layer4.*', just as other commands take them.
        released: an encoder that is not a run's
        trust: code that is not memlight's, as package.module:Class, and that the run may name as what its encoder was
            made by: it is imported and run. What was typed on this machine before need not be given.
    """
    if (run is None) == (released.encoder is None):
        both = run is not None
        why = "both are given" if both else "neither is given"
        raise UserError("run, encoder", None, why, "name a trained run, or an encoder as with `encoder=resnet18`")
    from memlight.runs.layers.table import encoder_to_list, print_layers

    print_layers(encoder_to_list(run, member, released, trust), layers)
