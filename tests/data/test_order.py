import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hugebatch.data.order import Stream, epoch_permutation


def read(stream, updates, batch):
    """ids and epochs of the first `updates` batches, one after the other."""
    batches = [stream.examples(t * batch, batch) for t in range(updates)]
    return np.concatenate([ids for ids, _ in batches]), np.concatenate([epochs for _, epochs in batches])


def test_the_permutation_is_the_one_that_the_design_names():
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([7, 3])))
    np.testing.assert_array_equal(epoch_permutation(7, 3, 1000), generator.permutation(1000))


def test_the_permutation_of_seed_0_epoch_0_never_changes():
    """A changed order would break the resume of every run on disk."""
    assert epoch_permutation(0, 0, 10).tolist() == [8, 0, 3, 7, 6, 4, 1, 5, 2, 9]
    assert epoch_permutation(0, 1, 10).tolist() == [1, 5, 6, 4, 8, 7, 9, 3, 2, 0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60), data=st.data())
def test_every_epoch_holds_every_example_once_whatever_the_batch(seed, n, data):
    batch = data.draw(st.integers(1, n))
    updates = -(-3 * n // batch)
    ids, epochs = read(Stream(seed, n), updates, batch)
    np.testing.assert_array_equal(epochs, np.arange(updates * batch) // n)
    for epoch in range(3):
        assert sorted(ids[epochs == epoch]) == list(range(n))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 50), batch=st.integers(1, 50), other=st.integers(1, 50))
def test_the_order_does_not_depend_on_the_batch(n, batch, other):
    length = 150
    ids = read(Stream(5, n), -(-length // batch), batch)[0][:length]
    np.testing.assert_array_equal(ids, read(Stream(5, n), -(-length // other), other)[0][:length])


def test_a_batch_straddles_two_epochs():
    ids, epochs = Stream(1, 10).examples(8, 5)
    assert ids.dtype == np.int64 and epochs.dtype == np.int32
    assert epochs.tolist() == [0, 0, 1, 1, 1]
    assert ids.tolist() == [*epoch_permutation(1, 0, 10)[8:], *epoch_permutation(1, 1, 10)[:3]]


def test_reading_from_the_middle_goes_on_as_if_never_stopped():
    straight, _ = read(Stream(3, 101), 20, 37)
    resumed, _ = Stream(3, 101).examples(11 * 37, 9 * 37)
    np.testing.assert_array_equal(straight[11 * 37:], resumed)


def test_going_back_reads_the_same_again():
    stream = Stream(3, 10)
    first = stream.examples(0, 10)[0].copy()
    stream.examples(50, 10)
    np.testing.assert_array_equal(stream.examples(0, 10)[0], first)


def test_epochs_and_seeds_have_unrelated_orders():
    orders = [epoch_permutation(seed, epoch, 20_000) for seed in (0, 1) for epoch in (0, 1)]
    correlations = np.corrcoef(orders)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.03


def test_without_shuffling_the_stored_order_repeats():
    ids, epochs = Stream(1, 4, "none").examples(2, 8)
    assert ids.tolist() == [2, 3, 0, 1, 2, 3, 0, 1]
    assert epochs.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("arguments, names", [
    ((0, 0), ["n=0", "at least 1"]),
    ((-1, 5), ["seed=-1", "0 or more"]),
    ((0, 5, "files"), ["'files'", "examples, shards, none"]),
])
def test_bad_arguments_are_refused(arguments, names):
    with pytest.raises(ValueError) as refused:
        Stream(*arguments)
    assert all(name in str(refused.value) for name in names)


def test_two_threads_may_read_one_stream():
    """Training and the recalibration of batch norm do, far apart from one another."""
    stream, expected = Stream(3, 50), Stream(3, 50)
    wrong = []

    def read_on(first):
        alone = Stream(3, 50)
        for epoch in range(first, first + 300):
            try:
                if not np.array_equal(stream.examples(50 * epoch, 50)[0], alone.examples(50 * epoch, 50)[0]):
                    wrong.append(epoch)
            except KeyError as error:
                wrong.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=read_on, args=[first]) for first in (0, 1_000, 2_000)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    np.testing.assert_array_equal(stream.examples(0, 50)[0], expected.examples(0, 50)[0])
