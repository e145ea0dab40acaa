"""Which layouts a planner tries, and in which order: by the number of micro-batches, from 1 up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tf_hugebatch.layout import Layout, ceil_div, group_count

_SLACK = 1.1
_ONE_BY_ONE = 8


def layouts(batch_size: int, replicas: int, span: int | None) -> Iterator[Layout]:
    """The layout with the smallest micro-batch for each number of rounds K = 1, 2, 3, ... that some micro-batch has.

    Smallest, so that padding is least. Each holds the batch-norm groups; where a tenth more makes a micro-batch hold a whole
    one it gets that, since a group across replicas costs an all-reduce in every layer.

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


def first(count: int, fits: Callable[[int], bool]) -> int | None:
    """The first of the numbers 0 .. count - 1 that fits, or None.

    The first 8 are asked one by one. After them strides double, since a full batch on a small slice takes hundreds of
    micro-batches; then what lies between the last that was refused and the first that fits is halved. So the answer was asked,
    and the number before it was asked and refused; that none of those that were passed over fits is taken from their having
    larger micro-batches than one that was refused.

    Args:
        count: how many there are.
        fits: asked of a number, never of one twice.
    """
    refused, number, stride = -1, 0, 1
    while number < count and not fits(number):
        if number == count - 1:
            return None
        refused = number
        stride *= 2 if number + 1 >= _ONE_BY_ONE else 1
        number = min(number + stride, count - 1)
    while number - refused > 1:
        middle = (refused + number) // 2
        refused, number = (refused, middle) if fits(middle) else (middle, number)
    return number if count else None
