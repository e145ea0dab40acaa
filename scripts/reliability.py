#!/usr/bin/env python3
"""Runs the tests of faults, slow ones included, and makes RELIABILITY.md of what they came to.

    python scripts/reliability.py                          # all of them, then the page: an hour on two cores
    python scripts/reliability.py -- -k kill tests/training    # some, by pytest's words; the others' records stay
    python scripts/reliability.py --page_only              # the page from the records that are there

Records are lines of results/reliability.jsonl, which the tests marked `fault` append (tests/reference/fault_records.py);
of one test the newest counts.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECORDS = ROOT / "results" / "reliability.jsonl"
PAGE = ROOT / "RELIABILITY.md"
_HEAD = """# What was done to runs, and what was lost

Made by `python scripts/reliability.py` from [results/reliability.jsonl](results/reliability.jsonl), which the tests marked `fault`
write when that script runs them, and `scripts/soak.py --record`: each does something bad to a run, as often as "tried" says, and
fails unless what stands under "what held" holds. A failure puts its message under "lost". Of each test the newest outcome
counts.
"""


def newest(lines):
    """Records from lines of JSON, the last of each test, in the order in which tests came first."""
    found = {}
    for line in lines:
        row = json.loads(line)
        found[row["test"]] = row
    return list(found.values())


def page(rows):
    """The page's text from records."""
    faults = {}
    for row in rows:
        faults.setdefault((row["fault"], row["holds"]), []).append(row)
    lines = ["| fault | tried | lost | what held | measured | seconds | tests |", "|---|---|---|---|---|---|---|"]
    lines += [_line(fault, holds, of_it) for (fault, holds), of_it in sorted(faults.items())]
    losses = sum(row["lost"] is not None for row in rows)
    total = (f"{len(faults)} faults, tried {sum(row['tried'] for row in rows):,} times in {len(rows)} tests from "
             f"{min(row['date'] for row in rows)} to {max(row['date'] for row in rows)}. "
             f"{f'{losses} of the tests lost something.' if losses else 'Nothing was lost.'}") if rows else "Nothing was tried."
    return "\n".join([_HEAD, total, "", *lines, ""])


def _line(fault, holds, rows):
    lost = "; ".join(sorted({row["lost"] for row in rows if row["lost"] is not None})) or "nothing"
    measured = "; ".join(sorted({row["measured"] for row in rows if row["measured"]})) or "-"
    files = ", ".join(f"`{name}`" for name in sorted({row["test"].partition("::")[0] for row in rows}))
    seconds = sum(row["seconds"] for row in rows)
    cells = [fault, f"{sum(row['tried'] for row in rows):,}", lost, holds, measured, f"{seconds:,.0f}", files]
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page_only", action="store_true", help="make the page of the records that are there; run nothing")
    parser.add_argument("words", nargs="*", help="after --: pytest's own words, to run some of the tests")
    given, code = parser.parse_args(), 0
    if not given.page_only:
        command = [sys.executable, "-m", "pytest", "-m", "fault", *given.words]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, "TF_HUGEBATCH_FAULTS": str(RECORDS)}).returncode
    rows = newest(RECORDS.read_text(encoding="utf-8").splitlines())
    # Only the newest stay in the file too: it is kept with the project, and would grow with every run.
    RECORDS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
