"""Workers on this machine: started together, started again together, and never left behind."""

import importlib.util
import pathlib
import signal
import subprocess
import sys
import time
import types

import pytest
from reference.worker_processes import environment, wait_for

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "launch_local.py"
#: What the made workers know: their number, and how often they were started.
WORKER = """
import json, os, pathlib, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
me = pathlib.Path(f"worker-{index}-{os.getpid()}"); me.touch()
starts = len(list(pathlib.Path().glob(f"worker-{index}-*")))
"""


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("launch_local", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "AFTER_A_DEATH", 0.5)
    return module


@pytest.fixture
def launched(script, tmp_path, monkeypatch):
    """launched(what each worker does, ...): the exit code."""
    monkeypatch.chdir(tmp_path)

    def launch(does, restarts=0, workers=2, signals=()):
        options = types.SimpleNamespace(workers=workers, restarts=restarts, start_deadline=9.0)
        return script.launch(options, [sys.executable, "-c", WORKER + does], types.SimpleNamespace(received=list(signals)))

    return launch


def starts(folder):
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("worker-*"))


def is_alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def pids(folder):
    return [int(path.name.split("-")[2]) for path in folder.glob("worker-*")]


def test_workers_share_addresses_have_numbers_and_speak_behind_them(launched, capfd):
    assert launched("print(os.environ['TF_CONFIG'], os.environ['TF_HUGEBATCH_START_DEADLINE'])", workers=3) == 0
    lines = sorted(capfd.readouterr().out.splitlines())
    assert [line[:4] for line in lines] == ["[0] ", "[1] ", "[2] "]
    assert len({line[4:].replace(f'"index": {i}', "") for i, line in enumerate(lines)}) == 1
    assert lines[0].count("localhost:") == 3 and lines[0].endswith(" 9.0")


@pytest.mark.parametrize("there, found", [(0, ["-1", "-1"]), (1, ["-1", "-1"]), (2, ["0", "1"]), (5, ["0,1", "2,3"])])
def test_workers_have_gpus_of_their_own_or_none(script, monkeypatch, there, found):
    monkeypatch.setattr(script.gpus, "visible", lambda: [str(number) for number in range(there)])
    assert [own["CUDA_VISIBLE_DEVICES"] for own in script.devices_of(2)] == found


def test_the_exit_code_is_the_chiefs(launched):
    assert launched("sys.exit(3 if index == 0 else 0)") == 3


@pytest.mark.fault("kill -9 of a launched worker, again and again", holds="all start again, at most so often; none is left behind")
def test_when_one_dies_all_start_again_at_most_so_often(launched, tmp_path, capfd):
    dies = "os.kill(os.getpid(), signal.SIGKILL) if index == 1 and starts <= 2 else time.sleep(600 if starts <= 2 else 0)"
    assert launched(dies, restarts=1) == 137  # the chief waited, and was killed
    assert starts(tmp_path) == [0, 0, 1, 1]
    said = capfd.readouterr().out
    assert "worker 1 was killed by SIGKILL; restart 1 of 1" in said and said.count("launch_local: ") == 2
    assert launched(dies, restarts=5) == 0
    assert starts(tmp_path) == [0, 0, 0, 1, 1, 1]


def test_a_stopped_worker_is_replaced_when_the_others_have_left(launched, tmp_path):
    assert launched("os.kill(os.getpid(), signal.SIGSTOP) if index and starts == 1 else sys.exit(starts == 1)", restarts=1) == 0
    assert starts(tmp_path) == [0, 0, 1, 1]


@pytest.mark.parametrize("code", [2, 143])
def test_a_refusal_or_a_stop_is_not_tried_again(launched, tmp_path, code):
    other = "time.sleep(600)" if code == 2 else "sys.exit(143)"
    assert launched(f"sys.exit({code}) if index == 1 else {other}", restarts=3) == code
    assert starts(tmp_path) == [0, 1]


def test_the_children_of_workers_go_with_them(launched, tmp_path):
    child = "import os, pathlib, time; pathlib.Path(f'worker-9-{os.getpid()}').touch(); time.sleep(600)"
    leaves = f"import subprocess; subprocess.Popen([sys.executable, '-c', {child!r}])\n" \
             "while not list(pathlib.Path().glob('worker-9-*')): time.sleep(0.05)"
    assert launched(leaves, workers=1) == 0
    assert starts(tmp_path) == [0, 9]
    wait_for(lambda: not any(map(is_alive, pids(tmp_path))), seconds=10)


def start(folder, does, **changes):
    """The launcher as a process, with made workers; returns once both run."""
    program = f"""
import importlib.util, sys, types
spec = importlib.util.spec_from_file_location("launch_local", {str(SCRIPT)!r})
script = importlib.util.module_from_spec(spec); spec.loader.exec_module(script)
options = types.SimpleNamespace(workers=2, restarts=3, start_deadline=9.0)
sys.exit(script.launch(options, [sys.executable, "-c", {WORKER + does!r}], script.Signals()))
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(pids(folder)) == 2)
    return process


IGNORES = "[signal.signal(number, signal.SIG_IGN) for number in (2, 15)]; print('ready', flush=True); time.sleep(600)"


@pytest.mark.fault("kill -9 of the launcher", holds="no worker is left behind")
def test_killed_it_leaves_no_worker_behind(tmp_path):
    process = start(tmp_path, IGNORES)
    assert all(map(is_alive, pids(tmp_path)))
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, pids(tmp_path))), seconds=10)


def test_a_signal_is_handed_on_and_a_second_ends_all_at_once(tmp_path):
    process = start(tmp_path, IGNORES)
    for _ in range(2):
        assert process.stdout.readline().endswith("ready\n")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert all(map(is_alive, pids(tmp_path)))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 137 and not any(map(is_alive, pids(tmp_path)))


@pytest.mark.parametrize("words, said", [
    (["--workers=2"], "mnist_main"),
    (["--", "sweep_main"], "mnist_main"),
    (["--", "mnist_main", "--strategy=one"], "multiworker"),
    (["--workers=0", "--", "mnist_main"], "--workers"),
    (["--start_deadline=nan", "--", "mnist_main"], "--start_deadline"),
])
def test_mistakes(script, words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        script.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err
