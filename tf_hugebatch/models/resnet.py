"""ResNets of He et al. 2015 for ImageNet and for small images, and a ResNet-9 for machines without an accelerator."""

import keras

from tf_hugebatch.layers import Conv2D, Dense
from tf_hugebatch.models.initial_weights import layer_seeds

#: depth -> (blocks of each of the four stages, whether a block is a bottleneck); He et al. 2015, table 1.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
VERSIONS = ("v1.5", "v1")
#: Five halvings leave one pixel of this many; three of this many.
SMALLEST_IMAGE = {"large": 32, "small": 8}


def resnet(*, depth, image_shape=(224, 224, 3), classes=1000, seed=0, normalization=None, zero_init_gamma=True,
           resnet_version="v1.5", stem="large", noise=None):
    """A ResNet of 18, 34, 50, 101 or 152 layers; ResNet-50 has 25,557,032 trainable parameters with 1,000 classes.

    Stem 7x7/2 to 64 channels, max-pooling 3x3/2 (or, for small images, 3x3 to 64 channels and no pooling), four stages of
    blocks (64, 128, 256, 512 channels; four times that at the end of a bottleneck), global average, dense. Convolutions have
    no bias and pad explicitly and symmetrically ((k - 1) / 2 zeros on each side, also at stride 2, where "same" would pad one
    side only). A block whose shape changes has a 1x1 convolution with norm as its shortcut.

    Initial weights: convolutions He et al. 2015b with fan-out, N(0, 2 / (k^2 channels)), truncated as Keras does; dense
    N(0, 0.01), as MLPerf's reference; gamma 1, or 0 in the last norm of each block (Goyal et al. 2017, section 5.1),
    which makes every block start as its shortcut.

    Args:
        depth: 18, 34, 50, 101 or 152.
        image_shape: (height, width, channels), at least 32 pixels each way, 8 with the small stem.
        classes: number of logits.
        seed: decides the initial weights, and nothing else does.
        normalization: called with `name` and `gamma_initializer`, gives a norm layer; None: keras BatchNormalization,
            momentum 0.9, epsilon 1e-5.
        zero_init_gamma: whether blocks start at gamma 0.
        resnet_version: where a bottleneck's stride stands: "v1.5" in its 3x3 convolution, "v1" in its first 1x1.
        stem: "large" as for ImageNet, or "small".
        noise: called with `name`, gives a layer that stands after each ReLU; None: nothing does.

    Returns:
        keras.Model, float32 [n, height, width, channels] -> logits float32 [n, classes].

    Raises:
        ValueError: another depth, version or stem, or an image too small.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth={depth} is none of {', '.join(map(str, DEPTHS))}; give one of them.")
    if resnet_version not in VERSIONS:
        raise ValueError(f"resnet_version={resnet_version!r} is none of {', '.join(VERSIONS)}; give one of them.")
    if stem not in SMALLEST_IMAGE:
        raise ValueError(f"stem={stem!r} is none of {', '.join(SMALLEST_IMAGE)}; give one of them.")
    _refuse_small(image_shape, SMALLEST_IMAGE[stem])
    blocks, bottleneck = DEPTHS[depth]
    build = _Builder(normalization or _keras_batch_norm, zero_init_gamma, resnet_version, layer_seeds(seed), noise)
    inputs = keras.Input(tuple(image_shape))
    if stem == "small":
        x = build.unit(inputs, 64, 3, 1, "stem")
    else:
        x = build.unit(inputs, 64, 7, 2, "stem")
        # Zeros are no smaller than anything after a ReLU, so padding with them is padding with nothing.
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            add_block = build.bottleneck if bottleneck else build.basic
            x = add_block(x, 64 * 2**stage, stride, f"stage{stage + 1}_block{block + 1}")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, build.logits(x, classes), name=f"resnet{depth}")


def cifar_resnet(*, depth, image_shape=(32, 32, 3), classes=10, seed=0, normalization=None, zero_init_gamma=True, noise=None):
    """A ResNet of He et al. 2015, section 4.2: 6n + 2 layers; 269,722 trainable parameters at depth 20.

    Convolution 3x3 to 16 channels, three stages of n blocks of two 3x3 convolutions with 16, 32, 64 channels, global
    average, dense. Shortcuts have no parameters (option A): where a stage begins they take every second pixel and fill up
    with zero channels, half before and half after.

    Args:
        depth: 6n + 2: 20, 32, 44, 56, ...
        image_shape, classes, seed, normalization, zero_init_gamma, noise: as `resnet`; images of at least 4 pixels each way.

    Returns:
        keras.Model, float32 [n, height, width, channels] -> logits float32 [n, classes].

    Raises:
        ValueError: another depth, or an image too small.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth={depth} isn't 6n + 2; give 20, 32, 44, 56, ...")
    _refuse_small(image_shape, 4)
    build = _Builder(normalization or _keras_batch_norm, zero_init_gamma, "v1", layer_seeds(seed), noise)
    inputs = keras.Input(tuple(image_shape))
    x = build.unit(inputs, 16, 3, 1, "stem")
    for stage in range(3):
        for block in range(blocks):
            name = f"stage{stage + 1}_block{block + 1}"
            x = build.basic(x, 16 * 2**stage, 2 if stage and not block else 1, name, join=build.join_with_zeros)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, build.logits(x, classes), name=f"resnet{depth}")


