"""A run that diverges and goes back: to where, how often, with which rate, and that kills change nothing."""

import shutil

import numpy as np
import pytest
from reference.interruptions import after, terminate
from reference.six_updates import UPDATES, rows_of, same_bits, settings, status_of, tensorboard_of, train, weights

import tf_hugebatch as hb
from tf_hugebatch.stops import RunStopped
from tf_hugebatch.training.step import METRICS, Step

REWIND = {"on_divergence": "rewind", "rewind_factor": 0.5}


def scale_of(step):
    return float(step.optimizer._learning_rate.scale.numpy())


def bad_at(patch, update, at_scale=1.0):
    """Update number `update` is refused, as the step's own guard refuses one, while rates are multiplied by `at_scale`."""
    ordinary = Step.__call__

    def call(step, iterator, updates):
        metrics = ordinary(step, iterator, updates)
        for row in metrics:
            if row[METRICS.index("update")] == update and scale_of(step) == at_scale:
                row[METRICS.index("loss")] = np.nan
        return metrics

    patch.setattr(Step, "__call__", call)


def run(run_dir, bad, monkeypatch, **changes):
    with monkeypatch.context() as patch:
        bad_at(patch, bad)
        return train(run_dir, **{**REWIND, "checkpoint_every_steps": 2, **changes})


def test_a_run_that_blows_up_goes_back_to_its_start_and_on_with_a_lower_rate(tmp_path):
    # Nothing is injected: the rate is absurd, and one rewind makes it an ordinary one.
    changes = {"learning_rate": 2.0**60, "lr_scaling": "none", "warmup_steps": 0, "schedule": "constant"}
    result = train(tmp_path / "run", **changes, on_divergence="rewind", rewind_factor=2.0**-63, checkpoint_every_steps=4)
    assert (result.status, result.exit_code) == ("done", 0)
    status = status_of(tmp_path / "run")
    [rewind] = status["rewinds"]
    assert (rewind["to"], rewind["scale"]) == (0, 2.0**-63) and rewind["reason"].endswith("was not finite")
    train_rows, _ = rows_of(tmp_path / "run")
    assert [row["step"] for row in train_rows] == list(range(1, UPDATES + 1)), "every update once, none of the bad ones"
    assert [row["learning_rate"] for row in train_rows] == [0.125] * UPDATES
    # The same bits as if the rate had been that from the start.
    assert same_bits(weights(result), weights(train(tmp_path / "plain", **{**changes, "learning_rate": 0.125})))
    assert all([step for step, _ in scalars] == sorted({step for step, _ in scalars})
               for scalars in tensorboard_of(tmp_path / "run").values())


def test_it_goes_back_to_the_last_checkpoint_and_only_the_rates_after_it_fall(tmp_path, monkeypatch):
    plain = train(tmp_path / "plain", checkpoint_every_steps=2)
    result = run(tmp_path / "run", 6, monkeypatch)
    assert result.status == "done" and status_of(tmp_path / "run")["rewinds"] == [
        {"update": 6, "to": 4, "scale": 0.5, "reason": "loss was not finite"}]
    rates, plain_rates = ([row["learning_rate"] for row in rows_of(tmp_path / name)[0]] for name in ("run", "plain"))
    assert rates == pytest.approx([*plain_rates[:4], *(rate / 2 for rate in plain_rates[4:])])
    assert not same_bits(weights(result), weights(plain))


def test_after_so_many_rewinds_a_divergence_is_the_result(tmp_path):
    result = train(tmp_path / "run", learning_rate=1e18, lr_scaling="none", warmup_steps=0, **REWIND, rewinds=2,
                   checkpoint_every_steps=3)
    assert (result.status, result.exit_code) == ("diverged", 3)
    assert [rewind["scale"] for rewind in status_of(tmp_path / "run")["rewinds"]] == [0.5, 0.25]


@pytest.mark.fault("SIGTERM before or after a rewind", holds="weights equal to the bit, the same rewinds, every row once")
@pytest.mark.parametrize("stopped_at, every", [
    pytest.param(3, 2, marks=pytest.mark.slow), (5, 4), pytest.param(5, 2, marks=pytest.mark.slow),
    pytest.param(6, 4, marks=pytest.mark.slow)])
def test_a_signal_before_or_after_a_rewind_changes_nothing(tmp_path, monkeypatch, stopped_at, every):
    # With --checkpoint_every_steps=4 a signal after update 5 saves that one too, and nobody may go back to it.
    whole = run(tmp_path / "whole", 6, monkeypatch, checkpoint_every_steps=every, train_steps=8)
    with monkeypatch.context() as patch:
        after(patch, stopped_at, terminate)
        interrupted = run(tmp_path / "cut", 6, patch, checkpoint_every_steps=every, train_steps=8, steps_per_loop=1)
    assert interrupted.status == "interrupted"
    result = run(tmp_path / "cut", 6, monkeypatch, checkpoint_every_steps=every, train_steps=8)
    assert same_bits(weights(result), weights(whole))
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    assert status_of(tmp_path / "cut")["rewinds"] == status_of(tmp_path / "whole")["rewinds"]


