"""Which units get a picture."""

import torch

from memlight.analyses.unitmem.pictures import EXTREMES, ROWS, bottom_units, units_shown
from memlight.metrics.unitmem import UnitMem


def test_bottom_units_are_the_lowest_living_ones() -> None:
    results = {}
    for seed, (layer, units) in enumerate((("a", 30), ("b", 4))):
        mu = torch.rand(40, units, generator=torch.Generator().manual_seed(seed)) ** (1 + 4 * seed)
        mu[:, 2] = 0
        metric = UnitMem(units)
        metric.update(mu, torch.arange(40))
        results[layer] = metric.compute()
    every = [
        (float(result.unitmem[unit]), layer, unit)
        for layer, result in results.items()
        for unit in range(result.unitmem.numel())
        if not result.dead[unit]
    ]
    lowest = [(layer, unit) for _, layer, unit in sorted(every)[:EXTREMES]]
    assert bottom_units(results) == lowest and len(lowest) == EXTREMES
    assert bottom_units({"b": results["b"]}) == sorted(
        [("b", 0), ("b", 1), ("b", 3)], key=lambda named: float(results["b"].unitmem[named[1]])
    )
    shown = units_shown({layer: result.unitmem for layer, result in results.items()})
    assert shown["top_units"] == [(layer, unit) for _, layer, unit in sorted(every)[::-1][:ROWS]]
    assert [layer for layer, _ in shown["top_unit_of_each_layer"]] == ["a", "b"]
