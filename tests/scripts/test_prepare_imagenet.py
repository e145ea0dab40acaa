"""From folders and archives to shards: nothing lost, everything odd named, and the same however it was interrupted."""

import importlib.util
import io
import json
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from reference.small_images import SYNSETS, encoded, write_folders

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "prepare_imagenet.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("prepare_imagenet", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare_imagenet"] = module
    spec.loader.exec_module(module)
    return module


def run(*words):
    result = subprocess.run([sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, timeout=300)
    return result.returncode, result.stdout, result.stderr


def records(folder, split):
    """{file name: parsed record} of all shards of a split."""
    found = {}
    for path in sorted(folder.glob(f"{split}-*-of-*")):
        for stored in tf.data.TFRecordDataset(str(path)):
            feature = tf.train.Example.FromString(stored.numpy()).features.feature
            found[feature["image/filename"].bytes_list.value[0].decode()] = feature
    return found


ODD = {"cmyk": encoded(50, mode="CMYK"), "png": encoded(51, "PNG"), "grey": encoded(52, mode="L"),
       "cut": encoded(53)[:-400], "text": b"not an image"}


def with_odd_images(root):
    write_folders(root)
    for name, content in ODD.items():
        (root / "train" / SYNSETS[0] / f"{name}.JPEG").write_bytes(content)
    return root


def test_folders_become_shards_with_an_index_and_go_on_after_a_kill(tmp_path):
    source, output = with_odd_images(tmp_path / "source"), tmp_path / "output"
    words = (f"--folders={source}", f"--output={output}", "--train_shards=3", "--workers=2")
    code, said, errors = run(*words)
    assert code == 0, errors
    assert "10 training and 4 validation images of 3 classes; 2 converted, 2 left out" in said
    assert f"left out: train/{SYNSETS[0]}/cut.JPEG" in errors and f"train/{SYNSETS[0]}/text.JPEG" in errors
    report = json.loads((output / "report.json").read_text())
    assert [name.split("/")[-1].split(".")[0] for name in report["converted"]] == ["cmyk", "png"]
    stored = records(output, "train")
    assert len(stored) == 10 and len(records(output, "validation")) == 4
    for name, feature in stored.items():
        content, original = feature["image/encoded"].bytes_list.value[0], (source / "train" / name).read_bytes()
        assert feature["image/class/label"].int64_list.value[0] == SYNSETS.index(name.split("/")[0]) + 1
        kind = name.split("/")[1].split(".")[0]
        if kind in ("cmyk", "png"):
            pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int) for data in (content, original)]
            assert Image.open(io.BytesIO(content)).format == "JPEG" and np.abs(pictures[0] - pictures[1]).mean() < 3
        else:
            assert content == original
    # Killed in the middle: one shard and the report are missing, another was being written.
    whole = {path.name: path.read_bytes() for path in output.glob("*-of-*")}
    (output / "train-00001-of-00003").unlink()
    (output / "train-00002-of-00003.123.partial").write_bytes(b"half a rec")
    for path in [output / "report.json", *output.glob("*.npz")]:
        path.unlink()
    for shard in whole:
        if shard != "train-00001-of-00003":
            note = {"written": 0, "undecodable": [], "converted": []}
            (output / f"{shard}.note.json").write_text(json.dumps(note))
    code, _, errors = run(*words)
    assert code == 0, errors
    assert {path.name: path.read_bytes() for path in output.glob("*-of-?????")} == whole
    assert not list(output.glob("*.partial")) and (output / "train.index.npz").exists()
    code, said, _ = run(*words)  # and a third time: nothing to do
    assert code == 0


