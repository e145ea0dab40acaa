"""The recipe ladder of fake runs: which runs each rung makes, what it may be given, and that it goes on."""

import io
import json
import os
import shutil
import signal

import pytest
from reference.small_sweeps import FAKE, read, refuses_to_list, runs_of

from tf_hugebatch import published
from tf_hugebatch.records import held
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning import sweep
from tf_hugebatch.tuning.ladder import Ladder
from tf_hugebatch.tuning.plan import Base
from tf_hugebatch.tuning.rungs import rungs as all_rungs
from tf_hugebatch.tuning.screen import Screen

MNIST = ("--dataset=mnist5k", "--batch_size=2000", "--epochs=6")
CIFAR = ("--dataset=cifar10", "--batch_size=5000", "--epochs=90", "--model=resnet20")
#: Rates at which the fake runs come to something, two decades each.
SPACES = {"baseline": {"learning_rate": {"low": 0.005, "high": 0.5, "log": True}},
          **{solver: {"peak_learning_rate": {"low": 0.005, "high": 0.5, "log": True}, "warmup_epochs": [0, 1, longest],
                      "label_smoothing": [0.05, 0.1]} for solver, longest in (("sgd", 2), ("lars", 3))}}


def make(folder, words=MNIST, spaces=SPACES, of_the_base=(), **how):
    base = Base(**{"words": tuple(words), "dataset": "mnist", "validation_examples": 400, "final_seeds": 2,
                   "method": "random", **dict(of_the_base)})
    return Ladder(base, str(folder), **{"where": "l.json", "spaces": spaces, "trials": 3, "runner": FAKE, **how})


def climb(folder, *arguments, **how):
    stream = io.StringIO()
    with Screen(stream) as screen:
        return make(folder, *arguments, **how).run(jobs=2, screen=screen), stream.getvalue()


def only(monkeypatch, *names):
    """Ladders of these rungs alone, for what the others would only repeat."""
    monkeypatch.setattr("tf_hugebatch.tuning.ladder.rungs",
                        lambda settings: [rung for rung in all_rungs(settings) if rung.name in names])


def rungs_of(folder):
    return {rung["name"]: rung for rung in read(folder / "ladder.json")["rungs"]}


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder") / "mnist"
    return folder, *climb(folder)


def finals(folder, rung):
    [settings, *_] = [settings for settings, _ in runs_of(folder / rung, "final").values()]
    return settings


def test_every_rung_is_a_sweep_with_one_budget(climbed):
    folder, code, _ = climbed
    assert code == 0
    ladder = read(folder / "ladder.json")
    kinds = {rung["name"]: rung["kind"] for rung in ladder["rungs"]}
    assert [name for name, kind in kinds.items() if kind == "rule"] == ["0", "1"]
    assert [name for name, kind in kinds.items() if kind == "tuned"] == ["0 tuned", "2", "3", "4"]
    assert len([kind for kind in kinds.values() if kind == "leave_one_out"]) == 5
    assert {rung["adds"] for rung in ladder["rungs"]} >= {rung.adds for rung in published.LADDER[1:]}
    for rung in ladder["rungs"]:
        if rung["n_a"]:
            assert not (folder / rung["folder"]).exists()
            continue
        plan = read(folder / rung["folder"] / "sweep.json")
        assert plan["trials"] == (0 if rung["kind"] == "rule" else 3), rung["name"]
        assert len(runs_of(folder / rung["folder"], "final")) == 2
        assert len(list((folder / rung["folder"] / "trials").iterdir())) == plan["trials"]


def test_rungs_0_and_1_scale_the_rate_of_the_baseline_batch(climbed):
    folder, _, _ = climbed
    trials = runs_of(folder / "baseline_rate")
    assert {settings["batch_size"] for settings, _ in trials.values()} == {"256"}
    chosen = read(folder / "baseline_rate" / "result.json")["chosen"]["values"]["learning_rate"]
    for rung, warmup in (("rung0", "0"), ("rung1", "1")):  # a sixth of six epochs
        settings = finals(folder, rung)
        assert float(settings["learning_rate"]) == chosen and settings["lr_scaling"] == "linear"
        assert (settings["batch_size"], settings["warmup_epochs"], settings["optimizer"]) == ("2000", warmup, "sgd")


