"""Without a TPU: a refusal in good time, with what was tried and what to do. With one: the path of any other strategy."""

import os
import socket
import subprocess
import sys
import time

import pytest

import tf_hugebatch as hb
from tf_hugebatch.training import strategy
from tf_hugebatch.training.loop import train


@pytest.fixture
def silent_address():
    """Of a server that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"grpc://127.0.0.1:{server.getsockname()[1]}"


def refused(address, deadline):
    """(message, seconds) in a process of its own: an attempt that hangs keeps a part of TensorFlow to itself."""
    program = f"""
import time
from tf_hugebatch.training.tpu import tpu_strategy
started = time.monotonic()
try:
    tpu_strategy({address!r}, {deadline})
except ValueError as error:
    print(time.monotonic() - started, error)
"""
    environment = {name: value for name, value in os.environ.items() if "TPU" not in name}
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100)
    seconds, _, message = result.stdout.partition(" ")
    assert "--strategy=" in message and "--dry_run" in message
    return message, float(seconds)


def test_a_server_that_never_answers_is_given_up_at_the_deadline(silent_address):
    message, seconds = refused(silent_address, 2.0)
    assert 2 <= seconds < 10
    assert f"--tpu={silent_address}: no answer in 2 seconds" in message and "connecting to" in message


def test_no_name_and_none_in_the_environment():
    message, _ = refused(None, 20.0)
    assert "the environment names no TPU" in message


def run_main(*words, folder):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tf_hugebatch.imagenet_main", *words]
    started = time.monotonic()
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stderr, time.monotonic() - started


@pytest.mark.slow
def test_the_command_without_a_tpu_ends_with_2_and_writes_nothing(tmp_path, silent_address):
    words = ("--dataset=synthetic", "--dataset_size=64,8", "--batch_size=64", f"--tpu={silent_address}")
    code, errors, seconds = run_main(*words, folder=tmp_path)
    assert code == 2 and seconds < 60 + 20  # starting Python and TensorFlow on a busy machine included
    assert silent_address in errors and "--strategy=" in errors and "plan_main" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_machine_without_a_tpu_says_so_beside_the_other_mistake(tmp_path):
    code, errors, _ = run_main("--tpu=local", "--data_dir=.", folder=tmp_path)
    assert code == 2
    assert "--tpu=local" in errors and "no TPU that TensorFlow can drive" in errors and "data_dir" in errors


def test_a_run_on_whatever_the_resolver_finds(tmp_path, mirrored, monkeypatch):
    """Everything but the resolver: the cores are made of CPU here."""
    asked = []

    def found(name):
        asked.append(name)
        return mirrored(4)

    monkeypatch.setattr(strategy, "tpu_strategy", found)
    common = dict(dataset="mnist5k", model="lenet5", batch_size=24, micro_batch_size=6, train_steps=3, eval_batch_size=100)
    on_tpu = train(hb.Settings(**common, tpu="pod", run_dir=str(tmp_path / "tpu")))
    assert asked == ["pod"]
    alone = train(hb.Settings(**common, strategy="one", run_dir=str(tmp_path / "one")))
    assert on_tpu.final["train_loss"] == pytest.approx(alone.final["train_loss"], rel=1e-5)
    assert on_tpu.final["test_loss"] == pytest.approx(alone.final["test_loss"], rel=1e-5)
