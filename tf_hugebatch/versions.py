"""What a run runs on: the commit, Python, and the versions of the packages that decide its numbers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess

_PACKAGES = ("tf-hugebatch", "tensorflow", "keras", "numpy", "absl-py", "tensorflow-datasets")


def installed() -> dict:
    """git_commit, source_sha256, python, platform and packages (name -> version, None for one that isn't there), for
    versions.json."""
    return {"git_commit": _git_commit(), "source_sha256": source_hash(), "python": platform.python_version(),
            "platform": platform.platform(), "packages": {name: _version(name) for name in _PACKAGES}}


def text() -> str:
    """The same on one line, for people: 'tf-hugebatch 0.1.0 (commit 1a2b3c4d5e), Python 3.11.7, tensorflow 2.21.0, ...'."""
    found = installed()
    package, *others = (f"{name} {version or 'not installed'}" for name, version in found["packages"].items())
    commit = f" (commit {found['git_commit'][:10]})" if found["git_commit"] else ""
    return ", ".join([f"{package}{commit}", f"Python {found['python']}", *others, found["platform"]])


def source_hash() -> str:
    """sha256, in hex, of this package's modules by path: which code ran, where an installed package knows no commit, or a
    checkout has changes."""
    folder, found = pathlib.Path(__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).as_posix()):
        found.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout this package runs from; None for an installed package or without git."""
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(os.path.join(checkout, ".git")):
        return None
    try:
        result = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True,
                                timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
