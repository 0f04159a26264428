"""The console script: the cheap first stage, and everything else only when that has no answer."""

import _signal  # type: ignore[import-not-found] # of which `signal` is made, which costs milliseconds
import os
import sys
import time
from io import TextIOWrapper

from sandboxfile import __version__, fresh


def run() -> None:
    """Run the command line and exit."""
    began = time.monotonic()
    argv, environ = sys.argv[1:], dict(os.environ)
    try:
        _end_by_signals()
        look = fresh.look(__version__, argv, environ)
        if look.said is not None and _is_written(*look.said, began):
            os._exit(0)  # nothing was opened: skip the interpreter's own tidying up
        import signal
        from contextlib import suppress

        from sandboxfile import collector
        from sandboxfile.main import main
    except KeyboardInterrupt:  # as the second stage ends then
        os.write(2, b"interrupted\n")
        os._exit(130)
    # Who started us may ignore it, and the system then forgets how our children end (POSIX, wait).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A stream that was closed when we were started is None.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    # Letters that a terminal of another encoding lacks, or that are none, are no reason to fail.
    if isinstance(sys.stdout, TextIOWrapper):
        if sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")
        elif sys.stdout.errors == "surrogateescape" and sys.stdout.encoding.lower() != "utf-8":
            _print_all(sys.stdout)  # as in the locale `POSIX`
    try:
        code = main(argv, environ, look)
        _end_by_signals(code)
    except KeyboardInterrupt:  # once more, while the run was ending
        os._exit(130)
    if collector.is_left():
        with suppress(OSError, ValueError):  # nobody reads it any more
            sys.stderr.flush()
        os._exit(code)  # `main` has flushed the other
    raise SystemExit(code)


def _print_all(stream: TextIOWrapper) -> None:
    """Let a stream write bytes of names as they are, other letters that it lacks as numbers."""
    import codecs

    escaped = codecs.lookup_error("surrogateescape")

    def either(error: UnicodeError) -> "tuple[str | bytes, int]":
        try:
            return escaped(error)
        except UnicodeError:
            return codecs.backslashreplace_errors(error)

    codecs.register_error("sandboxfile", either)
    stream.reconfigure(errors="sandboxfile")


def _end_by_signals(code: "int | None" = None) -> None:
    """Have what ends a run raise KeyboardInterrupt, or, at its end, nothing but end it.

    Python itself would tell of an interrupt then, at length, and be killed by one that comes when
    it has taken our handlers away: it leaves alone what is ignored. Who has a signal ignored
    (`nohup`) keeps that.
    """
    numbers = [
        number
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
        if _signal.getsignal(number) != _signal.SIG_IGN
    ]
    handler = _signal.default_int_handler if code is None else lambda *_: os._exit(code)
    for number in numbers:
        _signal.signal(number, handler)
    if code is not None:
        import atexit

        atexit.register(lambda: [_signal.signal(each, _signal.SIG_IGN) for each in numbers])


def _is_written(told: str, printed: str, began: float) -> bool:
    """Say again what a run said; False where that is for the second stage, with its errors."""
    seconds = str(round(time.monotonic() - began, 3))
    try:
        for stream, text in (  # the data last: the second stage would print it again
            (sys.stderr, told),
            (sys.stdout, printed.replace(fresh.TIMES, seconds)),
        ):
            if text:
                stream.write(text)
                stream.flush()
    except (AttributeError, OSError, ValueError):
        return False  # it is closed, nobody reads it, there is no room, or it has no such letters
    return True
