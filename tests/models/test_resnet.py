"""ResNets: sizes, where strides and padding stand, what they start from."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_hugebatch as hb
from tf_hugebatch import registry
from tf_hugebatch.layers import GhostBatchNormalization
from tf_hugebatch.models.resnet import cifar_resnet, resnet, resnet9

SMALL = dict(image_shape=(32, 32, 3), classes=10)


@pytest.mark.parametrize("depth, parameters", [
    (18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808),
])
def test_trainable_parameters_are_those_of_the_literature(depth, parameters):
    model = resnet(depth=depth)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == parameters
    assert model.output_shape == (None, 1000)


def convolutions(model):
    return {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}


@pytest.mark.parametrize("version, strided", [("v1.5", "3x3"), ("v1", "1x1")])
def test_the_version_says_which_convolution_of_a_bottleneck_has_the_stride(version, strided):
    found = convolutions(resnet(depth=50, resnet_version=version, **SMALL))
    assert all(not layer.use_bias for layer in found.values())
    assert len(found) == 53
    with_stride = {name for name, layer in found.items() if layer.strides == (2, 2)}
    inner = "2" if strided == "3x3" else "1"
    expected = {"stem_conv"} | {f"stage{stage}_block1_{part}_conv" for stage in (2, 3, 4) for part in (inner, "shortcut")}
    assert with_stride == expected


def test_padding_is_symmetric_also_at_stride_2():
    """A twin of the stem with NumPy's padding; Keras' "same" would pad two pixels before and three after."""
    model = resnet(depth=18, **SMALL)
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    stem = keras.Model(model.input, model.get_layer("stem_conv").output)(x)
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    expected = tf.nn.conv2d(padded, model.get_layer("stem_conv").kernel, 2, "VALID")
    assert stem.shape == (1, 16, 16, 64)
    np.testing.assert_allclose(stem, expected, rtol=1e-4, atol=1e-5)
    pooled = keras.Model(model.input, model.get_layer("stem_pool").output)(x, training=False)
    before = np.pad(keras.Model(model.input, model.get_layer("stem_relu").output)(x, training=False).numpy(),
                    ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(before, (3, 3), axis=(1, 2))[:, ::2, ::2]
    np.testing.assert_array_equal(pooled, windows.max(axis=(-2, -1)))


@pytest.mark.parametrize("depth", [18, 50])
def test_blocks_start_as_their_shortcuts_with_zero_gamma(depth):
    model = resnet(depth=depth, zero_init_gamma=True, **SMALL)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    block_in, block_out = (keras.Model(model.input, model.get_layer(name).output)(x, training=True)
                           for name in ("stage1_block1_relu", "stage1_block2_relu"))
    np.testing.assert_array_equal(block_in, block_out)
    zeros = [layer.name for layer in model.layers if layer.name.endswith("_norm") and not layer.gamma.numpy().any()]
    assert len(zeros) == {18: 8, 50: 16}[depth]
    assert all(layer.gamma.numpy().all() for layer in resnet(depth=depth, zero_init_gamma=False, **SMALL).layers
               if layer.name.endswith("_norm"))


def test_the_seed_decides_the_weights_and_no_two_layers_share_them():
    first, again, other = (resnet(depth=18, seed=seed, **SMALL).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    kernels = [weight for weight in first if weight.ndim == 4]
    assert sum(not np.array_equal(a, b) for a, b in zip(first, other)) == len(kernels) + 1
    flat = [tuple(kernel.ravel()[:8]) for kernel in kernels]
    assert len(set(flat)) == len(flat)


def test_initial_scale():
    model = resnet(depth=50, seed=0)
    kernel = model.get_layer("stage3_block2_2_conv").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)  # fan-out
    assert model.get_layer("logits").kernel.numpy().std() == pytest.approx(0.01, rel=0.02)


def test_mixed_precision_keeps_logits_statistics_and_weights_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = resnet(depth=18, normalization=functools.partial(GhostBatchNormalization, 2), **SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    x = np.zeros((2, 32, 32, 3), np.float32)
    assert model(x).dtype == tf.float32
    inner = keras.Model(model.input, model.get_layer("stage2_block1_add").output)
    assert inner(x, training=True).dtype == tf.bfloat16
    assert {variable.dtype for variable in model.variables} == {"float32"}


def test_a_saved_network_comes_back(tmp_path):
    model = resnet(depth=18, normalization=functools.partial(GhostBatchNormalization, 2), **SMALL)
    model.save(tmp_path / "resnet.keras")
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(hb.load_model(tmp_path / "resnet.keras")(x), model(x))


def test_only_kernels_decay_and_adapt_under_lars():
    optimizer = hb.optimizers.LARS.preset("mlperf", learning_rate=1.0, weight_decay=1e-4)
    model = resnet(depth=18, **SMALL)
    optimizer.build(model.trainable_variables)
    assert "norm scale" in optimizer.describe()
    lines = optimizer.describe().splitlines()
    for word, role in (("/gamma", "norm scale"), ("/beta", "norm offset"), ("/kernel", "kernel")):
        assert all(role in line for line in lines if word in line.split(" ")[0])


@pytest.mark.parametrize("arguments, words", [
    ({"depth": 20}, ["depth=20", "18, 34, 50"]),
    ({"depth": 18, "resnet_version": "v2"}, ["v2", "v1.5"]),
    ({"depth": 18, "image_shape": (31, 32, 3)}, ["31", "32 pixels"]),
])
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError) as caught:
        resnet(**arguments)
    assert all(word in str(caught.value) for word in words)


# For 32 x 32.


def parameters_of(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def cifar_parameters(blocks):
    """Of He et al.'s section 4.2, counted layer by layer: kernels, two parameters a channel of each norm, dense."""
    unit = lambda inputs, outputs: 9 * inputs * outputs + 2 * outputs
    stage = lambda inputs, outputs: unit(inputs, outputs) + (2 * blocks - 1) * unit(outputs, outputs)
    return unit(3, 16) + stage(16, 16) + stage(16, 32) + stage(32, 64) + 64 * 10 + 10


