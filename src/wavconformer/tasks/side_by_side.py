"""Several batches through a model at once, each on some of the CPU's cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# More at once would need more memory, and gain little: two threads within a product still work well together.
MOST = 4


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """What the function gives for each item, in order, for several items at once.

    Small products don't fill all cores, and what stands between them keeps one busy: batches side by side, with fewer
    threads for each, are done sooner. What is computed doesn't change. An error comes in its item's place, and ends it.
    """
    import torch

    threads = torch.get_num_threads()
    workers = min(threads, len(items), MOST)
    if workers < 2:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # new threads begin with the number that was set last, by any