def resnet9(*, image_shape=(32, 32, 3), classes=10, seed=0, normalization=None, zero_init_gamma=True, noise=None):
    """A shallow, narrow ResNet that a machine without an accelerator trains in minutes.

    The layout that D. Page's "How to train your ResNet" (2018) made known, at a quarter of its width: units (convolution
    3x3, norm, ReLU) of 16, 32, 64 and 128 channels, each but the first followed by max-pooling 2x2, the second and the fourth
    then by a block of two units around a shortcut; global average, dense.

    Args and returns: as `cifar_resnet`; `zero_init_gamma` is for the second norm of the two blocks.

    Raises:
        ValueError: an image of less than 8 pixels each way.
    """
    _refuse_small(image_shape, 8)
    build = _Builder(normalization or _keras_batch_norm, zero_init_gamma, "v1", layer_seeds(seed), noise)
    inputs = keras.Input(tuple(image_shape))
    x = build.unit(inputs, 16, 3, 1, "stem")
    for stage, block in enumerate((True, False, True), 1):
        x = build.unit(x, 16 * 2**stage, 3, 1, f"stage{stage}")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        if block:
            x = build.basic(x, 16 * 2**stage, 1, f"stage{stage}_block")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, build.logits(x, classes), name="resnet9")


def _refuse_small(image_shape, smallest):
    if min(image_shape[:2]) < smallest:
        raise ValueError(f"image_shape={tuple(image_shape)}: too small for how often the network halves its images; give "
                         f"{smallest} pixels or more each way.")


class _Builder:
    """The parts of one network, with their names and initial weights."""

    def __init__(self, normalization, zero_init_gamma, version, seeds, noise):
        self.normalization, self.last_gamma = normalization, "zeros" if zero_init_gamma else "ones"
        self.version, self.seeds, self.noise = version, seeds, noise

    def convolution(self, x, filters, size, stride, name):
        if size > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return Conv2D(
            filters, size, stride, use_bias=False, name=f"{name}_conv",
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", seed=next(self.seeds)),
        )(x)

    def norm(self, x, name, gamma="ones"):
        return self.normalization(name=f"{name}_norm", gamma_initializer=gamma)(x)

    def activation(self, x, name):
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        return self.noise(name=f"{name}_noise")(x) if self.noise else x

    def unit(self, x, channels, size, stride, name):
        """Convolution, norm, ReLU."""
        return self.activation(self.norm(self.convolution(x, channels, size, stride, name), name), name)

    def logits(self, x, classes):
        # float32 whatever the precision policy: a softmax over bfloat16 logits loses the small probabilities.
        kernel = keras.initializers.RandomNormal(stddev=0.01, seed=next(self.seeds))
        return Dense(classes, name="logits", dtype="float32", kernel_initializer=kernel)(x)

    def basic(self, x, channels, stride, name, join=None):
        """3x3, 3x3 around a shortcut; the stride is in the first, whatever the version."""
        y = self.unit(x, channels, 3, stride, f"{name}_1")
        y = self.norm(self.convolution(y, channels, 3, 1, f"{name}_2"), f"{name}_2", self.last_gamma)
        return (join or self._join)(x, y, stride, name)

    def bottleneck(self, x, channels, stride, name):
        """1x1, 3x3, 1x1 to four times the channels, around a shortcut."""
        first, second = (stride, 1) if self.version == "v1" else (1, stride)
        y = self.unit(x, channels, 1, first, f"{name}_1")
        y = self.unit(y, channels, 3, second, f"{name}_2")
        y = self.norm(self.convolution(y, 4 * channels, 1, 1, f"{name}_3"), f"{name}_3", self.last_gamma)
        return self._join(x, y, stride, name)

    def join_with_zeros(self, x, y, stride, name):
        """The sum after a shortcut without parameters."""
        if stride != 1:
            x = keras.layers.AveragePooling2D(1, stride, name=f"{name}_shortcut_pixels")(x)
            missing = y.shape[-1] - x.shape[-1]
            # Called "channels_first", it pads the last two axes, of which the last are the channels here.
            x = keras.layers.ZeroPadding2D(
                ((0, 0), (missing // 2, missing - missing // 2)), "channels_first", name=f"{name}_shortcut_channels",
            )(x)
        return self.activation(keras.layers.Add(name=f"{name}_add")([x, y]), name)

    def _join(self, x, y, stride, name):
        if stride != 1 or x.shape[-1] != y.shape[-1]:
            x = self.norm(self.convolution(x, y.shape[-1], 1, stride, f"{name}_shortcut"), f"{name}_shortcut")
        return self.activation(keras.layers.Add(name=f"{name}_add")([x, y]), name)


def _keras_batch_norm(name, gamma_initializer):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma_initializer, name=name)
