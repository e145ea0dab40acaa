"""From the words of a command line to Settings, naming every problem at once.

absl.flags only tokenises (--name=value, --name value, --switch, --noswitch, unknown flags put aside); types,
checks, help and exit codes are ours. Flagfiles are read here: one --name=value a line, # starts a comment
line, a nested --flagfile is relative to the file that names it. A level is the command line, or one file; a
file is below what names it, and of two files named in one place the later is above the earlier.

A program that is more than one run has fields of its own beside those of a run, on the command line only: what is left
of its words, flagfiles among them, makes a run's command line. A program without runs has its fields in flagfiles too.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import textwrap
from collections.abc import Mapping, Sequence

from absl import flags

from tf_hugebatch import regimes, registry, versions
from tf_hugebatch.fields import FIELDS, GROUPS, Field
from tf_hugebatch.levels import Level
from tf_hugebatch.settings import Settings, resolve

_OWN_WORDS = ("flagfile", "help", "version")
# What flags are called in other programs, where spelling alone does not lead to ours.
_ELSEWHERE = {"lr": "learning_rate", "bs": "batch_size", "wd": "weight_decay", "beta1": "beta_1", "beta2": "beta_2",
              "eps": "epsilon", "steps": "train_steps", "gpus": "num_replicas", "model_dir": "run_dir", "output_dir": "run_dir",
              "logdir": "run_dir", "gradient_accumulation_steps": "micro_batch_size"}


@dataclasses.dataclass(frozen=True)
class Command:
    """A parsed command line. With problems, `settings` and `own` are only good for finding more of them.

    own: the program's own flags, each with its value or default. words: the command line without them.
    """

    settings: Settings | None
    problems: list[str]
    own: Mapping[str, object] = dataclasses.field(default_factory=dict)
    words: tuple[str, ...] = ()

    def refusal(self, more: Sequence[str] = ()) -> str:
        """One message with every problem, `more` (found by others) included; empty when there is none."""
        problems = [*self.problems, *more]
        if not problems:
            return ""
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        return "\n".join([f"Refused: {count}. Nothing was started, nothing was written.",
                          *(f"  * {problem}" for problem in problems), "--help lists every flag."])


def parse(argv: Sequence[str], *, program: str, description: str, dataset: str | None,
          own: Sequence[Field] = ()) -> Command:
    """Settings and problems of the words after the program's name.

    dataset: the program's own default, below everything a user gives; None for a program that takes no flags of a run,
    whose `settings` are None and whose flagfiles hold flags of its own. own: the program's own flags. --help prints this
    program's help, --version the versions of what it runs on; both raise SystemExit(0).
    """
    words = list(argv)
    if any(word in ("--help", "-help", "-h") for word in words):
        _say_and_leave(help_text(program, description, dataset, own))
    if "--version" in words:
        _say_and_leave(versions.text())
    problems: list[str] = []
    of_a_run = FIELDS if dataset is not None else {}
    own_fields = {field.name: field for field in own}
    given, files = _tokenise(words, "command line", problems, {**own_fields, **of_a_run})
    own_given = {name: given.pop(name) for name in own_fields if name in given}
    levels: list[Level] = [("command line", given if of_a_run else own_given)]
    for name in reversed(files):
        _read_flagfile(name, os.curdir, (), levels, problems, of_a_run or own_fields, own_fields)
    if dataset is None:
        merged = {name: text for _, of_level in reversed(levels) for name, text in of_level.items()}
        return Command(None, problems, _own_values(merged, own_fields, problems))
    own_values = _own_values(own_given, own_fields, problems)
    levels.append((f"default of {program}", {"dataset": dataset}))
    settings, refused = resolve(levels)
    left = (*(f"--flagfile={name}" for name in files), *(f"--{name}={value}" for name, value in given.items()))
    return Command(settings, [*problems, *refused], own_values, left)


def _own_values(given: Mapping[str, str], fields: Mapping[str, Field], problems: list[str]) -> dict[str, object]:
    values = {name: field.default for name, field in fields.items()}
    for name, text in given.items():
        try:
            if not text.strip():
                raise ValueError("an empty value; drop the flag")
            values[name] = fields[name].parse(text)
        except ValueError as error:
            problems.append(f"--{name}={text}: {error}")
    return values


class _Text(flags.ArgumentParser):
    """Keeps a value as it was written: settings.py checks it, with all the others."""

    def parse(self, argument: str) -> str:
        return argument


def _flag_values(fields: Mapping[str, Field]) -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    for name, field in fields.items():
        flag = flags.Flag(_Text(), None, name, None, "", boolean=field.is_boolean)
        flags.DEFINE_flag(flag, values, "tf_hugebatch")
    return values


def _split_flagfiles(words: Sequence[str], where: str, problems: list[str]) -> tuple[list[str], list[str]]:
    rest, files = [], []
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            rest.append(word)
            continue
        value = value if equals else next(remaining, "")
        if value:
            files.append(value)
        else:
            problems.append(f"--flagfile ({where}): it names no file; give --flagfile=FILE")
    return rest, files


def _tokenise(words: Sequence[str], where: str, problems: list[str], fields: Mapping[str, Field],
              own: Mapping[str, Field] | tuple = ()) -> tuple[dict[str, str], list[str]]:
    """{flag: text} and the flagfiles named; of a flag that stands twice the last one counts. own: the program's flags, where
    they may not stand here."""
    words, files = _split_flagfiles(words, where, problems)
    # absl's own word, which would have it pass over unknown ones.
    undefok = [word for word in words if word.lstrip("-").partition("=")[0] == "undefok"]
    problems += [_unknown(word, where, fields) for word in undefok]
    words = [word for word in words if word not in undefok]
    values = _flag_values(fields)
    while True:
        try:
            rest = values(["", *words], known_only=True)[1:]
            break
        except flags.Error:  # the last flag has no value; every other word is text to absl
            problems.append(f"{words[-1]} ({where}): a value is missing; give {words[-1]}=VALUE")
            words = words[:-1]
        except ValueError:  # --noswitch=value
            odd = next(word for word in words if _is_negated_with_value(word, fields))
            name = odd.partition("no")[2].partition("=")[0]
            problems.append(f"{odd} ({where}): a flag with 'no' takes no value; give --{name}=true or --{name}=false")
            words = [word for word in words if word != odd]
    for word in rest:
        problems.append(_unknown(word, where, fields, own))
    return {name: values[name].value for name in fields if values[name].present}, files


def _is_negated_with_value(word: str, fields: Mapping[str, Field]) -> bool:
    name, equals, _ = word.lstrip("-").partition("=")
    return bool(equals) and name.startswith("no") and name[2:] in fields and fields[name[2:]].is_boolean


def _unknown(word: str, where: str, fields: Mapping[str, Field], own: Mapping[str, Field] | tuple = ()) -> str:
    if not word.startswith("-"):
        return f"{word} ({where}): a word that is no flag; give --name=value"
    name = word.lstrip("-").partition("=")[0]
    if name in own or (name.startswith("no") and name[2:] in own):
        return f"{word} ({where}): a flag of the program, and a flagfile is of its runs; give it on the command line"
    if (ours := _ELSEWHERE.get(name)) in fields:
        return f"{word} ({where}): unknown flag; here it is --{ours}"
    return f"{word} ({where}): unknown flag{registry.close_matches(name, (*fields, *_OWN_WORDS)) or '; drop it'}"


def _read_flagfile(name: str, folder: str, above: tuple[str, ...], levels: list[Level],
                   problems: list[str], fields: Mapping[str, Field], own: Mapping[str, Field]) -> None:
    """Appends the file's level and those of the files it names; `above`: the chain of files that led here."""
    path = os.path.normpath(os.path.join(folder, os.path.expanduser(name)))
    named_by = f" (named by {above[-1]})" if above else ""
    if os.path.realpath(path) in map(os.path.realpath, above):
        chain = " -> ".join((*above, path))
        problems.append(f"--flagfile={name}{named_by}: the files name each other in a circle, {chain}; "
                        "break it")
        return
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors begin a text with a mark
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(f"--flagfile={name}{named_by}: {reason}; name a text file with one flag a line")
        return
    words = [line for line in lines if line and not line.startswith("#")]
    where = f"flagfile {path}"
    given, files = _tokenise(_one_word_a_line(words, where, problems, fields), where, problems, fields, own)
    levels.append((where, given))
    for nested in reversed(files):
        _read_flagfile(nested, os.path.dirname(path), (*above, path), levels, problems, fields, own)


