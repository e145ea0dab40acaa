"""Runs in processes that are killed at chosen moments.

    python tests/reference/killed_runs.py       # reads jobs, one a line of JSON, and answers each with a line

The server imports everything and starts nothing; each job is a fork of it, so a start costs no import. A job is
{"do": name of a function below, "arguments": {...}, "folder", "log", "plan": {...}}; of the plan

    "kill_at": n         SIGKILL just before the n-th file operation in the folder (from 1)
    "kill_after": s      SIGKILL after that many seconds
    "signals": [[text, n, number]]      that signal just before the n-th operation whose words contain the text
    "largest_file": n    SIGXFSZ, which kills as surely, inside the write that would make a file larger than n bytes

File operations are Python's own (opened for writing or to be sent to disk, renamed, removed, made); the last item stops
TensorFlow's in the middle.
"""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time

TESTS = pathlib.Path(__file__).parents[1]
HANGS = 300.0  # seconds, after which a job without "kill_after" is killed too
_OPERATIONS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir")


class Server:
    """Starts jobs in forks of one process that has imported everything; a context manager."""

    def __enter__(self):
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "TF_CPP_MIN_LOG_LEVEL": "3",
                        "CUDA_VISIBLE_DEVICES": "-1"}
        self._process = subprocess.Popen([sys.executable, __file__], env=surroundings, text=True, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE)
        return self

    def __exit__(self, *exception):
        self._process.stdin.close()
        self._process.wait(60)

    def __call__(self, do, folder, plan=None, **arguments):
        """(exit code, -9 for a killed one; seconds; file operations begun; what it printed) of one job."""
        log = f"{folder}.log"
        job = {"do": do, "arguments": arguments, "folder": str(folder), "log": log, "plan": plan or {}}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        code, seconds = json.loads(self._process.stdout.readline())
        text = pathlib.Path(log).read_text()
        return code, seconds, pathlib.Path(log + ".operations").read_text().splitlines(), text


# What a job does.


def train(folder, **changes):
    """Six updates, or what `changes` make of them; returns the exit code."""
    from reference import six_updates

    return six_updates.train(pathlib.Path(folder), **changes).exit_code


def train_on_one_thread(folder, **changes):
    """`train` where every op waits its turn."""
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    return train(folder, **changes)


def main(folder, words):
    """The main program with these words and the folder as --run_dir."""
    from tf_hugebatch import one_run

    return one_run.main([*words, f"--run_dir={folder}"], program="mnist_main", description="Train.", dataset="mnist5k")


def save(folder, updates, keep, also_keep):
    """Checkpoints after each of `updates`, of two variables that hold the update's number; then back to the first."""
    checkpoints, variables = small_checkpoints(folder, keep)
    for update in updates:
        for variable in variables:
            variable.assign(variable * 0 + update)
        checkpoints.save(update, {"update": update}, also_keep=also_keep)
        print(f"saved {update}", flush=True)
    checkpoints.forget_after(updates[0])
    return 0


def small_checkpoints(folder, keep):
    """(Checkpoints, variables) of a state that is nearly nothing."""
    import tensorflow as tf
    from tf_hugebatch.training.checkpoint import Checkpoints

    variables = [tf.Variable(tf.zeros([2000])), tf.Variable(0.0)]
    return Checkpoints(pathlib.Path(folder), identity={"seed": 0}, keep=keep, weights=variables[0], count=variables[1]), variables


# The server.


def serve():
    """Answers jobs until there are no more."""
    import keras  # noqa: F401
    from reference import six_updates
    from tf_hugebatch import one_run  # noqa: F401
    from tf_hugebatch.training import loop  # noqa: F401

    six_updates.splits(), six_updates.splits(500)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        started = time.monotonic()
        if not (child := os.fork()):
            _work(job)
        timer = threading.Timer(job["plan"].get("kill_after", HANGS), os.kill, (child, signal.SIGKILL))
        timer.start()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timer.cancel()
        answers.write(json.dumps([code, time.monotonic() - started]) + "\n")
        answers.flush()


def _work(job):
    code = 99
    try:
        # Whoever runs the tests in the background has it ignored, and a second one would do nothing.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(log, 1), os.dup2(log, 2), os.close(0)
        _follow(job["plan"], job["folder"], os.open(job["log"] + ".operations", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        code = globals()[job["do"]](job["folder"], **job["arguments"])
    finally:
        if code == 99:
            import traceback

            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _follow(plan, folder, log):
    """Writes down file operations in `folder` as they begin, and does at each what the plan says."""
    begun, seen = 0, {}

    def operation(event, arguments):
        nonlocal begun
        if event not in _OPERATIONS or not _inside(folder, event, arguments):
            return
        begun += 1
        words = f"{event} {' '.join(str(word) for word in arguments[:2])}".replace(folder, "")
        os.write(log, (words + "\n").encode())
        if begun == plan.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        for text, nth, number in plan.get("signals", ()):
            if text in words:
                seen[text] = seen.get(text, 0) + 1
                if seen[text] == nth:
                    os.kill(os.getpid(), number)

    if size := plan.get("largest_file"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    sys.addaudithook(operation)


def _inside(folder, event, arguments):
    """Whether the event changes something in the folder; reading changes nothing."""
    path = arguments[0]
    if event == "open" and (isinstance(path, int) or set(arguments[1] or "w") <= set("rbt")):
        return False
    if event in ("os.remove", "os.rmdir") and arguments[-1] != -1:
        path = os.readlink(f"/proc/self/fd/{arguments[-1]}")  # rmtree names what it deletes by its folder's descriptor
    return os.fspath(path).startswith(folder)


if __name__ == "__main__":
    serve()
