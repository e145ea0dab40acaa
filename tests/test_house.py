"""The house rules that a machine can read: floors, light imports, one place for each thing, module size."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "tf_hugebatch"

# Lower floors first. On floor 1 each folder or file may also import from those before it.
FLOORS = {
    0: ("presets", "rows", "registry", "regimes", "published", "durations", "dataset_sizes", "layout", "settings", "fields",
        "parsers", "levels", "rules", "command_line", "records", "runs", "stops", "versions", "surroundings",
        "cluster"),
    1: ("logical_devices", "replica", "keras_versions", "optimizers", "schedules", "layers", "models", "data", "keras_objects"),
    2: ("diagnostics",),
    3: ("training",),
    4: ("tuning", "planning"),
    5: ("reports",),
    6: ("mnist_main", "cifar10_main", "imagenet_main", "one_run", "sweep_main", "report_main", "plan_main", "__main__"),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
HEAVY = {"tensorflow", "keras", "tf_keras", "tensorboard", "tensorflow_datasets"}
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST, WIDEST = 300, 128


def name_of(path):
    """'training/loop.py' -> ('training', 'loop'); the package itself is ()."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def place_of(path):
    """The folder or file on a floor that a module belongs to; None for the package's own __init__."""
    return (name_of(path) or (None,))[0]


def imports_of(path, at_import_only=False):
    """Absolute dotted names that a module imports, wherever in it, or only what its own import brings."""
    tree = ast.parse(path.read_text())
    inside = {node for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.Lambda))
              for node in ast.walk(function)} if at_import_only else set()
    folder = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(tree):
        if node in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def inner_imports_of(path):
    """Places of the package that a module imports from."""
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == PACKAGE.name and len(parts) > 1:
            yield parts[1]


def identify(path):
    return str(path.relative_to(PACKAGE))


def test_every_module_has_a_floor():
    assert {place_of(path) for path in MODULES} - {None} == set(FLOOR_OF)


@pytest.mark.parametrize("path", [path for path in MODULES if place_of(path)], ids=identify)
def test_imports_go_down_or_left(path):
    here = place_of(path)
    for there in inner_imports_of(path):
        if there == here:
            continue
        assert there in FLOOR_OF, f"{identify(path)} imports {there}, which is on no floor"
        assert FLOOR_OF[there] <= FLOOR_OF[here], f"{identify(path)} imports {there} from a higher floor"
        if FLOOR_OF[here] == 1 == FLOOR_OF[there]:
            left = FLOORS[1][: FLOORS[1].index(here)]
            assert there in left, f"{identify(path)} imports {there}, to its right"


def test_the_package_itself_imports_nothing_of_its_own_or_heavy():
    [path] = [path for path in MODULES if not name_of(path)]
    assert {name.split(".")[0] for name in imports_of(path)} <= {"importlib"}


# The modules above the training floor whose work is to trace a step, or to run one.
STEPS = {PACKAGE / "planning" / name for name in ("export.py", "measure.py")}
LIGHT = [path for path in MODULES if FLOOR_OF.get(place_of(path)) in (0, 4, 5, 6) and path not in STEPS]


@pytest.mark.parametrize("path", LIGHT, ids=identify)
def test_all_floors_but_those_of_a_run_import_no_tensorflow(path):
    for name in imports_of(path):
        assert name.split(".")[0] not in HEAVY, f"{identify(path)} imports {name}"
    # A main reaches the training floor only inside a function, after it has refused what is to be refused.
    if FLOOR_OF[place_of(path)] == 6:
        for name in imports_of(path, at_import_only=True):
            assert not name.startswith("tf_hugebatch.training"), f"{identify(path)} imports {name} at once"
    for name in imports_of(path, at_import_only=True):
        assert not name.startswith(tuple(".".join(("tf_hugebatch", *name_of(one))) for one in STEPS)), identify(path)


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_modules_are_short(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST and max(map(len, lines), default=0) <= WIDEST


def test_no_module_is_a_drawer():
    drawers = {"utils", "util", "helpers", "misc", "common"}
    assert not [path for path in MODULES if drawers & set(name_of(path))]


def files_with(test):
    return {identify(path) for path in MODULES if test(path)}


def test_flags_are_made_in_one_place():
    users = files_with(lambda path: any(name.startswith("absl") for name in imports_of(path)))
    assert users == {"command_line.py"}


def asks_for_a_keras_version(path):
    stack = ("keras", "tf", "tensorflow")
    for node in ast.walk(ast.parse(path.read_text())):
        # keras.__version__, keras.version(), tf.__version__, and names imported from them.
        if isinstance(node, ast.Attribute) and node.attr in ("__version__", "version", "VERSION"):
            if isinstance(node.value, ast.Name) and node.value.id in stack:
                return True
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            package = (getattr(node, "module", None) or "").split(".")[0]
            if package in HEAVY and {alias.name for alias in node.names} & {"__version__", "version"}:
                return True
        # The seam's own answer, and what only one version has.
        if "KERAS_2" in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None)):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
            if isinstance(node.args[0], ast.Name) and node.args[0].id in stack:
                return True
        # "tensorflow" as what importlib.metadata.version is asked for.
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", None)) == "version":
            if node.args and getattr(node.args[0], "value", None) in HEAVY:
                return True
    return False


def test_only_the_seam_knows_keras_versions():
    assert {"keras_versions.py"} <= files_with(asks_for_a_keras_version) <= {"optimizers/base.py", "keras_versions.py"}


@pytest.mark.parametrize("code", [
    "tf.__version__", "keras.version()", "from tensorflow import __version__", "from .keras_versions import KERAS_2",
    "keras_versions.KERAS_2", "hasattr(keras, 'ops')", "getattr(tf, 'x', None)", "importlib.metadata.version('keras')",
])
def test_every_way_to_ask_for_a_version_is_seen(code, tmp_path):
    (tmp_path / "module.py").write_text(code)
    assert asks_for_a_keras_version(tmp_path / "module.py")


def holds_a_number_of_the_paper(path):
    """The paper's own batch sizes and accuracies that no other meaning in this package shares."""
    numbers = {node.value for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Constant) and isinstance(node.value, (int, float))}
    return bool(numbers & {32768, 819200, 25000, 1281167, 60000})


def test_only_published_holds_numbers_of_the_paper():
    assert files_with(holds_a_number_of_the_paper) == {"published.py"}
