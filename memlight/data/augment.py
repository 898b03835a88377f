"""Views of a batch of images, made on the device the images are on, every image with its own parameters."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from memlight.data.color import HUE, Jitter, gray_where, jitter, solarize
from memlight.data.geometry import (
    TRIES,
    Boxes,
    blur_kernel_size,
    blur_matrix,
    crop_matrix,
    random_boxes,
    separable,
    whole_boxes,
)
from memlight.data.recipes import VIEW_SETS, Recipe
from memlight.errors import UserError
from memlight.random import uniforms

_RATIO = (3 / 4, 4 / 3)
_SIGMA = (0.1, 2.0)
_DRAWS = {
    "box": 2 * TRIES + 2,
    "flips": 2,
    "jitter": 1,
    "order": 4,
    "factors": 4,
    "gray": 1,
    "blur": 2,
    "solarize": 1,
    "invert": 1,
}
NUM_DRAWS = sum(_DRAWS.values())
"""How many uniforms one view of one image takes, whatever its set."""

# Values of a view worked on at once: what stays in a processor's cache; what keeps an accelerator busy within
# about a gigabyte of temporaries.
_CPU_CHUNK = 2**19
_DEVICE_CHUNK = 2**25


class ViewParams(NamedTuple):
    """Everything that is random in one view of each image of a batch.

    Attributes:
        boxes: the crop.
        flip: ``bool (B,)`` horizontal flip.
        vertical_flip: ``bool (B,)``.
        jitter: colour factors and their order; neutral where an image is not jittered.
        gray: ``bool (B,)``.
        blur: ``bool (B,)``.
        sigma: ``(B,)`` of the blur, pixels.
        solarize: ``bool (B,)``.
        invert: ``bool (B,)``.
    """

    boxes: Boxes
    flip: Tensor
    vertical_flip: Tensor
    jitter: Jitter
    gray: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor
    invert: Tensor


_Apply = Callable[[Recipe, Tensor, ViewParams, int], Tensor]


class Views:
    """A named augmentation set at one size: ``views(images, ids, view=0, epoch=0, seed=0)``.

    The view of an image depends on (seed, id, epoch, view) and on nothing else: not on the batch it came in, the
    device or the rank.

    Args:
        name: which set; see ``memlight.data.recipes``.
        size: pixels of a (global) view.
        mean: per-channel normalisation of the [0, 1] values; None leaves them, unless the set has its own.
        std: by which each channel is divided after that; None as for ``mean``.
        compile: fuse the operations with ``torch.compile``: half a minute at the first call, worth it on a GPU only.

    Raises:
        UserError: there is no such set, the size is not positive, or only one of mean and std is given.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        compile: bool = False,
    ) -> None:
        if name not in VIEW_SETS:
            raise UserError("name", name, f"no such augmentation set; choose from {', '.join(VIEW_SETS)}")
        if (mean is None) != (std is None):
            raise UserError("mean, std", None, "one is given and the other is not", "give both or neither")
        if std is not None and not all(value > 0 for value in std):
            raise UserError("std", list(std), "must be above 0")
        if size < 1:
            raise UserError("size", size, "a view has at least one pixel")
        chosen = VIEW_SETS[name]
        self.name = name
        self.size = size
        self.mean = chosen.mean if mean is None else tuple(mean)
        self.std = chosen.std if std is None else tuple(std)
        self.num_views = chosen.num_views
        self._recipes = chosen.recipes
        self._apply: _Apply = torch.compile(apply, fullgraph=True) if compile else apply

    @torch.no_grad()
    def __call__(self, images: Tensor, ids_B: Tensor, view: int = 0, epoch: int | Tensor = 0, seed: int = 0) -> Tensor:
        """Make one view of every image.

        Args:
            images: ``uint8 (B, C, H, W)``, C 1 or 3.
            ids_B: ``int64 (B,)`` data set ids.
            view: which view; all indices are allowed, sets with several kinds of view repeat them in turn.
            epoch: the epoch, one for all or ``int64 (B,)``; ``memlight.random.ANALYSIS`` in an analysis.
            seed: of the views.

        Returns:
            ``float32 (B, C, h, w)``.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be uint8 (B, 1 or 3, H, W), not {images.dtype} {tuple(images.shape)}")
        recipe = self._recipes[view % len(self._recipes)]
        size = recipe.output_size(self.size)
        ids_B = ids_B.to(images.device)
        epoch_B = epoch if isinstance(epoch, Tensor) else torch.full_like(ids_B, epoch)
        values = images.shape[1] * max(size * size, images.shape[2] * images.shape[3])
        chunk = max(1, (_CPU_CHUNK if images.is_cpu else _DEVICE_CHUNK) // values)
        with torch.autocast(images.device.type, enabled=False):
            views = []
            for some, some_ids, some_epochs in zip(
                torch.split(images, chunk), torch.split(ids_B, chunk), torch.split(epoch_B, chunk), strict=True
            ):
                draws_BD = uniforms(seed, some_ids, epoch=some_epochs, view=view, draws=NUM_DRAWS)
                params = draw(recipe, draws_BD, images.shape[2], images.shape[3])
                views.append(self._normalize(self._apply(recipe, some, params, size)))
        return views[0] if len(views) == 1 else torch.cat(views)

    def full_size(self) -> "Views":
        """The same set without its smaller views (DINO's local crops): a layer's features compare at one size only."""
        full = copy(self)
        full._recipes = tuple(recipe for recipe in self._recipes if recipe.size_factor == 1)
        return full

    def clean(self) -> "Views":
        """The set in which nothing is random (resized, centre cut out), at this one's size and normalisation."""
        return Views("clean", self.size, mean=self.mean, std=self.std)

    def sizes(self, num_views: int) -> list[int]:
        """Side of each of the first ``num_views`` views, pixels."""
        recipes = (self._recipes[view % len(self._recipes)] for view in range(num_views))
        return [recipe.output_size(self.size) for recipe in recipes]

    def spec(self) -> dict[str, Any]:
        """What ``from_spec`` needs; JSON-able."""
        return {
            "name": self.name,
            "size": self.size,
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> "Views":
        """Build the views that ``spec()`` described."""
        return cls(spec["name"], spec["size"], mean=spec["mean"], std=spec["std"])

    def _normalize(self, x: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return x
        for channel, mean, std in zip(x.unbind(1), self.mean, self.std, strict=True):
            channel.sub_(mean).div_(std)
        return x


def draw(recipe: Recipe, draws_BD: Tensor, height: int, width: int) -> ViewParams:
    """Turn uniforms into the parameters of one view.

    The columns have a fixed meaning, so two sets give an image the same box where they crop alike.

    Args:
        recipe: ranges and probabilities.
        draws_BD: uniforms ``(B, D)``.
        height: of the images, pixels.
        width: of the images, pixels.
    """
    columns = dict(zip(_DRAWS, torch.split(draws_BD, list(_DRAWS.values()), dim=1), strict=True))
    gate_B = {name: column_BD[:, 0] for name, column_BD in columns.items()}
    if recipe.resize == "crop":
        boxes = random_boxes(columns["box"], height, width, recipe.crop_scale, _RATIO)
    else:
        boxes = whole_boxes(draws_BD[:, 0], height, width)
    jittered_B1 = columns["jitter"] < recipe.jitter_probability
    factors = [
        torch.where(jittered_B1, columns["factors"][:, i : i + 1] * (high - low) + low, float(i != HUE))
        for i, (low, high) in enumerate(_factor_range(i, s) for i, s in enumerate(recipe.jitter))
    ]
    return ViewParams(
        boxes=boxes,
        flip=columns["flips"][:, 0] < recipe.flip,
        vertical_flip=columns["flips"][:, 1] < recipe.vertical_flip,
        jitter=Jitter(torch.cat(factors, dim=1), columns["order"].argsort(dim=1, stable=True)),
        gray=gate_B["gray"] < recipe.gray,
        blur=gate_B["blur"] < recipe.blur,
        sigma=columns["blur"][:, 1] * (_SIGMA[1] - _SIGMA[0]) + _SIGMA[0],
        solarize=gate_B["solarize"] < recipe.solarize,
        invert=gate_B["invert"] < recipe.invert,
    )


def apply(recipe: Recipe, images: Tensor, params: ViewParams, size: int) -> Tensor:
    """Make the view that ``params`` describe; operations the recipe never uses are left out.

    Args:
        recipe: which operations there are.
        images: ``uint8 (B, C, H, W)``.
        params: of each image.
        size: pixels of the view.

    Returns:
        ``float32 (B, C, size, size)`` in [0, 1].
    """
    if recipe.resize == "centre":
        return _centre(images, size)
    height, width = images.shape[2:]
    rows = crop_matrix(params.boxes.top, params.boxes.height, params.vertical_flip, height, size)
    columns = crop_matrix(params.boxes.left, params.boxes.width, params.flip, width, size)
    x = separable(images.to(torch.float32), rows.div_(255), columns)
    if recipe.jitter_probability:
        x = jitter(x, params.jitter)
    if recipe.gray:
        x = gray_where(x, params.gray)
    if recipe.blur and size >= recipe.blur_from:
        blur = blur_matrix(params.sigma, params.blur, blur_kernel_size(size), size)
        x = separable(x, blur, blur)
    if recipe.solarize:
        x = torch.where(_per_image(params.solarize), solarize(x), x)
    if recipe.invert:
        x = torch.where(_per_image(params.invert), 1 - x, x)
    return x


def _factor_range(operation: int, strength: float) -> tuple[float, float]:
    """Where ColorJitter draws a factor from."""
    return (-strength, strength) if operation == HUE else (max(0.0, 1 - strength), 1 + strength)


def _per_image(on_B: Tensor) -> Tensor:
    return on_B[:, None, None, None]


def _centre(images: Tensor, size: int) -> Tensor:
    """Resize the shorter side to ``size``, antialiased, and cut the centre square."""
    height, width = images.shape[2:]
    x = images.to(torch.float32) / 255
    if min(height, width) != size:
        shorter = min(height, width)
        x = interpolate(x, (size * height // shorter, size * width // shorter), mode="bilinear", antialias=True)
    top, left = round((x.shape[2] - size) / 2), round((x.shape[3] - size) / 2)
    return x[:, :, top : top + size, left : left + size].contiguous()
