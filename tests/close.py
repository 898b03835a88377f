"""How close two computations of one number are when their kernels differ.

A kernel is chosen by the processor and by the shapes it sees, and each adds up in an order of its own. So the same bits
are asked for only where the same kernel sees the same shapes: of files that were saved and read again, of a training
that goes on with the same batches, of an encoder before and after it is looked at. Where batches, threads, processes
or the code path differ, these tolerances hold.

A float32 sum of n products errs by about sqrt(n) x 6e-8 of their size, so a convolution over 128 channels (n = 1152) by
2e-6, and ten layers by up to 2e-5. `NETWORK` allows five times that.
"""

from collections.abc import Mapping

import numpy as np

from memlight.storage.tables import Table

NETWORK = {"rtol": 1e-4, "atol": 1e-5}
"""Of activations and gradients, whose size is about 1, and of distances between unit vectors."""

PIXELS = {"rtol": 0, "atol": 1e-4}
"""Of views, normalised: pixels of 0 to 1 err by 1e-6 in a resampling or a change of colours, nearly grey ones by ten
times that in their hue, and the division by a standard deviation makes it four times as much."""

SCORES = {"rtol": 1e-4, "atol": 1e-4}
"""Of differences of such numbers, divided by their sum or by the largest: what was relative is absolute."""

STATISTICS = {"rtol": 1e-3, "atol": 1e-5}
"""Of t and p, which divide by a spread that is small beside the numbers."""

DOUBLE = {"rtol": 1e-9, "atol": 1e-12}
"""Of sums in float64, whose every step errs by 1e-16; what is left of a difference of equal numbers is 0 to 1e-12."""


ACCURACIES = ("top1", "top5", "drop", "random", "excess")
"""What the names of columns begin with that hold shares of a probe's test images, or differences of such."""


def assert_tables_close(ours: Mapping[str, Table], theirs: Mapping[str, Table], answers: int = 0) -> None:
    """Ids, counts and words are identical, scores and statistics close.

    Args:
        ours: tables by name.
        theirs: the same from another run.
        answers: test images of a linear probe, of which one may be named otherwise: the fit ends where float32
            gradients do, and the logits of an image (about 10) then move by up to 0.3 with the last digits of its
            features. 0 allows none.
    """
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        other = theirs[name]
        assert list(table) == list(other), name
        for column, values in table.items():
            where = f"{name} {column}"
            if values.dtype.kind != "f":
                np.testing.assert_array_equal(other[column], values, err_msg=where)
            else:
                tolerance = STATISTICS if column in ("t", "p") else SCORES
                if answers and column.removeprefix("probe_").startswith(ACCURACIES):
                    tolerance = {"rtol": 0, "atol": 2.01 / answers}  # of differences and of the ends of their intervals
                np.testing.assert_allclose(other[column], values, **tolerance, err_msg=where)
