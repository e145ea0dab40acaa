"""The order in which training reads examples: an endless stream, one permutation per epoch.

Position p of the stream lies in epoch p // N at index p % N of that epoch's permutation; update t reads
positions t B .. t B + B - 1, so a batch may straddle two epochs and every update is a whole B. The order is a
function of (seed, epoch) alone: a run that resumes at update t asks for position t B and reads on as if it
had never stopped.
"""

import threading

import numpy as np

SHUFFLES = ("examples", "shards", "none")


def epoch_permutation(seed, epoch, n):
    """The order of `n` examples in one epoch, int64 [n].

        Generator(Philox(SeedSequence([seed, epoch]))).permutation(n)

    SeedSequence hashes the pair, so consecutive epochs (and seeds) are uncorrelated.

    Raises:
        ValueError: a negative seed or epoch (NumPy's message).
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch]))).permutation(n)


class Stream:
    """Which training example stands at which position of the endless stream.

    Args:
        seed: run seed, >= 0.
        n: number of training examples, >= 1.
        shuffle: "examples" (a new permutation every epoch), "none" (the stored order, every epoch), or "shards": the
            order is the one in which hosts stream their shards (data/shard_stream.py), and the numbers given here
            only count.

    Raises:
        ValueError: n below 1, a negative seed or an unknown word for shuffle.
    """

    def __init__(self, seed, n, shuffle="examples"):
        if n < 1:
            raise ValueError(f"n={n} training examples: there is nothing to read. Give at least 1.")
        if seed < 0:
            raise ValueError(f"seed={seed} is negative: NumPy's generators don't take that. Give 0 or more.")
        if shuffle not in SHUFFLES:
            raise ValueError(f"shuffle={shuffle!r} is unknown: give one of {', '.join(SHUFFLES)}.")
        self.seed, self.n, self.shuffle = seed, n, shuffle
        self._orders, self._lock = {}, threading.Lock()

    def examples(self, first, count):
        """Examples at positions first .. first + count - 1.

        Returns:
            (ids, epochs): int64 [count] in 0 .. n-1 and int32 [count].
        """
        epochs, places = np.divmod(np.arange(first, first + count, dtype=np.int64), self.n)
        ids = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            ids[here] = self._order(int(epoch))[places[here]]
        return ids, epochs.astype(np.int32)

    def _order(self, epoch):
        if self.shuffle != "examples":
            return np.arange(self.n)
        # Training and the recalibration of batch norm read one stream, each in a thread of its own.
        with self._lock:
            return self._permutation(epoch)

    def _permutation(self, epoch):
        if epoch not in self._orders:
            # A batch of at most n examples touches two epochs at most; older ones are never read again.
            while len(self._orders) >= 2:
                del self._orders[min(self._orders)]
            self._orders[epoch] = epoch_permutation(self.seed, epoch, self.n)
        return self._orders[epoch]
