"""Sweeps of fake runs (fake_run.py), in this process or in one that can be killed."""

import errno
import json
import os
import pathlib
import subprocess
import sys

from tf_hugebatch.tuning import space_file, sweep
from tf_hugebatch.tuning.plan import Base
from tf_hugebatch.tuning.screen import Screen

FAKE = (sys.executable, str(pathlib.Path(__file__).with_name("fake_run.py")))
WORDS = ("--dataset=mnist5k", "--batch_size=1000", "--epochs=4")
RATES = {"learning_rate": {"low": 0.01, "high": 0.5, "log": True, "points": 5}}
ROOT = pathlib.Path(__file__).parents[2]


def make_plan(folder, content=RATES, *, words=WORDS, method="random", trials=6, final_seeds=2, validation_examples=400,
              confirm=0):
    base = Base(words=words, dataset="mnist", validation_examples=validation_examples, final_seeds=final_seeds, method=method,
                confirm=confirm)
    space = space_file.make(content, base.search_words, where="space.json", grid=method == "grid")
    plan = base.plan(str(folder), space=space, trials=trials)
    return type(plan)(**{**vars(plan), "runner": FAKE})


def run(folder, jobs=2, stream=None, **of_a_plan):
    with Screen(stream) as screen:
        return sweep.run(make_plan(folder, **of_a_plan), jobs=jobs, screen=screen)


def in_a_process(folder, seconds="0", **of_a_plan):
    """A sweep in a process of its own; its runs take `seconds` each."""
    # Under nohup, as tests may run, children would ignore what a closed terminal sends.
    code = f"import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); sys.path.insert(0, {str(ROOT / 'tests')!r})\n" \
           f"from reference import small_sweeps\nsys.exit(small_sweeps.run({str(folder)!r}, **{of_a_plan!r}))"
    environment = {**os.environ, "FAKE_SECONDS": seconds, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)


def read(path):
    return json.loads(pathlib.Path(path).read_text())


def refuses_to_list(path):
    """In the place of os.listdir: root, who runs tests too, may read every folder."""
    raise PermissionError(errno.EACCES, "Permission denied", path)


def runs_of(folder, part="trials"):
    """{name: (the words it was given, times started)} of the run folders of a part."""
    return {path.name: (read(path / "settings.json"), (path / "starts").read_text().count("start"))
            for path in sorted((pathlib.Path(folder) / part).iterdir())}
