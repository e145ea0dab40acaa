"""The paper's advice: its own examples come out of the arithmetic."""

import csv

import pytest

from tf_hugebatch import published
from tf_hugebatch.planning import advice
from tf_hugebatch.planning.slices import find


def test_the_paper_s_own_examples():
    # "32K batch size can keep 1024 GPUs busy"; with HD images a batch of 1 does, so 32K keeps 32K busy.
    [use] = advice.uses([32_768], image_size=1_500)
    assert (use.gpus, use.cores, use.large_gpus) == (1_024, 256, 32_768)
    examples, width, height = published.GPU_IS_BUSY_WITH_LARGE
    assert advice.examples_for_a_gpu(width, height) == examples


def test_the_largest_useful_batch_of_the_largest_pod_is_the_paper_s():
    pod = find(f"v3-{published.LARGEST_POD_CORES}")
    assert advice.largest_useful_batch(pod) == published.LARGEST_USEFUL_BATCH
    by_batch = {use.batch_size: use.slice for use in advice.uses([256, 32_768, 262_143, 262_144, 1_281_167], 224)}
    assert list(by_batch.values()) == ["", "v3-256", "v3-1024", "v3-2048", "v3-2048"]


@pytest.mark.parametrize("size, examples", [(112, 128), (224, 32), (448, 8), (1080, 2), (4096, 1)])
def test_larger_images_need_fewer(size, examples):
    assert advice.examples_for_a_gpu(size, size) == examples


def test_the_program_draws_and_tabulates_it(tmp_path, capsys):
    from tf_hugebatch import plan_main

    (tmp_path / "larger.flags").write_text("--image_size=512\n")
    assert plan_main.main(["--advice", f"--flagfile={tmp_path / 'larger.flags'}", f"--plan_dir={tmp_path}"]) == 0
    assert "512 px" in capsys.readouterr().out
    assert plan_main.main(["--advice", "--image_size=448", f"--plan_dir={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "GPUs, 448 px" in said and "1,281,167" in said and "v3-2048" in said
    rows = {row["batch_size"]: row for row in csv.DictReader((tmp_path / "useful_batch.csv").open())}
    assert rows["32768"]["large_gpus"] == str(32_768 // 8)
    assert (tmp_path / "useful_batch.png").stat().st_size > 10_000
