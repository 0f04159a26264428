"""The screen of a terminal: a live table of what runs."""

from collections.abc import Callable, Mapping
from typing import Any, TextIO

from sandboxfile import console
from sandboxfile.frozen import dataclass
from sandboxfile.screens import Change, Quiet, about
from sandboxfile.summary import template_of


class Tty(Quiet):
    """A live table of what is running, with what is done scrolling away above it."""

    def __init__(self, stream: TextIO, *, colour: bool, now: Callable[[], float]) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__(stream)
        self._now = now
        self._running: dict[str, _Row] = {}
        self._console = Console(
            file=stream, force_terminal=True, no_color=not colour, highlight=False, markup=False
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._table,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def change(self, change: Change) -> None:
        self._live.start()  # once: again it does nothing
        if change.state == "started":
            row = _Row(template=change.template, step=change.step, since=self._now())
            jobs = {job: each for job, each in self._running.items() if ":" in job}
            self._running = {**jobs, change.job: row}
            return
        self._running = {job: r for job, r in self._running.items() if job != change.job}
        if not change.is_worth_a_line:
            return
        mark, colour = _MARKS[change.state]
        self._above(f"{mark} {change.template}: {change.text}", colour)

    def step(self, job: str, text: str) -> None:
        if ":" not in job and job not in self._running:  # what is done before there are jobs
            self._live.start()
            row = _Row(template=job, step="", since=self._now())
            self._running = {**self._running, job: row}
        self.doing(job, text)

    def doing(self, job: str, text: str) -> None:
        row = self._running.get(job)
        if row is not None:
            row.text = text

    def log(self, job: str, text: str) -> None:
        self._above(f"  {template_of(job)}: {text}", "dim")

    def notice(self, job: str, level: str, text: str) -> None:
        word = "warning: " if level == "warning" else ""
        self._above(f"  {about(job)}{word}{text}", "yellow" if word else "")

    def end(self, text: str, data: Mapping[str, object]) -> None:
        del data
        self.close()
        self.line(text)

    def failure(self, job: str, text: str, data: Mapping[str, object]) -> None:
        self.close()  # what follows is to be read, not watched
        super().failure(job, text, data)

    def close(self) -> None:
        self._live.stop()

    def _above(self, text: str, style: str) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), soft_wrap=True)

    def _table(self) -> Any:
        """Draw what is running; on the thread of the live display."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        rows = list(self._running.values())
        room = max(1, self._console.size.height - 2)
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows[:room]:
            took = console.duration(self._now() - row.since)
            table.add_row(*(Text(cell) for cell in (row.template, row.step, took, row.text)))
        more = len(rows) - room
        return Group(table, Text(f"and {more} more")) if more > 0 else table


@dataclass(slots=True, kw_only=True)
class _Row:
    template: str
    step: str
    since: float
    text: str = ""


_MARKS: Mapping[str, tuple[str, str]] = {
    "done": ("✓", "green"),
    "up to date": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("-", "yellow"),
    "detached": ("→", "cyan"),
}
