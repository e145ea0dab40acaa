"""Which layouts a planner tries, and in which order: by the number of micro-batches, from 1 up."""

from __future__ import annotations

from collections.abc import Iterator

from tf_hugebatch.layout import Layout, ceil_div, group_count

_SLACK = 1.1


def layouts(batch_size: int, replicas: int, span: int | None) -> Iterator[Layout]:
    """The layout with the smallest micro-batch for each number of rounds K = 1, 2, 3, ... that some micro-batch has.

    Smallest, so that padding is least. Each holds the batch-norm groups; where a tenth more makes a micro-batch hold a whole
    one it gets that, since a group across replicas costs two all-reduces in every layer, and two more on the way back.

    Args:
        batch_size: B.
        replicas: R.
        span: examples that share batch-norm statistics, or None.
    """
    group = ceil_div(batch_size, group_count(batch_size, span or 1))
    smallest = ceil_div(group, replicas)
    largest = group * ceil_div(ceil_div(batch_size, group), replicas)

    def rounds(size):
        return Layout(batch_size, size, replicas, span).rounds

    found = None
    for count in range(rounds(largest), rounds(smallest) + 1):
        low, high = smallest, largest
        while low < high:  # rounds never grow with the size
            middle = (low + high) // 2
            low, high = (low, middle) if rounds(middle) <= count else (middle + 1, high)
        size = group if low < group <= _SLACK * low and rounds(group) == count else low
        if rounds(size) == count and size != found:
            found = size
            yield Layout(batch_size, size, replicas, span)
