"""The former place of `IndependentMembers`, which saved configurations name as their ``trainer.strategy``."""

from memlight.modules.sequence.shares import IndependentMembers

__all__ = ["IndependentMembers"]
