"""--deterministic, in a process of its own: it changes TensorFlow for good."""

import json


def test_a_deterministic_run_ends_and_knows_no_input_wait(tmp_path, job):
    code, _, _, said = job("train", tmp_path / "run", deterministic=True)
    assert code == 0, said
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["status"] == "done" and status["step"] == 6 and status["input_wait_share"] == 0
