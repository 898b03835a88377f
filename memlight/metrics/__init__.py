"""What is measured: pure functions, streaming metrics, and one-pass measurements that know no Trainer."""

from memlight.metrics.classmem import ClassMem, ClassMemResult, measure_classmem
from memlight.metrics.layermem import LayerMem, LayerMemResult, measure_layermem
from memlight.metrics.unitmem import UnitMem, UnitMemResult, measure_unitmem

__all__ = [
    "ClassMem",
    "ClassMemResult",
    "LayerMem",
    "LayerMemResult",
    "UnitMem",
    "UnitMemResult",
    "measure_classmem",
    "measure_layermem",
    "measure_unitmem",
]
