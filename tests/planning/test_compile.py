"""The compiler's process: what it answers is read and kept, what it dies of is told, and nothing stays behind."""

import json
import os
import sys
import time

import pytest

from tf_hugebatch.planning import compile
from tf_hugebatch.planning.compile import Cache, CompileFailed, Compiler, Figures, Program
from tf_hugebatch.planning.slices import find

V3 = find("v3-8")
MEMORY = {"arguments": 1, "outputs": 2, "aliased": 3, "temporaries": 4, "code": 5}
ANSWERS = {"memory": MEMORY, "flops": 6.0, "bytes": 7.0}


@pytest.fixture(autouse=True)
def as_if_installed(monkeypatch):
    monkeypatch.setattr(compile, "versions", lambda: {"libtpu": "1"})


def program(key="key", hlo=b"a program"):
    return Program(key, 0, 0, 0, hlo)


def compiler(tmp_path, code, *, timeout=60.0, target=V3, **how):
    """A compiler whose child runs `code`, with program, topology, chip configuration and answer in sys.argv[1:]."""
    return Compiler(target, Cache(str(tmp_path / "cache")), timeout=timeout,
                    child=(sys.executable, "-c", f"import json, os, sys, time\n{code}"), **how)


def answering(answer):
    return f"open(sys.argv[4], 'w').write({json.dumps(answer)!r})"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder where temporary files go, which must be empty afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def test_what_the_compiler_states_is_read(tmp_path, temporary):
    assert compiler(tmp_path, answering(ANSWERS))(program()) == Figures(**MEMORY, flops=6.0, bytes=7.0)


def test_the_child_gets_program_slice_and_environment(tmp_path, temporary):
    seen = tmp_path / "seen.json"
    code = (f"json.dump([open(sys.argv[1]).read(), sys.argv[2:4], os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'], "
            f"os.environ['TPU_SKIP_MDS_QUERY']], open({str(seen)!r}, 'w')); {answering(ANSWERS)}")
    compiler(tmp_path, code, target=find("v4-8"))(program())
    assert json.loads(seen.read_text()) == ["a program", ["v4:2x2x1", "megacore"], "1", "1"]


def test_a_refusal_is_an_answer(tmp_path, temporary):
    figures = compiler(tmp_path, answering({"refused": "Used 17.29G of 15.48G hbm"}))(program())
    assert figures.refused == "Used 17.29G of 15.48G hbm"


def test_an_answer_is_kept_for_the_same_program_slice_and_version_only(tmp_path, monkeypatch):
    first = compiler(tmp_path, answering(ANSWERS))(program())
    dead = "sys.exit('it was asked again')"
    assert compiler(tmp_path, dead)(program()) == compiler(tmp_path, dead).known("key") == first
    with pytest.raises(CompileFailed, match="asked again"):
        compiler(tmp_path, dead)(program(key="another"))
    with pytest.raises(CompileFailed, match="asked again"):
        compiler(tmp_path, dead, target=find("v3-32"))(program())
    monkeypatch.setattr(compile, "versions", lambda: {"libtpu": "2"})
    with pytest.raises(CompileFailed, match="asked again"):
        compiler(tmp_path, dead)(program())


@pytest.mark.parametrize("code, said", [
    ("print('a stack'); sys.exit('RuntimeError: no such instruction')", "no such instruction"),
    ("os.abort()", "exit code -6"),
    ("pass", "it said nothing"),
    ("open(sys.argv[4], 'w').write('{')", "it said nothing"),
])
def test_a_compile_that_fails_says_why_and_is_not_kept(tmp_path, temporary, code, said):
    asked = compiler(tmp_path, code)
    with pytest.raises(CompileFailed, match=said):
        asked(program())
    assert asked.known("key") is None


def test_a_compile_that_hangs_is_ended(tmp_path, temporary):
    left = tmp_path / "pid"
    asked = compiler(tmp_path, f"open({str(left)!r}, 'w').write(str(os.getpid())); time.sleep(600)", timeout=2.0)
    with pytest.raises(CompileFailed, match="2 seconds.*--compile_timeout"):
        asked(program())
    with pytest.raises(ProcessLookupError):
        os.kill(int(left.read_text()), 0)


def test_an_interrupt_ends_the_compile(tmp_path, temporary):
    left = tmp_path / "pid"

    def interrupt(seconds):
        if left.exists() and left.read_text():
            raise KeyboardInterrupt

    asked = compiler(tmp_path, f"open({str(left)!r}, 'w').write(str(os.getpid())); time.sleep(600)", watch=interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asked(program())
    assert time.monotonic() - started < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(left.read_text()), 0)


def test_a_cache_that_cannot_be_written_to_costs_only_time(tmp_path):
    blocked = tmp_path / "cache"
    blocked.write_text("a file")
    assert compiler(tmp_path, answering(ANSWERS))(program()).flops == 6.0


def test_the_cache_lies_where_the_user_s_caches_do(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Cache().folder == str(tmp_path / "tf_hugebatch" / "plans")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Cache().folder == "/home/somebody/.cache/tf_hugebatch/plans"


def test_what_is_missing_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "libtpu" else name)
    assert "libtpu" in compile.missing() and "pip install 'tf_hugebatch[plan]'" in compile.missing()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert compile.missing() == ""
