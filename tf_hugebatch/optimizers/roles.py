"""Which variables are decayed and adapted: decided once, when an optimizer is built, from path and shape.

Plain Python. A role comes from the last part of the variable's path, else from its rank. `None` for an
exclusion means DEFAULT_EXCLUDED, `()` means exclude nothing, anything else is a list of regular expressions,
each searched in the whole path; a variable that any of them matches is excluded. Keras drops names of models,
of nested ones too, from the paths of what it loads from a `.keras` file ('net/encoder/dense/kernel' becomes
'dense/kernel'), and numbers layers without a name of their own anew in every process ('dense_3'): patterns are
searched in the paths that the optimizer was built with before it was saved.
"""

import collections
import collections.abc
import dataclasses
import re

ROLE_OF_LAST_PART = {
    "kernel": "kernel",
    "depthwise_kernel": "kernel",
    "pointwise_kernel": "kernel",
    "recurrent_kernel": "kernel",
    "bias": "bias",
    "gamma": "norm scale",
    "scale": "norm scale",
    "beta": "norm offset",
    "offset": "norm offset",
    "embeddings": "embedding",
}
# MLPerf's skip rule: biases and batch-norm variables get neither adaptation nor decay.
DEFAULT_EXCLUDED = ("bias", "norm scale", "norm offset")


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One row of the role table. `rule`, `decay_rule` and `adaptation_rule` say what decided."""

    path: str
    shape: tuple
    role: str
    rule: str
    decays: bool
    decay_rule: str
    adapts: bool
    adaptation_rule: str
    fixed_ratio: float | None = None


def classify(path, shape):
    """(role, rule): from the last part of `path`, else from the rank (2 and more: kernel; below: bias)."""
    last = path.split("/")[-1]
    if last in ROLE_OF_LAST_PART:
        return ROLE_OF_LAST_PART[last], f"name {last!r}"
    return ("kernel" if len(shape) >= 2 else "bias"), f"rank {len(shape)}"


def check_patterns(argument, patterns):
    """None, or the patterns as a tuple.

    Raises TypeError for a single str (it would be read letter by letter) or a non-str entry, ValueError for a
    pattern that is not a regular expression.
    """
    if patterns is None:
        return None
    if isinstance(patterns, str):
        raise TypeError(f"{argument}={patterns!r} is one string, and would be read letter by letter: "
                        f"give a list of regular expressions, [{patterns!r}]")
    if not isinstance(patterns, collections.abc.Iterable):
        raise TypeError(f"{argument}={patterns!r} is no list: give a list of regular expressions, () for nothing, or None")
    patterns = tuple(patterns)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument} holds {pattern!r}: every entry is a regular expression (str) that "
                            f"is searched in variable.path")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{argument} holds {pattern!r}, which is not a regular expression ({error}): "
                             f"escape its special characters") from error
    return patterns


def excluded_by(path, role, patterns, default=DEFAULT_EXCLUDED):
    """What excludes a variable, in words: with patterns None its role if that is in `default`, else the first pattern that
    matches; None if nothing does.
    """
    if patterns is None:
        return f"role {role}" if role in default else None
    return next((f"pattern {pattern!r}" for pattern in patterns if re.search(pattern, path)), None)


def refuse_unmatched(exclusions, paths):
    """Raises ValueError for a pattern of {argument: patterns or None} that matches none of `paths`: it is a typing error, or
    the name of another model.
    """
    unmatched = [f"{argument}={pattern}" for argument, patterns in exclusions.items() for pattern in patterns or ()
                 if not any(re.search(pattern, path) for path in paths)]
    if unmatched:
        raise ValueError(f"{', '.join(unmatched)}: matches no variable. Remove it or correct it; the paths are "
                         f"{', '.join(paths)}")


def as_saved(paths, saved):
    """(paths that patterns are searched in, those of `saved` that are gone).

    Where each of `paths` is what Keras leaves of the one at its place in `saved`, but for its numbers, these are `saved`. Where
    variables are gone, frozen since the optimizer was built, the others are found by their whole names, in order. Else it is
    another model, with `paths` of its own.
    """
    paths, saved = list(paths), list(saved)
    if len(paths) == len(saved) and all(map(_is_left_of, map(_unnumbered, paths), map(_unnumbered, saved))):
        return saved, []
    left, gone, found = iter(saved), [], []
    for path in paths:
        for before in left:
            if _is_left_of(path, before):
                found.append(before)
                break
            gone.append(before)
    return (found, [*gone, *left]) if paths and len(found) == len(paths) else (paths, [])


def _is_left_of(path, before):
    return before == path or before.endswith(f"/{path}")


def _unnumbered(path):
    return re.sub(r"_\d+(?=/|$)", "", path)


def assign(paths_and_shapes, exclude_from_decay=None, exclude_from_adaptation=None):
    """The role table, a list of Assignment in the order given."""
    table = []
    for path, shape in paths_and_shapes:
        role, rule = classify(path, shape)
        decay_rule = excluded_by(path, role, exclude_from_decay)
        adaptation_rule = excluded_by(path, role, exclude_from_adaptation)
        table.append(Assignment(
            path, tuple(shape), role, rule, decay_rule is None, decay_rule or "not excluded",
            adaptation_rule is None, adaptation_rule or "not excluded"))
    return table


def fix_ratios(table, ratios, gone=()):
    """The role table with a fixed trust ratio for each adapted variable, from `ratios`, pairs of pattern and number.

    gone: paths of variables that were there before a save. Raises ValueError for an adapted variable without exactly one
    pattern and for a pattern without one, there or gone: a ratio that is computed beside fixed ones, or that nothing takes, is
    a slip.
    """
    def fitting(path):
        return [pair for pair in ratios if re.search(pair[0], path)]

    adapted = [row for row in table if row.adapts]
    wrong = [f"{row.path} ({len(found)})" for row in adapted if len(found := fitting(row.path)) != 1]
    unused = [pattern for pattern, _ in ratios
              if not any(re.search(pattern, path) for path in (*(row.path for row in adapted), *gone))]
    if wrong or unused:
        raise ValueError(
            f"fixed_trust_ratios: every adapted variable takes exactly one; with another number of them: "
            f"{', '.join(wrong) or 'none'}; of no adapted variable: {', '.join(unused) or 'none'}. Correct the patterns; "
            f"the adapted variables are {', '.join(row.path for row in adapted)}")
    return [dataclasses.replace(row, fixed_ratio=fitting(row.path)[0][1]) if row.adapts else row for row in table]


def told_apart(paths):
    """The paths, in order; of equal ones, as variables without a name of their own have, the second is path#2."""
    seen = collections.Counter()
    for path in paths:
        seen[path] += 1
        yield path if seen[path] == 1 else f"{path}#{seen[path]}"


def render(table, decay_on, adaptation_on, more=()):
    """The role table as text; `decay_on` / `adaptation_on` say whether the optimizer does that at all.

    more: further columns, pairs of a heading and a function of a row of the table that gives its text.
    """
    header = ("variable", "shape", "role", "decided by", "decay", "adaptation", *(heading for heading, _ in more))

    def cell(on, included, rule):
        return ("yes" if included else f"no ({rule})") if on else "no (off)"

    rows = [header] + [(row.path, "x".join(map(str, row.shape)) or "scalar", row.role, row.rule,
                        cell(decay_on, row.decays, row.decay_rule),
                        (cell(adaptation_on, row.adapts, row.adaptation_rule) if row.fixed_ratio is None
                         else f"fixed at {row.fixed_ratio:.4g}"), *(text(row) for _, text in more))
                       for row in table]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip()
                     for row in rows)