def test_each_rung_adds_what_the_paper_adds(climbed):
    folder, _, _ = climbed
    by_rung = {name: finals(folder, name) for name in ("rung0_tuned", "rung2", "rung3", "rung4", "rung4_without_warm-up",
               "rung4_without_label_smoothing", "rung4_without_clipping", "rung4_without_decay")}
    assert by_rung["rung0_tuned"]["warmup_epochs"] == by_rung["rung0_tuned"]["label_smoothing"] == "0"
    assert by_rung["rung2"]["label_smoothing"] == "0" and float(by_rung["rung3"]["label_smoothing"]) > 0
    assert [by_rung[f"rung{n}"]["optimizer"] for n in (2, 3, 4)] == ["sgd", "sgd", "lars"]
    assert by_rung["rung4"]["exclude_from_adaptation"] == "none", "LeNet has no batch norm to absorb biases' bare rate"
    for settings in by_rung.values():
        assert settings["momentum"] == "0.9" and float(settings["weight_decay"]) == 1e-4
        assert settings["warmup_from"] == "zero"
    assert by_rung["rung4_without_warm-up"]["warmup_epochs"] == "0"
    assert by_rung["rung4_without_label_smoothing"]["label_smoothing"] == "0"
    assert by_rung["rung4_without_clipping"]["clip_global_norm"] == "none" != by_rung["rung4"]["clip_global_norm"]
    assert by_rung["rung4_without_decay"]["schedule"] == "constant" and by_rung["rung4"]["schedule"] == "cosine"


@pytest.mark.parametrize("rung, solver, flags", [
    ("baseline_rate", "baseline", ["learning_rate"]), ("rung0_tuned", "sgd", ["peak_learning_rate"]),
    ("rung2", "sgd", ["peak_learning_rate", "warmup_epochs"]),
    ("rung3", "sgd", ["label_smoothing", "peak_learning_rate", "warmup_epochs"]),
    ("rung4", "lars", ["label_smoothing", "peak_learning_rate", "warmup_epochs"]),
    ("rung4_without_warm-up", "lars", ["label_smoothing", "peak_learning_rate"]),
    ("rung4_without_label_smoothing", "lars", ["peak_learning_rate", "warmup_epochs"]),
    ("rung4_without_decay", "lars", ["label_smoothing", "peak_learning_rate", "warmup_epochs"]),
])
def test_each_rung_searches_its_own_part_of_its_solvers_space(climbed, rung, solver, flags):
    assert read(climbed[0] / rung / "sweep.json")["space"] == {flag: SPACES[solver][flag] for flag in flags}


def test_a_model_without_batch_norm_says_n_a_for_that_part(climbed):
    folder, _, said = climbed
    [rung] = [rung for rung in read(folder / "ladder.json")["rungs"] if rung["n_a"]]
    assert rung["name"] == "4 without ghost batch norm" and "lenet5 has no batch norm" in rung["n_a"]
    assert rungs_of(folder)["0"]["adds"] == f"{published.LADDER[0].adds} (n/a: lenet5 has no batch norm)"
    assert "n/a: lenet5 has no batch norm" in said.splitlines()[-2] and "ghost batch norm (n/a: lenet5" in said


def test_the_same_command_makes_no_run_again(climbed):
    folder, _, said = climbed
    again = climb(folder)
    assert again[0] == 0 and again[1].splitlines()[-13:] == said.splitlines()[-13:]
    assert {starts for rung in folder.glob("*/trials") for _, starts in runs_of(rung.parent).values()} == {1}


def test_with_batch_norm_the_whole_batch_is_one_group(tmp_path):
    ladder = make(tmp_path / "l", CIFAR)
    [rung] = [rung for rung in ladder.rungs if "batch norm" in rung.name]
    assert rung.n_a is None and "--bn_span=full" in rung.words
    assert {rung.adds for rung in ladder.rungs} >= {rung.adds for rung in published.LADDER}
    assert "--bn_span=128" in ladder.shared and "--weight_decay=0.0005" in ladder.shared
    assert not any("exclude_from_adaptation" in word for rung in ladder.rungs for word in rung.words)
    [rule] = [rung for rung in ladder.rungs if rung.name == "1"]
    assert "--warmup_epochs=5" in rule.words
    text = "\n".join(ladder.text())
    assert "--clip_global_norm=1.0" in text and "3 trials over peak_learning_rate, warmup_epochs" in text
    assert not (tmp_path / "l").exists(), "a look writes nothing"


