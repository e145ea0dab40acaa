"""ResNets for ImageNet (He et al. 2015), in the v1.5 form that MLPerf trains, and in the original one."""

import keras

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
#: Five halvings leave one pixel of this many.
SMALLEST_IMAGE = 32


def resnet(*, depth, image_shape=(224, 224, 3), classes=1000, seed=0, normalization=None, zero_init_gamma=True,
           resnet_version="v1.5"):
    """A ResNet of 18, 34, 50, 101 or 152 layers; ResNet-50 has 25,557,032 trainable parameters with 1,000 classes.

    Stem 7x7/2 to 64 channels, max-pooling 3x3/2, four stages of blocks (64, 128, 256, 512 channels; four times that
    at the end of a bottleneck), global average, dense. Convolutions have no bias and pad explicitly and symmetrically
    ((k - 1) / 2 zeros on each side, also at stride 2, where "same" would pad one side only). A block whose shape
    changes has a 1x1 convolution with norm as its shortcut.

    Initial weights: convolutions He et al. 2015b with fan-out, N(0, 2 / (k^2 channels)), truncated as Keras does; dense
    N(0, 0.01), as MLPerf's reference; gamma 1, or 0 in the last norm of each block (Goyal et al. 2017, section 5.1),
    which makes every block start as its shortcut.

    Args:
        depth: 18, 34, 50, 101 or 152.
        image_shape: (height, width, channels), at least 32 pixels each way.
        classes: number of logits.
        seed: decides the initial weights, and nothing else does.
        normalization: called with `name` and `gamma_initializer`, gives a norm layer; None: keras BatchNormalization,
            momentum 0.9, epsilon 1e-5.
        zero_init_gamma: whether blocks start at gamma 0.
        resnet_version: where a bottleneck's stride stands: "v1.5" in its 3x3 convolution, "v1" in its first 1x1.

    Returns:
        keras.Model, float32 [n, height, width, channels] -> logits float32 [n, classes].

    Raises:
        ValueError: another depth or version, or an image too small.
    """
    if depth not in DEPTHS:
        raise ValueError(f"depth={depth} is none of {', '.join(map(str, DEPTHS))}; give one of them.")
    if resnet_version not in VERSIONS:
        raise ValueError(f"resnet_version={resnet_version!r} is none of {', '.join(VERSIONS)}; give one of them.")
    if min(image_shape[:2]) < SMALLEST_IMAGE:
        raise ValueError(f"image_shape={tuple(image_shape)}: the network halves its images five times; give "
                         f"{SMALLEST_IMAGE} pixels or more each way.")
    blocks, bottleneck = DEPTHS[depth]
    build = _Builder(normalization or _keras_batch_norm, zero_init_gamma, resnet_version, layer_seeds(seed))
    inputs = keras.Input(tuple(image_shape))
    x = build.convolution(inputs, 64, 7, 2, "stem")
    x = build.activation(build.norm(x, "stem"), "stem")
    # Zeros are no smaller than anything after a ReLU, so padding with them is padding with nothing.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            add_block = build.bottleneck if bottleneck else build.basic
            x = add_block(x, 64 * 2**stage, stride, f"stage{stage + 1}_block{block + 1}")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    # float32 whatever the precision policy: a softmax over bfloat16 logits loses the small probabilities.
    logits = keras.layers.Dense(
        classes, name="logits", dtype="float32",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=next(build.seeds)),
    )(x)
    return keras.Model(inputs, logits, name=f"resnet{depth}")


class _Builder:
    """The parts of one network, with their names and initial weights."""

    def __init__(self, normalization, zero_init_gamma, version, seeds):
        self.normalization, self.last_gamma = normalization, "zeros" if zero_init_gamma else "ones"
        self.version, self.seeds = version, seeds

    def convolution(self, x, filters, size, stride, name):
        if size > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return keras.layers.Conv2D(
            filters, size, stride, use_bias=False, name=f"{name}_conv",
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", seed=next(self.seeds)),
        )(x)

    def norm(self, x, name, gamma="ones"):
        return self.normalization(name=f"{name}_norm", gamma_initializer=gamma)(x)

    def activation(self, x, name):
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    def basic(self, x, channels, stride, name):
        """3x3, 3x3 around a shortcut; the stride is in the first, whatever the version."""
        y = self._unit(x, channels, 3, stride, f"{name}_1")
        y = self.norm(self.convolution(y, channels, 3, 1, f"{name}_2"), f"{name}_2", self.last_gamma)
        return self._join(x, y, stride, name)

    def bottleneck(self, x, channels, stride, name):
        """1x1, 3x3, 1x1 to four times the channels, around a shortcut."""
        first, second = (stride, 1) if self.version == "v1" else (1, stride)
        y = self._unit(x, channels, 1, first, f"{name}_1")
        y = self._unit(y, channels, 3, second, f"{name}_2")
        y = self.norm(self.convolution(y, 4 * channels, 1, 1, f"{name}_3"), f"{name}_3", self.last_gamma)
        return self._join(x, y, stride, name)

    def _unit(self, x, channels, size, stride, name):
        return self.activation(self.norm(self.convolution(x, channels, size, stride, name), name), name)

    def _join(self, x, y, stride, name):
        if stride != 1 or x.shape[-1] != y.shape[-1]:
            x = self.norm(self.convolution(x, y.shape[-1], 1, stride, f"{name}_shortcut"), f"{name}_shortcut")
        return self.activation(keras.layers.Add(name=f"{name}_add")([x, y]), name)


def _keras_batch_norm(name, gamma_initializer):
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma_initializer, name=name)
