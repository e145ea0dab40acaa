"""Cells: every position once, padding marked, and each host the cells of its own replicas."""

import numpy as np
import pytest

from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import evaluation_batches, training_micro_batches
from tf_hugebatch.data.splits import Examples, Splits
from tf_hugebatch.layout import Layout

N = 23


def examples():
    """Image i shows the number i."""
    images = np.arange(N, dtype=np.uint8).reshape(N, 1, 1, 1)
    return Examples(images, np.arange(N, dtype=np.int32))


def cells(dataset):
    return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("micro, replicas, span", [(4, 1, None), (3, 4, None), (4, 4, 4), (2, 4, 6)])
def test_a_batch_is_its_positions_of_the_stream_each_once(micro, replicas, span):
    batch, updates, stream = 10, 5, Stream(3, N)
    layout = Layout(batch, micro, replicas, span)
    found = cells(training_micro_batches(examples(), stream, layout, 0, updates))
    per_update = layout.rounds * replicas
    assert len(found) == updates * per_update
    for update in range(updates):
        parts = found[update * per_update:(update + 1) * per_update]
        real = np.concatenate([cell["weight"] for cell in parts]) == 1
        positions = np.concatenate([cell["position"] for cell in parts])
        assert positions[real].tolist() == list(range(batch)) and (positions[~real] == batch).all()
        labels = np.concatenate([cell["label"] for cell in parts])
        assert labels[real].tolist() == stream.examples(update * batch, batch)[0].tolist()
        images = np.concatenate([cell["image"] for cell in parts])
        np.testing.assert_allclose(images.ravel() * 255, labels, atol=1e-4)


@pytest.mark.parametrize("hosts", [2, 4])
@pytest.mark.parametrize("training", [True, False])
def test_hosts_make_their_own_replicas_cells_and_together_all_of_them(hosts, training):
    replicas, layout = 4, Layout(10, 3, 4)

    def made(host):
        if training:
            return cells(training_micro_batches(examples(), Stream(1, N), layout, 1, 4, host))
        return cells(evaluation_batches(examples(), 3, replicas, host))

    alone, share = made((0, 1)), replicas // hosts
    per_host = [made((number, hosts)) for number in range(hosts)]
    rounds = len(alone) // replicas
    together = [cell for round_ in range(rounds) for host in per_host
                for cell in host[round_ * share:(round_ + 1) * share]]
    assert len(together) == len(alone)
    for one, other in zip(alone, together):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_going_on_at_an_update_is_going_on():
    layout, stream = Layout(7, 4, 1), Stream(0, N)
    whole = cells(training_micro_batches(examples(), stream, layout, 0, 6))
    rest = cells(training_micro_batches(examples(), stream, layout, 4, 6))
    for one, other in zip(whole[-len(rest):], rest, strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])


def test_who_asks_is_told_the_runs_own_update():
    told = []
    cells(training_micro_batches(examples(), Stream(0, N), Layout(7, 2, 2), 4, 6, reading=lambda *where: told.append(where)))
    assert told == [(4, 0, 2), (4, 1, 2), (5, 0, 2), (5, 1, 2)]


def test_the_fingerprint_knows_where_one_split_ends_and_the_next_begins():
    class Unread:  # images that are read on demand are known by their labels
        def __init__(self, labels):
            self.labels = labels

        def __len__(self):
            return len(self.labels)

    labels = examples().labels
    cut = [Splits(Unread(labels[:n]), None, Unread(labels[n:])).fingerprint() for n in (10, 11)]
    assert cut[0] != cut[1]