def test_the_default_spaces_span_equal_decades_and_hold_the_published_rates(tmp_path):
    ladder = make(tmp_path / "l", CIFAR, spaces={})
    rates = [ladder.spaces[solver]["peak_learning_rate"] for solver in ("sgd", "lars")]
    assert {round(rate["high"] / rate["low"]) for rate in rates} == {1000}
    assert all(rates[1]["low"] < row.peak_rate < rates[1]["high"] for row in published.MLPERF)


def test_what_the_user_gives_stays_and_what_the_rungs_decide_is_refused(tmp_path):
    ladder = make(tmp_path / "l", (*MNIST, "--momentum=0.8", "--clip_global_norm=none", "--schedule=constant"))
    assert not any("momentum" in word or "schedule" in word for word in ladder.shared)
    assert {rung.name: rung.n_a for rung in ladder.rungs if rung.n_a}.keys() == {
        "4 without clipping", "4 without ghost batch norm", "4 without decay"}
    with pytest.raises(Refusal) as refused:
        make(tmp_path / "l", (*MNIST, "--optimizer=lamb", "--warmup_epochs=1"))
    assert len(refused.value.problems) == 2 and "--optimizer=lamb" in refused.value.problems[0]
    for words in (["--optimizer=lars", "--optimizer_preset=mlperf"], ["--learning_rate=0.1", "--lr_scaling=sqrt"],
                  ["--peak_learning_rate=1.0"], ["--warmup_steps=3"], ["--label_smoothing=0.1"]):
        with pytest.raises(Refusal) as refused:
            make(tmp_path / "l", (*MNIST, *words))
        assert list(refused.value.problems) == [f"{word} (command line): the rungs of a ladder decide it; drop it"
                                                for word in words]
    with pytest.raises(Refusal, match="give --epochs"):
        make(tmp_path / "l", ("--dataset=mnist5k", "--train_steps=5"))
    (tmp_path / "b.flags").write_text("--label_smoothing=0.1\n--momentum=0.8\n")
    with pytest.raises(Refusal, match="label_smoothing=0.1 .flagfile .*b.flags.: the rungs") as refused:
        make(tmp_path / "l", (*MNIST, f"--flagfile={tmp_path / 'b.flags'}"))
    assert len(refused.value.problems) == 1
    with pytest.raises(Refusal, match="--regime=full .command line.: it brings an optimizer's settings"):
        make(tmp_path / "l", (*MNIST[:2], "--epochs=60", "--regime=full"))


@pytest.mark.parametrize("spaces, said", [
    ({"sdg": SPACES["sgd"]}, ["sdg: unknown part", "did you mean sgd"]),
    ({"sgd": {"peak_learning_rate": [1]}}, ["sgd: a ladder searches", "warmup_epochs"]),
    ({"sgd": SPACES["sgd"]}, ["equally many decades", "sgd 2", "lars 3"]),
    ({"sgd": {**SPACES["sgd"], "momentum": [0.9]}}, ["sgd: a ladder searches", "give just those"]),
    ({"sgd": {**SPACES["sgd"], "peak_learning_rate": [0, 0.1]}}, ["rung 2: l.json: peak_learning_rate: 0: out of range"]),
    ({"sgd": {**SPACES["sgd"], "peak_learning_rate": [10**400, 1]}}, ["rung 2: l.json: peak_learning_rate", "not a finite"]),
    ({"sgd": {**SPACES["sgd"], "peak_learning_rate": ["fast"]}}, ['rung 3: l.json: peak_learning_rate: "fast": that is no']),
    ({"baseline": {"learning_rate": [-1]}}, ["rung baseline rate: l.json: learning_rate: -1"]),
    ({**SPACES, "lars": {**SPACES["lars"], "warmup_epochs": [0, 7]}}, ["rung 4", "longer than the run"]),
])
def test_a_bad_space_is_named_before_anything_runs(tmp_path, spaces, said):
    with pytest.raises(Refusal) as refused:
        make(tmp_path / "l", spaces=spaces)
    text = "\n".join(refused.value.problems)
    assert all(part in text for part in said), text
    assert not (tmp_path / "l").exists()