def _one_word_a_line(lines: Sequence[str], where: str, problems: list[str], fields: Mapping[str, Field]) -> list[str]:
    words = []
    for line in lines:
        name, equals, _ = line.lstrip("-").partition("=")
        if not equals and len(line.split()) > 1:
            problems.append(f"{line} ({where}): a line without =; write --name=value")
        elif not equals and name in fields and not fields[name].is_boolean:
            problems.append(f"{line} ({where}): a value is missing; write {line}=VALUE")
        else:
            words.append(line)
    return words


# ------------------------------------------------------------------------------------------------------- help


def _say_and_leave(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # nobody reads to the end: `--help | head`
        # What the buffer still holds would be tried again on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(0)


def _default_in_words(field: Field, dataset: str | None = None) -> str:
    """The default of a flag as --help and README show it."""
    if dataset is not None and field.name == "dataset":
        return dataset
    baseline = regimes.of(dataset or FIELDS["dataset"].default)[FIELDS["regime"].default]
    if field.name in baseline:
        return f"{baseline[field.name].value}, by regime"
    stated = registry.DATASETS[dataset].settings.get(field.name) if dataset else None
    if stated is not None:
        return f"{stated}, by dataset"
    if field.row:
        return f"by {field.row}"
    if field.name == "model":
        return "by dataset"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return "not set" if field.default is None else str(field.default)


_PREFACE = (
    "--help prints this, --version the versions; --flagfile=FILE reads flags from a file, one --name=value a line.",
    "Priority: command line > flagfile > optimizer preset > regime > rows of optimizer, schedule, model > dataset.",
    "Another optimizer than the regime's drops the regime's optimizer settings and learning rate, another",
    "schedule its schedule settings; the rows of those chosen take their place.",
    "When a run is resumed experiment flags must agree; layout and reporting flags may change.",
)


def help_text(program: str, description: str, dataset: str | None, own: Sequence[Field] = ()) -> str:
    """Every flag by group, the program's own first: what it takes, its default, its kind, what it means."""
    lines = [f"usage: python -m tf_hugebatch.{program} [--name=value ...]", "", *textwrap.wrap(description, 100)]
    for group in dict.fromkeys(field.group for field in own):
        lines += ["", f"{group}:"]
        for field in own:
            if field.group == group:
                lines += _help_on(field, _default_in_words(field))
    if dataset is None:
        return "\n".join(lines)
    lines += ["", *_PREFACE]
    for group in GROUPS:
        lines += ["", f"{group}:"]
        for field in FIELDS.values():
            if field.group == group:
                lines += _help_on(field, f"{_default_in_words(field, dataset)}; {field.kind}")
    return "\n".join(lines)


def _help_on(field: Field, default: str) -> list[str]:
    wide = len(field.takes) >= 90
    flag = [f"  --{field.name}=NAME", *_indented(", ".join(field.choices))] if wide else [f"  --{field.name}={field.takes}"]
    return [*flag, *_indented(f"{field.help} [{default}]")]


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="      ", subsequent_indent="      ")


def readme_table() -> str:
    """The Markdown table of flags for README, made from the same fields as the flags themselves."""
    lines = ["| flag | values | default | kind | meaning |", "|---|---|---|---|---|"]
    for field in FIELDS.values():
        cells = (f"`--{field.name}`", ", ".join(field.choices) or field.takes, _default_in_words(field),
                 field.kind, field.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
