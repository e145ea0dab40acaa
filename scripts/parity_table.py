"""How far our optimizers are from their namesakes: measures, and writes docs/PARITY.md; docs/MIGRATION.md without measuring.

    pip install '.[parity]' torch && pip install --no-deps timm     the peers beside Keras; of timm only its optimizers run
    python scripts/parity_table.py      ResNet-50's 161 variables, 20 updates a row: twenty minutes on two busy cores
    python scripts/parity_table.py --migration      the migration page alone: a second

The rows, and the recordings with the reasons why some can't be had, are what the tests run: tests/reference/peers.py,
recorded.py and migration.py. The plain tests check that the pages say what these say and that the numbers shown are within
the bounds, and run every row on small variables; scripts/slow_tests.sh measures ResNet-50's again.
"""

import argparse
import importlib.metadata
import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from reference import migration, peers, recorded

PAGE, MIGRATION = ROOT / "docs" / "PARITY.md", ROOT / "docs" / "MIGRATION.md"
HEAD = """# Parity

Made by `scripts/parity_table.py`, which says how; checked by `tests/optimizers/test_parity.py`. Names without a prefix are
`tf_hugebatch.optimizers`'. Differences are the largest |ours - theirs| / max|theirs| of a variable. float32 on a CPU.

## Side by side on ResNet-50

161 variables (25.6 million parameters), weights and gradients from a seed, {updates} updates, a rate that ramps up and falls,
one gradient that is all zero. The neighbouring rule is ours with the arguments shown, and must be more than ten times as far.
Peers: {versions}.

| theirs | ours | differs by | the neighbour | differs by |
|---|---|---|---|---|
"""
APART = """
Not the same rule, and the nearest there is:

| theirs | ours | differs by | why |
|---|---|---|---|
"""
RECORDED = """
## Recorded

{cases} cases that the implementations themselves computed (`tests/goldens/README.md`): five variables, 8 updates, among them
what can no longer be run beside a current TensorFlow. {had} are ours with arguments derived from each case's description
(`tests/reference/recorded.py`); the neighbouring rule is far from every one of them. Cases without a difference of their own
are another's to the last bit.

| recorded | cases | ours | largest difference | least difference of a neighbour |
|---|---|---|---|---|
"""
CANNOT = """
What no argument expresses, and why:

"""


def group_of(case):
    """The implementation that a case was recorded from: 'optax_lars' of 'optax_lars-wd0.05-e1-all-n0'."""
    return case.split("-")[0]


def short(difference):
    return f"{difference:.1e}"


def page(rows, apart, groups, versions):
    """The page. rows: [(difference, neighbour's)] and apart: [difference] of peers' rows; groups: {implementation: pair}."""
    text = HEAD.format(updates=peers.UPDATES, versions=versions)
    for row, (ours, neighbour) in zip(peers.ROWS, rows, strict=True):
        change = ", ".join(f"{key}={peers.written(value)}" for key, value in row.neighbour.items())
        text += f"| `{row.theirs}` | `{row.ours}` | {short(ours)} | `{change}` | {short(neighbour)} |\n"
    text += APART
    for row, ours in zip(peers.APART, apart, strict=True):
        text += f"| `{row.theirs}` | `{row.ours}` | {short(ours)} | {row.apart} |\n"
    cases, cannot = list(recorded.CASES), recorded.INEXPRESSIBLE
    had = [case for case in cases if case not in cannot]
    text += RECORDED.format(cases=len(cases), had=len(had))
    for group in dict.fromkeys(map(group_of, cases)):
        counts = [sum(group_of(case) == group for case in which) for which in (cases, had)]
        shown = "   |   " if group not in groups else " | ".join(map(short, groups[group]))
        text += f"| {group} | {counts[0]} | {counts[1]} | {shown} |\n"
    text += CANNOT
    for reason in dict.fromkeys(cannot[case] for case in cases if case in cannot):
        text += f"* {reason}: {', '.join(case for case in cases if cannot.get(case) == reason)}\n"
    return text


def shown_in(text):
    """(rows, apart, groups, versions) as `page` takes them, read from a page."""
    number = r"(\d\.\de[+-]\d\d)"
    rows = re.findall(rf"^\| `.*` \| `.*` \| {number} \| `.*` \| {number} \|$", text, re.MULTILINE)
    apart = re.findall(rf"^\| `.*` \| `.*` \| {number} \| [^`]* \|$", text, re.MULTILINE)
    groups = re.findall(rf"^\| (\w+) \| \d+ \| \d+ \| {number} \| {number} \|$", text, re.MULTILINE)
    [versions] = re.findall(r"^Peers: (.*)\.$", text, re.MULTILINE)
    return ([tuple(map(float, pair)) for pair in rows], [float(value) for value in apart],
            {group: (float(ours), float(neighbour)) for group, ours, neighbour in groups}, versions)


def shapes_of_resnet50():
    """{path: shape} of the trainable variables."""
    import keras

    from tf_hugebatch import registry

    row = registry.find("model", "resnet50")
    model = row.resolve()(image_shape=(224, 224, 3), normalization=keras.layers.BatchNormalization, **row.arguments)
    return {variable.path: tuple(variable.shape) for variable in model.trainable_variables}


def of_recordings():
    """{implementation: (largest difference of ours, least of a neighbour)} over its cases that ours express."""
    found = {}
    for case in recorded.EXPRESSIBLE:
        ours = recorded.error(case, *recorded.arguments_of(recorded.CASES[case]["neutral"]))
        beside = recorded.error(case, *recorded.neighbour_of(case))
        worst, least = found.get(group_of(case), (0.0, float("inf")))
        found[group_of(case)] = max(worst, ours), min(least, beside)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--migration", action="store_true", help="write the migration page only")
    arguments = parser.parse_args()
    PAGE.parent.mkdir(exist_ok=True)
    MIGRATION.write_text(migration.page())
    if arguments.migration:
        return
    needed = sorted({name for row in peers.ROWS for name in peers.missing(row)})
    if needed:
        parser.error(f"{', '.join(needed)} not installed, which rows of the table need: the head of this script says how")
    problem, found = peers.Problem(shapes_of_resnet50()), []
    for row in (*peers.ROWS, *peers.APART):
        found.append(peers.measured(row, problem))
        print(f"{row.theirs}: {short(found[-1][0])}, neighbour {short(found[-1][1])}", flush=True)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("keras", "optax", "timm", "torch"))
    rows, apart = found[:len(peers.ROWS)], found[len(peers.ROWS):]
    PAGE.write_text(page(rows, [ours for ours, _ in apart], of_recordings(), versions))


if __name__ == "__main__":
    main()
