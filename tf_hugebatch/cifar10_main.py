"""Train and evaluate one network on CIFAR-10 at any batch size: python -m tf_hugebatch.cifar10_main --help"""

import sys

from .one_run import main as one_run

DESCRIPTION = "Train and evaluate one ResNet on CIFAR-10 at any batch size, up to the full batch."


def main():
    """Entry point; returns the exit code."""
    return one_run(sys.argv[1:], program="cifar10_main", description=DESCRIPTION, dataset="cifar10")


if __name__ == "__main__":
    sys.exit(main())
