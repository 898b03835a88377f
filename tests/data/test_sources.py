import numpy as np
import pytest
import torch

from memlight.data.sources import JoinedSource, MemorySource


def numbered(first: int, count: int, size: int = 2) -> MemorySource:
    """Image i is filled with ``first + i``."""
    images = torch.arange(first, first + count, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, size, size)
    labels = torch.arange(count) % 2
    return MemorySource(f"from {first}", images.contiguous(), labels, ["even", "odd"], f"{first} {count}")


@pytest.mark.parametrize("ids", [[0, 6, 3], [7, 9], [9, 0, 7, 6, 6, 8], []])
def test_ids_count_on_from_training_to_test_images(ids: list[int]) -> None:
    joined = JoinedSource(numbered(0, 7), numbered(7, 3))
    assert len(joined) == 10
    for asked in (ids, np.array(ids, dtype=np.int64)):
        assert joined.read(asked)[:, 1, 0, 1].tolist() == ids
    assert joined.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 0, 1, 0]


def test_fingerprint_is_of_both_halves() -> None:
    one = JoinedSource(numbered(0, 7), numbered(7, 3)).fingerprint()
    assert one == JoinedSource(numbered(0, 7), numbered(7, 3)).fingerprint()
    assert one != JoinedSource(numbered(0, 7), numbered(8, 3)).fingerprint()
    assert one != JoinedSource(numbered(7, 3), numbered(0, 7)).fingerprint()


def test_halves_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(3, 3\)"):
        JoinedSource(numbered(0, 7), numbered(7, 3, size=3))
