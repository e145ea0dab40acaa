#!/usr/bin/env bash
# The tests that take minutes (marked `slow`), which the plain test command leaves out.
set -euo pipefail
cd "$(dirname "$0")/.."
# Without them ResNet-50's parity rows, and the tests of the page, would be skipped, and the script would pass.
[ $# -gt 0 ] || python - <<'CHECK'
import importlib.util
import shutil
import sys

missing = [name for name in ("optax", "torch", "timm") if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"{', '.join(missing)} not installed, which rows of the parity table need: pip install '.[parity]' torch && "
             "pip install --no-deps timm. Other tests alone, as in scripts/slow_tests.sh tests/training, do not ask for them.")
if not (shutil.which("chromium") or shutil.which("chromium-browser")):
    sys.exit("no chromium, which the tests of the report's page look at it with: apt-get install chromium. Other tests alone, as in "
             "scripts/slow_tests.sh tests/training, do not ask for it.")
CHECK
python -m pytest -m slow "$@"
