"""A run without TensorFlow: takes a run's words, writes what a run folder holds, resumes, stops on SIGTERM, exits as a run.

Its accuracy is best, 0.99, at (peak_)learning_rate 0.1, after five steps. What goes wrong is decided by the rate too: it
diverges above 0.9 (and at the rates of FAKE_UNSTABLE with seed 1002), fails between 0.6 and 0.9, and is refused below 0.002. `starts` in its folder counts its processes, and
a second process beside the first leaves the file `twice`. While the file FAKE_FULL exists it ends as on a full disk.
"""

import json
import math
import os
import pathlib
import signal
import sys
import time

STEPS = 5


def main(words):
    given = dict(word.lstrip("-").split("=", 1) for word in words)
    rate, folder = float(given.get("peak_learning_rate") or given["learning_rate"]), pathlib.Path(given["run_dir"])
    print("running", folder)
    if rate < 0.002:
        print("Refused: 2 problems.\n  * one thing\n  * another\n--help lists every flag.", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    pid = folder / "pid"
    if pid.exists() and alive(int(pid.read_text())):
        (folder / "twice").touch()
    pid.with_suffix(".tmp").write_text(str(os.getpid()))  # a signal may end it at any point until it listens
    os.replace(pid.with_suffix(".tmp"), pid)
    with open(folder / "starts", "a") as file:
        file.write("start\n")
    (folder / "settings.json").write_text(json.dumps({"schema_version": 1, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), **given}))
    status = json.loads((folder / "status.json").read_text()) if (folder / "status.json").exists() else {"step": 0}
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    for step in range(status["step"], STEPS):
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")) / STEPS)
        write(folder, status="running", step=step + 1)
        with open(folder / "steps", "a") as file:
            file.write(f"{step + 1}\n")
        if stopped:
            write(folder, status="interrupted", step=step + 1)
            return 128 + stopped[0]
    if os.path.exists(os.environ.get("FAKE_FULL", "")):
        write(folder, status="interrupted", step=STEPS, reason="it can't be written to any more (No space left on device)")
        return 1
    if rate > 0.9 or rate in json.loads(os.environ.get("FAKE_UNSTABLE", "[]")) and given["seed"] == "1002":
        write(folder, status="diverged", step=STEPS, reason="the loss was not finite", final={"train_loss": None})
        return 3
    if rate > 0.6:
        print("ValueError: too steep", file=sys.stderr)
        return 1
    accuracy = 0.99 - 0.1 * math.log10(rate / 0.1) ** 2 - 1e-4 * int(given["seed"])
    split = "test" if given["validation_examples"] == "0" else "validation"
    note = {"data_note": os.environ["FAKE_NOTE"]} if "FAKE_NOTE" in os.environ else {}
    write(folder, status="done", step=STEPS, reason=None, wall_seconds=1.5, final={f"{split}_accuracy": accuracy}, **note)
    return 0


def write(folder, **status):
    temporary = folder / "status.json.tmp"
    temporary.write_text(json.dumps({"pid": os.getpid(), "total_steps": STEPS, **status}))
    os.replace(temporary, folder / "status.json")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "fake_run" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
