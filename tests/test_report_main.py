"""The report program from outside: what it makes, what it refuses, and that no folder stops it."""

import csv
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from reference.made_runs import RULE, made_run, made_seeds, made_sweep
from tf_hugebatch import report_main

ROOT = pathlib.Path(__file__).parents[1]
TABLES = ("table1", "table2", "table3", "table4")


def report(*words):
    return report_main.main([f"--{word}" for word in words])


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    made_seeds(folder / "linear_256", [0.97, 0.971, 0.972, 0.971, 0.972], dataset="mnist5k", batch_size=256, **RULE)
    made_seeds(folder / "linear_512", [0.80, 0.81], dataset="mnist5k", batch_size=512, **RULE)
    made_sweep(folder / "lars", [0.97, 0.98], chosen={"peak_learning_rate": 20.0, "warmup_epochs": 5.0}, batch_size=1024,
               optimizer="lars", schedule="polynomial")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def test_tables_and_regimes_with_a_summary(runs, output, capsys):
    assert report(f"runs={runs}", "table=1,3..4", "regimes", f"output={output}") == 0
    assert {path.name for path in output.iterdir()} == {
        "table1.md", "table1.csv", "table3.md", "table3.csv", "table4.md", "table4.csv", "regimes.md", "regimes.csv",
        "regimes_batches.csv", "report.md", "report.json"}
    said, progress = capsys.readouterr()
    assert re.search(r"^table3 +62 +md, csv$", said, re.MULTILINE) and f"report: {output}/report.md" in said
    assert "found    11 runs, 1 sweeps" in said and "[4/4] regimes" in progress
    assert re.search(r"^  mnist5k, lenet5.*: B_L 256 < B_L <= 512: linear scaling alone", said, re.MULTILINE)
    assert f"  Most write below runs, which --runs={runs} does not read; then give --runs={runs},runs" in said
    summary = (output / "report.md").read_text()
    assert "11 runs were read, 2 of them trials of a search; 9 have ended and count; 1 sweeps" in summary
    for words in ("## Table 1", "## Table 3", "## Table 4", "## Regimes", "[table3.csv](table3.csv)", "256 < B_L <= 512",
                  "python -m tf_hugebatch.mnist_main", f"--runs={runs}"):
        assert words in summary
    assert "## Table 2" not in summary and "Left aside" not in summary


def test_every_blank_has_its_command_and_cost_in_the_summary(runs, output):
    from tf_hugebatch.reports import tables
    from tf_hugebatch.runs import load_runs, load_sweeps

    report(f"runs={runs}", "table=1..4", f"output={output}")
    summary = (output / "report.md").read_text()
    for number in tables.NUMBERS:
        for blank in tables.make(number, load_runs(runs), load_sweeps(runs)).blanks:
            assert blank.command in summary and blank.cost in summary


def test_blanks_are_those_of_boundaries_first_and_their_cost_is_added_up(runs, output, capsys):
    report(f"runs={runs}", "table=1,3", "regimes", f"output={output}")
    said = capsys.readouterr().out.partition("\nblank: ")[2]
    head, first, command, *_ = said.splitlines()
    assert re.match(r"\d+, about [\d,]+ years on two CPU cores in all, the \d+ of less than a day about .*; what fills them:$", head)
    assert re.match(r"  (the baseline of|A and xi of|B_[LH] of)", first) and command.startswith("    ")
    assert re.search(r"<summary>62 blanks, and what fills them: about \d+ days on two CPU cores in all",
                     (output / "report.md").read_text())


def test_links_of_the_summary_lead_somewhere(runs, output):
    report(f"runs={runs}", "table=1..4", "regimes", f"output={output}")
    links = re.findall(r"\]\(([^)]+)\)", (output / "report.md").read_text())
    assert len(links) >= 11 and all((output / link).is_file() for link in links)


def test_a_report_of_the_folder_that_the_commands_write_to_says_nothing_of_it(runs, output, capsys, monkeypatch):
    monkeypatch.chdir(runs.parent)
    for words in ((), ("runs=.",)):
        assert report(*words, "regimes", f"output={output}{len(words)}") == 0
        assert "Most write below" not in capsys.readouterr().out


