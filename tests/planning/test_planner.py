"""The walk: fewest micro-batches first, compiled one after the other, and a question that was asked before costs nothing."""

import io
import json

import pytest

from tf_hugebatch.layout import LayoutError
from tf_hugebatch.planning import answer, planner
from tf_hugebatch.planning.compile import Cache, Figures, Program
from tf_hugebatch.planning.screen import Screen
from tf_hugebatch.planning.slices import find
from tf_hugebatch.planning.walk import layouts
from tf_hugebatch.settings import Refusal, Settings

V3 = find("v3-8")
GIB = 2**30


class Exporters:
    """Makes exporters whose programs are named after what they are of; counts what it is asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, settings, replicas):
        return self

    def accumulate(self, layout):
        return self._program("accumulate", layout, 0)

    def apply(self, layout):
        return self._program("apply", layout, 100)

    def _program(self, kind, layout, reduced):
        self.asked.append((kind, layout.micro_batch_size))
        return Program(f"{kind} {layout.micro_batch_size}", reduced, reduced // 100, GIB // 2, b"hlo")


class Compilers:
    """Refuses micro-batches above `largest`; a program takes `gibibytes` otherwise."""

    def __init__(self, largest, gibibytes=1.0):
        self.largest, self.gibibytes, self.kept = largest, gibibytes, {}

    def known(self, key):
        return self.kept.get(key)

    def __call__(self, program):
        kind, size = program.key.split()
        large = kind == "accumulate" and int(size) > self.largest
        self.kept[program.key] = Figures(refused=f"Used too much for {size}") if large else Figures(
            temporaries=int(self.gibibytes * GIB), flops=1e9 * int(size), bytes=1e6)
        return self.kept[program.key]


def settings(**given):
    return Settings(**{"dataset": "synthetic", "model": "resnet50", "batch_size": 1024, "bn_span": 64,
                       "dataset_size": (10240, 10), "warmup_epochs": 0, **given})


def plan(tmp_path, compiler, exporter=None, **given):
    asked = exporter or Exporters()
    made = planner.Planner(settings(**given), V3, Cache(str(tmp_path)), compiler, Screen(io.StringIO()), asked)
    return made, made.find(), asked.asked


@pytest.mark.parametrize("given, taken", [(1000, 128), (128, 128), (64, 64)])
def test_a_given_micro_batch_is_cut_to_what_the_batch_fills_as_in_a_run(given, taken):
    [layout] = planner.layouts(settings(micro_batch_size=given), V3)
    assert layout.micro_batch_size == taken


def test_a_plan_with_a_diagnostic_is_a_question_of_its_own(tmp_path):
    compiler = Compilers(largest=500)
    for diagnostics, asks in (("", True), ("", False), ("diffusion", True), ("diffusion", False)):
        _, _, asked = plan(tmp_path, compiler, **({"diagnostics": diagnostics} if diagnostics else {}))
        assert bool(asked) == asks, diagnostics


def test_micro_batches_are_added_until_it_fits(tmp_path):
    made, fitting, asked = plan(tmp_path, Compilers(largest=50))
    assert [one.layout.rounds for one in made.attempts] == [1, 2, 3]
    assert fitting.layout.micro_batch_size == 48 and fitting.fits
    assert asked == [("accumulate", 128), ("accumulate", 64), ("accumulate", 48), ("apply", 48)]


def test_the_first_that_fits_is_the_last_that_is_compiled(tmp_path):
    assert plan(tmp_path, Compilers(largest=1000))[2] == [("accumulate", 128), ("apply", 128)]


def test_none_may_fit(tmp_path):
    made, fitting, asked = plan(tmp_path, Compilers(largest=0))
    assert fitting is None and made.attempts[-1].layout.micro_batch_size == 8  # one group over all eight replicas
    assert all("Used too much" in one.reason for one in made.attempts)


def test_a_full_batch_on_a_small_slice_passes_over_no_layout(tmp_path):
    made, fitting, asked = plan(tmp_path, Compilers(largest=100), batch_size=102400, dataset_size=(102400, 10))
    # One group a replica takes 200 rounds, and there is no larger micro-batch below 100.
    assert (fitting.layout.micro_batch_size, fitting.layout.rounds) == (64, 200)
    every = [one for one in layouts(102400, 8, 64) if one.rounds <= 200]
    assert [one.layout for one in made.attempts] == every and len(every) > 20
    assert [one.fits for one in made.attempts] == [False] * (len(every) - 1) + [True]
    assert [size for kind, size in asked if kind == "accumulate"] == [one.micro_batch_size for one in every]
    found = answer.answer(settings(batch_size=102400, dataset_size=(102400, 10)), made, V3, [])
    assert "Fits, with 200 micro-batch(es) of 64" in "\n".join(answer.text(found))


def test_memory_that_does_not_shrink_with_the_micro_batch_hides_no_answer(tmp_path):
    class Odd(Compilers):  # one micro-batch in the middle fits, its smaller neighbours do not: recomputation may do that
        def __call__(self, program):
            kind, size = program.key.split()
            self.largest = int(size) - (int(size) != 1024)
            return super().__call__(program)

    sizes = [one.micro_batch_size for one in layouts(102400, 8, 64)]
    made, fitting, _ = plan(tmp_path, Odd(largest=0), batch_size=102400, dataset_size=(102400, 10))
    assert fitting.layout.micro_batch_size == 1024
    assert [one.layout.micro_batch_size for one in made.attempts] == sizes[:sizes.index(1024) + 1]


def test_images_that_fill_the_memory_are_refused_before_anything_is_traced(tmp_path):
    # 4096 x 4096 x 3 float32 are 192 MiB.
    made, fitting, asked = plan(tmp_path, Compilers(largest=1000), image_size=4096)
    assert asked[0] == ("accumulate", 64) and fitting.layout.rounds == 2
    assert made.attempts[0].reason == "the images of a micro-batch alone are 24.00 GiB of 15.48"
    found = answer.answer(settings(image_size=4096), made, V3, [])
    assert found["attempts"][0]["accumulate"] is None and "24.00 GiB" in "\n".join(answer.text(found))


def test_variables_beside_the_program_count_too(tmp_path):
    made, fitting, _ = plan(tmp_path, Compilers(largest=1000, gibibytes=15.2), micro_batch_size=64)
    # 15.2 GiB of 15.48 and half a gibibyte that only the other program touches.
    assert fitting is None and "15.70 GiB of 15.48" in made.attempts[0].reason
    assert plan(tmp_path, Compilers(largest=1000, gibibytes=14.9), micro_batch_size=64)[1].fits


def test_a_micro_batch_that_is_given_is_the_only_one_tried(tmp_path):
    made, fitting, _ = plan(tmp_path, Compilers(largest=64), micro_batch_size=128)
    assert fitting is None and [one.layout.micro_batch_size for one in made.attempts] == [128]
    with pytest.raises(LayoutError, match="use --micro_batch_size=8"):
        plan(tmp_path, Compilers(largest=64), micro_batch_size=7)


class Choosy(Exporters):
    """Refuses layouts whose batch-norm groups lie across replicas, as `noise_scale` does."""

    def accumulate(self, layout):
        if layout.across_replicas:
            raise Refusal([f"groups of {layout.largest_group} lie across replicas"])
        return super().accumulate(layout)


def test_a_layout_that_a_diagnostic_can_not_have_is_told_beside_those_that_do_not_fit(tmp_path):
    # 10 groups of 100 on 8 replicas: in one round each has its own, and in more they lie across.
    given = {"batch_size": 1000, "bn_span": 100, "dataset_size": (10000, 10)}
    made, fitting, _ = plan(tmp_path, Compilers(largest=150), Choosy(), **given)
    first, *others = made.attempts
    assert fitting is None and first.layout.micro_batch_size == 200 and first.reason == "Used too much for 200"
    assert others and {one.reason for one in others} == {"groups of 100 lie across replicas"}
    assert not any(one.accumulate for one in others)
    text = "\n".join(answer.text(answer.answer(settings(**given), made, V3, [])))
    assert "Used too much for 200" in text and "groups of 100 lie across replicas" in text and "Does not fit." in text
    with pytest.raises(Refusal, match="groups of 100 lie across"):
        plan(tmp_path, Compilers(largest=150), Choosy(), micro_batch_size=63, **given)


def test_a_question_asked_before_is_answered_without_tracing(tmp_path):
    compiler = Compilers(largest=50)
    plan(tmp_path, compiler)
    made, fitting, asked = plan(tmp_path, compiler)
    assert fitting.layout.micro_batch_size == 48 and asked == []
    # What only the schedule differs in is traced anew, since its programs may differ.
    assert plan(tmp_path, compiler, epochs=2)[2]


def test_a_plan_holds_what_was_found(tmp_path):
    compiler = Compilers(largest=64)
    made, _, _ = plan(tmp_path, compiler, epochs=3)
    found = answer.answer(settings(epochs=3), made, V3, ["plan_main"])
    assert found["fits"] and [one["fits"] for one in found["attempts"]] == [False, True]
    assert found["attempts"][0]["reason"] == "Used too much for 128"
    assert found["attempts"][1]["accumulate"]["hbm"]["all"] == 1.5 * GIB
    cost = found["cost"]
    assert cost["updates"] == 30 and cost["all_reduce_bytes_per_update"] == 100
    assert cost["flops_per_update_and_device"] == 3 * 64e9  # two micro-batches and an end that is as dear
    assert cost["no_faster_than"]["seconds_per_update"] == pytest.approx(3 * 64e9 / 61.5e12)
    assert cost["no_faster_than"]["chip_hours"] == pytest.approx(30 * 3 * 64e9 / 61.5e12 * 4 / 3600)
    path = answer.save(str(tmp_path / "plan"), found)
    assert json.loads(open(path).read()) == json.loads(json.dumps(found))
    said = "\n".join(answer.text(found))
    assert "2 x 64 a core" in said and "No faster than" in said and "Used too much for 128" in said


def test_a_plan_of_another_run_is_not_written_over(tmp_path):
    given = settings()
    folder = str(tmp_path / "plan")
    assert answer.folder_of(given, "v3-8", folder) == folder
    answer.save(folder, {"slice": "v3-8", "experiment": given.experiment_hash()})
    assert answer.folder_of(given, "v3-8", folder) == folder
    for other, name in ((given.replace(batch_size=512), "v3-8"), (given, "v3-32")):
        with pytest.raises(Refusal, match="another run, for v3-8"):
            answer.folder_of(other, name, folder)


def test_published_speeds_stand_beside_the_run_that_they_are_of(tmp_path):
    made, _, _ = plan(tmp_path, Compilers(largest=1000))
    assert not answer.answer(settings(), made, V3, [])["published"]
    of_imagenet = answer.answer(settings(dataset="imagenet2012", dataset_size=None), made, V3, [])
    assert of_imagenet["published"] and "1,050,000 images/s on v3-2048" in "\n".join(answer.text(of_imagenet))
    larger = settings(dataset="imagenet2012", dataset_size=None, image_size=1080)
    assert not answer.answer(larger, made, V3, [])["published"]


def test_screen_says_what_takes_long():
    stream = io.StringIO()
    with Screen(stream) as screen:
        screen.begin("compiling")
        screen.watch(1.0)
        screen.say("1 x 64: fits")
    assert stream.getvalue() == "compiling ...\n1 x 64: fits\n"


def test_every_micro_batch_reduces_and_an_image_costs_what_the_compiler_says(tmp_path):
    class Across(Exporters):
        def accumulate(self, layout):
            return self._program("accumulate", layout, 7)

    made, fitting, _ = plan(tmp_path, Compilers(largest=50), Across())
    cost = answer.answer(settings(), made, V3, [])["cost"]
    assert fitting.layout.rounds == 3 and cost["all_reduce_bytes_per_update"] == 3 * 7 + 100
    assert cost["flops_per_image"] == 1e9
