"""The benchmark of tracing measures a step that has the groups it says."""

import importlib.util
import pathlib

from tf_hugebatch.training.step import Step

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "bench_tracing.py"


def test_groups_lie_inside_replicas_or_across(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_tracing", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    seen, trace = [], Step._updates

    def watched(step, *arguments):
        seen.append((step.layout.replicas, step.layout.across_replicas))
        return trace(step, *arguments)

    monkeypatch.setattr(Step, "_updates", watched)
    for across in (False, True):
        script.seconds_to_trace("resnet9", 2, across)
    assert set(seen) == {(2, False), (2, True)}
