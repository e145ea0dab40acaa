"""A machine's metadata server as Google's are: held questions, tags, and a header that is asked for and given."""

import http.server
import threading
import urllib.parse


class MetadataServer:
    """A context manager, on a port of localhost. `address`: "host:port". `answer[name]`: what it says, by `change`.

    seen: (name, whether the question was held) of each question. strange: statuses to answer with first, instead.
    """

    def __init__(self, **answers):
        self.answers = {"maintenance-event": "NONE", "preempted": "FALSE", **answers}
        self.seen, self.strange, self._changed, self._versions = [], [], threading.Condition(), dict.fromkeys(self.answers, 0)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer._answer(self)

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    def change(self, name, value):
        with self._changed:
            self.answers[name] = value
            self._versions[name] += 1
            self._changed.notify_all()

    def wait_for_questions(self, count, seconds=20):
        """Until so many held questions have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: sum(held for _, held in self.seen) >= count, seconds), self.seen

    def _answer(self, request):
        place, _, query = request.path.partition("?")
        asked = urllib.parse.parse_qs(query)
        name = place.removeprefix("/computeMetadata/v1/instance/")
        if request.headers["Metadata-Flavor"] != "Google" or name not in self.answers:
            return request.send_error(403)
        held = asked.get("wait_for_change") == ["true"]
        with self._changed:
            self.seen.append((name, held))
            self._changed.notify_all()
            if self.strange:
                return request.send_error(self.strange.pop())
            if held:
                self._changed.wait_for(lambda: asked["last_etag"] != [f"tag{self._versions[name]}"],
                                       float(asked["timeout_sec"][0]))
            text, tag = self.answers[name], f"tag{self._versions[name]}"
        request.send_response(200)
        for key, value in {"Metadata-Flavor": "Google", "ETag": tag, "Content-Length": str(len(text))}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(text.encode())
