"""A heat map holds trials that agree in all but rate and warm-up; what else a search varies is a map of its own."""

import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import loaded, meshes, texts
from tf_hugebatch.reports import catalogue, heat_maps
from tf_hugebatch.reports.page import write_page

LARS = {"batch_size": "full", "epochs": 30, "optimizer": "lars"}
GRID = {"rates": [2, 4], "warmups": [0, 5]}


def write(folder, accuracy=lambda rate, warmup: 0.9, **more):
    made.write_grid(folder, "mnist", accuracy=accuracy, **{**GRID, **LARS, **more})


def values(mesh):
    return mesh.get_array().filled(np.nan).tolist()


def of_lars(found):
    return {title: values(mesh) for title, mesh in meshes(found.figure).items() if title.startswith("LARS")}


def test_a_third_dimension_is_a_map_for_each_of_its_values(tmp_path):
    write(tmp_path, third=("label_smoothing", [0.0, 0.1]),
          accuracy=lambda rate, warmup, smoothing: 0.5 + 0.01 * rate + 0.001 * warmup + smoothing)
    found = catalogue.draw(16, *loaded(tmp_path))
    maps = of_lars(found)
    assert list(maps) == ["LARS, batch 55,000, label_smoothing 0.0", "LARS, batch 55,000, label_smoothing 0.1"]
    np.testing.assert_allclose(list(maps.values()), [[[52, 54], [52.5, 54.5]], [[62, 64], [62.5, 64.5]]])
    assert len(found.rows) == 8 and {row["where"] for row in found.rows} == {"label_smoothing 0.0", "label_smoothing 0.1"}
    assert "label_smoothing 0.1: best 64.50%" in found.caption


def test_the_page_has_a_map_for_each_value_too(tmp_path):
    write(tmp_path / "sweep", third=("label_smoothing", [0.0, 0.1]), accuracy=lambda rate, warmup, smoothing: 0.5 + smoothing)
    page = open(write_page(*loaded(tmp_path / "sweep"), tmp_path), encoding="utf-8").read()
    for smoothing in ("0.0", "0.1"):
        assert f"mnist, lars, batch 55,000, label_smoothing {smoothing}" in page


def test_searches_that_differ_in_another_setting_share_no_map(tmp_path):
    for momentum, accuracy in ((0.8, 0.9), (0.9, 0.8)):
        write(tmp_path / f"{momentum}", momentum=momentum, accuracy=lambda rate, warmup, accuracy=accuracy: accuracy)
    maps = of_lars(catalogue.draw(16, *loaded(tmp_path)))
    assert {title: np.unique(cells).tolist() for title, cells in maps.items()} == {
        "LARS, batch 55,000, momentum 0.8": [90.0], "LARS, batch 55,000, momentum 0.9": [80.0]}


