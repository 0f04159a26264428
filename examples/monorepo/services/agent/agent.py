"""An agent that says once that it is there, and waits."""

import pathlib
import time

from greeting import greeting

pathlib.Path("/tmp/agent-ready").write_text(greeting() + "\n")
while True:
    time.sleep(60)
