"""Opens the reporter when there is something to show, and not before: most runs do nothing."""

import argparse
import sys
from functools import cached_property

from sandboxfile import console
from sandboxfile.events import Event
from sandboxfile.model import Workspace
from sandboxfile.redact import Redactor
from sandboxfile.report import Reporter, screen


class Show:
    """What a run says on standard error, as the global options want it."""

    def __init__(self, args: argparse.Namespace, workspace: Workspace | None) -> None:
        self._args = args
        self._workspace = workspace
        self._open = False
        self.redactor = Redactor(_secrets(args, workspace))

    @cached_property
    def reporter(self) -> Reporter:
        from sandboxfile.app import state

        args = self._args
        is_tty = sys.stderr.isatty()
        kind = console.screen(
            "quiet" if args.quiet else args.progress, is_tty=is_tty, environ=args.environ
        )
        colour = console.has_colour(is_tty=is_tty, environ=args.environ)
        self._open = True
        if args.log_level:
            from sandboxfile import logs

            logs.configure(
                stream=sys.stderr,
                level=args.log_level,
                form=args.log_format,
                redactor=self.redactor,
                colour=colour,
            )
        return Reporter(
            screen=screen(kind, sys.stderr, colour=colour),
            redactor=self.redactor,
            logs=state(self._workspace.root) / "logs" if self._workspace else None,
            verbose=bool(args.verbose),
            github=console.in_github(args.environ),
        )

    def emit(self, event: Event) -> None:
        if self._args.log_level:
            from sandboxfile import logs

            logs.tap(self.reporter.emit)(event)
        else:
            self.reporter.emit(event)

    def say(self, text: str) -> None:
        """Say one sentence, unless the user wants to hear of errors only."""
        if not self._args.quiet and self._args.progress not in {"quiet", "json"}:
            sys.stderr.write(text + "\n")

    def close(self) -> None:
        if self._open:
            self.reporter.close()


def _secrets(args: argparse.Namespace, workspace: Workspace | None) -> list[str]:
    """Return the values in the environment that no output may contain."""
    endings = ("_KEY", "_TOKEN", "_PASSWORD", "_SECRET")
    values = [v for k, v in args.environ.items() if k.endswith(endings) and v]
    sources = workspace.secrets.values() if workspace else ()
    values += [args.environ[s.env] for s in sources if s.env and args.environ.get(s.env)]
    return values
