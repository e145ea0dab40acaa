"""Space files: what they may hold, every problem at once, and what follows from a space."""

import json
import pathlib

import pytest

from tf_hugebatch import command_line
from tf_hugebatch.settings import Refusal, Settings
from tf_hugebatch.tuning import space_file

FLAGS = pathlib.Path(__file__).parents[2] / "flags"
WORDS = ("--dataset=mnist5k", "--batch_size=1000", "--epochs=4")


def make(content, *words, **how):
    return space_file.make(content, (*WORDS, *words), where="s.json", **how)


def problems(content, *words, **how):
    with pytest.raises(Refusal) as refused:
        make(content, *words, **how)
    assert all(problem.startswith("s.json: ") for problem in refused.value.problems)
    return refused.value.problems


@pytest.mark.parametrize("content, said", [
    ({"lerning_rate": [0.1]}, ["lerning_rate: unknown flag", "learning_rate"]),
    ({"run_dir": ["a", "b"]}, ["run_dir: a reporting flag"]),
    ({"micro_batch_size": [1, 2]}, ["micro_batch_size: a layout flag"]),
    ({"seed": [1, 2]}, ["seed: ", "fresh", "take it out"]),
    ({"validation_examples": [1, 2]}, ["validation_examples: ", "take it out"]),
    ({"dataset": ["mnist"]}, ["dataset: ", "one data set"]),
    ({"epochs": [1, 2]}, ["epochs: ", "command line gives it too"]),
    ({"learning_rate": []}, ["learning_rate: an empty list"]),
    ({"learning_rate": 0.1}, ["0.1 is neither a list", "[0.1]"]),
    ({"learning_rate": [0.1, 0.2, 0.10]}, ["0.1 stands there twice"]),
    ({"optimizer": ["sgd", "larz"]}, ['"larz": unknown', "lars"]),
    ({"learning_rate": [0.1, -2, True]}, ["-2: out of range"]),
    ({"learning_rate": [None]}, ["takes no none"]),
    ({"learning_rate": ["0.1", "1.0"]}, ['"0.1": that is text', "write 0.1 without quotes"]),
    ({"optimizer": ["sgd", ["lars"]]}, ['["lars"]: a list inside the list']),
    ({"learning_rate": {"low": 0.1, "high": 0.10000000000000002}}, ["one number but for rounding", "[0.1]"]),
    ({"learning_rate": {"low": 0.1, "high": 1, "points": 3000000}}, ["points is 3000000", "at most 1000"]),
    ({"learning_rate": {"low": 1, "high": 0.1}}, ["low 1 is not below high 0.1"]),
    ({"learning_rate": {"low": 1, "high": 1}}, ["not below", "[1]"]),
    ({"weight_decay": {"low": 0, "high": 1, "log": True}}, ["low 0 has no logarithm"]),
    ({"momentum": {"low": 0, "high": 1.5}}, ["1.5: out of range"]),
    ({"learning_rate": {"low": 0.1}}, ["high is null"]),
    ({"learning_rate": {"low": "a", "high": 1}}, ['low is "a"']),
    ({"learning_rate": {"low": 0.1, "high": 1, "lgo": True}}, ["lgo is no part of a range", "log"]),
    ({"learning_rate": {"low": 0.1, "high": 1, "log": 1}}, ["log is 1", "true or false"]),
    ({"learning_rate": {"low": 0.1, "high": 1, "points": 1}}, ["points is 1", "at least 2"]),
    ({"schedule": {"low": 0, "high": 1}}, ["0: ", "constant"]),
    ({"peak_learning_rate": [1], "lr_scaling": ["sqrt"]}, ["peak_learning_rate (searched), lr_scaling (searched)", "exclude"]),
    ({"train_steps": [10, 20]}, ["epochs (command line), train_steps (searched)", "exclude"]),
    ({"warmup_epochs": [0, 2, 5]}, ["at the corner --warmup_epochs=5", "longer than the run of 16"]),
    ({"nesterov": [True, False], "momentum": [0, 0.9]}, ["at the corner --momentum=0 --nesterov=true", "no momentum"]),
    ({"batch_size": [1000, "full"], "bn_span": [32]}, ["bn_span", "lenet5", "batch norm"]),
])
def test_a_bad_space_is_named(content, said):
    words = () if "batch_size" not in content else ("--micro_batch_size=10",)
    content_words = [word for word in WORDS if word.partition("=")[0][2:] not in ("batch_size",)] \
        if "batch_size" in content else WORDS
    with pytest.raises(Refusal) as refused:
        space_file.make(content, (*content_words, *words), where="s.json")
    text = "\n".join(refused.value.problems)
    assert all(part in text for part in said), text


def test_every_problem_is_named_at_once_and_once():
    found = problems({"lerning_rate": [1], "seed": [0], "momentum": [0.5, 0.5, 2], "schedule": [],
                      "learning_rate": {"low": 0, "high": -1, "log": True}, "epochs": [1]})
    for part in ("lerning_rate", "seed", "0.5 stands there twice", "2: out of range", "schedule: an empty list",
                 "not below", "no logarithm", "learning_rate: 0: out", "learning_rate: -1: out", "epochs"):
        assert sum(part in problem for problem in found) == 1, part
    assert len(found) == 10


def test_one_problem_of_many_corners_is_told_once():
    [problem] = problems({"warmup_epochs": [5], "momentum": [0.1, 0.9], "learning_rate": {"low": 0.1, "high": 1}})
    assert "longer than the run" in problem


def test_problems_of_the_base_are_not_told_again():
    assert make({"momentum": [0.5]}, "--learning_rate=-1").size == 1


