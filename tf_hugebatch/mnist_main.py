"""Train and evaluate one network on MNIST at any batch size: python -m tf_hugebatch.mnist_main --help"""

import sys

from .one_run import main as one_run

DESCRIPTION = "Train and evaluate one network on MNIST (or mnist5k, embedded) at any batch size, up to the full batch."


def main():
    """Entry point; returns the exit code."""
    return one_run(sys.argv[1:], program="mnist_main", description=DESCRIPTION, dataset="mnist")


if __name__ == "__main__":
    sys.exit(main())
