#!/usr/bin/env python3
"""Makes the report of results/mnist and results/frontier, and puts what RESULTS.md quotes from it between its marks.

    python scripts/write_results.py                  # report and page
    python scripts/write_results.py --page_only      # the page from the report that is there

The words around the marks are people's and stay. A mark is `<!-- made: NAME -->` ... `<!-- /made -->`.
"""

import argparse
import collections
import csv
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
REPORT = "results/mnist/report"
#: The figures of the paper that MNIST runs fill.
FIGURES = (3, 4, 5, 16, 18, 19, 21, 30, 31, 32, 33)
_MARK = re.compile(r"<!-- made: ([\w ]+) -->\n.*?<!-- /made -->", re.DOTALL)
_VERDICTS = ("agrees", "differs", "undecided", "not run")


def blocks(folder: pathlib.Path) -> dict[str, str]:
    """What stands between the marks, by name, from a report's folder."""
    return {"counts": _counts(folder), "table 3": _table_3(folder), "regimes": _regimes(folder),
            "figures": "\n\n".join(_figure(folder, number) for number in FIGURES)}


def written(page: str, made: dict[str, str]) -> str:
    """The page with its marks filled. Raises KeyError for a mark of another name."""
    return _MARK.sub(lambda mark: f"<!-- made: {mark[1]} -->\n{made[mark[1]]}\n<!-- /made -->", page)


def _counts(folder):
    """How many cells of Table 3 agree with the paper, differ, are undecided or were not run; the two ways to fill a cell apart,
    since the paper gives one number for both."""
    lines = [f"| network | batch | way | cells | {' | '.join(_VERDICTS)} |", "|---" * (4 + len(_VERDICTS)) + "|"]
    for (network, batch, way, chosen_on), of in _verdicts(folder, "network", "batch", "way", "searched_on").items():
        theirs = "" if chosen_on == network else f", taken over from {chosen_on}"
        counts = " | ".join(str(of[name]) for name in _VERDICTS)
        lines.append(f"| {network} | {int(batch):,} | {way}{theirs} | {of.total()} | {counts} |")
    return "\n".join(lines)


def _verdicts(folder, *by) -> dict[tuple, collections.Counter]:
    found: dict[tuple, collections.Counter] = {}
    with open(folder / "table3.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts = found.setdefault(tuple(row[name] for name in by), collections.Counter())
            counts[row["agreement"].partition(":")[0] or _VERDICTS[-1]] += 1
    return found


def _table_3(folder):
    """The table; of a network without any run a line."""
    empty = {network for (network,), of in _verdicts(folder, "network").items() if of.total() == of[_VERDICTS[-1]]}
    return "".join(f"{part.splitlines()[0]}\n\nNot run.\n\n" if re.match(r"### (\w+),", part) and
                   re.match(r"### (\w+),", part)[1] in empty else part for part in _parts(folder, "table3")).strip()


def _regimes(folder):
    """The regimes of MNIST."""
    return "".join(part for part in _parts(folder, "regimes") if part.startswith("### mnist")).strip()


def _parts(folder, name) -> list[str]:
    """A table without its title and its blanks, cut before each heading."""
    text = (folder / f"{name}.md").read_text(encoding="utf-8").partition("\n")[2].partition("<details>")[0]
    return re.split(r"(?m)^(?=### )", text)


def _figure(folder, number):
    """A figure's picture and caption, as the report has them, linked from the project's root."""
    text = (folder / "report.md").read_text(encoding="utf-8")
    ends = r"^\[figure|^<details>|^Blank|^## |\Z"  # its files, what fills its blanks, the next item
    section = re.search(rf"(?m)^## Figure {number}\n\n(.*?)(?={ends})", text, re.DOTALL)
    body = section[1].strip().replace("](figure", f"]({REPORT}/figure") if section else "Not run."
    return f"### Figure {number}\n\n{body}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page_only", action="store_true", help="quote the report that is there; make none")
    if not parser.parse_args().page_only:
        subprocess.run([sys.executable, "-m", "tf_hugebatch.report_main", "--runs=results/mnist,results/frontier", "--all",
                        f"--output={REPORT}"], cwd=ROOT, check=True)
    page = ROOT / "RESULTS.md"
    page.write_text(written(page.read_text(encoding="utf-8"), blocks(ROOT / REPORT)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
