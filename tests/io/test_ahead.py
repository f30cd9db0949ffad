import threading

import pytest

from vlsm_helpers.io.ahead import ahead


@pytest.mark.parametrize("depth", [1, 3])
def test_results_come_in_order_and_at_most_so_far_ahead(depth):
    begun, taken = [], []
    for result in ahead(lambda item: item**2, (begun.append(item) or item for item in range(9)), depth=depth):
        taken.append(result)
        assert len(begun) <= len(taken) + depth
    assert taken == [item**2 for item in range(9)]


def test_the_function_runs_in_a_thread_and_the_items_are_made_by_the_caller():
    here, made = threading.get_ident(), []
    items = (made.append(threading.get_ident()) for _ in range(2))
    assert all(ran_in != here for ran_in in ahead(lambda _: threading.get_ident(), items, depth=1))
    assert set(made) == {here}


def test_an_error_is_raised_where_its_result_would_be():
    results = ahead(lambda item: 1 / item, [1, 0, 2], depth=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_was_handed_over_is_finished_though_the_caller_stops():
    done = []
    results = ahead(done.append, range(5), depth=2)
    next(results)
    results.close()
    assert done == [0, 1, 2]
