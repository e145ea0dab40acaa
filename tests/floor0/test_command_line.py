"""Words of a command line, flagfiles, help; and that none of it needs TensorFlow."""

import subprocess
import sys

import pytest

from tf_hugebatch import command_line, parsers
from tf_hugebatch.fields import FIELDS, Field


def parse(*words, dataset="mnist"):
    return command_line.parse(words, program="mnist_main", description="Train MNIST.", dataset=dataset)


def settings_of(*words):
    command = parse(*words)
    assert command.problems == [] and command.refusal() == ""
    return command.settings


# Words.


def test_spellings_of_a_flag():
    assert settings_of("--batch_size=512").batch_size == 512
    assert settings_of("--batch_size", "512").batch_size == 512
    assert settings_of("-batch_size=512").batch_size == 512
    assert settings_of("--dry_run").dry_run is True
    assert settings_of("--dry_run=false").dry_run is False
    assert settings_of("--nodry_run").dry_run is False
    assert settings_of("--batch_size=512", "--batch_size=64").batch_size == 64


def test_a_switch_does_not_eat_the_word_after_it():
    settings = settings_of("--dry_run", "--batch_size=512")
    assert settings.dry_run is True and settings.batch_size == 512


def test_every_field_is_a_flag():
    for name in FIELDS:
        assert not any("unknown" in problem for problem in parse(f"--{name}=x").problems
                       if problem.startswith(f"--{name}=x (command line)")), name


def test_the_programs_own_dataset_is_below_what_is_given():
    assert parse(dataset="mnist5k").settings.dataset == "mnist5k"
    assert parse("--dataset=mnist", dataset="mnist5k").settings.dataset == "mnist"


def test_negative_numbers_are_values():
    [problem] = parse("--learning_rate", "-1").problems
    assert "--learning_rate=-1" in problem


# Problems.


@pytest.mark.parametrize("words, expected", [
    (["--foo=2"], ["--foo=2", "unknown flag"]),
    (["--lr=2"], ["--lr=2", "unknown flag; here it is --learning_rate"]),
    (["--optimzer=lars"], ["--optimzer=lars", "did you mean optimizer"]),
    (["--flagfil=x"], ["--flagfil=x", "did you mean flagfile"]),
    (["stray"], ["stray", "no flag"]),
    (["--seed"], ["--seed", "value is missing"]),
    (["--nodry_run=true"], ["--nodry_run=true", "takes no value", "--dry_run=true or --dry_run=false"]),
    (["--flagfile"], ["--flagfile", "names no file"]),
    (["--data_dir="], ["--data_dir=", "an empty value", "write none"]),
    (["--run_dir="], ["--run_dir=", "an empty value", "drop the flag"]),
    (["--optimizer=lars", "--exclude_from_decay="], ["--exclude_from_decay=", "empty", "write none"]),
    (["--dry_run="], ["--dry_run=", "an empty value"]),
    (["--flagfile=not/there.flags"], ["--flagfile=not/there.flags", "No such file"]),
])
def test_bad_words_are_problems_not_exits(words, expected):
    [problem] = parse(*words).problems
    assert all(part in problem for part in expected), problem


def test_one_message_names_everything():
    command = parse("--optimizer=larz", "--batch_size=70000", "--warmup_epochs=1", "--warmup_steps=3",
                    "--learning_rate=-1", "--foo=2", "--trust_bounds=2,1", "stray", "--seed")
    message = command.refusal(["--run_dir=x: found by somebody else"])
    for part in ("larz", "70000", "--warmup_epochs=1", "--learning_rate=-1", "--foo=2", "--trust_bounds=2,1",
                 "stray", "--seed", "somebody else"):
        assert part in message
    assert "9 problems" in message and message.count("\n  * ") == 9


# Flagfiles.


@pytest.fixture
def flagfile(tmp_path):
    def write(name, *lines):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return write


def test_the_line_beats_the_file_whatever_the_order(flagfile):
    name = flagfile("a.flags", "# a comment", "", "--batch_size=512", "--seed=3", "--dry_run")
    for words in ([f"--flagfile={name}", "--seed=4"], ["--seed=4", "--flagfile", name]):
        settings = settings_of(*words)
        assert (settings.batch_size, settings.seed, settings.dry_run) == (512, 4, True)
        assert settings.sources["batch_size"] == f"flagfile {name}"
        assert settings.sources["seed"] == "command line"


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_it(tmp_path):
    (tmp_path / "a.flags").write_text("--seed=3\n", encoding="utf-8-sig")
    assert settings_of(f"--flagfile={tmp_path / 'a.flags'}").seed == 3


