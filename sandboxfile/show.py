"""Opens the reporter when there is something to show, and not before: most runs do nothing."""

import argparse
import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from sandboxfile.events import Event
from sandboxfile.model import Workspace
from sandboxfile.redact import Redactor, secrets_in


class Reports(Protocol):
    """What a run tells its reporter; `report.Reporter` is one, and is imported when needed."""

    def emit(self, event: Event) -> None:
        """Take an event, from any thread."""

    def started(self, job: str) -> None:
        """Take note that a job began."""

    def settled(self, outcome: Any) -> None:
        """Take note of how a job ended."""

    def has_log(self, job: str) -> bool:
        """Say whether a job that failed wrote a log."""

    def idle(self) -> None:
        """Take note that time passes while jobs run; called some times a second."""

    @property
    def timeline(self) -> Any:
        """What happened when, a `timeline.Timeline`."""

    def finish(
        self,
        actions: Mapping[str, str],
        *,
        critical: tuple[str, ...] = (),
        keep_going: bool = False,
        interrupted: bool = False,
    ) -> int:
        """Show failures and the summary; the exit code."""

    def close(self) -> None:
        """Close logs and screen."""


class Show:
    """What a run says on standard error, as the global options want it."""

    def __init__(self, args: argparse.Namespace, workspace: Workspace | None) -> None:
        self._args = args
        self._workspace = workspace
        self._reporter: Reports | None = None
        self._lock = threading.Lock()
        self.redactor = Redactor(_secrets(args, workspace))

    @property
    def has_reported(self) -> bool:
        """Whether anything was shown besides what was said."""
        return self._reporter is not None

    @property
    def reporter(self) -> Reports:
        """The reporter, made at the first use, by whichever thread that is."""
        with self._lock:
            if self._reporter is None:
                self._reporter = self._made()
            return self._reporter

    def _made(self) -> Reports:
        from sandboxfile import console
        from sandboxfile.app import kept
        from sandboxfile.report import Reporter, screen

        args = self._args
        is_tty = sys.stderr.isatty()
        kind = console.screen(
            "quiet" if args.quiet else args.progress, is_tty=is_tty, environ=args.environ
        )
        colour = console.has_colour(is_tty=is_tty, environ=args.environ)
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
            logs=kept(self._workspace.root) / "logs" if self._workspace else None,
            verbose=bool(args.verbose),
            github=console.in_github(args.environ),
            target=args.target,
        )

    def emit(self, event: Event) -> None:
        if self._args.log_level:
            from sandboxfile import logs

            logs.tap(self.reporter.emit)(event)
        else:
            self.reporter.emit(event)

    def say(self, text: str) -> str:
        """Say something, newline and all, unless the user wants to hear of errors only.

        Returns what was said.
        """
        said = self.heard(text)
        sys.stderr.write(said)
        return said

    def heard(self, text: str) -> str:
        """Return what the user hears of what is said."""
        return "" if self._args.quiet or self._args.progress in {"quiet", "json"} else text

    def close(self) -> None:
        if self._reporter is not None:
            self._reporter.close()


def _secrets(args: argparse.Namespace, workspace: Workspace | None) -> list[str]:
    """Return the values in the environment that no output may contain."""
    values = secrets_in(args.environ)
    sources = workspace.secrets.values() if workspace else ()
    values += [args.environ[s.env] for s in sources if s.env and args.environ.get(s.env)]
    return values
