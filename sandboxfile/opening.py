"""Opens what every command about templates begins with, and closes it whatever happens."""

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from sandboxfile import app, reading
from sandboxfile.app import STATE, Session
from sandboxfile.cancel import interrupting
from sandboxfile.errors import Cancelled
from sandboxfile.events import Notice
from sandboxfile.frozen import dataclass
from sandboxfile.show import Show


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session at the target that was chosen, `why` it is that one, and what it shows."""

    session: Session
    show: Show
    why: str

    @property
    def heading(self) -> str:
        """The line that says what a run is about."""
        return f"target {self.session.target.name}: {self.why}\n"


@contextmanager
def opened(args: argparse.Namespace, *, reads_all: bool = False) -> Iterator[Opened]:
    """Load the workspace and choose the target. Raises ConfigError, UsageError.

    `reads_all` says that the files of all templates will be asked for. An interrupt inside the
    block stops what works in other threads before anything is closed.
    """
    with ExitStack() as stack:
        copies = app.copies(args) if reads_all else None
        if copies is not None:
            stack.callback(copies.close)
        workspace = app.workspace(args)
        target, why = app.target(args, workspace)
        show = Show(args, workspace)
        session = Session(
            args=args,
            workspace=workspace,
            target=target,
            emit=show.emit,
            redactor=show.redactor,
            copies=copies,
            is_first=not reading.exists(workspace.root / STATE),
        )
        stack.enter_context(interrupting(session.cancel))
        stack.callback(session.close)
        stack.callback(show.close)
        try:
            yield Opened(session=session, show=show, why=why)
        except KeyboardInterrupt:
            session.cancel.set()
            raise


@contextmanager
def leaving(it: Opened, text: Callable[[], str]) -> Iterator[None]:
    """Say what is done and what is not when the block is interrupted, before the run ends."""
    try:
        yield
    except (KeyboardInterrupt, Cancelled):
        it.session.emit(Notice(job="", text=f"stopped; {text()}", level="warning"))
        raise


def parted(done: Iterable[str], rest: Iterable[str], verb: str) -> str:
    """Say which were finished, which one was at work and may be, and which were not touched."""
    at_work, *untouched = [*rest, ""]
    told = ((verb, [*done]), ("perhaps", [at_work]), ("not", untouched[:-1]))
    said = [f"{word}: {', '.join(f'`{n}`' for n in names)}" for word, names in told if any(names)]
    return "; ".join(said)
