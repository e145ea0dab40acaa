"""A disk of its own for a test: small enough to be filled, and to be made read-only."""

import contextlib
import os
import subprocess


class SmallDisk:
    """A file system in memory, mounted at `path`. Needs the right to mount: where there is none `mounted` says so."""

    def __init__(self, path, mebibytes):
        self.path = path
        self._ballast = path / "ballast"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)]
        try:
            self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            self.mounted = False

    def fill(self, leave=0):
        """Until `leave` bytes of it are free."""
        with open(self._ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(self._ballast, max(0, os.path.getsize(self._ballast) - leave))

    def free(self):
        self._ballast.unlink()

    def make(self, mode):
        """mode: 'ro' or 'rw'."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)

    def unmount(self):
        if self.mounted:
            # Lazily: TensorBoard's writer may hold a file that it could not write to its end.
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)
