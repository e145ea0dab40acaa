"""Models of the paper's experiments, as plain Keras models."""

from tf_hugebatch import keras_versions as _keras_versions  # refuses what this package does not run on
