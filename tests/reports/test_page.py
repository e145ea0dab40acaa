"""The page: every run a row, every text escaped, every link there, nothing from a network; sorts in a browser (slow)."""

import html
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import time
import urllib.parse

import pytest

from reference import made_figures as made
from tf_hugebatch.reports.page import write_page
from tf_hugebatch.runs import load_runs, load_sweeps

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'&amp;"


class Page(html.parser.HTMLParser):
    """Tags with their attributes, and the text of the runs' table by row and heading."""

    def __init__(self, path_or_text):
        super().__init__()
        self.tags, self.rows, self.identities, self._heads, self._cell = [], [], [], [], None
        self.text = pathlib.Path(path_or_text).read_text() if isinstance(path_or_text, os.PathLike) else path_or_text
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "th" and "data-key" in attributes:
            self._heads.append(attributes["data-key"])
        if tag == "tr" and "data-name" in attributes:
            self.rows.append({"name": attributes["data-name"]})
            self.identities.append(attributes["id"])
            self._cell = -1
        if tag == "td" and "data-v" in attributes and self._cell is not None:
            self._cell += 1
            self.rows[-1][self._heads[self._cell]] = ""

    def handle_endtag(self, tag):
        if tag == "tr":
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None and self._cell >= 0:
            self.rows[-1][self._heads[self._cell]] += data

    def links(self):
        return [attributes["href"] for tag, attributes in self.tags if tag == "a" and "href" in attributes]


def page_of(folder, runs, sweeps=()):
    folder.mkdir(exist_ok=True)
    return Page(pathlib.Path(write_page(runs, list(sweeps), folder)))


def some_runs(folder):
    made.write_run(folder / "good", accuracy=0.9931, batch_size=8192, epochs=30, optimizer="lars", schedule="polynomial",
                   warmup_epochs=5, seed=3, note="3 labels are known to be wrong")
    made.write_run(folder / "lost", accuracy=None, status="diverged", batch_size=256, epochs=30)
    made.write_grid(folder / "sweep", "mnist", rates=[2, 4], warmups=[0, 5], batch_size="full", epochs=30, optimizer="lars",
                    accuracy=lambda rate, warmup: 0.9 + rate / 100, missing={(4, 5)}, diverged={(2, 0)}, select_on="test")
    (folder / "torn").mkdir()
    (folder / "torn" / "settings.json").write_text('{"dataset": "mn')
    return load_runs(folder), load_sweeps(folder)


def test_every_run_is_a_row_with_its_numbers(tmp_path):
    page = page_of(tmp_path / "report", *some_runs(tmp_path / "runs"))
    rows = {row["name"]: row for row in page.rows}
    assert len(rows) == 6
    good = rows["good"]
    assert (good["dataset"], good["optimizer"], good["batch_size"], good["updates"]) == ("mnist", "lars", "8,192", "220")
    assert (good["test_accuracy"], good["seed"], good["warmup"], good["status"]) == ("99.31", "3", "5 epochs", "done")
    assert "mnist_main --dataset=mnist" in good["run"] and "3 labels are known to be wrong" in good["marks"]
    assert (rows["lost"]["test_accuracy"], rows["lost"]["status"]) == ("", "diverged")
    assert "loss not finite at update 3" in rows["lost"]["marks"]
    trial = rows[os.path.join("sweep", "trials", "0001")]
    assert trial["part"] == "trials" and "selected on test" in trial["marks"]
    assert re.search(r'<a href="\.\./runs/sweep/">trials</a>', page.text)
    assert trial["test_accuracy"].endswith("†") and "the setting was chosen by accuracy on the test split" in page.text


def test_what_was_left_aside_is_named_with_the_reason(tmp_path):
    runs, sweeps = some_runs(tmp_path / "runs")
    with open(tmp_path / "runs" / "good" / "metrics.jsonl", "a") as file:
        file.write('{"kind": "tr')
    (tmp_path / "runs" / "lost" / "status.json").write_text("{")
    page = page_of(tmp_path / "report", load_runs(tmp_path / "runs"), sweeps)
    below = html.unescape(page.text.partition("<h2>Left aside</h2>")[2].partition("</ul>")[0])
    assert re.search(r"torn</a>: settings.json is missing, empty or no JSON object", below)
    assert re.search(r"lost</a>: no status.json that can be read", below)
    assert re.search(r'good/metrics.jsonl">\S+</a>: 1 of \d+ lines torn', below)
    assert below.count("<li>") == 3


