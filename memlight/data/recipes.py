"""The named augmentation sets: what each view of each set may do to an image."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Ranges and probabilities of one kind of view; the operations run in the order of the fields.

    Attributes:
        resize: "crop" a random box and resize it, "stretch" the whole image to the square, or resize the shorter
            side and cut the "centre".
        crop_scale: smallest and largest share of the area, for "crop".
        size_factor: size of this view over the size asked for.
        flip: probability of a horizontal flip.
        vertical_flip: probability of a vertical flip.
        jitter: strengths of brightness, contrast, saturation and hue, as torchvision's ColorJitter.
        jitter_probability: of the jitter.
        gray: probability of grayscale.
        blur: probability of a Gaussian blur, sigma from 0.1 to 2 pixels.
        blur_from: the smallest view, in pixels, that is ever blurred.
        solarize: probability of inverting the upper half of the range.
        invert: probability of a negative.
    """

    resize: str = "crop"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    size_factor: float = 1.0
    flip: float = 0.0
    vertical_flip: float = 0.0
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_probability: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_from: int = 0
    solarize: float = 0.0
    invert: float = 0.0

    def output_size(self, size: int) -> int:
        """Pixels of a view when ``size`` was asked for; smaller views are rounded to a multiple of 8."""
        return size if self.size_factor == 1 else max(8, round(size * self.size_factor / 8) * 8)


@dataclass(frozen=True)
class ViewSet:
    """A named augmentation set.

    Attributes:
        recipes: one for each view; view v uses the one at ``v % len(recipes)``.
        num_views: how many views one step of its own protocol makes.
        mean: of each channel, of the normalisation that belongs to the set; None where it has none.
        std: by which each channel is divided after that; None where the set has no normalisation.
    """

    recipes: tuple[Recipe, ...]
    num_views: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


_SIMCLR = Recipe(flip=0.5, jitter=(0.8, 0.8, 0.8, 0.2), jitter_probability=0.8, gray=0.2, blur=0.5, blur_from=64)
_WEAK = Recipe(flip=0.5, jitter=(0.9, 0.9, 0.9, 0.5), jitter_probability=0.4, gray=0.1)
_UNITMEM_CODE = Recipe(flip=0.25, jitter=(0.9, 0.9, 0.9, 0.1), jitter_probability=0.9, gray=0.1)
_DINO = Recipe(crop_scale=(0.4, 1.0), flip=0.5, jitter=(0.4, 0.4, 0.2, 0.1), jitter_probability=0.8, gray=0.2, blur=1.0)

VIEW_SETS: dict[str, ViewSet] = {
    # Nothing random: what a probe sees.
    "clean": ViewSet((Recipe(resize="centre"),), num_views=1),
    # "Normal" of Wang et al. 2024, appendix B, with SimCLR's flip; the blur of Chen et al. 2020 only where it fits.
    "simclr": ViewSet((_SIMCLR,), num_views=2),
    # The same as printed: every view is flipped.
    "p_normal": ViewSet((replace(_SIMCLR, flip=1.0),), num_views=2),
    "weak": ViewSet((_WEAK,), num_views=2),
    # The appendix prints no jitter strengths for "strong": those of "weak".
    "strong": ViewSet((replace(_WEAK, flip=1.0, vertical_flip=1.0, jitter_probability=0.9, gray=0.5),), num_views=2),
    "independent": ViewSet((Recipe(vertical_flip=1.0, blur=0.8, invert=0.2),), num_views=2),
    # The authors' released UnitMem script: a flip inside a RandomApply, so 1/4.
    "unitmem_code": ViewSet((_UNITMEM_CODE,), num_views=10),
    # Jafari: the same, stretched instead of cropped, and scaled to [-1, 1] as the VQVAE expects.
    "var": ViewSet(
        (replace(_UNITMEM_CODE, resize="stretch"),), num_views=10, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    ),
    # Caron et al. 2021: two global views and eight local ones, 96 px for 224.
    "dino": ViewSet(
        (_DINO, replace(_DINO, blur=0.1, solarize=0.2))
        + (replace(_DINO, crop_scale=(0.05, 0.4), size_factor=96 / 224, blur=0.5),) * 8,
        num_views=10,
    ),
    # He et al. 2022; the mask is the module's.
    "mae": ViewSet((Recipe(crop_scale=(0.2, 1.0), flip=0.5),), num_views=1),
}
