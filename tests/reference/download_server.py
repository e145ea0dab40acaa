"""A server of a small MNIST that ends its answers in ways a network does, for tests of downloads."""

import gzip
import hashlib
import http.server
import json
import os
import pathlib
import struct
import threading

import numpy as np
from reference.worker_processes import TESTS, environment

EXAMPLES = (200, 40)
NAMES = {"x_train": "train-images-idx3-ubyte.gz", "y_train": "train-labels-idx1-ubyte.gz",
         "x_test": "t10k-images-idx3-ubyte.gz", "y_test": "t10k-labels-idx1-ubyte.gz"}


def _packed(array):
    return gzip.compress(struct.pack(f">I{array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes())


class DownloadServer(http.server.ThreadingHTTPServer):
    """On a free port of this machine, until it is closed.

    Attributes:
        ending: how the answer with the training images ends: "whole"; "closed", in the middle of the length that was
            stated; "short", in the middle with no length stated; "silent", in the middle, and then nothing for ever.
        asked: names of the files that were asked for, in order.
        arrays: x_train uint8 [200, 28, 28], y_train uint8 [200], x_test [40, 28, 28], y_test [40].
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.ending, self.asked, self.arrays = "whole", [], {}
        generator = np.random.default_rng(0)
        for part, count in zip(("train", "test"), EXAMPLES, strict=True):
            self.arrays[f"x_{part}"] = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            self.arrays[f"y_{part}"] = np.arange(count, dtype=np.uint8) % 10
        self.files = {NAMES[name]: _packed(array) for name, array in self.arrays.items()}
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *exception):
        self.closing.set()
        self.shutdown()
        super().__exit__(*exception)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def environment(self, tfds_folder, stop=None):
        """Of a process whose tensorflow-datasets loads from here into a folder; with a folder `stop` it makes a file there in
        the middle of the preparation of each split, and goes on once `stop`/go is there."""
        said = {"url": self.url, "examples": EXAMPLES, "stop": stop and str(stop), "files": {
            name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in self.files.items()}}
        path = os.pathsep.join([str(pathlib.Path(__file__).parent / "small_mnist_site"), str(TESTS.parent)])
        return environment(SMALL_MNIST=json.dumps(said), TFDS_DATA_DIR=str(tfds_folder)) | {"PYTHONPATH": path}


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        name, ending = self.path.lstrip("/"), self.server.ending
        self.server.asked.append(name)
        content = self.server.files[name]
        cut = ending != "whole" and name == NAMES["x_train"]
        self.send_response(200)
        self.send_header(*(("Connection", "close") if cut and ending == "short" else ("Content-Length", str(len(content)))))
        self.end_headers()
        self.wfile.write(content[:len(content) // 2] if cut else content)
        self.wfile.flush()
        if cut and ending == "silent":
            self.server.closing.wait()
        self.close_connection = self.close_connection or cut

    def log_message(self, *words):
        """Nothing on standard error."""