def test_a_dry_run_is_called_one(tmp_path):
    made.write_run(tmp_path / "runs" / "dry", dry_run="true", accuracy=None)
    made.write_run(tmp_path / "runs" / "lost", accuracy=None)
    for name in ("dry", "lost"):
        (tmp_path / "runs" / name / "status.json").unlink()
    page = page_of(tmp_path / "report", load_runs(tmp_path / "runs"))
    assert [(row["name"], row["status"]) for row in page.rows] == [("dry", "dry run"), ("lost", "no status")]
    assert "2 runs: 1 dry run, 1 no status." in page.text and "a dry run: it trained nothing" in page.text


def test_a_column_without_anything_in_it_is_left_out(tmp_path):
    made.write_run(tmp_path / "runs" / "a", accuracy=0.9)
    heads = [attributes["data-key"] for tag, attributes in page_of(tmp_path / "report", load_runs(tmp_path / "runs")).tags
             if tag == "th" and "data-key" in attributes]
    assert "test_accuracy" in heads and not {"part", "marks", "validation_accuracy"} & set(heads)


def test_earlier_choices_that_read_the_test_split_are_marked(tmp_path):
    from reference.made_runs import made_sweep

    made_sweep(tmp_path / "runs" / "sweep", [0.9, 0.9], chosen={"learning_rate": 0.1}, tested_before=("trial0003",))
    page = page_of(tmp_path / "report", load_runs(tmp_path / "runs"), load_sweeps(tmp_path / "runs"))
    marks = {row["name"]: row["marks"] for row in page.rows}
    assert marks["final/seed1"] == "test read before: 1 earlier choice" and marks["trials/0000"] == ""
    assert '<span class="bad">validation; test read before: 1 earlier choice</span>' in page.text


@pytest.mark.parametrize("split, marked", [("test", True), ("validation", False)])
def test_a_final_run_that_lost_its_sweep_keeps_its_mark(tmp_path, split, marked):
    made.write_run(tmp_path / "runs" / "copied", accuracy=0.9, selected_on=split)
    made.write_run(tmp_path / "runs" / "lost", accuracy=None, status="diverged")
    page = page_of(tmp_path / "report", load_runs(tmp_path / "runs"))
    assert ("selected on test" in page.rows[0]["marks"], page.rows[0]["test_accuracy"].endswith("†")) == (marked, marked)


def test_a_long_name_breaks_between_its_folders(tmp_path):
    made.write_run(tmp_path / "runs" / "a" / "b", accuracy=0.9)
    made.write_run(tmp_path / "runs" / "c", accuracy=0.9)
    assert "<summary>a/<wbr>b</summary>" in page_of(tmp_path / "report", load_runs(tmp_path / "runs")).text


def test_values_of_another_kind_are_left_blank(tmp_path):
    runs, _ = some_runs(tmp_path / "runs")
    status = tmp_path / "runs" / "good" / "status.json"
    status.write_text(status.read_text().replace("0.9931", "1" + 400 * "0"))  # an integer beyond every float
    (tmp_path / "runs" / "sweep" / "result.json").write_text('{"status": "done", "edges": 5, "trials": [], "chosen": "x"}')
    page = page_of(tmp_path / "report", load_runs(tmp_path / "runs"), load_sweeps(tmp_path / "runs"))
    rows = {row["name"]: row for row in page.rows}
    assert rows["good"]["test_accuracy"] == "" and len(rows) == len(runs)


def test_links_lead_to_files_that_are_there_and_to_rows(tmp_path):
    page = page_of(tmp_path / "report", *some_runs(tmp_path / "runs with spaces #1"))
    links = page.links()
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in page.identities
            continue
        assert not re.search(r"[\s#?:<>\"]", link)  # a browser would read the address otherwise
        if "torn" not in link and not link.endswith("versions.json"):
            assert (tmp_path / "report" / urllib.parse.unquote(link)).exists(), link
    assert any(link.endswith("good/status.json") for link in links) and any(link.startswith("#run") for link in links)


def test_a_heat_map_marks_best_diverged_and_untried(tmp_path):
    page = page_of(tmp_path / "report", *some_runs(tmp_path / "runs"))
    cells = [attributes.get("class") for tag, attributes in page.tags if tag == "td" and "data-v" not in attributes]
    assert [cells.count(name) for name in ("best", "diverged", "untried")] == [1, 1, 1]
    assert re.search(r'class="best"[^>]*><a href="#run\d+">94.00', page.text)


