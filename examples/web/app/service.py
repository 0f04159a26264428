"""A web service that answers at once, but says on /health whether its data is loaded."""

import http.server
import os
import threading
import time

loaded = threading.Event()


def load() -> None:
    time.sleep(2)
    loaded.set()


class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if loaded.is_set() else 503
        body = b"ok\n" if status == 200 else b"loading\n"
        self.send_response(status if self.path == "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


threading.Thread(target=load, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Service).serve_forever()