def write_tars(root):
    root.mkdir()
    with tarfile.open(root / "train.tar", "w") as outer:
        for label, synset in enumerate(SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as archive:
                for number in range(3):
                    add(archive, f"{synset}_{number}.JPEG", encoded(10 * label + number))
            add(outer, f"{synset}.tar", inner.getvalue())
    with tarfile.open(root / "val.tar", "w") as archive:
        for number in range(4):
            add(archive, f"ILSVRC2012_val_{number:08d}.JPEG", encoded(100 + number))
    (root / "labels.txt").write_text("\n".join(SYNSETS[i] for i in (2, 0, 1, 2)) + "\n")
    return root


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_archives_are_read_in_place(tmp_path, script):
    root = write_tars(tmp_path / "tars")
    found = script.in_archives(str(root / "train.tar"), str(root / "val.tar"), str(root / "labels.txt"))
    assert [source.synset for source in found["validation"]] == [SYNSETS[i] for i in (2, 0, 1, 2)]
    assert len(found["train"]) == 9
    for source in found["train"]:
        label, number = SYNSETS.index(source.synset), int(source.name.split("_")[-1].split(".")[0])
        assert source.read() == encoded(10 * label + number)
    assert [source.read() for source in found["validation"]] == [encoded(100 + number) for number in range(4)]
    (root / "labels.txt").write_text("n1 n2")
    with pytest.raises(script.Mistake, match="2 labels for 4 images"):
        script.in_archives(str(root / "train.tar"), str(root / "val.tar"), str(root / "labels.txt"))


def test_the_plan_holds_every_image_once_and_is_always_the_same(tmp_path, script):
    sources = script.in_folders(str(write_folders(tmp_path, train=(9, 8, 7))))
    planned = script.plan(sources, {"train": 5, "validation": None})
    assert [len(planned["train"]), len(planned["validation"])] == [5, 1]
    names = [source.name for shard in planned["train"] for source in shard]
    assert sorted(names) == sorted(source.name for source in sources["train"]) and names != sorted(names)
    assert {len(shard) for shard in planned["train"]} <= {4, 5}
    again = script.plan(script.in_folders(str(tmp_path)), {"train": 5, "validation": None})
    assert script.fingerprint(again) == script.fingerprint(planned)
    assert script.fingerprint(script.plan(sources, {"train": 4, "validation": None})) != script.fingerprint(planned)


def test_the_full_set_has_everybodys_shards_and_no_subset_has_them(script):
    assert script.default_shards("train", 1_281_167) == 1024 and script.default_shards("validation", 50_000) == 128
    assert script.default_shards("train", 240) == 1 and script.default_shards("train", 1_281_000) == 1023
    many = {split: [script.Source(str(i), "n1", "") for i in range(1100)] for split in ("train", "validation")}
    with pytest.raises(script.Mistake, match="1024"):
        script.plan(many, {"train": 1024, "validation": 1})


def test_another_plan_does_not_mix_with_what_is_there(tmp_path, script):
    script.remember(tmp_path / "out", "a" * 64)
    script.remember(tmp_path / "out", "a" * 64)
    with pytest.raises(script.Mistake, match="name another folder"):
        script.remember(tmp_path / "out", "b" * 64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(script.Mistake, match="thesis.tex"):
        script.remember(tmp_path / "mine", "a" * 64)


def test_too_many_bad_images_are_an_error_until_they_are_mended(tmp_path, script, capsys):
    source, output = with_odd_images(tmp_path / "source"), tmp_path / "out"
    words = [f"--folders={source}", f"--output={output}", "--limit_bad=1", "--workers=1", "--train_shards=3"]
    for _ in range(2):  # nor does the second try take for done what the first one left out
        assert script.main(words) == 2
        errors = capsys.readouterr().err
        assert "2 images can't be decoded" in errors and "--limit_bad=1" in errors
    for name in ("cut", "text"):
        (source / "train" / SYNSETS[0] / f"{name}.JPEG").write_bytes(encoded(60))
    assert script.main(words) == 0
    told = json.loads((output / "report.json").read_text())
    assert told["undecodable"] == [] and told["train"] == len(records(output, "train")) == 12
    assert not list(output.glob("*.note.json"))
    # A shard that is deleted is made again, alone.
    kept, gone = output / "train-00000-of-00003", output / "train-00001-of-00003"
    before, written = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    assert script.main(words) == 0
    assert gone.read_bytes() == before and kept.stat().st_mtime_ns == written
    assert json.loads((output / "report.json").read_text()) == told


def test_a_disk_that_fails_leaves_no_image_out_for_good(tmp_path, script, monkeypatch):
    source = script.Source("a.JPEG", "n1", str(tmp_path / "gone.JPEG"))
    with pytest.raises(script.Mistake, match="gone.JPEG: it can't be read .* the same command goes on"):
        script.write_shard(str(tmp_path / "train-00000-of-00001"), [source], {"n1": 1}, "train")
    assert not list(tmp_path.glob("train-00000-of-00001")) and not list(tmp_path.glob("*.note.json"))


def test_a_report_of_an_older_release_tells_of_no_shard(tmp_path, script):
    source, output = write_folders(tmp_path / "source"), tmp_path / "out"
    words = [f"--folders={source}", f"--output={output}", "--workers=1", "--train_shards=2"]
    assert script.main(words) == 0
    told = json.loads((output / "report.json").read_text())
    (output / "report.json").write_text(json.dumps({name: value for name, value in told.items() if name != "shards"}))
    assert script.main(words) == 0 and json.loads((output / "report.json").read_text()) == told


@pytest.mark.parametrize("torn, share", [("train.tar", 2 / 3), ("train.tar", 1 / 3), ("val.tar", 1 / 2)])
def test_an_archive_that_was_cut_off_is_named(tmp_path, script, capsys, torn, share):
    root = write_tars(tmp_path / "tars")
    content = (root / torn).read_bytes()
    (root / torn).write_bytes(content[:int(share * len(content))])
    assert script.main([f"--train_tar={root / 'train.tar'}", f"--validation_tar={root / 'val.tar'}",
                        f"--validation_labels={root / 'labels.txt'}", f"--output={tmp_path / 'out'}"]) == 2
    assert f"{root / torn}: no archive" in (errors := capsys.readouterr().err) and "download it again" in errors
    assert not (tmp_path / "out").exists()


def test_what_is_refused_leaves_the_folder_to_what_is_mended(tmp_path, script, capsys, monkeypatch):
    source = write_folders(tmp_path / "source")
    monkeypatch.setattr(script, "CLASSES", 2)
    assert script.main([f"--folders={source}", f"--output={tmp_path / 'out'}"]) == 2
    assert "3 classes, where ImageNet-1k has 2" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("words, expected", [
    ([], ["either --folders or the two archives", "--output is missing"]),
    (["--folders=none", "--train_tar=none", "--output=x"], ["either", "--train_tar needs", "no such folder", "no such file"]),
    (["--folders=.", "--output=x", "--workers=0", "--train_shards=0"], ["--workers=0", "--train_shards=0"]),
    (["--index_only=none"], ["--index_only=none: there is no such folder"]),
])
def test_all_mistakes_are_named_at_once(words, expected, script, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert script.main(words) == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in expected)
    assert list(tmp_path.iterdir()) == []