def test_hostile_names_notes_and_commands_stay_text(tmp_path):
    folder = tmp_path / "runs" / "<script>document.title='taken'<" / "x\" onmouseover=\"alert(1)"
    made.write_run(folder, accuracy=0.9, note=HOSTILE)
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({
        **settings, "dataset": HOSTILE, "optimizer": [HOSTILE], "batch_size": HOSTILE, "schedule": HOSTILE,
        "epochs": {"a": HOSTILE}}))
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "status": HOSTILE, "reason": HOSTILE, "total_steps": HOSTILE}))
    (folder / "versions.json").write_text(json.dumps({"command_line": ["mnist_main", HOSTILE], "git_commit": HOSTILE}))
    sweep = made.write_grid(tmp_path / "runs" / "<b>sweep", "mnist", rates=[1], warmups=[0], accuracy=lambda *_: 0.9)
    plan = json.loads((sweep / "sweep.json").read_text())
    plan["space"]["peak_learning_rate"] = [HOSTILE, 1]
    (sweep / "sweep.json").write_text(json.dumps({**plan, "method": "grid", "settings": {"dataset": HOSTILE}}))
    (sweep / "result.json").write_text(json.dumps({"trials": {HOSTILE: 3}, "chosen": {"values": {HOSTILE: HOSTILE}},
                                                   "edges": [{"flag": HOSTILE, "value": HOSTILE, "end": HOSTILE}]}))
    page = page_of(tmp_path / "report", load_runs(tmp_path / "runs"), load_sweeps(tmp_path / "runs"))
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 2 and not {"img", "b"} & set(names)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert len(page.rows) == 2 and len(page.identities) == 2
    row = next(row for row in page.rows if "sweep" not in row["name"])
    assert HOSTILE in row["status"] and HOSTILE in row["marks"] and "document.title=" in row["run"]


def test_nothing_comes_from_a_network(tmp_path):
    page = page_of(tmp_path / "report", *some_runs(tmp_path / "runs"))
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    assert not any("src" in attributes for _, attributes in page.tags)
    assert [attributes["href"] for tag, attributes in page.tags if tag == "link"] == ["data:,"]
    outside = set(re.findall(r"https?://[^\"'\s)]+", page.text))
    assert outside == {"http://www.w3.org/2000/svg"} and "@import" not in page.text and "url(" not in page.text


def test_without_runs_it_is_still_a_page(tmp_path):
    page = page_of(tmp_path / "report", [])
    assert "No runs." in page.text and page.rows == []


def test_the_same_runs_give_the_same_bytes(tmp_path):
    runs, sweeps = some_runs(tmp_path / "runs")
    assert page_of(tmp_path / "a", runs, sweeps).text == page_of(tmp_path / "b", runs, sweeps).text


def thousand_runs(folder):
    first = made.write_run(folder / "run0000", accuracy=0.9, batch_size=256, epochs=30, rows=200)
    status = json.loads((first / "status.json").read_text())
    for number in range(1, 1000):
        shutil.copytree(first, folder / f"run{number:04d}")
        status["final"]["test_accuracy"] = ((number * 7919) % 1000) / 1000  # a permutation: sorting has work to do
        (folder / f"run{number:04d}" / "status.json").write_text(json.dumps(status))
    return load_runs(folder)


def test_a_thousand_runs_are_written_in_seconds_and_fit_a_browser(tmp_path):
    runs = thousand_runs(tmp_path / "runs")
    started = time.perf_counter()
    page = page_of(tmp_path / "report", runs)
    assert time.perf_counter() - started < 30 and len(page.rows) == 1000
    assert len(page.text) < 6e6


# ---------------------------------------------------------------------------------------- in a browser (slow set)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

