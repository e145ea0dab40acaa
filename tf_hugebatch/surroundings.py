"""What every program that may start TensorFlow sets in its environment first, and its children inherit."""

import os


def prepare():
    """Sets what TensorFlow reads when it is imported, where the user has set nothing."""
    # TensorFlow's own lines (cuInit failed, which instructions the CPU has) would bury ours; what fails raises anyway. Two that
    # TensorFlow 2.21 prints while it is imported (oneDNN is on, no CUDA) come before it reads this.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # On for every processor: without AVX-512 TensorFlow leaves it off, and its own convolutions take 3.4 times as long there
    # (lenet5; lenet 2.1, resnet9 1.3).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Left alone, the first process on a GPU takes all of its memory, and of the runs of a sweep all but one would fail.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
