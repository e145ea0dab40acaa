#!/usr/bin/env bash
# The tests that take minutes (marked `slow`), which the plain test command leaves out.
set -euo pipefail
cd "$(dirname "$0")/.."
python -m pytest -m slow "$@"
