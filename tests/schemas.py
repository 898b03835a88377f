"""The schema of a table that a test writes as it is."""

import numpy as np

from memlight.storage.schema import Column, Schema
from memlight.storage.tables import Table


def schema_of(table: Table) -> Schema:
    kinds = {"i": int, "f": float, "b": bool, "U": str}
    return {name: Column(kinds[np.asarray(column).dtype.kind]) for name, column in table.items()}
