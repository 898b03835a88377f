"""How many images each split of a pair gets: as numbers, or as shares of a data set; and what is wrong with them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from memlight.errors import UserError

_SUM = 1e-6
_FEWEST = 2


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of images.

    Attributes:
        shared: that both encoders see.
        candidate: that only the candidate encoder sees.
        independent: that only the independent encoder sees.
        external: that neither sees: test images, or training images that are held out where there are no others.
    """

    shared: int
    candidate: int
    independent: int
    external: int

    @classmethod
    def of_shares(cls, shares: Sequence[float], num_train: int, num_test: int) -> "SplitSizes":
        """Sizes by shares of the images: shared, candidate, independent, and where there are no test images external.

        Of three shares, external images are as many as there are candidates: test images, or, where there are none,
        images that are held out first, and the shares are of the others. Of four, all are shares of all images. What
        is lost by rounding down is shared, unless the shares leave images out.

        Args:
            shares: three or four numbers of 0 or more that add up to 1, or less.
            num_train: number of training images.
            num_test: number of test images.

        Raises:
            UserError: they are no such numbers, or a share of so few images is none.
        """
        given = list(shares)
        total = sum(given)
        if len(given) not in (3, 4) or not all(0 <= share <= 1 for share in given):
            why = "three or four shares from 0 to 1 are needed: shared, candidate, independent (external)"
            raise UserError("split", given, why, "give such as 0.8 0.1 0.1")
        if total > 1 + _SUM:
            raise UserError("split", given, f"these add up to {total:g}", "give shares that add up to 1 or less")
        if len(given) == 4 and num_test:
            why = f"external images are among the {num_test} test images, which have no share"
            raise UserError("split", given, why, "give three shares")
        held_out = given[3] if len(given) == 4 else 0 if num_test else max(given[1:3])
        room = num_train if len(given) == 4 or num_test else num_train / (1 + held_out)
        shared, candidate, independent = (math.floor(share * room + _SUM) for share in given[:3])
        if len(given) == 4:
            external = math.floor(given[3] * num_train + _SUM)
        else:
            external = min(num_test or num_train, max(candidate, independent))
        if abs(total - 1) <= _SUM:
            shared = num_train - candidate - independent - (0 if num_test else external)
        sizes = cls(shared, candidate, independent, external)
        for name, share in zip(asdict(sizes), given, strict=False):
            if share > 0 and not getattr(sizes, name):
                raise UserError("split", given, f"{share:g} of {num_train} images is none ({name})", "give more images")
        return sizes

    @property
    def own(self) -> int:
        """Images that a member may be trained on."""
        return self.shared + self.candidate + self.independent

    def fitting(self, num_train: int, num_test: int) -> "SplitSizes":
        """The same sizes, or where they are too large ones in about the same proportion that a data set has."""
        wanted = [max(0, size) for size in asdict(self).values()]
        held_out = 0 if num_test else wanted[3]
        factor = min(1.0, num_train / max(1, sum(wanted[:3]) + held_out))
        shared, candidate, independent, external = (
            max(min(size, _FEWEST), math.floor(size * factor)) if factor < 1 else size for size in wanted
        )
        external = min(wanted[3], num_test) if num_test else external
        left = num_train - candidate - independent - (0 if num_test else external)
        return SplitSizes(max(0, min(shared, left)), candidate, independent, external)

    def require(
        self,
        num_train: int,
        num_test: int,
        *,
        batch_size: int | None = None,
        epoch: Callable[["SplitSizes"], int] | None = None,
    ) -> None:
        """Refuse sizes that a data set cannot give, with all that is wrong in one error, and sizes that it can.

        Args:
            num_train: number of training images.
            num_test: number of test images; without any, external images are training images that are held out.
            batch_size: images in a training step; None where nothing is trained.
            epoch: how many images an epoch shows with such sizes.

        Raises:
            UserError: names the arguments (shared, candidate, independent, external, batch_size).
        """
        wrong: dict[str, str] = {}
        for name, size in asdict(self).items():
            if size < 0:
                wrong[name] = "a number of images cannot be negative"
        needed = self.own + (0 if num_test else self.external)
        if not wrong and needed > num_train:
            others = f"`candidate={self.candidate}` and `independent={self.independent}`"
            among = "" if num_test or not self.external else f", of which `external={self.external}` would be held out"
            wrong["shared"] = (
                f"with {others} {needed} images are wanted, but there are {num_train} training images{among}"
            )
        if num_test and self.external > num_test:
            wrong["external"] = f"there are {num_test} test images"
        sizes = self.fitting(num_train, num_test)
        ways = [f"`{name}={size}`" for name, size in asdict(sizes).items()]
        if batch_size is not None and epoch is not None and batch_size > epoch(sizes):
            wrong["batch_size"] = f"an epoch has {epoch(sizes)} images"
            smaller = 2 ** max(0, int(math.log2(max(1, epoch(sizes)))))
            ways = [*(ways if len(wrong) > 1 else []), f"`batch_size={smaller}`"]
        if not wrong:
            return
        given = {**asdict(self), "batch_size": batch_size}
        if len(wrong) == 1:
            ((name, why),) = wrong.items()
            raise UserError(name, given[name], why, f"these images take {' '.join(ways)}")
        whys = "; ".join(f"`{name}={given[name]}`: {why}" for name, why in wrong.items())
        raise UserError(", ".join(wrong), None, whys, f"these images take {' '.join(ways)}")
