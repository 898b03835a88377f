"""BatchNorm statistics measured anew, where the weights before a norm are not those its statistics were made for."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from copy import deepcopy

import torch
from torch import Tensor, nn

from memlight import dist
from memlight.batch import ImageBatch, ViewMaker
from memlight.features.discovery import forward_blank, uncompiled
from memlight.features.hooks import check_finite
from memlight.features.passes import device_of, observing, require_images, view_batches


def recalibrate_batchnorm(
    encoders: Sequence[nn.Module],
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    *,
    image_size: int | None = None,
    max_forward: int = 512,
    device: torch.device | str | None = None,
) -> list[nn.Module]:
    """Copy encoders with the running statistics of every BatchNorm measured on given images, one view each.

    In the order in which they run: the first norm's mean and variance over all images and positions, then the second's
    with the first already renewed, and so on, as the encoder computes in eval mode. A pass of training mode (as in
    Jordan et al. 2023, "REPAIR") would let each batch be normalised by itself, so its statistics depend on how images
    are dealt into batches and processes; these are a function of the encoder and the set of images. It takes a forward
    per norm, each only as far as that norm.

    Args:
        encoders: copies of one architecture, which are copied once more and left bit-identical; they share the views.
        batches: images (this process's share of them), walked once for every norm.
        make_views: ``(batch, view index) -> (B, 3, h, w)``; view 0 is asked for.
        image_size: image side in pixels for a blank forward; None takes ``encoder.spec.input_size``.
        max_forward: most images in one forward.
        device: where the encoders are; None asks the first.

    Returns:
        The copies: ``running_mean`` and ``running_var`` (with n - 1, as training stores it) of the norms that a forward
        reaches are new, all else is equal. Encoders without BatchNorm are copied as they are.

    Raises:
        UserError: no image, or activations that are not finite.
        ValueError: a norm that runs twice in a forward.
    """
    device = torch.device(device) if device is not None else device_of(encoders[0])
    copies = [deepcopy(encoder) for encoder in encoders]
    for name in batchnorms(copies[0], image_size):
        moments = [_Moments() for _ in copies]
        with observing(*copies), ExitStack() as stack:
            for copy, mine in zip(copies, moments, strict=True):
                stack.enter_context(uncompiled(copy))
                stack.callback(copy.get_submodule(name).register_forward_pre_hook(mine.stop_at).remove)
            for views, _ in view_batches(
                batches, make_views, num_views=1, max_forward=max_forward, device=device, progress=False, title=name
            ):
                for copy in copies:
                    with suppress(_Reached):
                        copy(views)
        require_images(moments[0].count > 0, device)
        for copy, mine in zip(copies, moments, strict=True):
            mean, variance = mine.over_processes()
            check_finite({name: mean + variance})
            for entry, value in (("running_mean", mean), ("running_var", variance)):
                copy.get_buffer(f"{name}.{entry}").copy_(value)
    return copies


def batchnorms(encoder: nn.Module, image_size: int | None = None) -> list[str]:
    """Names of the BatchNorms with running statistics that a forward reaches, in the order in which they run.

    Args:
        encoder: any network; it is left bit-identical.
        image_size: image side in pixels; None takes ``encoder.spec.input_size``.

    Raises:
        ValueError: one runs twice, so that it has no single input.
    """
    names = {
        module: name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
    }
    order: list[str] = []
    with ExitStack() as stack:
        for norm in names:
            stack.callback(norm.register_forward_pre_hook(lambda module, _: order.append(names[module])).remove)
        if names:
            forward_blank(encoder, image_size)
    if len(set(order)) < len(order):
        twice = next(name for name in order if order.count(name) > 1)
        raise ValueError(f"{twice} runs twice in one forward, so its statistics are not those of one place")
    return order


class _Reached(Exception):
    """Ends a forward at the norm that is measured."""


class _Moments:
    """Count, mean and sum of squared deviations of each channel, merged by formula (Chan et al. 1983), in float64."""

    def __init__(self) -> None:
        self.count = 0.0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def stop_at(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add a norm's input ``(B, C, ...)``, every position being one value of its channel, and end the forward."""
        x = inputs[0]
        axes = [axis for axis in range(x.ndim) if axis != 1]
        variance, mean = torch.var_mean(x.float(), axes, correction=0)
        count = x.numel() / x.shape[1]
        self.merge(count, mean.double(), variance.double() * count)
        raise _Reached

    def merge(self, count: float, mean: Tensor, squares: Tensor) -> None:
        """Add the moments of other values."""
        total = self.count + count
        shift = mean - self.mean
        self.squares = self.squares + squares + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    def over_processes(self) -> tuple[Tensor, Tensor]:
        """Mean and unbiased variance ``(C,)`` of every process's values."""
        mine = torch.stack([torch.full_like(self.mean, self.count), self.mean, self.squares])
        merged = _Moments()
        for count, mean, squares in dist.gather_cat(mine[None]):
            merged.merge(float(count[0]), mean, squares)
        return merged.mean, merged.squares / max(merged.count - 1, 1)
