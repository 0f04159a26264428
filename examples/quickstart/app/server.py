"""A service that is slow to start, as services are: it listens only when it is warm."""

import http.server
import os
import time

WARM_UP_S = 3


class Greeter(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{os.environ['GREETING']}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


print("warming up", flush=True)
time.sleep(WARM_UP_S)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Greeter)
print("listening", flush=True)
server.serve_forever()
