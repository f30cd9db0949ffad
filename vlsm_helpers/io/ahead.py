"""Work in threads while the caller does something else: decoding ahead of a network, writing behind it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], *, depth: int) -> Iterator[Result]:
    """`function(item)` of each item, in order, computed by one thread at most `depth` items ahead of what is taken.

    `items` is iterated in the caller's thread, so that it may be a generator that computes. At most `depth` items and results
    are held at a time. What was handed to the thread is finished, even where the caller stops early; the first error of
    `function` is raised where its result would be.

    >>> list(ahead(abs, [-2, -1], depth=1))
    [2, 1]
    """
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        for item in items:
            waiting.append(thread.submit(function, item))
            del item  # it may be large
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
