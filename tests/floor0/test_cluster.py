"""TF_CONFIG: what is understood, and that anything else is a refusal with value, reason and remedy."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hugebatch import cluster, mnist_main, one_run
from tf_hugebatch.one_run import main
from tf_hugebatch.settings import Refusal, Settings

TWO = ["host0:2222", "host1:2223"]


@pytest.fixture
def found(monkeypatch):
    """found(config, **environment): the cluster of a run of two workers' settings, from that TF_CONFIG."""
    def find(config, **environment):
        monkeypatch.delenv(cluster.START_DEADLINE, raising=False)
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return cluster.cluster_of(Settings(strategy="multiworker"))
    return find


def of(jobs, job="worker", index=0):
    return {"cluster": jobs, "task": {"type": job, "index": index}}


def test_workers_and_their_number(found):
    two = found(of({"worker": TWO}, index=1))
    assert (two.addresses, two.index, two.is_chief, two.start_deadline) == (tuple(TWO), 1, False, 120)
    assert two.host_and_port(1) == ("host1", 2223)
    assert two.name(1) == "worker 1 at host1:2223" and two.name(0) == "worker 0 (the chief) at host0:2222"


def test_a_job_of_its_own_for_the_chief_comes_first(found):
    jobs = {"worker": TWO, "chief": ["[::1]:80"]}
    assert found(of(jobs, index=1)).index == 2
    chief = found(of(jobs, "chief"))
    assert chief.is_chief and chief.addresses == ("[::1]:80", *TWO) and chief.host_and_port(0) == ("::1", 80)


def test_a_start_deadline_from_the_environment(found):
    assert found(of({"worker": TWO}), TF_HUGEBATCH_START_DEADLINE="7.5").start_deadline == 7.5


def test_other_strategies_look_at_nothing(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    assert cluster.cluster_of(Settings()) is None and cluster.problems(Settings()) == []


@pytest.mark.parametrize("config, said", [
    ("", "TF_CONFIG is not set"),
    ("{", "TF_CONFIG={ is no JSON object"),
    ("[" * 100_000, "no JSON object"),
    ("[1]", "TF_CONFIG=[1] is no JSON object"),
    ({}, '"cluster" is null'),
    (of({"worker": TWO, "ps": ["host2:1"]}), '"ps"'),
    (of({"worker": "host0:2222"}), 'lists host0:2222 as worker'),
    (of({"worker": ["host0"]}), '["host0"]'),
    (of({"worker": ["host0:99999"]}), "host:port"),
    (of({"worker": [TWO[0], TWO[0]]}), "no address twice"),
    (of({"worker": [], "chief": []}), "one worker at least"),
    (of({"chief": TWO}), "one chief at most"),
    ({"cluster": {"worker": TWO}}, '"task" is {}'),
    (of({"worker": TWO}, index=2), '"index": 2'),
    (of({"worker": TWO}, index=-1), '"index": -1'),
    (of({"worker": TWO}, index=True), '"index": true'),
    (of({"worker": TWO}, job="evaluator"), "evaluator"),
])
def test_what_is_wrong_is_refused_with_a_remedy(found, config, said):
    with pytest.raises(Refusal) as refused:
        found(config)
    [problem] = refused.value.problems
    assert problem.startswith("--strategy=multiworker: ") and said in problem and "launch_local.py" in problem
    assert len(problem) < 1000


def test_a_deadline_that_is_none_is_refused(found):
    for text in ("soon", "0", "-1", "nan", "inf"):
        with pytest.raises(Refusal, match=f"TF_HUGEBATCH_START_DEADLINE={text} must be seconds"):
            found(of({"worker": TWO}), TF_HUGEBATCH_START_DEADLINE=text)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
                     | st.sampled_from(["chief", "worker", "cluster", "task", "type", "index", "h:1", "h:2"]),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                         st.sampled_from(["chief", "worker", "cluster", "task", "type", "index"]), inner, max_size=3),
                     max_leaves=12)


@settings(deadline=None)  # the machine may be busy
@given(st.fixed_dictionaries({}, optional={"cluster": _JSON, "task": _JSON}) | _JSON)
def test_nothing_but_a_refusal_comes_out_of_any_json(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", json.dumps(config))
        try:
            one = cluster.cluster_of(Settings(strategy="multiworker"))
        except Refusal:
            return
        assert 0 <= one.index < len(one.addresses)


def test_the_command_line_names_it_beside_other_mistakes_and_writes_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    words = ["--dataset=mnist5k", "--strategy=multiworker", "--num_replicas=2"]
    assert main(words, program="mnist_main", description=mnist_main.DESCRIPTION, dataset="mnist") == 2
    said = capsys.readouterr().err
    assert "2 problems" in said and "TF_CONFIG is not set" in said and "--num_replicas=2: strategy multiworker" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leaving, code, said", [
    (SystemExit(7), 7, ""), (SystemExit(), 0, ""), (SystemExit("no way on"), 1, "no way on\n"),
    (ValueError("odd"), 1, "ValueError: odd\n"),
])
def test_a_worker_leaves_at_once_with_the_code_that_it_was_to_have(monkeypatch, capsys, leaving, code, said):
    def run(*_):
        raise leaving

    monkeypatch.setenv("TF_CONFIG", json.dumps(of({"worker": TWO})))
    monkeypatch.setattr(one_run, "_run", run)
    codes = []
    monkeypatch.setattr(one_run.os, "_exit", codes.append)
    main(["--dataset=mnist5k", "--strategy=multiworker"], program="mnist_main", description="", dataset="mnist")
    assert codes == [code] and capsys.readouterr().err.endswith(said)