def test_no_word_makes_it_pass_over_unknown_ones():
    problems = parse("--undefok=lr", "--lr=3").problems
    assert len(problems) == 2 and any("--undefok" in problem for problem in problems)
    assert any("--lr=3" in problem and "--learning_rate" in problem for problem in problems)


def test_a_program_without_runs_has_its_own_flags_in_files(flagfile):
    own = [Field(kind="reporting", group="own", name=name, takes="text", parse=str, default=None, help="")
           for name in ("runs", "output")]
    name = flagfile("a.flags", "--runs=there", "--output=one", "--flagfile=" + flagfile("b.flags", "--output=two"))
    found = command_line.parse([f"--flagfile={name}", "--runs=here"], program="p", description="", dataset=None, own=own)
    assert (found.own, found.problems) == ({"runs": "here", "output": "one"}, [])
    [problem] = command_line.parse([f"--flagfile={flagfile('c.flags', '--seed=3')}"], program="p", description="",
                                   dataset=None, own=own).problems
    assert "--seed=3" in problem and "unknown flag" in problem


def test_nested_files_are_relative_to_their_parent_and_below_it(flagfile):
    flagfile("inner/base.flags", "--seed=1", "--batch_size=128", "--epochs=2")
    flagfile("inner/middle.flags", "--flagfile=base.flags", "--seed=2", "--batch_size=256")
    settings = settings_of("--flagfile=" + flagfile("top.flags", "--seed=3", "--flagfile=inner/middle.flags"))
    assert (settings.seed, settings.batch_size, settings.epochs) == (3, 256, 2.0)


def test_of_two_files_the_later_is_above(flagfile):
    first, second = flagfile("1.flags", "--seed=1", "--epochs=2"), flagfile("2.flags", "--seed=2")
    settings = settings_of(f"--flagfile={first}", f"--flagfile={second}")
    assert (settings.seed, settings.epochs) == (2, 2.0)


def test_a_flag_on_the_line_displaces_its_partner_in_the_file(flagfile):
    settings = settings_of("--train_steps=7", "--flagfile=" + flagfile("a.flags", "--epochs=2"))
    assert (settings.train_steps, settings.epochs) == (7, None)


def test_partners_in_one_file_are_refused(flagfile):
    [problem] = parse("--flagfile=" + flagfile("a.flags", "--epochs=2", "--train_steps=7")).problems
    assert "a.flags" in problem and "--epochs=2" in problem and "--train_steps=7" in problem


def test_a_circle_of_files_is_refused(flagfile):
    flagfile("b.flags", "--flagfile=a.flags", "--seed=2")
    [problem] = parse("--flagfile=" + flagfile("a.flags", "--flagfile=b.flags")).problems
    assert "circle" in problem and problem.count("a.flags") >= 2 and "b.flags" in problem


def test_a_file_named_from_two_places_is_no_circle(flagfile):
    flagfile("base.flags", "--seed=5")
    flagfile("b.flags", "--flagfile=base.flags")
    name = flagfile("a.flags", "--flagfile=base.flags", "--flagfile=b.flags")
    assert settings_of(f"--flagfile={name}").seed == 5


def test_an_empty_value_in_a_file_is_named_with_the_file(flagfile):
    [problem] = parse("--flagfile=" + flagfile("a.flags", "--data_dir=")).problems
    assert "--data_dir=" in problem and "a.flags" in problem and "empty" in problem


def test_bad_lines_in_a_file_are_all_named_with_the_file(flagfile):
    name = flagfile("a.flags", "--foo=2", "words", "--seed", "--epochs=-1", "--flagfile=gone.flags",
                    "--batch_size 3")
    found = parse(f"--flagfile={name}").problems
    assert len(found) == 6 and all("a.flags" in problem for problem in found)


def test_a_file_that_is_no_text_is_a_problem(tmp_path):
    (tmp_path / "a.flags").write_bytes(b"\xff\xfe\x00")
    [problem] = parse(f"--flagfile={tmp_path}/a.flags").problems
    assert "UTF-8" in problem