def test_what_has_a_baseline_comes_before_what_is_not_begun(runs, output, capsys):
    report(f"runs={runs}", "regimes", f"output={output}")
    said = capsys.readouterr().out
    blanks = re.findall(r"^  (?:A|B_L|B_H|the baseline)\b.*? of (\w+)", said, re.MULTILINE)
    assert blanks and set(blanks[:3]) == {"mnist5k"}


def test_a_full_disk_leaves_the_folder_a_report_and_is_said_in_a_line(runs, output, capsys, monkeypatch):
    words = (f"runs={runs}", "table=3", f"output={output}")
    assert report(*words) == 0
    whole = {path.name: path.read_bytes() for path in output.iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert report(*words) == 1
    assert "report.md can't be written (No space left on device)" in capsys.readouterr().err
    assert report(*words) == 0
    assert {name: (output / name).read_bytes() for name in whole} == whole


def test_a_report_is_made_again_in_its_folder_and_is_the_same(runs, output):
    words = (f"runs={runs}", "table=1..4", "regimes", f"output={output}")
    report(*words)
    first = {path.name: path.read_bytes() for path in output.iterdir()}
    assert report(*words) == 0
    assert {path.name: path.read_bytes() for path in output.iterdir()} == first


def test_a_folder_without_runs_gives_a_report_of_blanks(tmp_path, output, capsys):
    (tmp_path / "empty").mkdir()
    assert report(f"runs={tmp_path}/empty", "table=3", f"output={output}") == 0
    assert "found    0 runs" in capsys.readouterr().out
    with open(output / "table3.csv", newline="") as file:
        assert {row["mean_percent"] for row in csv.DictReader(file)} == {""}


def test_that_nothing_counts_is_said_with_where_it_was_looked_for(runs, tmp_path, output, capsys, monkeypatch):
    def said(*words):
        shutil.rmtree(output, ignore_errors=True)
        assert report(*words, "table=1", f"output={output}") == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOTHING TO REPORT")]

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    [line] = said("runs=empty")
    assert f"no run (a folder with a settings.json) lies below {tmp_path}/empty." in line
    [line] = said(f"runs={tmp_path}/nothing*")
    assert f"{tmp_path}/nothing*" in line
    made_run(tmp_path / "empty" / "killed", status="running")
    [line] = said("runs=empty")
    assert "none of the 1 runs has ended with a result" in line
    assert said(f"runs={runs}") == said(f"runs={runs}/lars/trials") == []


def test_several_folders_and_patterns(runs, output, capsys):
    assert report(f"runs={runs}/linear_*/**,{runs}/lars,{runs}/lars/final", "table=3", f"output={output}") == 0
    assert "found    11 runs, 1 sweeps" in capsys.readouterr().out


def test_reading_many_runs_says_how_far_it_is(tmp_path, output, capsys):
    for seed in range(60):
        made_run(tmp_path / "runs" / str(seed), seed=seed)
    assert report(f"runs={tmp_path}/runs", "table=1", f"output={output}") == 0
    assert "read 50 of 60 runs" in capsys.readouterr().err


# Refusals.


@pytest.mark.parametrize("words, named", [
    (["table=5"], ["--table=5: '5' is none of 1 to 4"]), (["table=3..1"], ["'3..1'"]), (["table=1..9"], ["'1..9'"]),
    (["table=x"], ["'x' is none"]), (["table="], ["--table=: an empty value"]), (["figure=0,34"], ["'0' is none of 1 to 33"]),
    (["figure=1..2..3"], ["'1..2..3'"]), (["figure=²"], ["'²'"]), ([], ["nothing is asked for; give --table"]),
    (["tabel=3"], ["--tabel=3 (command line): unknown flag; did you mean table?"]),
    (["table=9", "regimes=maybe"], ["--table=9", "--regimes=maybe"]),
    (["table=3", "runs=nowhere"], ["--runs: nowhere: there is no such folder"]),
    (["table=9", "flagfile=x.flags"], ["--table=9", "--flagfile=x.flags: No such file"])])
def test_mistakes_are_named_and_nothing_is_written(words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert report(*words) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in named) and f"Refused: {len(named)} problem" in said
    assert os.listdir(tmp_path) == ["runs"]


def test_a_folder_with_something_else_is_not_written_into(runs, output, capsys):
    output.mkdir()
    (output / "thesis.md").write_text("mine")
    assert report(f"runs={runs}", "table=1", f"output={output}") == 2
    assert "it is not empty and holds no report" in capsys.readouterr().err and os.listdir(output) == ["thesis.md"]
    (output / "report.json").write_text('{"program": "another"}')
    assert report(f"runs={runs}", "table=1", f"output={output}") == 2
    assert report(f"runs={runs}", "table=1", f"output={runs}/lars") == 2
    assert report(f"runs={runs}", "table=1", f"output={output}/thesis.md") == 2
    assert report(f"runs={runs}", "table=1", f"output={output}/thesis.md/below") == 2
    assert (output / "thesis.md").read_text() == "mine" and sorted(os.listdir(output)) == ["report.json", "thesis.md"]


def test_a_folder_with_a_report_of_other_runs_is_not_mixed_with_another(runs, output, tmp_path, capsys):
    assert report(f"runs={runs}", "table=1", f"output={output}") == 0
    before = {path.name: path.read_text() for path in output.iterdir()}
    others = tmp_path / "others"
    others.mkdir()
    capsys.readouterr()
    assert report(f"runs={others},{runs}", "table=2", f"output={output}") == 2
    assert f"it holds the report of --runs={runs}; name another folder" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in output.iterdir()} == before
    assert report(f"runs={runs}", "table=2", f"output={output}") == 0


