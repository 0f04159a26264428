"""A worker that says when it is ready by making a file."""

import os
import pathlib
import time

print("log level", os.environ.get("WORKER_LOG", "info"))
time.sleep(1)
pathlib.Path("/tmp/worker-ready").touch()
while True:
    time.sleep(60)
