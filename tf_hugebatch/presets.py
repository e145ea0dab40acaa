"""What public implementations of LARS and Muon do differently, by the registry row that takes it.

A preset is the level between what the user gave and the regime. It fills the choices that peers make differently, not
momentum, nesterov or weight_decay.
"""

from __future__ import annotations

from collections.abc import Mapping

PRESETS: Mapping[str, Mapping[str, Mapping]] = {
    "lars": {
        "contrib": {  # tf.contrib.opt.LARSOptimizer up to TensorFlow 1.14
            "lars_denominator": "sum", "momentum_convention": "scaled", "decay_in_update": False,
            "trust_coefficient": 0.001, "epsilon": 0.0,
            "exclude_from_decay": (), "exclude_from_adaptation": ()},
        "mlperf": {  # the MLPerf ResNet-50 reference since 2020-02
            "lars_denominator": "sum", "momentum_convention": "unscaled", "decay_in_update": True,
            "trust_coefficient": 0.001, "epsilon": 0.0,
            "exclude_from_decay": None, "exclude_from_adaptation": None},
        "tf_models": {  # tensorflow/models, classic_momentum=True
            "lars_denominator": "joint", "momentum_convention": "unscaled", "decay_in_update": True,
            "trust_coefficient": 0.001, "epsilon": 0.0,
            "exclude_from_decay": (), "exclude_from_adaptation": ()},
        "optax": {  # optax.lars with its default masks
            "lars_denominator": "joint", "momentum_convention": "unscaled", "decay_in_update": True,
            "trust_coefficient": 0.001, "epsilon": 0.0,
            "exclude_from_decay": (), "exclude_from_adaptation": ()},
        # NVIDIA apex LARC with clip=True as timm's LARC computes it (the recorded golden). apex itself leaves
        # a variable with a zero norm, its own or its gradient's, undecayed and unscaled; here, as in timm, it
        # is decayed and its ratio is 1 before the clip.
        "larc": {
            "lars_denominator": "sum", "momentum_convention": "after", "decay_in_update": True,
            "trust_coefficient": 0.02, "epsilon": 1e-8, "trust_clip": True,
            "exclude_from_decay": (), "exclude_from_adaptation": ()},
    },
    "muon": {
        "keras": {  # keras.optimizers.Muon, whose weight decay is Adam's too only when given as adam_weight_decay
            "bias_correction": False, "newton_schulz_epsilon": 1e-7, "update_scale": "rms",
            "exclude_from_orthogonalization": None,
            "reshape_kernels": False, "adam_rate_ratio": 1.0, "adam_nesterov": False,
            "epsilon": 1e-7, "epsilon_placement": "uncorrected", "exclude_from_decay": ()},
        "optax": {  # optax.contrib.muon, whose weight decay is Adam's too only when given as adam_weight_decay
            "bias_correction": True, "update_scale": "width", "exclude_from_orthogonalization": (),
            "reshape_kernels": False, "adam_rate_ratio": 1.0, "adam_nesterov": True,
            "epsilon": 1e-8, "epsilon_placement": "corrected", "exclude_from_decay": ()},
    },
}
