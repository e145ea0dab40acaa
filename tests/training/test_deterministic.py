"""--deterministic, in a process of its own: it changes TensorFlow for good."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_a_deterministic_run_ends_and_knows_no_input_wait(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from reference.six_updates import train
print(train({str(tmp_path / "run")!r}, deterministic=True).status)
"""
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                           text=True, timeout=300, check=False)
    assert ended.returncode == 0 and ended.stdout.splitlines()[-1] == "done", ended.stderr
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["step"] == 6 and status["input_wait_share"] == 0
