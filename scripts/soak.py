#!/usr/bin/env python3
"""Many runs in one process, beside as many by plain Keras, and a sweep of many trials: what they leave behind.

    python scripts/soak.py                          300 runs of each kind, then 200 trials: hours on two cores
    python scripts/soak.py --runs=40 --trials=0     some minutes
    python scripts/soak.py --record                 each part, once it has ended, into results/reliability.jsonl too

A run is LeNet-5 on mnist5k: three updates of 100 and one evaluation, run folder, checkpoint and all; a bare one is the same
model, compiled and fitted for as many updates by Keras alone and evaluated. Each kind has a process of its own. Every few runs,
after Python's collector, memory (resident), file handles, threads and logical devices are counted. A sweep's own process is
watched from outside. Exit code 1 when a run leaves more than 1.1 x Keras' memory, or anything else grows.
"""

import argparse
import contextlib
import datetime
import gc
import io
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

RUN = dict(dataset="mnist5k", model="lenet5", optimizer="sgd", batch_size=100, micro_batch_size=100, train_steps=3,
           eval_batch_size=250)
TRIAL = ("--dataset=mnist5k", "--model=lenet5", "--batch_size=1800", "--micro_batch_size=600", "--train_steps=1",
         "--warmup_epochs=0", "--validation_examples=400")
#: More than a bare run may be left by one of ours.
MOST = 1.1
#: MiB that a trial may leave in the sweep's process: its result and its line of the study.
MOST_OF_A_TRIAL = 0.1
#: Measured every so many runs; the first tenth of the measurements is warm-up.
EVERY = 5
PAGE = os.sysconf("SC_PAGE_SIZE")
RECORDS = pathlib.Path(__file__).resolve().parents[1] / "results" / "reliability.jsonl"


def measured(pid="self"):
    """What a process holds now: resident MiB, open file handles, threads, children."""
    process = pathlib.Path("/proc", str(pid))
    children = (process / "task" / process.resolve().name / "children").read_text().split()
    return {
        "memory_mib": int((process / "statm").read_text().split()[1]) * PAGE / 2**20,
        "handles": len(os.listdir(process / "fd")),
        "threads": len(os.listdir(process / "task")),
        "children": len(children),
    }


