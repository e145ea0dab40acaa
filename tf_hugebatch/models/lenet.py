"""The paper's LeNet and LeCun's LeNet-5, for 28 x 28 x 1 images in [0, 1]; both end in float32 logits."""

import keras

from tf_hugebatch.layers import Conv2D, Dense, Dropout
from tf_hugebatch.models.initial_weights import layer_seeds


def lenet(classes=10, seed=0, image_shape=(28, 28, 1), noise=None):
    """The net that the paper calls LeNet: 3,274,634 parameters with 10 classes.

    conv 5x5x32, pool, conv 5x5x64, pool, dense 1024, dropout 0.4, dense `classes`; convolutions keep the size
    ("same") and ReLU follows all but pooling and the logits. It is the TensorFlow tutorial's net, as in the
    authors' public MNIST code, not LeCun's.

    Args:
        classes: number of logits.
        seed: decides the initial weights, and nothing else does.
        image_shape: (height, width, channels).
        noise: called with `name`, gives a layer that stands after each ReLU; None: nothing does.

    Returns:
        keras.Sequential, float32 [n, 28, 28, 1] -> logits float32 [n, classes].
    """
    seeds = layer_seeds(seed)
    return keras.Sequential([
        keras.Input(image_shape),
        *_convolution(32, "same", "conv1", seeds, noise),
        keras.layers.MaxPooling2D(2, name="pool1"),
        *_convolution(64, "same", "conv2", seeds, noise),
        keras.layers.MaxPooling2D(2, name="pool2"),
        keras.layers.Flatten(name="flatten"),
        *_dense(1024, "dense1", seeds, noise),
        Dropout(0.4, name="dropout"),
        _logits(classes, seeds),
    ], name="lenet")


def lenet5(classes=10, seed=0, image_shape=(28, 28, 1), noise=None):
    """LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling: 61,706 parameters with 10 classes.

    conv 5x5x6 ("same": the original pads 28 x 28 to 32 x 32), pool, conv 5x5x16, pool, dense 120, dense 84,
    dense `classes`. Small enough for a laptop's CPU at any batch size.

    Args and returns: as `lenet`.
    """
    seeds = layer_seeds(seed)
    return keras.Sequential([
        keras.Input(image_shape),
        *_convolution(6, "same", "conv1", seeds, noise),
        keras.layers.MaxPooling2D(2, name="pool1"),
        *_convolution(16, "valid", "conv2", seeds, noise),
        keras.layers.MaxPooling2D(2, name="pool2"),
        keras.layers.Flatten(name="flatten"),
        *_dense(120, "dense1", seeds, noise),
        *_dense(84, "dense2", seeds, noise),
        _logits(classes, seeds),
    ], name="lenet5")


def _convolution(filters, padding, name, seeds, noise):
    yield Conv2D(filters, 5, padding=padding, activation="relu", name=name,
                 kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
    if noise:
        yield noise(name=f"{name}_noise")


def _dense(units, name, seeds, noise):
    yield Dense(units, activation="relu", name=name,
                kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
    if noise:
        yield noise(name=f"{name}_noise")


def _logits(classes, seeds):
    # float32 whatever the precision policy: a softmax over bfloat16 logits loses the small probabilities.
    return Dense(classes, name="logits", dtype="float32",
                 kernel_initializer=keras.initializers.GlorotUniform(next(seeds)))
