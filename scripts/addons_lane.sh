#!/usr/bin/env bash
# The add-ons lane: TensorFlow 2.15.1, Keras 2.15 and tensorflow-addons 0.23.0 in an environment of its own, and the tests
# that run there. Needs Python 3.11, which is the newest that this TensorFlow has wheels for.
#   scripts/addons_lane.sh             in a temporary environment
#   scripts/addons_lane.sh FOLDER      in FOLDER, which is made if it is not there and kept
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
  environment="$1"
else
  environment="$(mktemp -d)"
  trap 'rm -rf "$environment"' EXIT
fi
if [ ! -e "$environment/bin/python" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --no-compile --constraint requirements/addons.txt \
    '.[addons,demo]' pytest pytest-xdist
fi
export TF_CPP_MIN_LOG_LEVEL=3
# Without it the tests that need it would be skipped, and the lane would pass.
"$environment/bin/python" -W ignore -c 'import tensorflow_addons'
# Of the comparisons of layouts only these, for time: all of them are in the main lane.
"$environment/bin/python" -m pytest -n 2 --dist worksteal \
  tests/addons tests/contract tests/optimizers tests/schedules tests/layers tests/models/test_lenet.py \
  tests/training/test_step.py tests/training/test_batch_equivalence.py tests/test_keras_objects.py \
  tests/test_keras_versions.py \
  tests/test_main.py::test_one_run_from_words_to_picture tests/test_main.py::test_four_replicas_train_what_one_device_does \
  -k "not batch_equivalence or lars or lamb or lenet or every_replica"
