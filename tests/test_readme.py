"""What README shows is what the code does."""

import configparser
import importlib
import pathlib
import re
import shlex

import pytest

import tf_hugebatch as hb
from tf_hugebatch import command_line, registry
from tf_hugebatch.reports.tables import results_table

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_flags_is_the_one_made_from_the_fields():
    table = re.search(r"<!-- flags: .*? -->\n(.*?)<!-- /flags -->", README, re.DOTALL).group(1)
    assert table == command_line.readme_table()


def test_the_table_of_results_is_the_one_made_from_the_run_folders():
    table = re.search(r"<!-- results: .*? -->\n(.*?)<!-- /results -->", README, re.DOTALL).group(1)
    shown = [ROOT / "results" / name for name in ("mnist/sgd_256", "mnist/lars_8192", "frontier/lenet/muon_full")]
    assert table == results_table(hb.load_runs(shown))


COMMANDS = re.findall(
    r"^(?:.* && )?python -m tf_hugebatch\.(\w+)_main (?!--help)(.*?)(?:\s+#.*)?$", README, re.MULTILINE
)
DATASETS = {"mnist": "mnist", "cifar10": "cifar10", "imagenet": "imagenet2012", "sweep": "mnist", "report": None,
            "plan": "imagenet2012"}


@pytest.mark.parametrize("program, words", COMMANDS)
def test_every_command_line_is_accepted(program, words, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    main = importlib.import_module(f"tf_hugebatch.{program}_main")
    command = command_line.parse(
        shlex.split(re.sub(r"=(DIR|OUT)\b", f"={tmp_path}", words)), program=f"{program}_main", description="",
        dataset=DATASETS[program], own=getattr(main, "OWN", ()),
    )
    assert command.problems == []


def test_every_extra_that_it_installs_exists():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = {extra for words in re.findall(r"pip install '\.\[([\w,]+)\]'", README) for extra in words.split(",")}
    assert {"addons", "test"} <= extras <= set(setup["options.extras_require"])


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bhb((?:\.\w+)+)\(", README))))
def test_every_name_of_the_library_exists(name):
    value = hb
    for part in name.strip(".").split("."):
        value = getattr(value, part)
    assert callable(value)


def test_the_settings_of_the_library_example_are_accepted():
    [arguments] = re.findall(r"hb\.Settings\((.*?)\)", README)
    assert eval(f"hb.Settings({arguments})", {"hb": hb}).batch_size == 4000


def test_every_file_that_it_names_exists():
    for path in re.findall(r"(?:\]\(|`|^)((?:tests|scripts|flags|results)/[\w./]+)", README, re.MULTILINE):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("path", sorted((ROOT / "flags").rglob("*.flags")), ids=lambda path: path.stem)
def test_every_flagfile_is_accepted_and_says_where_it_comes_from(path):
    command = command_line.parse([f"--flagfile={path}"], program="mnist_main", description="", dataset="mnist")
    assert command.problems == []
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("source", "expected", "cost", "command"):
        assert any(line.lower().startswith(f"# {word}:") for line in header), f"{path.name} has no line '# {word}:'"
    settings = command.settings
    if settings.optimizer == "lars" and not registry.find("model", settings.model).facts["batch_norm"]:
        # The bare rate of LARS is hundreds of times what a bias bears; the frontier's search had let biases take it.
        assert settings.exclude_from_adaptation == (), "no batch norm absorbs biases that move at the bare rate"