@pytest.mark.parametrize("depth, millions", [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_parameters_of_the_small_ones_are_those_of_table_6_of_he_et_al(depth, millions):
    found = parameters_of(cifar_resnet(depth=depth))
    assert found == cifar_parameters((depth - 2) // 6)
    assert round(found / 1e6, 2) == millions


def test_resnet50_for_small_images_has_no_pooling_and_its_published_size():
    row = registry.find("model", "resnet50_v1")
    model = row.resolve()(image_shape=(32, 32, 3), classes=10, **row.arguments)
    assert parameters_of(model) == 23_520_842
    assert model.get_layer("stem_relu").output.shape[1:] == (32, 32, 64)
    assert not [layer.name for layer in model.layers if "pool" in layer.name]
    assert model.get_layer("stage4_block3_relu").output.shape[1:] == (4, 4, 2048)


def test_a_shortcut_without_parameters_takes_every_second_pixel_and_fills_up_with_zeros():
    model = cifar_resnet(depth=20, zero_init_gamma=True)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    before, after = (keras.Model(model.input, model.get_layer(name).output)(x, training=True).numpy()
                     for name in ("stage1_block3_relu", "stage2_block1_relu"))
    # With gamma 0 a block is its shortcut.
    expected = np.pad(before[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (8, 8)))
    np.testing.assert_array_equal(after, expected)
    assert before.any()


def test_resnet9():
    model = resnet9()
    unit = lambda inputs, outputs: 9 * inputs * outputs + 2 * outputs
    expected = (unit(3, 16) + unit(16, 32) + 2 * unit(32, 32) + unit(32, 64) + unit(64, 128) + 2 * unit(128, 128)
                + 128 * 10 + 10)
    assert parameters_of(model) == expected
    assert len(convolutions(model)) == 8


@pytest.mark.parametrize("build, small", [
    (functools.partial(resnet, depth=50, stem="small"), 8), (functools.partial(cifar_resnet, depth=20), 4), (resnet9, 8),
])
def test_every_network_takes_images_as_small_as_it_says(build, small):
    assert build(image_shape=(small, small, 3), classes=7).output_shape == (None, 7)
    with pytest.raises(ValueError, match=f"give {small} pixels"):
        build(image_shape=(small - 1, small - 1, 3))


def test_depths_and_stems_that_there_are_not():
    for depth in (19, 2, 8.5, 21):
        with pytest.raises(ValueError, match="20, 32, 44, 56"):
            cifar_resnet(depth=depth)
    with pytest.raises(ValueError, match="large, small"):
        resnet(depth=18, stem="medium")


@pytest.mark.parametrize("name", ["resnet50_v1", "resnet20", "resnet9"])
def test_small_networks_keep_float32_logits_under_mixed_bfloat16(name):
    row = registry.find("model", name)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = row.resolve()(image_shape=(32, 32, 3), classes=10, **row.arguments)
    finally:
        keras.config.set_dtype_policy("float32")
    images = np.zeros((2, 32, 32, 3), np.float32)
    assert model(images).dtype == tf.float32
    assert keras.Model(model.input, model.get_layer("stem_conv").output)(images).dtype == tf.bfloat16
