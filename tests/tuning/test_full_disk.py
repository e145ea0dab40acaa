"""A sweep on a disk that fills up: it stops with the reason, no trial counts as failed, and the same command goes on."""

import errno
import io
import os

import pytest
from reference.small_disk import SmallDisk
from reference.small_sweeps import in_a_process, read, run

from tf_hugebatch import records, sweep_main
from tf_hugebatch.stops import RunStopped
from tf_hugebatch.tuning import sweep

FULL = "No space left on device"
SHORT = {"trials": 4, "final_seeds": 1}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The result of a sweep that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    assert run(folder, **SHORT) == 0
    return read(folder / "result.json")


@pytest.mark.fault("disk full in a sweep, met by a run",
                   holds="no trial counts as failed; the same command comes to the same choice")
def test_a_run_that_says_that_the_disk_is_full_stops_the_sweep(tmp_path, whole, monkeypatch):
    (tmp_path / "full").touch()
    monkeypatch.setenv("FAKE_FULL", str(tmp_path / "full"))
    stream = io.StringIO()
    with pytest.raises(RunStopped, match=FULL):
        run(tmp_path / "s", stream=stream, **SHORT)
    result = read(tmp_path / "s" / "result.json")
    assert result["failed"] == [] and result["trials"] == {"done": 0, "diverged": 0, "failed": 0}
    assert len(os.listdir(tmp_path / "s" / "trials")) <= 2, "the two at work, and none after them"
    assert "none of them counts as failed" in stream.getvalue()
    (tmp_path / "full").unlink()
    assert run(tmp_path / "s", **SHORT) == 0
    assert read(tmp_path / "s" / "result.json") == whole


def test_what_an_earlier_process_said_of_the_disk_is_not_believed(tmp_path, monkeypatch):
    """A run that was stopped for the disk, and now fails by itself, has failed."""
    monkeypatch.setenv("FAKE_FULL", str(tmp_path / "full"))
    (tmp_path / "full").touch()
    rates = {"content": {"learning_rate": [0.7]}, "method": "grid", "trials": 1}
    with pytest.raises(RunStopped):
        run(tmp_path / "s", **rates)
    (tmp_path / "full").unlink()
    assert run(tmp_path / "s", **rates) == 3
    assert read(tmp_path / "s" / "result.json")["failed"] == [{"trial": 0, "reason": "exit code 1: ValueError: too steep"}]


@pytest.mark.parametrize("moment", [1, 3, 5])
@pytest.mark.fault("disk full in a sweep, met by the sweep itself", holds="the same command comes to the same choice")
def test_a_sweep_that_can_not_write_its_own_files_stops(tmp_path, whole, monkeypatch, moment):
    written, ordinary = [], records._replace

    def replace(path, write):
        written.append(path)
        if len(written) == moment:
            raise OSError(errno.ENOSPC, FULL)
        ordinary(path, write)

    with monkeypatch.context() as patch:
        patch.setattr(records, "_replace", replace)
        with pytest.raises(RunStopped, match=f"--sweep_dir={tmp_path / 's'}.*{FULL}"):
            run(tmp_path / "s", **SHORT)
    assert run(tmp_path / "s", **SHORT) == 0
    assert read(tmp_path / "s" / "result.json") == whole


@pytest.mark.fault("disk full to the last byte in a sweep",
                   holds="no trial counts as failed; the same command comes to the same choice")
def test_a_real_disk_that_fills_up(tmp_path, whole):
    disk = SmallDisk(tmp_path / "disk", mebibytes=4)
    if not disk.mounted:
        pytest.skip("no right to mount a file system")
    try:
        sweep_process = in_a_process(disk.path / "s", seconds="0.5", **SHORT)
        while sweep_process.poll() is None and not (disk.path / "s" / "trials" / "0001" / "steps").exists():
            pass
        disk.fill()
        said = sweep_process.communicate(timeout=60)[0]
        assert sweep_process.returncode == 1 and FULL in said and "goes on" in said, said
        disk.free()
        assert run(disk.path / "s", **SHORT) == 0
        result = read(disk.path / "s" / "result.json")
        assert result == whole and result["failed"] == []
    finally:
        disk.unmount()


def test_the_command_says_it_in_a_line_and_exits_1(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **words):
        raise RunStopped("--sweep_dir=x: it can't be written to")

    monkeypatch.setattr(sweep, "run", stop)
    space = tmp_path / "space.json"
    space.write_text('{"learning_rate": [0.1, 0.2]}')
    words = ["--dataset=synthetic", "--dataset_size=64,8", "--batch_size=8", "--epochs=1", "--warmup_epochs=0",
             f"--space={space}", f"--sweep_dir={tmp_path / 's'}"]
    assert sweep_main.main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "Stopped: --sweep_dir=x: it can't be written to."