# Help.


def test_help_exits_0_and_shows_every_flag_with_its_default_and_choices(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("--batch_size=nonsense", "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m tf_hugebatch.mnist_main")
    for field in FIELDS.values():
        assert f"\n  --{field.name}=" in text
        assert all(choice in text for choice in field.choices)
    assert "[1000; layout]" in text and "\nlearning rate:\n" in text
    assert max(map(len, text.splitlines())) <= 110
    assert "flagfile > optimizer preset > regime >" in text and "Another optimizer than the regime's" in text


def test_readme_table_has_a_row_for_every_flag():
    lines = command_line.readme_table().splitlines()
    assert lines[0].count("|") == lines[1].count("|") == 6
    assert [line.split("`")[1] for line in lines[2:]] == [f"--{name}" for name in FIELDS]
    assert all(line.replace("\\|", "").count("|") == 6 for line in lines)


def test_floor_0_imports_neither_tensorflow_nor_keras():
    code = ("import sys\n"
            "from tf_hugebatch import command_line, durations, published, records, registry, runs, settings\n"
            "import tf_hugebatch\n"
            "try:\n"
            "    command_line.parse(['--help'], program='p', description='d', dataset='mnist')\n"
            "except SystemExit as stop:\n"
            "    assert stop.code == 0\n"
            "settings.Settings(dataset='mnist5k', batch_size='full')\n"
            "roots = {name.partition('.')[0] for name in sys.modules}\n"
            "heavy = roots & {'tensorflow', 'keras', 'tf_keras', 'numpy'}\n"
            "assert not heavy, heavy\n")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


# Programs with flags of their own.

OWN = (
    Field("trials", "own", "sweep", "whole number", parsers.integer(low=1), 20, "how many"),
    Field("quick", "own", "sweep", "true|false", parsers.boolean, False, "hurry"),
)


def parse_own(*words, dataset="mnist"):
    return command_line.parse(words, program="sweep_main", description="Many runs.", dataset=dataset, own=OWN)


def test_own_flags_stand_beside_those_of_a_run_and_are_taken_out_of_its_words(tmp_path):
    (tmp_path / "a.flags").write_text("--batch_size=128\n--epochs=2\n")
    command = parse_own("--trials=3", f"--flagfile={tmp_path}/a.flags", "--quick", "--batch_size", "512", "--dry_run")
    assert command.problems == [] and command.own == {"trials": 3, "quick": True}
    again = parse(*command.words)
    assert again.problems == [] and again.settings == command.settings
    assert (again.settings.batch_size, again.settings.epochs, again.settings.dry_run) == (512, 2, True)


def test_own_flags_have_defaults_and_are_checked():
    assert parse_own().own == {"trials": 20, "quick": False}
    problems = parse_own("--trials=0", "--quick=perhaps", "--tirals=3", "--seed=-1").problems
    assert len(problems) == 4 and any("--tirals=3" in problem and "trials" in problem for problem in problems)


@pytest.mark.parametrize("line", ["--trials=3", "--quick", "--noquick"])
def test_own_flags_do_not_stand_in_the_flagfiles_of_runs(tmp_path, line):
    (tmp_path / "a.flags").write_text(f"--seed=3\n{line}\n")
    [problem] = parse_own(f"--flagfile={tmp_path}/a.flags").problems
    assert problem.startswith(f"{line} (flagfile {tmp_path}/a.flags): ") and "give it on the command line" in problem


def test_a_program_without_runs_takes_no_flags_of_one():
    command = parse_own("--trials=3", "--batch_size=64", "--flagfile=x", dataset=None)
    assert command.settings is None and command.own["trials"] == 3
    assert len(command.problems) == 2 and all("--flagfile=x" in p or "--batch_size" in p for p in command.problems)


def test_help_shows_own_flags_first(capsys):
    with pytest.raises(SystemExit):
        parse_own("--help")
    text = capsys.readouterr().out
    assert text.index("--trials=whole number") < text.index("--batch_size=") and "[20]" in text
    with pytest.raises(SystemExit):
        parse_own("--help", dataset=None)
    assert "--batch_size" not in capsys.readouterr().out
