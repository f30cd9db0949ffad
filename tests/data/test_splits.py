from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlsm_helpers.data.splits import split_groups
from vlsm_helpers.errors import DataError


def test_sixty_single_images_are_split_as_they_should_be():
    splits = split_groups(range(60), [number % 4 > 0 for number in range(60)])
    assert Counter(splits) == {"train": 36, "val": 12, "test": 12}
    lesions = Counter(split for number, split in enumerate(splits) if number % 4 > 0)
    assert lesions == {"train": 27, "val": 9, "test": 9}


def test_another_seed_gives_other_splits():
    assert split_groups(range(60), [True] * 60, seed=1) != split_groups(range(60), [True] * 60, seed=2)


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=3, max_size=80), st.integers(0, 5))
def test_groups_are_never_split_and_every_split_has_a_lesion(rows, seed):
    groups, lesions = zip(*rows, strict=True)
    by_group = {
        one: any(lesion for lesion, group in zip(lesions, groups, strict=True) if group == one) for one in groups
    }
    if sum(by_group.values()) < 3:  # each split needs a group with a lesion
        with pytest.raises(DataError, match="too few|foreground"):
            split_groups(groups, lesions, seed)
        return
    splits = split_groups(groups, lesions, seed)
    assert all(len({split for one, split in zip(groups, splits, strict=True) if one == group}) == 1 for group in groups)
    for split in ("train", "val", "test"):
        assert any(lesion for lesion, one in zip(lesions, splits, strict=True) if one == split)


def test_too_few_groups_and_too_few_lesions_are_told():
    with pytest.raises(DataError, match="There are 2 groups"):
        split_groups([0, 0, 1], [True, True, True])
    with pytest.raises(DataError, match="No mask of val and test would have foreground: 1 of 3"):
        split_groups([0, 1, 2], [True, False, False])
