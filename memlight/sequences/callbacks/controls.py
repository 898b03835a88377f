"""Controls for claims of savings: what else than knowledge in the weights can make relearning faster."""

from collections.abc import Sequence

from memlight.modules.sequence.module import SequenceModule
from memlight.sequences.callbacks.at_steps import AtScope, AtSteps


class Reinit(AtScope):
    """Draw a scope's weights anew.

    Args:
        scope: see `AtScope`.
        at: gradient steps done when it is drawn.
        std: of the normal law; null takes the law of the initial weights.
        seed: another one draws other values; members differ by their own seeds.
    """

    def __init__(self, scope: str, at: Sequence[int], std: float | None = None, seed: int = 0) -> None:
        super().__init__(scope, at)
        self.std = std
        self.seed = seed

    def act(self, module: SequenceModule) -> None:
        """Draw."""
        module.network.reset_scope(self.scope, std=self.std, seed=self.seed)
        module.event("reinit", f"{self.scope}; std: {'initial' if self.std is None else self.std}")


class Shuffle(AtScope):
    """Permute a scope's entries, each parameter's among themselves: their distribution stays, what they say does not.

    Args:
        scope: see `AtScope`.
        at: gradient steps done when they are permuted.
        seed: another one gives other permutations; members differ by their own seeds.
    """

    def __init__(self, scope: str, at: Sequence[int], seed: int = 0) -> None:
        super().__init__(scope, at)
        self.seed = seed

    def act(self, module: SequenceModule) -> None:
        """Permute."""
        module.network.shuffle_scope(self.scope, seed=self.seed)
        module.event("shuffle", self.scope)


class ResetOptimizer(AtSteps):
    """Forget the optimizer's moments and step counts, and nothing else.

    Args:
        at: gradient steps done when they are forgotten.
    """

    def act(self, module: SequenceModule) -> None:
        """Forget."""
        module.reset_optimizer()
        module.event("reset_optimizer", "moments and step counts")