def test_the_folder_of_another_ladder_is_refused(climbed, tmp_path):
    with pytest.raises(Refusal, match="another ladder.*batch_size is 2000 there and 1000 here"):
        make(climbed[0], ("--dataset=mnist5k", "--batch_size=1000", "--epochs=6"))
    with pytest.raises(Refusal, match="another sweep"):
        make(climbed[0], spaces={**SPACES, "baseline": {"learning_rate": [0.1]}})
    (tmp_path / "x").touch()
    with pytest.raises(Refusal, match="holds no ladder"):
        make(tmp_path)
    for damaged in ('{"settings": 5}', '{"settings": [1]}', "[1]", "{}", "{"):
        (tmp_path / "ladder.json").write_text(damaged)
        with pytest.raises(Refusal, match="holds no ladder .no ladder.json that can be read"):
            make(tmp_path)


@pytest.mark.parametrize("rung", ["baseline_rate", "rung2", "rung4_without_decay"])
def test_what_stands_in_the_way_of_any_rung_is_named_before_the_first(climbed, tmp_path, rung):
    shutil.copy(climbed[0] / "ladder.json", tmp_path)
    (tmp_path / rung).mkdir()
    (tmp_path / rung / "notes.txt").touch()
    with pytest.raises(Refusal, match=f"{rung}: it is not empty and holds no sweep .it has notes.txt"):
        make(tmp_path)


def test_final_runs_at_another_rate_of_the_baseline_are_set_aside_and_taken_back(tmp_path, monkeypatch):
    only(monkeypatch, "baseline rate", "0", "1")
    monkeypatch.setenv("FAKE_UNSTABLE", "[0.1]")  # the better rate, tried second, diverges when it is repeated
    folder, spaces = tmp_path / "ladder", {**SPACES, "baseline": {"learning_rate": [0.1, 0.2]}}
    made = {}
    for confirm, trials, rate, aside in ((0, 1, 0.2, []), (0, 2, 0.1, [0.2]), (1, 2, 0.2, [0.1])):
        if confirm:  # as a kill between the two moves leaves it
            (folder / "rung0").rename(folder / "rung0_at_0.1")
        code, said = climb(folder, spaces=spaces, trials=trials, of_the_base={"confirm": confirm})
        assert code == 0, said
        for rung in ("rung0", "rung1"):
            assert float(finals(folder, rung)["learning_rate"]) == rate
            assert [path.name for path in folder.glob(f"{rung}_at_*")] == [f"{rung}_at_{other}" for other in aside]
            runs = [path.stat().st_mtime_ns for path in sorted((folder / rung / "final").glob("*/starts"))]
            assert made.setdefault((rung, rate), runs) == runs and len(runs) == 2, "tested once"


def test_the_damaged_plan_of_a_rules_rung_is_named(tmp_path, monkeypatch):
    only(monkeypatch, "baseline rate", "0")
    climb(tmp_path / "l", trials=1)
    (tmp_path / "l" / "rung0" / "sweep.json").write_text('{"settings": [1], "schema_version": 1}')
    with pytest.raises(Refusal, match=r"rung0: its sweep.json is damaged .settings is \[1\]"):
        climb(tmp_path / "l", trials=1)


@pytest.mark.slow
def test_more_trials_that_change_the_baselines_rate_set_the_rules_rungs_aside(tmp_path):
    folder = tmp_path / "ladder"
    climb(folder, trials=1)
    first = float(finals(folder, "rung0")["learning_rate"])
    code, said = climb(folder, trials=6)
    then = float(finals(folder, "rung0")["learning_rate"])
    assert code == 0 and then != first, said
    for rung in ("rung0", "rung1"):
        assert float(finals(folder, rung)["learning_rate"]) == then
        assert float(finals(folder, f"{rung}_at_{first:g}")["learning_rate"]) == first
        assert {starts for _, starts in runs_of(folder / rung, "final").values()} == {1}


