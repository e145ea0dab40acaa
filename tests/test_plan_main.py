"""plan_main from words to plan.json, with another compiler in the place of Google's."""

import json
import types

import pytest

from tf_hugebatch import plan_main
from tf_hugebatch.planning import compile, planner
from tf_hugebatch.planning.compile import CompileFailed, Figures, Program

WORDS = ("--tpu=v3-8", "--dataset=synthetic", "--dataset_size=10240,10", "--model=resnet50", "--batch_size=1024", "--bn_span=64")


class FakeCompiler:
    failure, largest = None, 1000

    def __init__(self, target, cache, **how):
        pass

    def known(self, key):
        return None

    def __call__(self, program):
        if self.failure:
            raise self.failure
        size = int(program.key)
        return Figures(refused="Used 17.29G of 15.48G hbm") if size > self.largest else Figures(temporaries=size, flops=size)


class FakeExporter:
    def accumulate(self, layout):
        return Program(str(layout.micro_batch_size), 0, 0, 0)

    def apply(self, layout):
        return Program("1", 4, 1, 0)


@pytest.fixture(autouse=True)
def somewhere_else(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compile, "Compiler", FakeCompiler)
    monkeypatch.setattr(compile, "missing", lambda: "")
    monkeypatch.setattr("tf_hugebatch.planning.answer.versions", lambda: {})
    monkeypatch.setattr(planner, "_exporter", lambda settings, replicas: FakeExporter())


def test_from_words_to_plan(tmp_path, capsys):
    assert plan_main.main([*WORDS, "--plan_dir=here"]) == 0
    plan = json.loads((tmp_path / "here" / "plan.json").read_text())
    assert plan["fits"] and plan["slice"] == "v3-8" and plan["command_line"] == ["plan_main", *WORDS, "--plan_dir=here"]
    assert plan["settings"]["batch_size"] == 1024
    said = capsys.readouterr()
    assert "1 x 128 a core" in said.out and "plan: here/plan.json" in said.out and "compiling 1 x 128" in said.err


def test_a_run_that_fits_in_no_layout_is_a_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FakeCompiler, "largest", 0)
    assert plan_main.main([*WORDS, "--plan_dir=here"]) == 3
    plan = json.loads((tmp_path / "here" / "plan.json").read_text())
    assert not plan["fits"] and plan["cost"] is None and "17.29G of 15.48G" in plan["attempts"][0]["reason"]
    assert "17.29G of 15.48G" in capsys.readouterr().out


def test_a_compile_that_fails_leaves_no_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FakeCompiler, "failure", CompileFailed("the TPU compiler ended with exit code -6: it said nothing"))
    assert plan_main.main(WORDS) == 1
    assert "exit code -6" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_a_dry_run_shows_what_would_be_tried(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(FakeCompiler, "failure", AssertionError("compiled"))
    assert plan_main.main([*WORDS, "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "1 x 128 a core" in said and "2 x 64 a core" in said and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words, named", [
    (["--tpu=v3-9999", "--epochs=-1"], ("v3-2048", "--epochs=-1")),
    ([*WORDS, "--micro_batch_size=7"], ("--micro_batch_size=8",)),
    ([*WORDS, "--compile_timeout=0"], ("--compile_timeout=0",)),
    ([*WORDS, "--num_replicas=8"], ("--num_replicas=8",)),
    ([*WORDS[1:], "--strategy=tpu"], ("--strategy=tpu without --tpu",)),
    ([*WORDS, "--batch_growth=10:2"], ("--batch_growth=10:2: a plan is of one batch",)),
    ([*WORDS[1:], "--batch_growth=10:2"], ("--batch_growth=10:2: a plan is of one batch",)),
])
def test_what_cannot_be_planned_is_refused_with_all_problems(tmp_path, capsys, words, named):
    assert plan_main.main(words) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in named) and said.count("  * ") == len(named)
    assert not list(tmp_path.iterdir())


def test_without_a_slice_it_is_this_machine_that_is_measured(tmp_path, capsys):
    words = ["--dataset=mnist5k", "--model=lenet5", "--batch_size=1000", "--micro_batch_size=50", "--epochs=2"]
    assert plan_main.main([*words, "--plan_dir=here"]) == 0
    plan = json.loads((tmp_path / "here" / "plan.json").read_text())
    assert (plan["micro_batches"], plan["micro_batch_size"], plan["updates"]) == (20, 50, 8)
    assert plan["seconds_per_micro_batch"] > 0
    assert plan["seconds_per_update"] == 20 * plan["seconds_per_micro_batch"] + plan["seconds_per_end"]
    assert plan["images_per_second"] == 1000 / plan["seconds_per_update"]
    assert "this machine: 20 micro-batch(es) of 50" in capsys.readouterr().out


def test_batch_norm_groups_that_do_not_divide_the_batch_are_measured_as_they_are(tmp_path, capsys):
    words = ["--dataset=synthetic", "--dataset_size=160,10", "--batch_size=160", "--bn_span=128", "--micro_batch_size=80",
             "--model=resnet9", "--image_size=8", "--regime=baseline"]
    assert plan_main.main([*words, "--plan_dir=here"]) == 0  # two groups of 80, where three rounds of them make 240
    assert json.loads((tmp_path / "here" / "plan.json").read_text())["micro_batches"] == 2


def test_a_busy_machine_makes_no_micro_batch_take_no_time():
    from tf_hugebatch.planning.measure import _split

    assert _split(few=3.0, many=5.0) == (1.0, 2.0)
    assert _split(few=3.0, many=2.7) == (pytest.approx(0.9), 0.0)
    assert _split(few=3.0, many=3.0) == (1.0, 0.0) and _split(few=1.0, many=9.0) == (4.0, 0.0)


def test_of_several_times_the_shortest_counts(monkeypatch):
    from tf_hugebatch.planning import measure

    now = [0.0]

    def taking(*seconds):
        left = iter(seconds)

        def update():
            now[0] += next(left)

        return update

    monkeypatch.setattr(measure, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    assert list(measure._shortest([taking(5, 1, 2, 9, 4), taking(7, 8, 6, 3, 5)])) == [1.0, 3.0]


def test_without_the_compiler_it_says_which_command_brings_it(monkeypatch, capsys):
    monkeypatch.setattr(compile, "missing", lambda: f"the TPU compiler needs libtpu, not installed here; {compile.INSTALL}")
    assert plan_main.main(WORDS) == 2
    assert "pip install 'tf_hugebatch[plan]'" in capsys.readouterr().err
