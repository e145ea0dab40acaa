"""Nothing that is read can run code, and nothing that is documented opens a port to others: the source and the docs say so."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "tf_hugebatch").rglob("*.py"), *(ROOT / "scripts").glob("*.py")])
#: Wherever a command may stand. results/ holds records of runs, not instructions.
TEXTS = sorted(path for pattern in ("*.md", "docs/**/*", "flags/**/*", "scripts/*", "tf_hugebatch/**/*", ".github/**/*")
               for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".pyc")

BUILTINS = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch"}


def name_of(node):
    """'np.load' of an expression, as far as it is names and attributes."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def keyword(call, name):
    """The constant that a call gives for a keyword; None where it gives none, or anything else than a constant."""
    return next((getattr(word.value, "value", None) for word in call.keywords if word.arg == name), None)


def unsafe(tree):
    """(line, what) of whatever in a module could run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, f"import {name}") for name in names if name.split(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        called = name_of(node.func)
        last = called.rpartition(".")[2]
        if called in BUILTINS or called in ("os.system", "os.popen") or last == "enable_unsafe_deserialization":
            yield node.lineno, called
        if called in ("np.load", "numpy.load") and keyword(node, "allow_pickle") is not False:
            yield node.lineno, f"{called} without allow_pickle=False"
        if last == "load_model" and called != "hb.load_model" and keyword(node, "safe_mode") is not True:
            yield node.lineno, f"{called} without safe_mode=True"
        if keyword(node, "shell") is True or keyword(node, "allow_pickle") or keyword(node, "safe_mode") is False:
            yield node.lineno, f"{called} with {[word.arg for word in node.keywords]}"


#: The one reader of pickles, of CIFAR-10's own: its unpickler finds no name but three and calls none (test_damaged_files.py).
ALLOWED = {"tf_hugebatch/data/cifar_batches.py": {"import pickle"}}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_it_reads(path):
    found = [(line, what) for line, what in unsafe(ast.parse(path.read_text()))
             if what not in ALLOWED.get(str(path.relative_to(ROOT)), ())]
    assert not found


def test_pickles_are_read_by_our_own_unpickler_alone():
    tree = ast.parse((ROOT / "tf_hugebatch/data/cifar_batches.py").read_text())
    used = {name_of(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and name_of(node).startswith("pickle.")}
    assert used == {"pickle.Unpickler", "pickle.UnpicklingError"}


@pytest.mark.parametrize("code", [
    "eval(text)", "exec(text)", "compile(text, '', 'exec')", "__import__(name)", "import pickle", "from pickle import loads",
    "import yaml", "np.load(path)", "np.load(path, allow_pickle=True)", "numpy.load(path, allow_pickle=flag)",
    "np.savez(path, allow_pickle=True)", "keras.models.load_model(path)", "load_model(path, safe_mode=False)",
    "keras.config.enable_unsafe_deserialization()", "subprocess.run(text, shell=True)", "os.system(text)",
])
def test_every_such_way_is_seen(code):
    assert list(unsafe(ast.parse(code)))


@pytest.mark.parametrize("code", ["np.load(path, allow_pickle=False)", "keras.saving.load_model(path, safe_mode=True)",
                                  "re.compile(text)", "model.eval()", "json.load(file)", "import pickletools"])
def test_what_is_safe_is_let_be(code):
    assert not list(unsafe(ast.parse(code)))


# TensorBoard: it has no password, and whoever reaches its port reads every run.


def unbound(text):
    """The commands that start TensorBoard and don't keep it to this machine, and whatever opens it to all."""
    commands = re.findall(r"(?:^|[`$;&|(!%]|python -m )[ \t]*(tensorboard(?:\.main)?[ \t]+--?[^\n`]*)", text, re.MULTILINE)
    return [command for command in commands if not re.search(r"--host[= ](localhost|127\.0\.0\.1)\b", command)] + \
        re.findall(r"--bind_all|--host[= ]0\.0\.0\.0", text)


def test_tensorboard_is_bound_to_localhost_wherever_it_is_named():
    texts = {path: path.read_text(errors="replace") for path in TEXTS}
    assert not {str(path.relative_to(ROOT)): unbound(text) for path, text in texts.items() if unbound(text)}
    assert sum(text.count("tensorboard --logdir") for text in texts.values()) >= 1, "one at least is there to be found"
    assert {"README.md", "CONTRIBUTING.md", "docs/MIGRATION.md"} <= {str(path.relative_to(ROOT)) for path in TEXTS}


@pytest.mark.parametrize("text, bad", [
    ("tensorboard --logdir=runs --host=localhost", False), ("`tensorboard --logdir runs --host 127.0.0.1`", False),
    ("tensorboard --logdir=runs", True), ("$ tensorboard --logdir runs", True), ("see `tensorboard --logdir=x`", True),
    ("tensorboard --logdir=runs --host=localhost --bind_all", True), ("tensorboard --logdir=runs --host=0.0.0.0", True),
    ("%tensorboard --logdir runs", True), ("python -m tensorboard.main --logdir=runs", True),
    ("the folder tensorboard/ holds events", False), ("pip install tensorboard >=2.21", False),
])
def test_every_way_to_open_it_is_seen(text, bad):
    assert bool(unbound(text)) == bad
