"""Roles and exclusions, and how the optimizers report them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reference.variables import variables_of
from tf_hugebatch import optimizers
from tf_hugebatch.keras_versions import KERAS_2
from tf_hugebatch.optimizers import roles

TREE = [("net/conv/kernel", (3, 3, 1, 2)), ("net/conv/bias", (2,)), ("net/norm/gamma", (2,)),
        ("net/norm/beta", (2,)), ("net/words/embeddings", (10, 2)), ("net/odd/matrix", (2, 2)),
        ("net/odd/temperature", ())]


def test_roles_come_from_the_name_then_from_the_rank():
    table = {row.path: (row.role, row.rule) for row in roles.assign(TREE)}
    assert table["net/conv/kernel"] == ("kernel", "name 'kernel'")
    assert table["net/conv/bias"][0] == "bias"
    assert table["net/norm/gamma"][0] == "norm scale"
    assert table["net/norm/beta"][0] == "norm offset"
    assert table["net/words/embeddings"][0] == "embedding"
    assert table["net/odd/matrix"] == ("kernel", "rank 2")
    assert table["net/odd/temperature"] == ("bias", "rank 0")


def included(**exclusions):
    table = roles.assign(TREE, **exclusions)
    return [row.path for row in table if row.decays], [row.path for row in table if row.adapts]


def test_none_is_the_default_roles_and_empty_is_nothing():
    default = ["net/conv/kernel", "net/words/embeddings", "net/odd/matrix"]
    everything = [path for path, _ in TREE]
    assert included() == (default, default)
    assert included(exclude_from_decay=()) == (everything, default)
    assert included(exclude_from_adaptation=()) == (default, everything)


def test_the_two_lists_are_separate_and_replace_the_default():
    decayed, adapted = included(exclude_from_decay=("conv", "gamma$"), exclude_from_adaptation=("odd/",))
    assert "net/conv/kernel" not in decayed and "net/norm/beta" in decayed and "net/norm/gamma" not in decayed
    assert adapted == [path for path, _ in TREE if "odd/" not in path]


def test_a_pattern_that_matches_nothing_is_refused_with_the_paths():
    with pytest.raises(ValueError, match="exclude_from_decay=batch_normalization: matches no variable.*norm/gamma"):
        optimizers.SGD(0.1, exclude_from_decay=("batch_normalization",)).build(variables_of(
            {path.removeprefix("net/"): np.zeros(shape) for path, shape in TREE}))


@pytest.mark.parametrize("argument", ["exclude_from_decay", "exclude_from_adaptation"])
def test_one_string_is_refused_with_the_remedy(argument):
    with pytest.raises(TypeError, match=rf"{argument}='bias'.*\['bias'\]"):
        optimizers.LARS(0.1, **{argument: "bias"})


def test_what_is_no_regular_expression_is_refused():
    with pytest.raises(ValueError, match=r"'\(bias'"):
        optimizers.LAMB(0.1, exclude_from_decay=["(bias"])
    with pytest.raises(TypeError, match="7"):
        optimizers.LAMB(0.1, exclude_from_decay=[7])


NET = "" if KERAS_2 else "net/"  # Keras 2 leaves the model out of its variables' names


def built(optimizer):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, name="a"),
                              keras.layers.BatchNormalization(name="b")], name="net")
    optimizer.build(model.trainable_variables)
    return optimizer


def test_an_optimizer_refuses_an_unmatched_pattern_when_it_is_built():
    with pytest.raises(ValueError, match="exclude_from_adaptation=nowhere: matches no variable"):
        built(optimizers.LAMB(0.1, exclude_from_adaptation=["nowhere"]))


def test_describe_says_what_is_excluded_and_by_which_rule():
    text = built(optimizers.LARS(0.1, weight_decay=1e-4, exclude_from_decay=["b/"])).describe().splitlines()
    rows = {line.split()[0]: line for line in text}
    assert "3x2" in rows[f"{NET}a/kernel"] and "no" not in rows[f"{NET}a/kernel"].split()
    assert "no (role bias)" in rows[f"{NET}a/bias"] and "yes" in rows[f"{NET}a/bias"]
    assert "norm scale" in rows[f"{NET}b/gamma"] and "no (pattern 'b/')" in rows[f"{NET}b/gamma"]


def test_describe_says_that_plain_sgd_neither_decays_nor_adapts():
    assert built(optimizers.SGD(0.1)).describe().count("no (off)") == 2 * 4


def test_variables_of_one_path_keep_their_own_ratios():
    assert list(roles.told_apart(["a", "b", "a", "a"])) == ["a", "b", "a#2", "a#3"]
    optimizer = optimizers.LARS(0.1)
    optimizer.build([tf.Variable([1.0, 2.0]), tf.Variable([3.0, 4.0])])
    assert len(optimizer.trust_ratios()) == 2


def test_trust_ratios_are_one_before_any_update_and_need_a_build():
    assert built(optimizers.LARS(0.1)).trust_ratios() == {
        f"{NET}{path}": 1.0 for path in ("a/kernel", "a/bias", "b/gamma", "b/beta")}
    assert set(built(optimizers.SGD(0.1)).trust_ratios().values()) == {1.0}
    with pytest.raises(ValueError, match="call optimizer.build"):
        optimizers.LARS(0.1).trust_ratios()


@pytest.mark.parametrize("now, saved, searched, gone", [
    # What Keras leaves of a path, and layers that another process numbers otherwise.
    (["d/kernel", "d/bias"], ["net/d/kernel", "net/d/bias"], ["net/d/kernel", "net/d/bias"], []),
    (["b/dense_1/kernel", "b/dense_2/kernel"], ["b/dense/kernel", "b/dense_1/kernel"], ["b/dense/kernel", "b/dense_1/kernel"], []),
    (["b/dense/kernel", "b/dense_1/kernel"], ["n/b/dense_7/kernel", "n/b/dense_8/kernel"],
     ["n/b/dense_7/kernel", "n/b/dense_8/kernel"], []),
    # Frozen since.
    (["c/kernel"], ["net/a/kernel", "net/c/kernel"], ["net/c/kernel"], ["net/a/kernel"]),
    (["a/kernel"], ["net/a/kernel", "net/c/kernel"], ["net/a/kernel"], ["net/c/kernel"]),
    # Another model, one with more variables, and none saved.
    (["x/kernel", "x/bias"], ["d/kernel", "d/bias"], ["x/kernel", "x/bias"], []),
    (["a/kernel", "b/kernel"], ["a/kernel"], ["a/kernel", "b/kernel"], []),
    (["c/kernel", "a/kernel"], ["a/kernel", "b/kernel", "c/kernel"], ["c/kernel", "a/kernel"], []),
    (["a/kernel"], [], ["a/kernel"], []), ([], ["a/kernel"], [], []),
])
def test_patterns_are_searched_in_the_paths_from_before_the_save_where_the_model_is_the_same(now, saved, searched, gone):
    assert roles.as_saved(now, saved) == (searched, gone)


@pytest.mark.parametrize("arguments, said", [
    ({"exclude_from_decay": False}, "exclude_from_decay=False is no list"), ({"exclude_from_decay": 5}, "=5 is no list"),
    ({"fixed_trust_ratios": "ab"}, "fixed_trust_ratios='ab': give {regular expression: ratio}"),
    ({"fixed_trust_ratios": 5}, "fixed_trust_ratios=5"), ({"trust_bounds": "12"}, "trust_bounds='12' are no bounds"),
    ({"trust_bounds": (True, 2.0)}, "are no bounds")])
def test_what_is_no_list_or_pair_is_named(arguments, said):
    with pytest.raises((TypeError, ValueError)) as refused:
        optimizers.LARS(0.1, **arguments)
    assert said in str(refused.value)


def test_a_fixed_ratio_of_a_layer_that_was_frozen_since_a_save_is_no_slip():
    ratios = [("a/", 0.1), ("c/", 0.2)]
    [row] = roles.fix_ratios(roles.assign([("net/c/kernel", (2, 3))]), ratios, gone=["net/a/kernel"])
    assert row.fixed_ratio == 0.2
    with pytest.raises(ValueError, match="of no adapted variable: a/"):
        roles.fix_ratios(roles.assign([("net/c/kernel", (2, 3))]), ratios)
