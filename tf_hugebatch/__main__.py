"""What can be run: python -m tf_hugebatch names the programs; each says its flags with --help."""

import sys
import textwrap

from . import cifar10_main, imagenet_main, mnist_main, plan_main, report_main, sweep_main, versions

_PROGRAMS = (mnist_main, cifar10_main, imagenet_main, sweep_main, report_main, plan_main)


def main():
    """Entry point; returns the exit code: 0, or 2 where words other than --help and --version are
    given, since this runs nothing."""
    words = sys.argv[1:]
    if words == ["--version"]:
        print(versions.text())
        return 0
    out = sys.stdout if not words or set(words) <= {"--help", "-h"} else sys.stderr
    if out is sys.stderr:
        print(f"Refused: {' '.join(words)} after python -m tf_hugebatch, which runs nothing; name a program.\n", file=out)
    for program in _PROGRAMS:
        print(f"python -m {program.__name__} --help", file=out)
        print(textwrap.fill(program.DESCRIPTION, 110, initial_indent="    ", subsequent_indent="    "), file=out)
    return 0 if out is sys.stdout else 2


if __name__ == "__main__":
    sys.exit(main())