def test_without_a_rate_of_the_baseline_the_rules_rungs_are_n_a(tmp_path):
    spaces = {**SPACES, "baseline": {"learning_rate": [1.0, 2.0, 3.0]}}
    code, said = climb(tmp_path / "l", spaces=spaces)
    assert code == 0 and "no rate of the baseline batch" in said
    rungs = {rung["name"]: rung["n_a"] for rung in read(tmp_path / "l" / "ladder.json")["rungs"]}
    assert rungs["0"] and rungs["1"] and rungs["2"] is None


def test_a_rung_that_every_run_refuses_is_n_a_with_the_reason(tmp_path):
    rates = {"low": 0.00001, "high": 0.001, "log": True}
    spaces = {**SPACES, "lars": {**SPACES["lars"], "peak_learning_rate": rates}}
    _, said = climb(tmp_path / "l", spaces=spaces)
    rungs = {rung["name"]: rung["n_a"] for rung in read(tmp_path / "l" / "ladder.json")["rungs"]}
    assert rungs["4"] == "refused: one thing; another" and rungs["3"] is None
    assert rungs["4 without decay"] == rungs["4"], "the last rung's reason is written too"
    assert "n/a: refused: one thing; another" in said


def test_the_reason_of_a_refused_rung_stays_where_fewer_trials_are_asked_for(tmp_path, monkeypatch):
    only(monkeypatch, "baseline rate")
    spaces = {**SPACES, "baseline": {"learning_rate": [0.001, 0.0005, 0.0001]}}
    for trials in (3, 2):
        climb(tmp_path / "l", spaces=spaces, trials=trials)
        assert rungs_of(tmp_path / "l")["baseline rate"]["n_a"] == "refused: one thing; another"


@pytest.mark.parametrize("rates", [[0.001, 0.1], [0.7, 0.8], [0.001, 0.7]])
def test_a_rung_that_some_run_was_not_refused_is_not_n_a(tmp_path, monkeypatch, rates):
    only(monkeypatch, "baseline rate")
    climb(tmp_path / "l", spaces={**SPACES, "baseline": {"learning_rate": rates}}, trials=2)
    assert read(tmp_path / "l" / "baseline_rate" / "result.json")["failed"]
    assert rungs_of(tmp_path / "l")["baseline rate"]["n_a"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rung_is_the_last_that_is_begun(tmp_path, monkeypatch, number):
    begun = []
    monkeypatch.setattr(sweep, "run", lambda plan, **how: begun.append(plan.folder) or 128 + number)
    code, said = climb(tmp_path / "l")
    assert code == 128 + number and len(begun) == 1 and "Test accuracy" not in said


def test_a_rung_whose_final_runs_fail_says_so_and_so_does_the_exit_code(tmp_path, monkeypatch):
    only(monkeypatch, "baseline rate", "0", "2")
    refuses = tmp_path / "refuses.py"
    refuses.write_text("import runpy, sys\nif any('/final/' in word for word in sys.argv): sys.exit(2)\n"
                       f"sys.argv[0] = {FAKE[1]!r}\nrunpy.run_path({FAKE[1]!r}, run_name='__main__')\n")
    code, said = climb(tmp_path / "l", runner=(FAKE[0], str(refuses)))
    assert code == 1
    assert [line.split(maxsplit=1)[1] for line in said.splitlines()[-2:]] == ["n/a: every final run failed"] * 2


def test_the_table_says_what_became_of_the_final_runs_and_what_qualifies_them(tmp_path, monkeypatch):
    only(monkeypatch, "baseline rate")
    monkeypatch.setenv("FAKE_UNSTABLE", "[0.1]")
    monkeypatch.setenv("FAKE_NOTE", "made images")
    how = {"words": (*MNIST, "--seed=1000"), "spaces": {**SPACES, "baseline": {"learning_rate": [0.1]}},
           "of_the_base": {"validation_examples": 0}}
    table = climb(tmp_path / "l", **how)[1].splitlines()[-2:]
    assert table[0].endswith("of the seeds that came to one; selected on test; made images:")
    assert table[1].split() == ["baseline", "rate", "88.99%", "n=1,", "1", "diverged"]  # seeds 1001 and 1002
    status = tmp_path / "l" / "baseline_rate" / "final" / "seed1001" / "status.json"
    status.write_text(json.dumps({"status": "failed", "reason": "out of luck"}))
    code, said = climb(tmp_path / "l", **how)
    assert code == 1 and said.splitlines()[-1].split() == ["baseline", "rate", "-", "n=0,", "1", "diverged"]


def test_two_ladders_never_work_in_one_folder(tmp_path):
    with held(str(tmp_path / "l"), pytest.fail), pytest.raises(Refusal, match="a ladder is at work in it"):
        climb(tmp_path / "l")
    assert not list((tmp_path / "l").iterdir())


def test_a_grid_tries_every_point_and_no_search_more_points_than_there_are(tmp_path):
    spaces = {"baseline": {"learning_rate": [0.1, 0.2]}, "sgd": {**SPACES["sgd"], "peak_learning_rate": [0.01, 0.1, 1.0]},
              "lars": {**SPACES["lars"], "peak_learning_rate": [0.1, 10.0]}}
    for method, numbers in (("grid", [2, 3, 9, 18, 12]), ("random", [2, 3, 7, 7, 7])):
        text = list(make(tmp_path / "l", spaces=spaces, trials=7, of_the_base={"method": method}).text())
        found = {name: int(line.rpartition("(")[2].split()[0]) for line in text if " trials over " in line
                 for name in ("baseline rate", "0 tuned", "2", "3", "4") if line.startswith(f"  {name:<28} ")}
        assert list(found.values()) == numbers, method
        [budgets] = [line for line in text if "The budgets differ" in line]
        assert ", ".join(f"{name} {count}" for name, count in zip(("0 tuned", "2", "3", "4"), numbers[1:])) in budgets
    assert not [line for line in make(tmp_path / "l").text() if "budgets" in line]
    with pytest.raises(Refusal, match="a grid over a range needs the number of its points"):
        make(tmp_path / "l", of_the_base={"method": "grid"})


def test_a_folder_that_cant_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "listdir", refuses_to_list)
    with pytest.raises(Refusal, match=f"--sweep_dir={tmp_path}: Permission denied; name another folder"):
        make(tmp_path)


