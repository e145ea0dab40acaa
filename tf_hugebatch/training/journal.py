"""What a run says about itself while it trains: metrics.jsonl, and the same numbers as TensorBoard scalars."""

import contextlib
import math
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from . import hparams
from .step import METRICS

_SCALARS = ("loss", "accuracy", "learning_rate", "grad_norm", "weight_norm", "update_norm")
_NOT_SCALARS = ("kind", "split", "step", "epoch", "data_note")
_BY_SIZE = ("signal", "noise")  # of snr, lists beside batch_sizes


class _Measured:
    """Rows of the diagnostics: numbers of an update join its train row, numbers of variables make a row a diagnostic."""

    def __init__(self, columns):
        self._columns = columns

    def scalars(self, values):
        return {column.name: value for column, value in zip(self._columns, values) if column.path is None}

    def rows(self, values, place):
        found = {}
        for column, value in zip(self._columns, values):
            if column.path is not None:
                found.setdefault(column.kind, {}).setdefault(column.name, {})[column.path] = value
        return [{"kind": kind, **place, **vectors} for kind, vectors in found.items()]


class Journal:
    """Writes train and eval rows of one run.

    Args:
        folder: `records.RunFolder`.
        settings: `Settings` of the run. Every `log_every_steps` updates there is a train row, and at the run's end; rows
            carry epoch = examples read / N, and train rows the batch_size where it grows.
        note: {"data_note": words} where every number of the run carries words, else {}.
        columns: of the diagnostics (`diagnostics.Probes.columns`): what follows METRICS in a row of the step.
    """

    def __init__(self, folder, settings, note, columns=()):
        self._measured = _Measured(columns)
        self._folder, self._settings, self._note, self._writer = folder, settings, note, None
        self._stages = settings.stages
        self._every = settings.log_every_steps

    def go_on_after(self, step):
        """Drops the rows after update `step`, where the run begins or goes on.

        TensorBoard's scalars are made anew from those that stay, so that no update appears twice there either; a profile
        stays.
        """
        kept = self._folder.drop_metrics_after(step)
        if self._writer:
            self._writer.close()
        for events in (self._folder.path / "tensorboard").glob("events.out.*"):
            events.unlink()
        self._writer = EventFileWriter(str(self._folder.path / "tensorboard"))
        self._write_scalars(kept)
        self._add(hparams.started(self._settings, self._note), step=0)

    def train(self, metrics, last=False):
        """Rows of updates: NumPy [n, len(METRICS) + columns]; `last` when the run ends with them."""
        rows = []
        for i, values in enumerate(metrics.tolist()):
            named, measured = dict(zip(METRICS, values)), values[len(METRICS):]
            # A refused update was tried and not counted: its row stands at the update that it would have been.
            step = int(named["update"]) + (0 if named["applied"] else 1)
            if step % self._every == 0 or (last and i == len(metrics) - 1):
                scalars = {name: named[name] for name in _SCALARS}
                place = self._place(step)
                rows.append({"kind": "train", **place, **self._batch(step), **scalars, **self._measured.scalars(measured)})
                rows += self._measured.rows(measured, place)
        self._write(rows)

    def evaluation(self, split, step, result):
        """A row of one split's accuracy, top5 and loss after `step` updates."""
        self._write([{"kind": "eval", "split": split, **self._place(step), **result, **self._note}])

    def survey(self, name, step, numbers):
        """A row of a survey (training/surveys.py) after `step` updates."""
        self._write([{"kind": name, **self._place(step), **numbers}])

    def close(self, status, step, final):
        """Notes how the run ended after `step` updates (for TensorBoard's HParams) and closes the TensorBoard file."""
        for summary in hparams.ended(status, final):
            self._add(summary, step)
        self._writer.close()

    def release(self):
        """Closes the TensorBoard file of a run that was cut short."""
        if self._writer:
            with contextlib.suppress(Exception):  # what could not be written was said when it was tried
                self._writer.close()

    def _place(self, step):
        return {"step": step, "epoch": float(self._stages.epoch(step))}

    def _batch(self, step):
        """Of the update that made it `step` updates."""
        return {"batch_size": self._stages[self._stages.at(step - 1)].batch_size} if len(self._stages) > 1 else {}

    def _write(self, rows):
        self._folder.append_metrics(rows)
        self._write_scalars(rows)

    def _write_scalars(self, rows):
        # One event a row, made by hand: six calls of tf.summary.scalar cost over a millisecond an update, which a
        # small network at a small batch would feel.
        for row in rows:
            prefix = row["split"] if row["kind"] == "eval" else row["kind"]
            named = {}
            for name, value in row.items():
                if isinstance(value, dict):
                    named.update({f"{name}/{path}": part for path, part in value.items()})
                elif isinstance(value, list):
                    if name in _BY_SIZE:
                        named.update({f"{name}/{size}": part for size, part in zip(row.get("batch_sizes", ()), value)})
                elif name not in _NOT_SCALARS:
                    named[name] = value
            values = [
                Summary.Value(tag=f"{prefix}/{name}", simple_value=math.nan if value is None else value)
                for name, value in named.items()
            ]
            self._add(Summary(value=values), row["step"])
        self._writer.flush()

    def _add(self, summary, step):
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