# What it needs.


def run_python(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env=environment)


def test_no_tensorflow(runs, output):
    code = ("import sys\nfrom tf_hugebatch import report_main\n"
            "assert report_main.main([f'--runs={sys.argv[1]}', '--table=1..4', '--regimes', f'--output={sys.argv[2]}']) == 0\n"
            "assert not {'tensorflow', 'keras', 'tensorboard', 'matplotlib'} & set(sys.modules), 'heavy'")
    done = run_python(code, runs, output)
    assert done.returncode == 0, done.stderr


def test_help_is_quick_and_names_every_flag():
    started = time.monotonic()
    done = run_python("from tf_hugebatch import report_main; report_main.main(['--help'])")
    assert done.returncode == 0 and time.monotonic() - started < 2
    assert all(f"--{field.name}=" in done.stdout for field in report_main.OWN)


def test_the_console_script_is_this_program():
    assert "hugebatch-report = tf_hugebatch.report_main:main" in (ROOT / "setup.cfg").read_text()


# Damaged folders.


def damage_everything(folder):
    """One folder of each kind of damage; returns the words that must name it."""
    def copy(name, **status):
        made_run(folder / name, seed=99)
        if status:
            path = folder / name / "status.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **status}))
        return folder / name

    (copy("no_settings") / "settings.json").write_text("{not json")
    (copy("no_status") / "status.json").unlink()
    with open(copy("torn") / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "st')
    copy("running", status="running", step=7, total_steps=480)
    copy("text", final={"test_accuracy": "0.99"})
    copy("nan", final={"test_accuracy": float("nan")})
    copy("odd_words", status="failed", reason="\ud800 | <b>\n\x1b[2J")
    settings_path = copy("foreign") / "settings.json"
    settings_path.write_text('{"name": "somebody else\'s", "version": 3}')
    (folder / "sweep" / "trials").mkdir(parents=True)
    (folder / "sweep" / "sweep.json").write_text('{"space"')
    return {"no_settings": "no JSON object", "no_status": "no status.json", "torn/metrics.jsonl": "1 of 5 lines torn",
            "running": "update 7 of 480", "text": "test_accuracy=0.99", "nan": "test_accuracy=nan", "odd_words": "failed (",
            "foreign": "no dataset", "sweep": "sweep.json is no JSON object"}


def test_a_report_over_damaged_folders_comes_out_and_says_what_it_left_aside(runs, output, capsys):
    expected = damage_everything(runs / "damaged")
    assert report(f"runs={runs}", "table=1..4", "regimes", f"output={output}") == 0
    said, summary = capsys.readouterr().out, (output / "report.md").read_text()
    for name, reason in expected.items():
        [row] = [line for line in summary.splitlines() if line.startswith(f"| {runs}/damaged/{name} |")]
        assert reason in row and f"{runs}/damaged/{name}: " in said
    assert "\x1b" not in said and "left aside: 9" in said
    assert "10 have ended and count" in summary  # nine and the one whose metrics are torn


@pytest.mark.parametrize("space", [-1, True, "full", [], None, 10**400])
def test_a_sweep_whose_space_is_none_stops_no_report(tmp_path, space):
    made_seeds(tmp_path / "runs" / "a", [0.9, 0.91], learning_rate=0.05)
    made_sweep(tmp_path / "runs" / "sweep", [0.9, 0.9], chosen={"learning_rate": 0.1}, batch_size=512)
    plan = tmp_path / "runs" / "sweep" / "sweep.json"
    plan.write_text(json.dumps({**json.loads(plan.read_text()), "space": space}))
    assert report(f"runs={tmp_path}/runs", "table=1..4", "regimes", "figure=16,18,steps_to_target", f"output={tmp_path}/out") == 0


@given(data=st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_damage_stops_a_report(tmp_path_factory, capsys, data):
    folder = tmp_path_factory.mktemp("report")
    runs = folder / "runs"
    made_seeds(runs / "a", [0.9, 0.91], learning_rate=0.05)
    made_seeds(runs / "b", [0.9, None], learning_rate=0.05, batch_size=512)
    made_sweep(runs / "sweep", [0.9, 0.9], chosen={"learning_rate": 0.1}, batch_size=512)
    files = sorted(path for path in runs.rglob("*.json*"))
    for path in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=4, unique=True), "files"):
        kind = data.draw(st.sampled_from(["cut", "bytes", "gone", "folder", "value"]), "damage")
        if kind == "cut":
            path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, 200))])
        elif kind == "bytes":
            path.write_bytes(data.draw(st.binary(max_size=30)))
        elif kind == "value" and path.suffix == ".json":
            stored = json.loads(path.read_text())
            key = data.draw(st.sampled_from(sorted(stored)))
            stored[key] = data.draw(st.sampled_from([None, "=1+1", -1, 10**400, float("nan"), [], {}, True, "full", {"a": []},
                                                     "\ud800|"]))
            path.write_text(json.dumps(stored))
        else:
            path.unlink()
            if kind == "folder":
                path.mkdir()
    assert report(f"runs={runs}", "table=1..4", "regimes", f"output={folder}/out") == 0
    assert {f"{name}.csv" for name in TABLES} <= set(os.listdir(folder / "out"))
    capsys.readouterr()


