from hypothesis import given
from hypothesis import strategies as st

from vlsm_helpers.training.feature_files import one_ahead


@given(st.lists(st.integers(), max_size=5))
def test_batches_are_written_once_the_next_one_has_been_started(batches):
    started, written = [], []
    for batch in one_ahead(started.append(batch) or batch for batch in batches):
        written.append(batch)
        assert len(started) == min(len(written) + 1, len(batches))
    assert written == batches