def test_an_empty_space_and_what_a_grid_needs():
    assert "empty" in problems({})[0]
    [problem] = problems({"learning_rate": {"low": 0.1, "high": 1}}, grid=True)
    assert "points" in problem


@pytest.mark.parametrize("text, said", [
    ('{"momentum": [0.9]', "no JSON"), ("[1, 2]", "a list, not an object"), ("", "no JSON"),
    ('{"momentum": [0.9], "momentum": [0.8]}', "momentum stands there twice"), ("\x00", "no JSON"),
    ('{"learning_rate": {"low": 1, "low": 2, "high": 3}}', "low stands there twice"), (None, "No such file"),
    ("[" * 100_000, "no JSON"),
])
def test_a_bad_file_is_named(tmp_path, text, said):
    path = tmp_path / "s.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Refusal) as refused:
        space_file.read(path)
    [problem] = refused.value.problems
    assert said in problem and str(path) in problem


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / "s.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refusal, match="no JSON"):
        space_file.read(tmp_path / "s.json")


@pytest.mark.parametrize("path", sorted((FLAGS / "ladder").glob("*.json")), ids=lambda path: path.stem)
def test_the_spaces_of_the_ladder_load(path):
    space = space_file.make(space_file.read(path), [f"--flagfile={path.with_suffix('.flags')}"], where=str(path))
    assert {d.flag for d in space.dimensions} == set(json.loads(path.read_text()))


def test_edges_have_known_answers():
    space = make({"learning_rate": {"low": 0.01, "high": 1.0, "log": True}, "warmup_epochs": [2, 0, 1], "momentum": [0.9],
                  "weight_decay": {"low": 0.0, "high": 1.0}, "schedule": ["cosine", "constant"]})

    def edges(**values):
        point = {"learning_rate": 0.1, "warmup_epochs": 1, "momentum": 0.9, "weight_decay": 0.5, "schedule": "constant",
                 **values}
        return [(edge["flag"], edge["value"], edge["end"]) for edge in space.edges(point)]

    assert edges() == []
    assert edges(warmup_epochs=0) == [("warmup_epochs", 0, "lowest")] and edges(warmup_epochs=2)[0][2] == "highest"
    # 5% of two decades is a tenth of one: 0.01 x 10^0.1 = 0.01259.
    assert edges(learning_rate=0.0125) == [("learning_rate", 0.0125, "lowest")] and edges(learning_rate=0.0127) == []
    assert edges(learning_rate=0.8) == [("learning_rate", 0.8, "highest")] and edges(learning_rate=0.79) == []
    assert edges(weight_decay=0.05)[0][2] == "lowest" and edges(weight_decay=0.051) == []
    assert edges(weight_decay=0.96, learning_rate=1.0) == [("learning_rate", 1.0, "highest"), ("weight_decay", 0.96, "highest")]


def test_numbers_among_null_and_words_have_edges():
    space = make({"clip_global_norm": [5.0, None, 0.5, 1.0], "momentum": [0.9, 0.8]})

    def edges(clip):
        return [edge["end"] for edge in space.edges({"clip_global_norm": clip, "momentum": 0.85})]

    assert [edges(clip) for clip in (0.5, 1.0, 5.0, None)] == [["lowest"], [], ["highest"], []]


@pytest.mark.parametrize("content, said", [
    ({"regime": ["huge", "full"]}, "stands for other settings"), ({"optimizer_preset": ["mlperf"]}, "stands for other settings"),
    ({"on_divergence": ["stop", "rewind"]}, "a run that rewinds is another"), ({"log_every_steps": [1, 2]}, "changes no result")])
def test_a_flag_that_cant_be_searched_says_why(content, said):
    with pytest.raises(Refusal, match=said):
        make(content)


def test_values_become_the_words_that_a_run_parses():
    space = make({"trust_bounds": [[0, 10], None], "optimizer": ["lars"], "nesterov": [True, False], "momentum": [0.5, 0.9],
                  "learning_rate": [0.1]})
    words = space.words({"trust_bounds": [0, 10], "nesterov": True, "learning_rate": 0.1})
    assert words == ["--trust_bounds=0,10", "--nesterov=true", "--learning_rate=0.1"]
    assert space.words({"trust_bounds": None}) == ["--trust_bounds=none"]
    assert space.size == 8


def test_an_exclusion_that_is_null_is_the_default_and_an_empty_one_excludes_nothing():
    values = [None, [], ["bias", "norm"], "bias"]
    space = make({"exclude_from_decay": values})
    words = [word for point in space.grid() for word in space.words(point)]
    assert words == [f"--exclude_from_decay={text}" for text in ("default", "none", "bias,norm", "bias")]
    for value, word in zip(values, words, strict=True):
        found = command_line.parse([word], program="", description="", dataset="mnist").settings
        assert found.exclude_from_decay == Settings(exclude_from_decay=value).exclude_from_decay


def test_a_range_of_a_whole_flag_is_whole():
    space = make({"warmup_steps": {"low": 1, "high": 16, "log": True, "points": 5}})
    assert space.grid() == [{"warmup_steps": n} for n in (1, 2, 4, 8, 16)] and space.size == 16
    assert space.words(space.grid()[0]) == ["--warmup_steps=1"]


def test_with_local_norm_the_micro_batch_changes_the_result_and_can_be_searched():
    content = {"micro_batch_size": [16, 32]}
    words = ("--dataset=synthetic", "--model=resnet18", "--image_size=32", "--norm=local")
    assert make(content, *words).grid() == [{"micro_batch_size": 16}, {"micro_batch_size": 32}]
    assert "a layout flag changes no result" in problems(content, *words[:-1])[0]