def opened(path, fragment, profile):
    """The page as it stands in a headless browser once its script has run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--dump-dom",
               f"{path.as_uri()}#{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return Page(done.stdout)


def in_a_browser(test):
    """Marks a test as slow; it is skipped where there is no Chromium."""
    return pytest.mark.slow(pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Debian's package chromium")(test))


@in_a_browser
def test_it_sorts_filters_and_draws_in_a_browser(tmp_path):
    page_of(tmp_path / "report", *some_runs(tmp_path / "runs"))
    path, profile = tmp_path / "report" / "index.html", tmp_path / "profile"
    up = [row["test_accuracy"].rstrip("†") for row in opened(path, "sort=test_accuracy", profile).rows]
    down = [row["test_accuracy"].rstrip("†") for row in opened(path, "sort=test_accuracy&down=1", profile).rows]
    assert up == ["92.00", "94.00", "99.31", "", "", ""] and down == ["99.31", "94.00", "92.00", "", "", ""]
    batches = [row["batch_size"] for row in opened(path, "sort=batch_size", profile).rows]
    assert batches[:2] == ["256", "8,192"] and batches[-1] == ""  # as numbers: text would have 60,000 before 8,192
    found = opened(path, "find=LARS+8192&curve=loss", profile)
    assert [row["name"] for row in found.rows] == ["good"] and "1 of 6 runs" in found.text
    assert [tag for tag, _ in found.tags].count("polyline") == 1
    sorted_heads = [attributes["data-key"] for tag, attributes in opened(path, "sort=seed&down=1", profile).tags
                    if tag == "th" and attributes.get("aria-sort") == "descending"]
    assert sorted_heads == ["seed"]


@in_a_browser
def test_error_against_batch_size_is_drawn_in_a_browser(tmp_path):
    runs = tmp_path / "runs"
    some_runs(runs)
    made.write_run(runs / "other", accuracy=0.5, batch_size=64, dataset="cifar10")
    for batch, name in ((256, "sgd"), (1024, "lars"), (1024, "adam")):
        made.write_run(runs / f"{name}_{batch}", accuracy=0.9911, batch_size=batch, epochs=30, optimizer=name,
                       selected_on="test" if name == "adam" else "none")
    page = page_of(tmp_path / "report", load_runs(runs), load_sweeps(runs))
    found = opened(tmp_path / "report" / "index.html", "sort=batch_size", tmp_path / "profile")
    marks = [link[1:] for link in found.links() if link.startswith("#run")][:4]
    names = dict(zip(page.identities, (row["name"] for row in page.rows)))
    # Neither trials, nor what diverged, nor another data set.
    assert sorted(names[mark] for mark in marks) == ["adam_1024", "good", "lars_1024", "sgd_256"]
    assert "mnist, test error (%); not drawn: 1 diverged, 1 of other data sets" in found.text
    assert "<title>adam_1024: 99.11% at 1,024; † selected on test</title>" in found.text
    assert "<title>lars_1024: 99.11% at 1,024</title>" in found.text
    places = [re.match(r"translate\(([\d.]+) ([\d.]+)\)", attributes["transform"]) for tag, attributes in found.tags
              if tag == "path" and "transform" in attributes][:4]
    across = dict(zip((names[mark] for mark in marks), (float(place[1]) for place in places)))
    assert across["sgd_256"] == 80 and across["good"] == 860 and across["adam_1024"] == across["lars_1024"] == 80 + 780 * 2 / 5
    one_batch = opened(tmp_path / "report" / "index.html", "find=1024", tmp_path / "profile")
    assert ["hidden" in attributes for tag, attributes in one_batch.tags if tag == "section"] == [True]


def test_trials_come_after_the_runs_that_they_chose(tmp_path):
    page = page_of(tmp_path / "report", *some_runs(tmp_path / "runs"))
    trials = [row["part"] == "trials" for row in page.rows]
    assert any(trials) and trials == sorted(trials)


@in_a_browser
def test_a_link_to_a_run_opens_it_in_a_browser(tmp_path):
    page = page_of(tmp_path / "report", *some_runs(tmp_path / "runs"))
    found = opened(tmp_path / "report" / "index.html", page.identities[2], tmp_path / "profile")
    assert [tag for tag, attributes in found.tags if "open" in attributes] == ["details"] and len(found.rows) == 6


@in_a_browser
def test_hostile_texts_do_nothing_in_a_browser(tmp_path):
    made.write_run(tmp_path / "runs" / "<script>document.title='taken'<" / "a", accuracy=0.9, note=HOSTILE)
    page_of(tmp_path / "report", load_runs(tmp_path / "runs"))
    found = opened(tmp_path / "report" / "index.html", "find=" + urllib.parse.quote(HOSTILE), tmp_path / "profile")
    assert "<title>Runs</title>" in found.text and "img" not in [tag for tag, _ in found.tags]


@in_a_browser
def test_a_thousand_runs_sort_in_a_browser(tmp_path):
    page_of(tmp_path / "report", thousand_runs(tmp_path / "runs"))
    started = time.perf_counter()
    found = opened(tmp_path / "report" / "index.html", "sort=test_accuracy&down=1", tmp_path / "profile")
    accuracies = [float(row["test_accuracy"]) for row in found.rows]
    assert accuracies == sorted(accuracies, reverse=True) and len(accuracies) == 1000
    assert time.perf_counter() - started < 60
