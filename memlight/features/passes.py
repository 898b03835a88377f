"""One pass over a data set: all views of a few images at a time, through encoders that are left as they were."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from memlight import dist
from memlight.batch import ImageBatch, ViewMaker
from memlight.errors import UserError
from memlight.features.discovery import any_weight, evaluating, forward_blank
from memlight.features.hooks import Activation, Reduce, Tokens, capture, check_finite

Precision = Literal["fp32", "bf16"]
"""In which numbers an encoder computes; what is made of its outputs is in at least float32 in any case."""


def precise(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Forwards within it compute in that precision; an autocast around ``fp32`` stays what it is.

    bfloat16 is autocast, which leaves the weights as they are. It has 8 bits of mantissa: the mean of a unit of VAR's
    encoder is off by .2 % of its layer's mean (first level) to 1.3 % (last).
    """
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def device_of(encoder: nn.Module) -> torch.device:
    """Where an encoder's weights are."""
    return any_weight(encoder).device


@contextmanager
def observing(*encoders: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes, buffers and random generators are afterwards what they were.

    It is `torch.no_grad` and not `torch.inference_mode`: a cache that a model fills on its first forward (rotary
    embeddings do) would stay an inference tensor, and training could not go on.
    """
    devices = [device for device in {device_of(encoder) for encoder in encoders} if device.type != "cpu"]
    kind = devices[0].type if devices else "cuda"
    with torch.random.fork_rng(devices, device_type=kind), torch.no_grad(), ExitStack() as stack:
        for encoder in encoders:
            stack.enter_context(evaluating(encoder))
        yield


class Reading(NamedTuple):
    """What `read_together` reads of one encoder.

    Attributes:
        encoder: which of the encoders, counted from 0.
        layers: module paths, see `memlight.features.hooks.capture`.
        reduce: what is kept of a layer, see `memlight.features.hooks.capture`.
        activation: of which value the mean is taken, see `memlight.features.hooks.capture`.
        tokens: over which tokens the mean is taken, see `memlight.features.hooks.capture`.
    """

    encoder: int
    layers: Sequence[str]
    reduce: Reduce | Callable[[Tensor], Tensor] = "unit"
    activation: Activation = "abs"
    tokens: Tokens = "mean"


class Part(NamedTuple):
    """What one forward of `one_pass` gave.

    Attributes:
        batch: the ``b`` images, on the device.
        captured: of each reading (of each encoder, for `one_pass`), its layers by name, reduced from the ``V * b``
            views, which are view-major.
        outputs: what each encoder returned, ``(V * b, ...)``.
    """

    batch: ImageBatch
    captured: Sequence[dict[str, Tensor]]
    outputs: Sequence[Tensor]


@contextmanager
def one_pass(
    encoders: Sequence[nn.Module],
    layers: Sequence[Sequence[str]],
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    num_views: int = 1,
    reduce: Reduce | Callable[[Tensor], Tensor] = "unit",
    activation: Activation = "abs",
    tokens: Tokens = "mean",
    max_forward: int = 512,
    precision: Precision = "fp32",
    device: torch.device | str | None = None,
    progress: bool = True,
    title: str = "",
    begun: bool = False,
) -> Iterator[Iterator[Part]]:
    """Show all images to encoders, a few at a time, and read what their layers compute: `read_together`, of each once.

        with one_pass([encoder], [layers], batches, make_views) as parts:
            for batch, (captured,), _ in parts:
                ...  # captured[layer]: (b, U)

    Args:
        encoders: on one device.
        layers: module paths of each encoder to capture; empty to capture none.
        batches: images, each id once (this process's share of them).
        make_views: ``(batch on the device, view index) -> (b, 3, h, w)``.
        num_views: V, views of each image.
        reduce: see `Reading`.
        activation: see `Reading`.
        tokens: see `Reading`.
        max_forward: most views in one forward.
        precision: see `precise`.
        device: where the encoders are; None asks the first.
        progress: show a bar.
        title: the bar's text.
        begun: an earlier pass has seen images, so that ``batches`` may hold none.

    Raises:
        UserError: as `read_together`.
    """
    if layers and len(layers) != len(encoders):
        raise ValueError(f"{len(encoders)} encoders and layers of {len(layers)}")
    readings = [Reading(number, of_encoder, reduce, activation, tokens) for number, of_encoder in enumerate(layers)]
    with read_together(
        encoders,
        readings,
        batches,
        make_views,
        num_views=num_views,
        max_forward=max_forward,
        precision=precision,
        device=device,
        progress=progress,
        title=title,
        begun=begun,
    ) as parts:
        yield parts


@contextmanager
def read_together(
    encoders: Sequence[nn.Module],
    readings: Sequence[Reading],
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    num_views: int = 1,
    max_forward: int = 512,
    precision: Precision = "fp32",
    device: torch.device | str | None = None,
    progress: bool = True,
    title: str = "",
    begun: bool = False,
) -> Iterator[Iterator[Part]]:
    """Show all images to encoders, a few at a time, and read each as often as asked, from one forward.

    All encoders see the same views. They and the random generators are afterwards what they were, and inside the block
    gradients are off.

    Args:
        encoders: on one device.
        readings: what is read of which encoder; a layer may be read in several ways.
        batches: images, each id once (this process's share of them).
        make_views: ``(batch on the device, view index) -> (b, 3, h, w)``.
        num_views: V, views of each image.
        max_forward: most views in one forward.
        precision: see `precise`.
        device: where the encoders are; None asks the first.
        progress: show a bar.
        title: the bar's text.
        begun: an earlier pass has seen images, so that ``batches`` may hold none.

    Raises:
        UserError: no image on this process or on another, fewer than one view, an unknown layer, or activations that
            are not finite.
    """
    device = torch.device(device) if device is not None else device_of(encoders[0])
    captured: list[dict[str, Tensor]] = []

    def parts() -> Iterator[Part]:
        nonlocal begun
        for views, batch in view_batches(
            batches,
            make_views,
            num_views=num_views,
            max_forward=max_forward,
            device=device,
            progress=progress,
            title=title,
        ):
            begun = True
            with precise(precision, device):
                outputs = [encoder(views) for encoder in encoders]
            check_finite(*captured)
            yield Part(batch, captured, outputs)

    with observing(*encoders), ExitStack() as stack:
        for number, layers, reduce, activation, tokens in readings:
            captured.append(stack.enter_context(capture(encoders[number], layers, reduce, activation, tokens)))
        yield parts()
    require_images(begun, device)


def require_encoder_takes(encoder: nn.Module, size: int, mistake: Callable[[str], UserError]) -> None:
    """Refuse a size of views that an encoder cannot take, before there is anything to measure.

    Args:
        encoder: on any device; not changed.
        size: side of a view, pixels.
        mistake: makes the error of what is wrong, in words.

    Raises:
        UserError: blank views do not go through.
    """
    try:
        forward_blank(encoder, size)
    except (AssertionError, RuntimeError, ValueError) as error:
        why = f"the encoder cannot take views of this size ({' '.join(str(error).split())})"
        raise mistake(why) from error


def images_at_once(max_forward: int, num_views: int) -> int:
    """How many images fit a forward with all their views; at least one."""
    return max(1, max_forward // max(1, num_views))


def view_batches(
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    num_views: int,
    max_forward: int,
    device: torch.device,
    progress: bool,
    title: str,
) -> Iterator[tuple[Tensor, ImageBatch]]:
    """Make all views of each image, as many images at a time as fit a forward.

    Args:
        batches: images, each id once.
        make_views: ``(batch on the device, view index) -> (b, 3, h, w)``.
        num_views: V, views of each image.
        max_forward: most images a forward may hold; at least the V views of one image are.
        device: where views are made.
        progress: show a bar (first process only).
        title: the bar's text.

    Yields:
        ``(V * b, 3, h, w)`` views, view-major, and the ``b`` images they were made of.

    Raises:
        UserError: fewer than one view.
    """
    if num_views < 1:
        raise UserError("num_views", num_views, "at least 1 view is needed")
    at_once = images_at_once(max_forward, num_views)
    total = len(batches) if isinstance(batches, Sized) else None
    bar = tqdm(
        batches,
        desc=title,
        total=total,
        unit="batch",
        disable=not progress or dist.rank() > 0,
        mininterval=0.1 if sys.stderr.isatty() else 30,  # a line now and then in a batch log, not hundreds
    )
    for batch in bar:
        for part in _parts(batch, at_once):
            here = ImageBatch(*(tensor.to(device, non_blocking=True) for tensor in part))
            yield torch.cat([make_views(here, view) for view in range(num_views)]), here


def require_images(seen: bool, device: torch.device) -> None:
    """Refuse a pass in which this or another process saw no image; every process raises alike, so none waits.

    Raises:
        UserError: when one of them saw none.
    """
    everywhere = dist.gather_cat(torch.tensor([seen], device=device))
    if not everywhere.any():
        raise UserError("batches", None, "no image in it", "choose a split that has some")
    if not everywhere.all():
        raise UserError("batches", None, f"fewer batches than the {dist.world_size()} processes", "use fewer processes")


def _parts(batch: ImageBatch, size: int) -> Iterator[ImageBatch]:
    for start in range(0, len(batch.ids), size):
        yield ImageBatch(*(tensor[start : start + size] for tensor in batch))
