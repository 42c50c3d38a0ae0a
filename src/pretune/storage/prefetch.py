"""Run a function over items in threads, results in order, a bounded number ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item in order, in this thread where `threads` is 0.

    An exception of `work` is raised where its result would have been yielded. Closing the generator
    drops what has not begun and waits for what has, so that no thread is left behind.

    Args:
        work: thread-safe.
        items: taken as they are needed.
        threads: that work at the same time.
        ahead: results at most that wait for the consumer or are being worked on.
    """
    if threads < 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pretune-data")
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
