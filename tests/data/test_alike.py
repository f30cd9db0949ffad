import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlsm_helpers.data import alike


def test_near_duplicates_take_memory_by_the_image_not_by_the_pair():
    count = 2000
    looks = [np.full(4, 0.5, np.float32)] * count  # all alike: two million pairs
    tracemalloc.start()
    numbers, joined = alike.join(looks, [str(number) for number in range(count)], 0.98)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(numbers) == {0}
    assert len(joined) == count - 1
    assert peak < 60e6  # a list of the pairs would take 200 MB and more


@given(st.lists(st.integers(0, 5), min_size=2, max_size=25), st.integers(0, 9))
def test_groups_that_share_a_near_duplicate_become_one(motifs, seed):
    looks = [np.eye(6, dtype=np.float32)[motif] for motif in motifs]
    named = [str(number) for number in np.random.default_rng(seed).integers(0, 9, len(motifs))]
    numbers, joined = alike.join(looks, named, 0.9)
    parent = list(range(len(motifs)))  # by hand: until nothing changes
    for _ in range(6):
        for a in range(len(motifs)):
            for b in range(len(motifs)):
                if motifs[a] == motifs[b] or named[a] == named[b]:
                    parent[a] = parent[b] = min(parent[a], parent[b])
    assert all((numbers[a] == numbers[b]) == (parent[a] == parent[b]) for a in range(len(motifs)) for b in range(a))
    assert all(motifs[a] == motifs[b] and named[a] != named[b] and a < b for a, b in joined)