def growth(rows, name="memory_mib", per="runs"):
    """Least-squares slope of a column per run or trial, without the first tenth of the rows."""
    rows = rows[len(rows) // 10:]
    return statistics.linear_regression([row[per] for row in rows], [row[name] for row in rows]).slope


def grown(rows):
    """Names of what should stay as it is and does not: always more of it in the last quarter than ever in the first
    half, warm-up aside."""
    rows = rows[len(rows) // 10:]
    first, last = rows[: len(rows) // 2], rows[3 * len(rows) // 4:]
    return [name for name in ("handles", "threads", "children", "devices") if name in rows[0]
            and min(row[name] for row in last) > max(row[name] for row in first)]


def repeat(kind, runs):
    """Makes `runs` runs of a kind in this process; prints a row of measurements as JSON every few runs."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        once = {"ours": our_run, "keras": keras_run}[kind](folder)
        for run in range(1, runs + 1):
            with contextlib.redirect_stderr(io.StringIO()):
                once(run)
            if run % EVERY == 0:
                gc.collect()
                print(json.dumps({"runs": run, **measured(), "devices": len(tf.config.list_logical_devices())}), flush=True)


def our_run(folder):
    """A function that makes a run."""
    import tf_hugebatch as hb

    def once(run):
        path = f"{folder}/{run}"
        assert hb.train(hb.Settings(**RUN, run_dir=path)).status in ("done", "diverged")
        shutil.rmtree(path)

    return once


def keras_run(folder):
    """The same by Keras alone: it writes nothing."""
    import keras
    import numpy as np

    import tf_hugebatch as hb
    from tf_hugebatch import data, registry

    splits, row = data.load(hb.Settings(**RUN, run_dir=folder)), registry.find("model", RUN["model"])
    train, test = ((split.images.astype(np.float32) / 255, split.labels) for split in (splits.train, splits.test))
    first = [part[: RUN["batch_size"] * RUN["train_steps"]] for part in train]

    def once(run):
        del run
        model = row.resolve()(image_shape=(28, 28, 1), classes=10, seed=0, **row.arguments)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                      metrics=["accuracy"])
        model.fit(*first, batch_size=RUN["batch_size"], verbose=0)
        model.evaluate(*test, batch_size=RUN["eval_batch_size"], verbose=0)

    return once


def rows_of(kind, runs):
    """The rows that a process of its own prints, shown as they come."""
    command = [sys.executable, os.path.abspath(__file__), f"--kind={kind}", f"--runs={runs}"]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    rows = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            rows.append(json.loads(line))
            print(kind, line.rstrip(), flush=True)
    if process.returncode:
        raise SystemExit(f"{kind}: exit code {process.returncode} after {rows[-1]['runs'] if rows else 0} runs")
    return rows


def watch(process, ended, seconds=1.0):
    """Rows of what a sweep's process holds until it ends; `ended()` says how many of its trials have."""
    rows = []
    while process.poll() is None:
        with contextlib.suppress(OSError):  # it is just leaving
            row = {"trials": ended(), **measured(process.pid)}
            # Before its first trial has ended a sweep is still being set up.
            if row["trials"] and (not rows or row["trials"] > rows[-1]["trials"]):
                rows.append(row)
        time.sleep(seconds)
    return rows


def sweep_rows(trials):
    """Rows of a sweep of real runs, two at a time."""
    with tempfile.TemporaryDirectory() as folder:
        (space := pathlib.Path(folder, "space.json")).write_text('{"learning_rate": {"low": 0.001, "high": 0.1, "log": true}}')
        command = [sys.executable, "-m", "tf_hugebatch.sweep_main", *TRIAL, f"--space={space}", f"--trials={trials}",
                   "--jobs=2", "--final_seeds=0", f"--sweep_dir={folder}/sweep"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            return watch(process, lambda: ended_in(f"{folder}/sweep"))


def ended_in(sweep_dir):
    """Trials of a sweep that have ended."""
    try:
        counts = json.loads(pathlib.Path(sweep_dir, "result.json").read_text())["trials"]
    except FileNotFoundError:
        return 0
    return sum(counts.values())


def judged_runs(ours, keras):
    """(what was measured, in words; whether it holds) of the rows of our runs and of plain Keras'."""
    slopes, more = (growth(ours), growth(keras)), grown(ours)
    came_to = (f"{slopes[0]:.2f} MiB a run, plain Keras {slopes[1]:.2f}; "
                f"{', '.join(f'{name} {ours[-1][name]}' for name in ('handles', 'threads', 'devices'))} at the end; "
                f"grown: {', '.join(more) or 'none'}")
    return came_to, slopes[0] <= MOST * max(0.0, slopes[1]) and not more


def judged_sweep(rows, trials):
    """(what was measured, in words; whether it holds) of the rows of a sweep's process."""
    slope, more = growth(rows, per="trials"), grown(rows)
    came_to = (f"its process grew by {1024 * slope:.1f} KiB a trial, "
                f"{', '.join(f'{name} {rows[-1][name]}' for name in ('handles', 'threads', 'children'))} at the end; "
                f"grown: {', '.join(more) or 'none'}")
    return came_to, rows[-1]["trials"] >= trials - 1 and slope <= MOST_OF_A_TRIAL and not more


def record(fault, holds, judge, came_to, held, seconds):
    """A line of the kind that the tests of faults write (tests/reference/fault_records.py)."""
    row = {"fault": fault, "holds": holds, "tried": 1, "measured": came_to, "lost": None if held else came_to,
           "seconds": round(seconds, 1), "test": f"scripts/soak.py::{judge.__name__}",
           "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat()}
    with open(RECORDS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def main(argv=None):
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="of each kind, in one process (300; 0: none)")
    parser.add_argument("--trials", type=int, default=200, help="of a sweep (200; 0: none)")
    parser.add_argument("--kind", choices=("ours", "keras"), help="only these runs, in this process")
    parser.add_argument("--record", action="store_true", help="what each part came to, into results/reliability.jsonl")
    options = parser.parse_args(argv)
    if options.kind:
        repeat(options.kind, options.runs)
        return 0
    parts = []
    if options.runs:
        parts.append((f"{options.runs} runs in one process", "memory within 1.1 x plain Keras', handles, threads and devices flat",
                      judged_runs, lambda: [rows_of(kind, options.runs) for kind in ("ours", "keras")]))
    if options.trials:
        parts.append((f"a sweep of {options.trials} real runs", "the sweep's own memory, handles and children flat",
                      judged_sweep, lambda: [sweep_rows(options.trials), options.trials]))
    failed = False
    for fault, holds, judge, made in parts:
        started = time.monotonic()
        came_to, held = judge(*made())
        print(f"{fault}: {came_to}", flush=True)
        failed |= not held
        if options.record:
            record(fault, holds, judge, came_to, held, time.monotonic() - started)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
