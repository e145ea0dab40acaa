"""The seam between this package and Keras: 3.15 on TensorFlow 2.21, and 2.15 on TensorFlow 2.15 beside tensorflow-addons.

Beside `optimizers/base.py` this is the only file that may know one Keras version from another. The rest of the package is
written for Keras 3; here Keras 2.15 gets the names that it lacks. Importing this file, which every part that needs Keras
does, refuses other versions.
"""

import warnings

import keras
import tensorflow as tf

PACKAGE = "tf_hugebatch"

#: TensorFlow's version: the Keras version that belongs to it. Private hooks are used below, so no other pair will do.
SUPPORTED = {"2.15": "2.15", "2.21": "3.15"}


def check_versions(tensorflow, keras_):
    """Refuses a pair of versions (as in '2.21.0', '3.15.1') that this package does not run on.

    Raises:
        ImportError: with the reason and the remedy; its `name` is "tensorflow".
    """
    found = [".".join(version.split(".")[:2]) for version in (tensorflow, keras_)]
    if SUPPORTED.get(found[0]) == found[1]:
        return
    raise ImportError(
        f"TensorFlow {tensorflow} with Keras {keras_}: tf_hugebatch uses private hooks of Keras' optimizer, which are those "
        f"of Keras 3.15 on TensorFlow 2.21, or of Keras 2.15 on TensorFlow 2.15, the last that tensorflow-addons imports "
        f"on; none in between were tested, and none have both. Install one of the two: pip install 'tensorflow>=2.21,<2.22' "
        f"'keras>=3.15,<3.16', or in an environment of its own, beside tensorflow-addons, pip install '.[addons]'.",
        name="tensorflow",
    )


def check_backend(backend):
    """Refuses a backend of Keras other than TensorFlow. Raises ImportError, whose `name` is "tensorflow"."""
    if backend != "tensorflow":
        raise ImportError(
            f"Keras computes with {backend} here (KERAS_BACKEND, or \"backend\" in ~/.keras/keras.json), and tf_hugebatch is "
            f"written for TensorFlow alone: set KERAS_BACKEND=tensorflow.", name="tensorflow")


check_versions(tf.__version__, keras.__version__)
check_backend(keras.backend.backend())
KERAS_2 = keras.__version__.startswith("2.")


def computes_with_onednn():
    """Whether TensorFlow computes with oneDNN on CPUs: TF_ENABLE_ONEDNN_OPTS, or what it thinks best for the processor."""
    from tensorflow.python.util import _pywrap_util_port  # here: what an unsupported TensorFlow lacks comes after its refusal

    return _pywrap_util_port.IsMklEnabled()


def as_written(function):
    """Decorator of a function that TensorFlow traces: traced as it is, and so is what it calls, but for tf.functions.

    AutoGraph would first rewrite the source of each function on the way for tensors in Python conditions, of which this
    package has none but the loops over updates and micro-batches: seconds at the start of every run. Keras 3 traces layers,
    losses and optimizers as written in `fit` too; Keras 2 lets AutoGraph at them, so with it `function` comes back as it was.
    """
    return function if KERAS_2 else tf.autograph.experimental.do_not_convert(function)


def register_serializable(cls):
    """Class decorator: registers `cls` under this package's name, for `get_config` and `.keras` files."""
    return keras.saving.register_keras_serializable(package=PACKAGE)(cls)


def variable_path(variable):
    """The layer path of a Keras variable ('net/dense/kernel'); of a bare tf.Variable its name, without ':0'.

    Keras 2 variables are bare ones, whose names are made from the layers' but leave the model's out ('dense/kernel').
    """
    path = getattr(variable, "path", None)
    return path if path is not None else variable.name.split(":")[0]


def native(variable):
    """The tf.Variable behind a Keras variable; a tf.Variable, which every variable of Keras 2 is, passes through."""
    return variable if KERAS_2 or not isinstance(variable, keras.Variable) else variable.value