def test_a_rung_without_any_accuracy_says_so(tmp_path):
    spaces = {**SPACES, "lars": {**SPACES["lars"], "peak_learning_rate": {"low": 1.0, "high": 100.0, "log": True}}}
    code, said = climb(tmp_path / "l", spaces=spaces)
    assert code == 0 and "n/a: no trial came to an accuracy" in said.splitlines()[-6]


def test_rungs_that_scale_a_rate_say_on_which_split_it_was_chosen(climbed, tmp_path):
    folder, _, _ = climbed
    assert {finals(folder, rung)["selected_on"] for rung in ("rung0", "rung1")} == {"validation"}
    base = Base(words=MNIST, dataset="mnist", validation_examples=0, final_seeds=1, method="random")
    with Screen(io.StringIO()) as screen:
        Ladder(base, str(tmp_path / "l"), where="l.json", spaces=SPACES, trials=2, runner=FAKE).run(jobs=2, screen=screen)
    assert {finals(tmp_path / "l", rung)["selected_on"] for rung in ("rung0", "rung1")} == {"test"}


def test_without_final_runs_no_rung_is_said_to_have_failed(tmp_path):
    base = Base(words=MNIST, dataset="mnist", validation_examples=400, final_seeds=0, method="random")
    stream = io.StringIO()
    with Screen(stream) as screen:
        Ladder(base, str(tmp_path / "l"), where="l.json", spaces=SPACES, trials=2, runner=FAKE).run(jobs=2, screen=screen)
    table = stream.getvalue().rpartition("Test accuracy")[2]
    assert "no final runs were asked for" in table and "no trial" not in table


def test_a_kill_before_its_first_file_leaves_a_folder_to_begin_in(tmp_path):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "ladder.json.123.tmp").write_text("{")
    make(tmp_path / "l")
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/below"):
        with pytest.raises(Refusal, match="is a file; name"):
            make(tmp_path / folder)


def test_rates_of_almost_as_many_decades_are_refused(tmp_path):
    spaces = {"sgd": {**SPACES["sgd"], "peak_learning_rate": {"low": 0.01, "high": 8.0, "log": True}}}
    with pytest.raises(Refusal, match="equally many decades .sgd 2.9, lars 3"):
        make(tmp_path / "l", spaces=spaces)