@pytest.mark.fault("an exception after a rewind", holds="weights equal to the bit, the same rewinds")
def test_a_crash_after_a_rewind_and_before_a_checkpoint_makes_the_same_rewind_again(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", 4, monkeypatch, checkpoint_every_steps=3)

    def crash():
        if (tmp_path / "cut/status.json").exists() and "rewinds" in status_of(tmp_path / "cut"):
            raise RuntimeError("the disk fell out")

    with monkeypatch.context() as patch:
        after(patch, 5, crash)
        with pytest.raises(RuntimeError):
            run(tmp_path / "cut", 4, patch, checkpoint_every_steps=3, steps_per_loop=1)
    assert len(status_of(tmp_path / "cut")["rewinds"]) == 1
    result = run(tmp_path / "cut", 4, monkeypatch, checkpoint_every_steps=3)
    assert same_bits(weights(result), weights(whole))
    assert status_of(tmp_path / "cut")["rewinds"] == status_of(tmp_path / "whole")["rewinds"]


def test_what_it_goes_back_to_outlives_newer_checkpoints(tmp_path, monkeypatch):
    # Two signals save updates 5 and 6; only one checkpoint is kept beside the regular one at 4.
    changes = {"checkpoint_every_steps": 4, "train_steps": 8, "keep_checkpoints": 1}
    whole = run(tmp_path / "whole", 7, monkeypatch, **changes)
    for update in (5, 6):
        with monkeypatch.context() as patch:
            after(patch, update, terminate)
            run(tmp_path / "cut", 7, patch, **changes, steps_per_loop=1)
    assert sorted(path.name[-1] for path in (tmp_path / "cut/checkpoints").glob("update-*")) == ["4", "6"]
    assert same_bits(weights(run(tmp_path / "cut", 7, monkeypatch, **changes)), weights(whole))


@pytest.mark.fault("the checkpoint that a rewind goes back to is gone", holds="it goes back to the one before it")
def test_a_damaged_regular_checkpoint_is_passed_over(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        after(patch, 5, terminate)
        run(tmp_path / "run", 6, patch, keep_checkpoints=9, steps_per_loop=1)
    shutil.rmtree(tmp_path / "run/checkpoints/update-0000000004")
    result = run(tmp_path / "run", 6, monkeypatch, keep_checkpoints=9)
    assert result.status == "done" and status_of(tmp_path / "run")["rewinds"][0]["to"] == 2


@pytest.mark.parametrize("changes, said", [
    ({"on_divergence": "rewind", "checkpoint_every_steps": "auto"}, "give --checkpoint_every_steps a number"),
    ({"rewinds": 2}, "without --on_divergence=rewind nothing goes back"),
    ({"rewind_factor": 0.1}, "without --on_divergence=rewind nothing goes back"),
    ({"on_divergence": "rewind", "rewind_factor": 1}, "rewind_factor"),
    ({"on_divergence": "rewind", "rewind_factor": 0}, "rewind_factor"),
    ({"on_divergence": "rewind", "rewinds": 0}, "rewinds"),
])
def test_what_makes_no_sense_is_refused(tmp_path, changes, said):
    with pytest.raises(hb.Refusal) as refused:
        settings(tmp_path / "run", **changes)
    assert said in str(refused.value)


def test_what_a_rewind_depends_on_is_part_of_the_experiment_only_where_there_are_any(tmp_path):
    def experiment(**changes):
        return settings(tmp_path, **changes).experiment_hash()

    assert experiment(checkpoint_every_steps=2) == experiment(checkpoint_every_steps=3)
    rewinding = experiment(**REWIND, checkpoint_every_steps=2)
    others = [experiment(), experiment(**REWIND, checkpoint_every_steps=3),
              experiment(on_divergence="rewind", rewind_factor=0.25, checkpoint_every_steps=2),
              experiment(**REWIND, rewinds=2, checkpoint_every_steps=2)]
    assert len({rewinding, *others}) == 5


@pytest.mark.fault("the only checkpoint that a rewind can go back to is gone", holds="failed by name: no divergence made up")
def test_without_a_checkpoint_to_go_back_to_the_run_fails_and_has_not_diverged(tmp_path, monkeypatch):
    folder = tmp_path / "run" / "checkpoints"
    with monkeypatch.context() as patch:
        after(patch, 1, lambda: shutil.rmtree(folder / "update-0000000000"))
        with pytest.raises(RunStopped, match="no intact checkpoint up to update 0 is left"):
            run(tmp_path / "run", 2, patch, checkpoint_every_steps=4, steps_per_loop=1)
    status = status_of(tmp_path / "run")
    assert status["status"] == "failed" and "the same command starts again" in status["reason"]
    assert run(tmp_path / "run", 6, monkeypatch, checkpoint_every_steps=4).status == "done"