#: Options of `add_weight` for a weight that stays float32 in float32 arithmetic under mixed precision.
FLOAT32_WEIGHT = {"dtype": "float32", "experimental_autocast" if KERAS_2 else "autocast": False}

#: `add_weight`'s aggregation: what replicas assign becomes the mean over them.
MEAN_OVER_REPLICAS = tf.VariableAggregation.MEAN if KERAS_2 else "mean"


def global_policy():
    """The process-wide precision policy."""
    return keras.mixed_precision.global_policy() if KERAS_2 else keras.config.dtype_policy()


def set_global_policy(policy):
    """Sets the process-wide precision policy, a policy or its name."""
    (keras.mixed_precision.set_global_policy if KERAS_2 else keras.config.set_dtype_policy)(policy)


def all_layers(model):
    """Every layer of a model once, however deep it is nested (in models or in layers), in a fixed order."""
    return list(dict.fromkeys(model._flatten_layers(include_self=False)))


class _OptimizerOfKeras2(keras.optimizers.Optimizer):
    """Keras 2.15's optimizer behind the names of Keras 3's: what `HugeBatchOptimizer` uses of it, and no more.

    Keras 2 calls `_internal_apply_gradients` where Keras 3 calls `_backend_update_step`, with gradients that are summed
    over replicas already. Optimizer variables are written by every replica in its own copy, all with the same value.
    """

    def __init__(self, learning_rate, name):
        super().__init__(name=name, weight_decay=None, jit_compile=False)
        self._built = False
        self._learning_rate = self._build_learning_rate(learning_rate)

    @property
    def built(self):
        return self._built

    @tf.__internal__.tracking.no_automatic_dependency_tracking
    def build(self, variables):
        super().build(variables)
        # Untracked, or a checkpoint of the optimizer would hold the model's weights.
        self._trainable_variables = list(variables)
        self._built = True

    @property
    def learning_rate(self):
        """A variable, or the schedule's value at the updates done so far: Keras 2 keeps the value of the last update."""
        rate = self._learning_rate
        return rate(self._iterations) if _is_schedule(rate) else rate

    @learning_rate.setter
    def learning_rate(self, rate):
        keras.optimizers.Optimizer.learning_rate.fset(self, rate)

    def add_variable(self, shape, initializer="zeros", dtype=None, aggregation="none", name=None):
        return super().add_variable(shape, dtype=dtype, initializer=initializer, name=name)

    def add_optimizer_variables(self, variables, name, initializer):
        return [self.add_variable_from_reference(variable, name, initial_value=initializer(variable.shape, variable.dtype))
                for variable in variables]

    def _get_variable_index(self, variable):
        return self._index_dict[self._var_key(variable)]

    def apply(self, gradients, variables):
        self.apply_gradients(zip(gradients, variables, strict=True))

    def _all_reduce_sum_gradients(self, gradients_and_variables):
        return gradients_and_variables

    def _internal_apply_gradients(self, gradients_and_variables):
        self._backend_update_step(*zip(*gradients_and_variables), self.learning_rate)
        return self._iterations.assign_add(1)

    def load_own_variables(self, store):
        if len(store.keys()) != len(self.variables):  # Keras 2 says so in a log, which nobody can ask
            warnings.warn(f"Skipping variable loading for optimizer '{self.name}', because it has {len(self.variables)} "
                          f"variables whereas the saved optimizer has {len(store.keys())} variables.", stacklevel=2)
            return
        super().load_own_variables(store)

    def get_config(self):
        rate = self._learning_rate
        rate = keras.optimizers.schedules.serialize(rate) if _is_schedule(rate) else float(rate.numpy())
        return {"learning_rate": rate, "name": self.name}


def _is_schedule(rate):
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)


#: The base class of our optimizers.
Optimizer = _OptimizerOfKeras2 if KERAS_2 else keras.optimizers.Optimizer
