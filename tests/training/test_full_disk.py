"""A disk that takes no more, at each thing that a run writes: it ends with the reason, and goes on to the same bits."""

import errno
import os

import pytest
from reference.interruptions import after
from reference.six_updates import same_bits, settings, splits, status_of, text_of, train, weights
from reference.small_disk import SmallDisk

from tf_hugebatch import one_run, records
from tf_hugebatch.records import RunFolder
from tf_hugebatch.settings import Refusal
from tf_hugebatch.stops import RunStopped, why_not_writable, why_not_written, write_over
from tf_hugebatch.training.journal import Journal

FULL = "No space left on device"


@pytest.fixture
def disk(tmp_path):
    made = SmallDisk(tmp_path / "disk", mebibytes=8)
    if not made.mounted:
        pytest.skip("no right to mount a file system")
    yield made
    made.unmount()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(result, folder) of a run that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    return train(run_dir), run_dir


def same_as(whole, run_dir, result):
    assert result.status == "done" and same_bits(weights(result), weights(whole[0]))
    assert text_of(run_dir, "metrics.jsonl") == text_of(whole[1], "metrics.jsonl")


def checkpoints(run_dir):
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.fault("disk full while a checkpoint is written",
                   holds="the checkpoint before it; the same bits once there is room")
def test_a_checkpoint_that_does_not_fit(disk, whole, monkeypatch):
    run_dir = disk.path / "run"
    with monkeypatch.context() as patch:
        after(patch, 3, lambda: disk.fill(leave=200_000))  # a checkpoint takes 480 kB
        with pytest.raises(RunStopped) as stopped:
            train(run_dir, steps_per_loop=1)
    assert f"--run_dir={run_dir}" in str(stopped.value) and FULL in str(stopped.value) and "free" in str(stopped.value)
    assert checkpoints(run_dir) == ["update-0000000002"], "what was half written makes room again"
    status = status_of(run_dir)
    assert (status["status"], status["step"]) == ("interrupted", 4) and status["reason"] == str(stopped.value)
    disk.free()
    same_as(whole, run_dir, train(run_dir))


@pytest.mark.fault("disk full to the last byte while rows of metrics are written",
                   holds="what was saved; why it ended; the same bits once there is room")
def test_no_byte_is_left(disk, whole, monkeypatch):
    run_dir = disk.path / "run"
    with monkeypatch.context() as patch:
        after(patch, 3, disk.fill)
        with pytest.raises(RunStopped, match=FULL):
            train(run_dir, steps_per_loop=1)
    status = status_of(run_dir)
    assert status["status"] == "interrupted" and FULL in status["reason"], "said in the place of the old file"
    assert checkpoints(run_dir) == ["update-0000000002"]
    with pytest.raises(Refusal, match=FULL):  # as long as it is full
        train(run_dir)
    assert checkpoints(run_dir) == ["update-0000000002"] and status_of(run_dir) == status
    disk.free()
    same_as(whole, run_dir, train(run_dir))


@pytest.mark.slow
@pytest.mark.fault("folder read-only from one moment on", holds="what was saved; the same bits once it is writable")
def test_a_folder_that_becomes_read_only(disk, whole, monkeypatch):
    run_dir = disk.path / "run"
    with monkeypatch.context() as patch:
        # Every write fails, whoever still has a file open: what a disk does that protects itself.
        def protect():
            for target, name in ((RunFolder, "append_metrics"), (records, "_replace")):
                patch.setattr(target, name, refuse)

        def refuse(*arguments):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        after(patch, 3, protect)
        with pytest.raises(RunStopped, match="Read-only file system"):
            train(run_dir, steps_per_loop=1)
    same_as(whole, run_dir, train(run_dir))


@pytest.mark.fault("read-only folder at the start", holds="refused before anything is built")
def test_a_read_only_folder_is_refused_before_anything_is_built(disk, monkeypatch, capsys):
    disk.make("ro")
    monkeypatch.setattr("tf_hugebatch.data.look", lambda settings: splits())
    words = ["--dataset=mnist5k", "--train_steps=1", "--warmup_steps=0", f"--run_dir={disk.path / 'run'}"]
    assert one_run.main(words, program="mnist_main", description="", dataset="mnist") == 2
    said = capsys.readouterr().err
    assert str(disk.path) in said and "can't be written to" in said and "name another folder" in said
    disk.make("rw")
    assert not (disk.path / "run").exists()


@pytest.mark.fault("disk full at the start of a run", holds="refused, with no file of it left")
def test_a_full_disk_at_the_start_leaves_no_file(disk):
    disk.fill(leave=4096)
    with pytest.raises(Refusal, match=FULL) as refused:
        train(disk.path / "run")
    assert "free some space" in str(refused.value)
    assert not (disk.path / "run").exists()


@pytest.mark.parametrize("what, target, name, moment", [
    ("metrics.jsonl", RunFolder, "append_metrics", 4), ("status.json", RunFolder, "write_status", 3),
    ("TensorBoard's events", Journal, "_write_scalars", 3),
])
@pytest.mark.slow
@pytest.mark.fault("disk full, at each kind of file in turn", holds="the same bits once there is room")
def test_each_thing_that_is_written(tmp_path, whole, monkeypatch, what, target, name, moment):
    """Without a disk to fill: the `moment`-th write fails, and all after it."""
    written, ordinary = [], getattr(target, name)

    def write(self, *arguments, **fields):
        written.append(what)
        if len(written) >= moment:
            raise OSError(errno.ENOSPC, FULL)
        return ordinary(self, *arguments, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(target, name, write)
        with pytest.raises(RunStopped, match=FULL):
            train(tmp_path / "run", steps_per_loop=1)
    assert status_of(tmp_path / "run")["status"] == "interrupted"
    same_as(whole, tmp_path / "run", train(tmp_path / "run"))


def test_the_command_says_it_in_a_line_and_exits_1(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **words):
        raise RunStopped("--run_dir=x: it can't be written to")

    monkeypatch.setattr("tf_hugebatch.training.loop.train", stop)
    words = ["--dataset=mnist5k", "--train_steps=1", "--warmup_steps=0", f"--run_dir={tmp_path / 'run'}"]
    assert one_run.main(words, program="mnist_main", description="", dataset="mnist") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "Failed: --run_dir=x: it can't be written to."


def test_other_errors_are_not_taken_for_a_disk(tmp_path):
    for error in (ValueError("space"), OSError(errno.ENOENT, "gone"), FileNotFoundError("No such file")):
        assert why_not_written(error) is None
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        assert why_not_written(OSError(number, "x")) == os.strerror(number)
    assert why_not_writable(str(tmp_path)) is None and list(tmp_path.iterdir()) == []


def test_the_last_word_never_makes_a_file_longer_than_its_place(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.create(settings(tmp_path))
    folder.write_status(status="running", step=3)

    def refuse(*arguments):
        raise OSError(errno.ENOSPC, FULL)

    monkeypatch.setattr(records, "_replace", refuse)
    before = (tmp_path / "status.json").read_text()
    folder.write_last_status(status="interrupted", reason="x" * 10**6)
    assert (tmp_path / "status.json").read_text() == before
    folder.write_last_status(status="interrupted", reason="full")
    assert (status_of(tmp_path)["reason"], status_of(tmp_path)["step"]) == ("full", 3)


def test_nothing_of_a_longer_text_stays_behind_a_shorter_one(tmp_path):
    (tmp_path / "file").write_text("a longer text")
    write_over(str(tmp_path / "file"), "short")
    assert (tmp_path / "file").read_text() == "short"
