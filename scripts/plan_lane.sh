#!/usr/bin/env bash
# The planner's lane: the TPU compiler in an environment of its own, and the tests that ask it. Linux; libtpu is 500 MB, under
# Google's own terms, which is why the plain test command does without it.
#   scripts/plan_lane.sh               in a temporary environment
#   scripts/plan_lane.sh FOLDER        in FOLDER, which is made if it is not there and kept
#   scripts/plan_lane.sh FOLDER -m slow     ResNet-50 too: further words go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
  environment="$1"
  shift
else
  environment="$(mktemp -d)"
  trap 'rm -rf "$environment"' EXIT
fi
if [ ! -e "$environment/bin/python" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --disable-pip-version-check --constraint requirements/ci.txt '.[test,plan]'
fi
# Without it the tests that need it would be skipped, and the lane would pass.
"$environment/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("libtpu") is None and "no libtpu")'
"$environment/bin/python" -m pytest tests/planning "$@"
