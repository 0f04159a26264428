"""The console script: the cheap first stage, and everything else only when that has no answer."""

import os
import sys

from sandboxfile import __version__, fresh


def run() -> None:
    """Run the command line and exit."""
    argv, environ = sys.argv[1:], dict(os.environ)
    text = fresh.said(__version__, argv, environ)
    if text is not None and sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()
        os._exit(0)  # nothing was opened: skip the interpreter's own tidying up
    from sandboxfile.main import main

    # A stream that was closed when we were started is None.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    raise SystemExit(main(argv, environ))
