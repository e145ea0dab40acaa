"""How a global batch is cut: batch-norm groups, rounds of micro-batches, replicas.

A global batch is a sequence of positions 0 .. B-1. Two cuts are laid over it, and they answer to different masters:

* groups belong to the *experiment*: ceil(B / span) runs of consecutive positions whose sizes differ by at most 1.
  Examples of a group share their batch-norm statistics, wherever they are computed.
* cells belong to the *layout*: a cell is what one replica holds in one round, at most one micro-batch of positions;
  what it does not fill is padding. Rounds follow one another, replicas work side by side.

A group may lie inside one cell ("ghost"; Hoffer et al. 2017) or span several cells of one round ("grouped";
Ying et al. 2018, section 3.3), never two rounds: a round's activations are gone when the next one starts.
Everything here is arithmetic on integers; no array of length B exists.
"""

from dataclasses import dataclass

#: Slots of all rounds, padding included, beyond the fewest that a micro-batch may make: a slot costs what an example does.
MOST_WORK = 1.1


def ceil_div(a: int, b: int) -> int:
    """ceil(a / b) for integers, exact."""
    return -(-a // b)


def group_count(batch_size: int, span: int) -> int:
    """Number of batch-norm groups of a global batch: ceil(B / span)."""
    return ceil_div(batch_size, span)


@dataclass(frozen=True)
class Cell:
    """What one replica holds in one round: positions first .. first + count - 1; the rest is padding."""

    first: int
    count: int


class LayoutError(ValueError):
    """A layout that cannot hold the batch-norm groups; the message names the nearest sizes that can."""


@dataclass(frozen=True)
class Layout:
    """A global batch of `batch_size` examples on `replicas` replicas, `micro_batch_size` (m) on each at a time.

    Args:
        batch_size: B, examples in the global batch.
        micro_batch_size: m, examples (padding included) that one replica holds at once.
        replicas: R.
        span: examples that share batch-norm statistics, or None for a model without batch norm: then every
            example is a group of its own and any micro-batch size holds it.

    Raises:
        ValueError: a size below 1.
        LayoutError: the largest group is larger than a whole round, m x R.
    """

    batch_size: int
    micro_batch_size: int
    replicas: int = 1
    span: int | None = None

    def __post_init__(self):
        for name in ("batch_size", "micro_batch_size", "replicas", "span"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} is below 1; give at least one example, replica or micro-batch.")
        if self.largest_group > self.micro_batch_size * self.replicas:
            inside, across = self.largest_group, ceil_div(self.largest_group, self.replicas)
            sizes = f"--micro_batch_size={inside}" if self.replicas == 1 else (
                f"--micro_batch_size={across} (groups across replicas) or {inside} (a group in each replica)"
            )
            raise LayoutError(
                f"micro_batch_size={self.micro_batch_size} on {self.replicas} replica(s) holds "
                f"{self.micro_batch_size * self.replicas} examples a round, but a batch-norm group has "
                f"{self.largest_group} (bn_span={self.span} at batch_size={self.batch_size}) and cannot be cut over "
                f"rounds; use {sizes}, or a smaller --bn_span."
            )

    # Groups: the experiment's cut.

    @property
    def groups(self) -> int:
        """G = ceil(B / span); B when there is no batch norm."""
        return group_count(self.batch_size, self.span or 1)

    @property
    def largest_group(self) -> int:
        """Size of the largest group, ceil(B / G)."""
        return ceil_div(self.batch_size, self.groups)

    def group_start(self, group: int) -> int:
        """First position of a group, floor(group x B / G); `group_start(G)` is B."""
        return group * self.batch_size // self.groups

    # Cells: the layout's cut.

    @property
    def across_replicas(self) -> bool:
        """True when a group is larger than a micro-batch, so that its statistics need a collective."""
        return self.largest_group > self.micro_batch_size

    @property
    def groups_held(self) -> int:
        """Whole groups held by one cell, or by one round when groups span replicas.

        h consecutive groups have at most ceil(h B / G) examples.
        """
        held_by = self.micro_batch_size * (self.replicas if self.across_replicas else 1)
        return held_by * self.groups // self.batch_size

    @property
    def rounds(self) -> int:
        """K: micro-batches that each replica takes per update."""
        cells_or_rounds = ceil_div(self.groups, self.groups_held)
        return cells_or_rounds if self.across_replicas else ceil_div(cells_or_rounds, self.replicas)

    def cell(self, round_: int, replica: int) -> Cell:
        """The positions that `replica` holds in round `round_`; count 0 when only padding is left for it."""
        if self.across_replicas:
            start, stop = self._held(round_)
            start += replica * self.micro_batch_size
            stop = min(stop, start + self.micro_batch_size)
        else:
            start, stop = self._held(round_ * self.replicas + replica)
        return Cell(min(start, self.batch_size), max(0, stop - start))

    def _held(self, index: int) -> tuple[int, int]:
        first = min(index * self.groups_held, self.groups)
        last = min(first + self.groups_held, self.groups)
        return self.group_start(first), self.group_start(last)

    @property
    def padding(self) -> int:
        """Padded slots per update, K x R x m - B."""
        return self.rounds * self.replicas * self.micro_batch_size - self.batch_size

    def __str__(self):
        text = f"{self.replicas} replica(s) x {self.rounds} micro-batch(es) x {self.micro_batch_size} examples"
        if self.padding:
            text += f", {self.padding} of them padding"
        if self.span:
            where = "across replicas" if self.across_replicas else "inside replicas"
            text += f"; {self.groups} batch-norm groups of at most {self.largest_group}, {where}"
        return text


def one_round_micro_batch(batch_size: int, replicas: int, span: int | None) -> int:
    """The smallest micro-batch that holds the batch in one round, whole groups in each replica: a larger one is padding."""
    groups = group_count(batch_size, span or 1)
    return ceil_div(ceil_div(groups, replicas) * batch_size, groups)


def micro_batch_sizes(batch_size: int, replicas: int, span: int | None, largest: int) -> list[int]:
    """Micro-batch sizes worth trying up to `largest`, ascending; each holds the groups with little padding.

    Without batch norm: B divided evenly over 1, 2, 3, ... rounds. With it: whole groups in each replica, of so many a round
    that all rounds together have at most `MOST_WORK` times the slots of the fewest, and no size whose rounds a smaller one
    has too; else (when no group fits into `largest`) one group spread evenly over the replicas.
    """
    share = ceil_div(batch_size, replicas)
    if span is None:
        fewest = ceil_div(share, min(largest, share))
        return sorted({ceil_div(share, rounds) for rounds in range(fewest, fewest + 64) if rounds <= share})
    group = ceil_div(batch_size, group_count(batch_size, span))
    inside = [size for size in range(group, largest + 1, group) if size - group < share]
    if not inside:
        return [ceil_div(group, replicas)]
    smallest = {}  # by rounds
    for size in inside:
        smallest.setdefault(Layout(batch_size, size, replicas, span).rounds, size)
    fewest = min(rounds * size for rounds, size in smallest.items())
    return sorted(size for rounds, size in smallest.items() if rounds * size <= MOST_WORK * fewest)
