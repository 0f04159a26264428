"""The real program as a real process, in a workspace of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dev.private import bound
from sandboxfile import lockfile
from sandboxfile.lockfile import Entry, Lock
from tests.fakes.shell import measured

SOURCE = Path(__file__).parents[2]
LIMIT_S = 90.0


@dataclass(eq=False, kw_only=True)
class Program:
    """A run of the program; it leads a process group, as a job of a shell does."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def stdout(self) -> str:
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        return self.err.read_text()

    def end(self, limit_s: float = LIMIT_S) -> int:
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)  # with that Python says where every thread is
            self.process.wait()
            pytest.fail(f"still running after {limit_s:g} s; it said:\n{self.stderr}")

    def succeed(self) -> None:
        status = self.end()
        assert status == 0, f"exit {status}:\n{self.stderr}"

    def kill(self) -> None:
        """Kill -9 the program itself; what it has started is left alone."""
        self.process.kill()
        self.process.wait()

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def said(self, text: str) -> None:
        """Wait until the program has said this."""
        wait_until(lambda: text in self.stderr, f"`{text}` in its output", self)

    def descendants(self) -> list[int]:
        """Return the processes that run below this one."""
        return _below(self.process.pid)


def wait_until(
    done: Callable[[], object], what: str, program: Program | None = None, limit_s: float = 60
) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        ended = program is not None and program.process.poll() is not None
        if ended and done():
            return
        if ended or time.monotonic() > deadline:
            pytest.fail(f"no {what}; it said:\n{program.stderr if program else ''}")
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be collected by init does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_below(child)]
    return found


@dataclass(eq=False, kw_only=True)
class Workspace:
    """A directory with a `novita.yaml`, and the environment to run the program in it."""

    root: Path
    environ: Mapping[str, str]
    target: str
    _runs: list[Program] = field(default_factory=list)

    def write(self, text: str) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / "novita.yaml").write_text(text)

    def start(
        self,
        *arguments: str,
        under: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        command: str = "build",
    ) -> Program:
        """Start `sandboxfile build`, or another command; `under` is a program that runs it."""
        argv = [*under, sys.executable, "-X", "faulthandler", "-m", "sandboxfile", command]
        argv += ["--target", self.target]
        out, err = (
            self.root.parent / f"{self.root.name}.{len(self._runs)}.{name}"
            for name in ("out", "err")
        )
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                bound(*argv, *arguments),
                cwd=self.root,
                env={**self.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        self._runs.append(Program(process=process, out=out, err=err))
        return self._runs[-1]

    def build(self, *arguments: str) -> Program:
        """Build to the end, which must be a good one."""
        program = self.start(*arguments)
        program.succeed()
        return program

    def end(self) -> None:
        """Leave nothing running."""
        for each in self._runs:
            with suppress(ProcessLookupError):
                os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait()

    @property
    def lock_path(self) -> Path:
        return self.root / ("novita.local.lock" if self.target == "local" else "novita.lock")

    @property
    def lock(self) -> Lock:
        return lockfile.read(self.lock_path)

    @property
    def entries(self) -> Mapping[str, Entry]:
        return self.lock.targets.get(self.target, {})


@contextmanager
def workspace(directory: Path, target: str, environ: Mapping[str, str]) -> Iterator[Workspace]:
    """Make a workspace, in whose environment nobody's settings are."""
    home = directory / "home"
    home.mkdir(parents=True, exist_ok=True)
    given = measured() | {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(SOURCE),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "SANDBOXFILE_NETWORK": "host",
        "SANDBOXFILE_PROGRESS": "plain",
        **environ,
    }
    it = Workspace(root=directory / "work", environ=given, target=target)
    try:
        yield it
    finally:
        it.end()
