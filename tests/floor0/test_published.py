"""The paper's numbers, as typed in, agree with each other and with the arithmetic that the paper implies."""

import pytest

from tf_hugebatch import durations, published


def test_table_2():
    mnist, cifar, imagenet = (published.BASELINES[name] for name in ("mnist", "cifar10", "imagenet2012"))
    assert (mnist.batch, mnist.epochs, mnist.top1, mnist.full) == (256, 30, 99.2, 60_000)
    assert (cifar.batch, cifar.epochs, cifar.top1, cifar.full) == (128, 200, 93.9, 50_000)
    assert (imagenet.batch, imagenet.epochs, imagenet.top1, imagenet.full) == (256, 90, 75.9, 1_281_167)
    assert imagenet.large == (2 * 1024, 64 * 1024) and mnist.large == (2 * 1024, 8 * 1024)


@pytest.mark.parametrize("baseline", published.BASELINES.values(), ids=lambda row: row.dataset)
def test_regimes_join_and_the_target_is_the_share_of_the_baseline(baseline):
    assert baseline.large[1] == baseline.huge[0]
    assert baseline.huge[1] == baseline.full == baseline.train_examples
    assert baseline.target == pytest.approx(published.TARGET_SHARE * baseline.top1, abs=0.005)


def test_ladder_rises_by_18_points_but_for_label_smoothing_and_takes_141_updates():
    accuracies = [rung.top1 for rung in published.LADDER]
    assert accuracies == [0.0977, 2.712, 4.563, 4.226, 18.95]
    assert [rung.rung for rung in published.LADDER] == list(range(5))
    assert published.LADDER_UPDATES == durations.updates_for_epochs(
        published.LADDER_EPOCHS, published.BASELINES["imagenet2012"].train_examples, published.LADDER_BATCH)


def test_table_3_words_and_numbers():
    rows = {row.solver: row for row in published.TABLE_3}
    assert list(rows) == ["sgd", "adagrad", "rmsprop", "adam", "lars"]
    assert rows["sgd"].original.words == rows["rmsprop"].layerwise.words == "diverges"
    assert rows["adam"].layerwise.words == "unstable" and rows["adam"].bounded.top1 == 99.4
    assert rows["lars"].original.top1 == 99.4 and rows["lars"].layerwise is None
    cells = [cell for row in rows.values()
             for cell in (row.baseline, row.original, row.layerwise, row.bounded) if cell is not None]
    assert all((cell.top1 is None) == bool(cell.words) for cell in cells)


def test_table_4_best_is_73_37():
    assert len(published.TABLE_4) == 8 and published.TABLE_4_BATCH == 128 * 1024
    best = max(published.TABLE_4, key=lambda row: row.top1)
    assert (best.top1, best.learning_rate, best.tpu_chips) == (73.37, 28, 256)
    assert {row.momentum for row in published.TABLE_4 if row.tpu_chips == 256} == {0.94429}


def test_mnist_results_of_the_text():
    found = {(row.batch, row.epochs, row.source.split(" (")[0]): row.top1
             for row in published.RESULTS if row.dataset == "mnist"}
    assert {row.top1 for row in published.RESULTS if row.source.startswith("figure 4 ")} == {95.8, 92.0}
    assert found[32_768, 30, "figure 5"] == 98.7
    assert found[32_768, 1_000, "figure 18"] == 99.16
    assert found[60_000, 1_000, "figure 19"] == 98.30
    assert found[32_768, 30, "figure 32"] == pytest.approx(100 - 12.7)
    assert found[32_768, 30, "figure 33"] == pytest.approx(100 - 3.8)


def test_table_1_is_in_order_of_date_and_ends_at_67_seconds():
    dates = [row.date for row in published.TABLE_1]
    assert dates == sorted(dates) and len(dates) == 11
    assert published.TABLE_1[0].seconds == 29 * 3600 and published.TABLE_1[-1].seconds == 67.1


def test_every_row_quotes_its_source():
    tables = [*published.BASELINES.values(), *published.LADDER, *published.TABLE_1, *published.TABLE_3,
              *published.TABLE_4, *published.MLPERF, *published.RESULTS, *published.OTHERS]
    assert all(row.source for row in tables)


def test_mlperf_rows_are_those_of_the_reference():
    rows = {(row.batch, row.version): row for row in published.MLPERF}
    assert len(rows) == len(published.MLPERF) == 9
    assert rows[32_768, "v1.0"].peak_rate == 29.0 and rows[32_768, "v1.0"].momentum == 0.929
    assert rows[65_536, "v0.7 TF"].momentum == 0.951807 and rows[65_536, "v0.7 JAX"].warmup_epochs == 33
    assert max(row.batch for row in published.MLPERF) < published.MLPERF_LARGEST_BATCH
    assert published.mlperf_row(8_192, "").peak_rate == 17.0
