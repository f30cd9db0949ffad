"""Splitting groups of images (patients, videos) into train, val and test, or into folds, so that no group is in two."""

from collections.abc import Mapping, Sequence

import numpy as np

from vlsm_helpers.errors import DataError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}  # of the images, of those with a lesion and of those without


def split_groups(
    groups: Sequence[int], lesions: Sequence[bool], seed: int = 0, shares: Mapping[str, float] = SHARES
) -> list[str]:
    """The split of each image, by its group's number and whether its mask has a lesion: no group is in two splits.

    `shares`: of the images, by split. The largest groups are dealt out first, each to the split that lacks most of what it
    holds. Raises DataError for fewer groups than splits, and where a split gets no lesion.
    """
    groups, lesions = np.asarray(groups), np.asarray(lesions, bool)
    numbers = np.unique(groups)
    if len(numbers) < len(shares):
        raise DataError(
            f"There are {len(numbers)} groups (images that look nearly alike share one), too few for {', '.join(shares)}.",
            hint="add images of more patients or videos; if images of different patients look much the same, raise --alike; "
            "if there are no more patients, --group '(.+)' makes each image a group of its own, and scores will be too high.",
        )
    held = np.array([[(groups == one)[lesions == kind].sum() for kind in (True, False)] for one in numbers])
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    order = shuffled[np.argsort(-held[shuffled].sum(1), kind="stable")]
    wanted = np.outer(list(shares.values()), held.sum(0)).astype(float)
    lacking, dealt = wanted.copy(), {}
    bare, left = set(range(len(shares))), int((held[:, 0] > 0).sum())  # splits without a lesion, groups with one
    for place in order:
        gains = (lacking / wanted.clip(min=1)) @ held[place]
        if held[place, 0] and left <= len(bare):  # each of the last ones goes to a split that has none
            gains[[split for split in range(len(shares)) if split not in bare]] = -np.inf
        split = int(np.argmax(gains))
        if held[place, 0]:
            bare.discard(split)
            left -= 1
        lacking[split] -= held[place]
        dealt[numbers[place]] = list(shares)[split]
    splits = [dealt[number] for number in groups]
    without = [
        split
        for split in shares
        if not any(lesion for lesion, one in zip(lesions, splits, strict=True) if one == split)
    ]
    if without:
        raise DataError(
            f"No mask of {' and '.join(without)} would have foreground: {lesions.sum()} of {len(lesions)} masks have some.",
            hint=f"check that `group` names patients ({len(numbers)} groups), try another seed, or add images with foreground.",
        )
    return splits