@pytest.fixture
def table_3_runs(tmp_path):
    """Two cells' runs, a grid, and the run of figure 3, on mnist."""
    folder = tmp_path / "runs"
    made_seeds(folder / "lars", [0.98, 0.985], dataset="mnist", batch_size=8192, optimizer="lars", schedule="polynomial",
               warmup_epochs=5, learning_rate=1.0, lr_scaling="linear")
    sweep = folder / "grid"
    made_sweep(sweep, [0.97], chosen={"learning_rate": 0.1, "warmup_epochs": 5.0}, dataset="mnist", batch_size=32768,
               optimizer="lars", schedule="polynomial", lr_scaling="linear")
    plan = json.loads((sweep / "sweep.json").read_text())
    space = {"learning_rate": [0.1, 0.2], "warmup_epochs": [0, 5]}
    (sweep / "sweep.json").write_text(json.dumps({**plan, "method": "grid", "space": space}))
    return folder


def rewrite(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("odd, reason", [
    ({"lr_scaling": None}, "lr_scaling=null: a run writes its value"),
    ({"schedule": None}, "schedule=null"),
    ({"batch_size": "8192"}, 'batch_size="8192", as text: a run writes 8192'),
    ({"warmup_epochs": "5"}, 'warmup_epochs="5", as text'),
    ({"warmup_epochs": None}, "warmup_epochs=null"),
])
@pytest.mark.parametrize("where", ["lars/seed1", "grid/trials/0000"])
def test_a_setting_that_no_run_writes_takes_its_run_alone(table_3_runs, output, odd, reason, where):
    rewrite(table_3_runs / where / "settings.json", **odd)
    assert report(f"runs={table_3_runs}", "table=3,4", "figure=3,24,16", "page", f"output={output}") == 0
    [row] = [line for line in (output / "report.md").read_text().splitlines() if line.startswith(f"| {table_3_runs}/{where} |")]
    assert reason in row.replace("\\", "")
    assert (output / "figure3.png").exists()


@pytest.mark.parametrize("odd", [{"total_steps": "110"}, {"total_steps": [1]}, {"data_note": ["a"]}])
def test_a_status_that_no_run_writes_stops_no_figure(table_3_runs, output, odd):
    for seed in (1, 2):
        rewrite(table_3_runs / f"lars/seed{seed}/status.json", **odd)
    assert report(f"runs={table_3_runs}", "figure=3", "page", f"output={output}") == 0
    assert (output / "figure3.png").exists()


def test_a_folder_whose_name_is_no_text_is_drawn(table_3_runs, output):
    made_seeds(table_3_runs / "lamb", [0.98, 0.985], dataset="mnist", regime="huge")
    os.rename(os.fsencode(table_3_runs / "lamb"), os.fsencode(table_3_runs) + b"/l\xe4mb")
    assert report(f"runs={table_3_runs}", "figure=21", f"output={output}") == 0
    assert (output / "figure21.png").exists() and "mb/seed1" in (output / "figure21.csv").read_text()


@pytest.fixture
def a_ladder(tmp_path):
    from reference import made_figures

    return made_figures.write_ladder(tmp_path / "runs" / "ladder", "imagenet2012", 819200, {"0": [0.3], "4": [0.5, 0.51]})


@pytest.mark.parametrize("damage, reason", [
    (lambda plan: json.dumps(plan)[:300], "no JSON object with settings and rungs"),
    (lambda plan: json.dumps({**plan, "rungs": [1]}), "no JSON object with settings and rungs"),
    (lambda plan: json.dumps({**plan, "settings": [1]}), "no JSON object with settings and rungs"),
    (lambda plan: json.dumps({**plan, "settings": "x"}), "no JSON object with settings and rungs"),
    (lambda plan: json.dumps({**plan, "settings": {}}), "settings.json is missing, empty"),
    (lambda plan: json.dumps({**plan, "settings": {**plan["settings"], "dataset": ["mnist"]}}), "its settings say dataset="),
])
def test_a_torn_ladder_is_named(a_ladder, output, damage, reason, capsys):
    path = a_ladder / "ladder.json"
    path.write_text(damage(json.loads(path.read_text())))
    assert report(f"runs={a_ladder.parent}", "figure=1", "page", f"output={output}") == 0
    [row] = [line for line in (output / "report.md").read_text().splitlines() if line.startswith(f"| {path} |")]
    assert reason in row and "count as searches of their own" in row and str(path) in capsys.readouterr().out


def test_a_rung_whose_folder_is_no_folder_is_not_run(a_ladder, output):
    plan = json.loads((a_ladder / "ladder.json").read_text())
    plan["rungs"][0]["folder"] = "rung\x000"
    (a_ladder / "ladder.json").write_text(json.dumps(plan))
    assert report(f"runs={a_ladder.parent}", "figure=1", f"output={output}") == 0
    rows = list(csv.DictReader((output / "figure1.csv").open()))
    assert [(row["rung"], row["n"]) for row in rows] == [("0", ""), ("4", "2")]


@pytest.mark.parametrize("name, text", [("settings.json", '{"editor": 1}'), ("metrics.jsonl", ""), ("sweep.json", "{}")])
def test_a_stray_file_above_runs_hides_none_of_them(runs, output, capsys, name, text):
    (runs / name).write_text(text)
    assert report(f"runs={runs}", "regimes", f"output={output}") == 0
    assert "256 < B_L <= 512" in capsys.readouterr().out and f"| {runs} |" in (output / "report.md").read_text()


def test_an_item_that_fails_leaves_the_others(runs, output, capsys, monkeypatch):
    from tf_hugebatch.reports import tables

    def broken(*arguments):
        raise RuntimeError("a | bug")

    monkeypatch.setitem(tables._MAKERS, 3, broken)
    assert report(f"runs={runs}", "table=2..4", f"output={output}") == 1
    assert "not made: table3: RuntimeError: a | bug" in capsys.readouterr().out
    assert (output / "table4.csv").exists() and "RuntimeError: a \\| bug" in (output / "report.md").read_text()


def test_the_runs_themselves_are_left_as_they_are(runs, output):
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    report(f"runs={runs}", "table=1..4", "regimes", f"output={output}")
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_a_run_that_is_gone_while_the_report_is_made(runs, output, monkeypatch):
    from tf_hugebatch.reports import report as reports

    find = reports.find
    monkeypatch.setattr(reports, "find", lambda patterns: (find(patterns), shutil.rmtree(runs / "linear_256"))[0])
    assert report(f"runs={runs}", "table=1..4", "regimes", f"output={output}") == 0


# Figures and page.


def test_everything(runs, output, capsys):
    made_seeds(runs / "lars_8192", [0.98, 0.985], dataset="mnist", batch_size=8192, optimizer="lars", schedule="polynomial",
               warmup_epochs=5)
    assert report(f"runs={runs}", "all", f"output={output}") == 0
    said = capsys.readouterr().out
    names = [*TABLES, "regimes", *(f"figure{number}" for number in range(1, 34)), *report_main.NAMED_FIGURES,
             "page"]
    assert [name for name in names if re.search(rf"^{name} ", said, re.MULTILINE)] == names
    assert {"figure3.png", "figure3.svg", "figure3.csv", "index.html"} <= set(os.listdir(output))
    assert (output / "figure3.png").read_bytes().startswith(b"\x89PNG") and not (output / "figure8.png").exists()
    summary = (output / "report.md").read_text()
    assert "![Figure 3](figure3.png)" in summary and "## Figure 8" in summary and "imagenet_main" in summary
    assert all((output / link).is_file() for link in re.findall(r"(?<!\\)\]\(([^)]+)\)", summary))


def test_the_numbers_of_figures_are_the_catalogues():
    from tf_hugebatch.reports import catalogue, tables

    assert report_main.FIGURES == catalogue.NUMBERS and tuple(report_main.NAMED_FIGURES) == catalogue.NAMES
    assert report_main.TABLES == tables.NUMBERS


def test_figures_by_number_and_a_picture_of_runs_that_are_gone(runs, output):
    lars = runs / "lars_8192"
    made_seeds(lars, [0.98, 0.985], dataset="mnist", batch_size=8192, optimizer="lars", schedule="polynomial", warmup_epochs=5)
    words = (f"runs={runs}", "figure=3", f"output={output}")
    assert report(*words) == 0
    assert set(os.listdir(output)) == {"figure3.png", "figure3.svg", "figure3.csv", "report.md", "report.json"}
    shutil.rmtree(lars)
    assert report(*words) == 0
    assert set(os.listdir(output)) == {"report.md", "report.json"}


def test_without_matplotlib_tables_come_out_and_the_extra_is_named(runs, output):
    code = ("import sys\nsys.modules['matplotlib'] = None\nfrom tf_hugebatch import report_main\n"
            "words = ['--table=3', '--figure=1..33', '--page', f'--runs={sys.argv[1]}', f'--output={sys.argv[2]}']\n"
            "sys.exit(report_main.main(words))")
    made_seeds(runs / "lars_8192", [0.98, 0.985], dataset="mnist", batch_size=8192, optimizer="lars", schedule="polynomial",
               warmup_epochs=5)
    done = run_python(code, runs, output)
    assert done.returncode == 1 and "pip install 'tf_hugebatch[report]'" in done.stdout and "Traceback" not in done.stderr
    assert {"table3.csv", "report.md", "index.html"} <= set(os.listdir(output)) and not (output / "figure3.png").exists()


def test_cells_of_figures_are_safe_in_a_spreadsheet(runs, output, monkeypatch):
    from tf_hugebatch.reports import catalogue, drawing

    row = {"note": "=HYPERLINK(1)", "accuracy": -0.5, "missing": None}
    monkeypatch.setattr(catalogue, "draw", lambda *arguments: drawing.Drawing(None, [row], "a | caption", []))
    assert report(f"runs={runs}", "figure=3", f"output={output}") == 0
    assert (output / "figure3.csv").read_text() == "note,accuracy,missing\n'=HYPERLINK(1),-0.5,\n"


def test_the_page_and_figures_come_out_over_damaged_folders(runs, output):
    damage_everything(runs / "damaged")
    assert report(f"runs={runs}", "figure=1..5,19,21,steps_to_target", "page", f"output={output}") == 0
    assert (output / "index.html").stat().st_size > 1_000
