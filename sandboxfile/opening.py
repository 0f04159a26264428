"""Opens what every command about templates begins with, and closes it whatever happens."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sandboxfile import app
from sandboxfile.app import Session
from sandboxfile.cancel import interrupting
from sandboxfile.frozen import dataclass
from sandboxfile.show import Show


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session at the target that was chosen, `why` it is that one, and what it shows."""

    session: Session
    show: Show
    why: str


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Opened]:
    """Load the workspace and choose the target. Raises ConfigError, UsageError.

    An interrupt inside the block stops what works in other threads before anything is closed.
    """
    workspace = app.workspace(args)
    target, why = app.target(args, workspace)
    show = Show(args, workspace)
    session = Session(
        args=args, workspace=workspace, target=target, emit=show.emit, redactor=show.redactor
    )
    with interrupting(session.cancel), ExitStack() as stack:
        stack.callback(session.close)
        stack.callback(show.close)
        try:
            yield Opened(session=session, show=show, why=why)
        except KeyboardInterrupt:
            session.cancel.set()
            raise
