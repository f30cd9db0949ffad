"""Crossings by hand; that they count as brute force does is tested with the search that uses them."""

import torch

from vlsm_helpers.fusion import simplex


def counted(values, truth, thresholds=(3,), steps=2):
    found = simplex.crossings(
        torch.tensor(values, dtype=torch.int32), torch.tensor(truth), torch.tensor(thresholds, dtype=torch.int32), steps
    )
    return dict(simplex.counts_above(found))


def test_a_pixel_is_above_where_the_weights_lift_it():
    # Of one image, a background pixel that the last two members predict (sums 4, 2, 0 as the first one's weight grows), and a
    # foreground pixel that only the first one predicts (sums 0, 4, 8).
    found = counted([[[0, 4]], [[2, 0]], [[2, 0]]], [[False, True]])
    assert len(found) == 6
    for (first, _, _), above in found.items():
        assert above.tolist() == [[[1], [0]]] if first == 0 else above.tolist() == [[[0], [1]]]


def test_on_the_threshold_is_not_above():
    found = counted([[[3]], [[0]], [[2]]], [[True]])
    assert {point for point, above in found.items() if above[0, 1, 0]} == {(2, 0, 0), (1, 0, 1), (0, 0, 2)}
    assert found[1, 1, 0].sum() == 0  # 3 in sum


def test_batches_of_images_are_concatenated():
    values, truth = torch.randint(0, 9, (3, 5, 7), dtype=torch.int32), torch.rand(5, 7) > 0.5
    cuts = torch.tensor([3, 9], dtype=torch.int32)
    whole = simplex.crossings(values, truth, cuts, 2)
    parts = [simplex.crossings(values[:, part], truth[part], cuts, 2) for part in (slice(0, 2), slice(2, 5))]
    for one, other in zip(simplex.counts_above(whole), simplex.counts_above(simplex.concatenate(parts)), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