def test_searches_on_other_data_share_no_map(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", note="recompressed images", rates=[8, 16])
    maps = of_lars(catalogue.draw(16, *loaded(tmp_path)))
    assert list(maps) == ["LARS, batch 55,000, data as published", "LARS, batch 55,000, data recompressed images"]


def test_searches_that_differ_in_rates_alone_are_one_map_and_no_cell_is_overwritten(tmp_path):
    write(tmp_path / "a", rates=[2, 4])
    write(tmp_path / "b", rates=[4, 8], accuracy=lambda rate, warmup: 0.8)
    found = catalogue.draw(16, *loaded(tmp_path))
    [cells] = of_lars(found).values()
    assert cells == [[90.0, 90.0, 80.0], [90.0, 90.0, 80.0]]
    for number in ("0000", "0001"):
        assert f"Left aside: {tmp_path / 'b' / 'trials' / number}: its cell is another trial's" in found.caption


def missing_of(found):
    return found.caption.partition("Missing: ")[2]


def test_a_map_of_which_every_cell_diverged_is_not_asked_for_again(tmp_path):
    everywhere = [(rate, warmup) for rate in GRID["rates"] for warmup in GRID["warmups"]]
    write(tmp_path / "all", diverged=everywhere)
    found = catalogue.draw(16, *loaded(tmp_path / "all"))
    assert "0 of 4 cells done, 4 diverged" in found.caption and "LARS" not in missing_of(found) and "SGD" in missing_of(found)
    write(tmp_path / "some", diverged=everywhere[1:], missing=everywhere[:1])
    assert "LARS" in missing_of(catalogue.draw(16, *loaded(tmp_path / "some")))


def test_cells_that_are_all_alike_have_a_scale_that_can_be_read(tmp_path):
    write(tmp_path)
    [mesh] = [mesh for title, mesh in meshes(catalogue.draw(16, *loaded(tmp_path)).figure).items() if title.startswith("LARS")]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (89.5, 90.5)


def test_maps_of_two_splits_say_so_each(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", optimizer="sgd", select_on="test")
    titles = [title.replace("\n", " ") for title in meshes(catalogue.draw(16, *loaded(tmp_path)).figure)]
    assert any("LARS" in title and title.endswith("on validation") for title in titles)
    assert any("SGD" in title and title.endswith("on test†") for title in titles)


def test_a_grid_on_test_beside_one_on_validation_is_named(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", select_on="test", accuracy=lambda rate, warmup: 0.95)
    found = catalogue.draw(16, *loaded(tmp_path))
    assert list(map(np.unique, of_lars(found).values())) == [[90.0]]
    assert f"Left aside: {tmp_path / 'b'}: it chose on test" in found.caption
    assert f"{tmp_path / 'a'}: it chose" not in found.caption


def test_the_batch_is_the_one_that_the_trials_ran_at(tmp_path):
    write(tmp_path)
    found = catalogue.draw(16, *loaded(tmp_path))
    assert "60,000" not in found.caption + texts(found.figure)
    assert "LARS, batch 55,000" in texts(found.figure) and {row["batch"] for row in found.rows} == {55000}


def test_more_maps_than_fit_are_named(tmp_path):
    write(tmp_path, third=("label_smoothing", [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]),
          accuracy=lambda rate, warmup, smoothing: 0.5 + smoothing)
    found = catalogue.draw(16, *loaded(tmp_path))
    assert len(of_lars(found)) == 4 and len(found.rows) == 24
    assert "LARS: 2 more maps are in the CSV and not drawn." in found.caption


def test_both_optimizers_are_shown_on_one_network(tmp_path):
    write(tmp_path / "a", optimizer="sgd", model="lenet", rates=[1])
    write(tmp_path / "b", optimizer="sgd", model="lenet5")
    write(tmp_path / "c", model="lenet5")
    found = catalogue.draw(16, *loaded(tmp_path))
    assert {row["model"] for row in found.rows} == {"lenet5"} and "Also run and not drawn: lenet." in found.caption


def test_numbers_can_be_read_on_their_cells(tmp_path):
    rates = [2.0 ** power for power in range(12)]
    write(tmp_path, rates=rates, accuracy=lambda rate, warmup: 0.1 + 0.08 * np.log2(rate) / 1.2)
    panel = catalogue.draw(16, *loaded(tmp_path)).figure.axes[1]
    mesh = panel.collections[0]
    cells = mesh.cmap(mesh.norm(mesh.get_array().ravel()))
    inks = [{"black": 0.0, "white": 1.0}[text.get_color()] for text in panel.texts]
    assert len(inks) == len(cells) == 24 and set(inks) == {0.0, 1.0}
    for ink, cell in zip(inks, cells):
        light, dark = sorted([ink, heat_maps.luminance(cell)], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1, level AA


def test_luminance_is_of_srgb():
    assert heat_maps.luminance((1, 1, 1)) == pytest.approx(1.0) and heat_maps.luminance((0, 0, 0)) == 0
    assert heat_maps.luminance((0.5, 0.5, 0.5)) == pytest.approx(0.2140, abs=1e-4)
