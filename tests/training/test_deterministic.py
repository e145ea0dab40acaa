"""--deterministic, in a process of its own: it changes TensorFlow for good."""

import json
import subprocess
import sys


def test_a_deterministic_run_ends_and_knows_no_input_wait(tmp_path, job):
    code, _, _, said = job("train", tmp_path / "run", deterministic=True)
    assert code == 0, said
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["status"] == "done" and status["step"] == 6 and status["input_wait_share"] == 0


def test_a_run_that_did_not_ask_for_it_trains_where_the_process_is_deterministic_already(tmp_path):
    code = ("import sys, tensorflow as tf, tf_hugebatch as hb\n"
            "tf.config.experimental.enable_op_determinism()\n"
            "result = hb.train(hb.Settings(dataset='mnist5k', batch_size=100, micro_batch_size=100, train_steps=1,\n"
            "                              warmup_steps=0, evaluate_test=True, run_dir=sys.argv[1]))\n"
            "sys.exit(result.exit_code)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
