"""Train and evaluate one network on ImageNet at any batch size: python -m tf_hugebatch.imagenet_main --help"""

import sys

from .one_run import main as one_run

DESCRIPTION = "Train and evaluate one ResNet on ImageNet (or made images) at any batch size, up to the full batch."


def main():
    """Entry point; returns the exit code."""
    return one_run(sys.argv[1:], program="imagenet_main", description=DESCRIPTION, dataset="imagenet2012")


if __name__ == "__main__":
    sys.exit(main())
