"""Somebody at a shell: a home, checkouts, and whole commands run in them."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sandboxfile
from sandboxfile.fresh import Look, look
from sandboxfile.lockfile import Entry, read
from sandboxfile.main import main

CHECKOUT = str(Path(sandboxfile.__file__).parents[1])
_COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


def measured() -> dict[str, str]:
    """Return the variables by which the coverage of child processes is measured, too."""
    return {name: os.environ[name] for name in _COVERAGE if name in os.environ}


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be somebody else for a while when we are root, who may read everything."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON document on standard output, which is nothing else."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of `--progress json`."""
        lines = self.err.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def done(self) -> set[str]:
        """The jobs that were done, but `generate`, which only writes a file for people."""
        named = {each["job"] for each in self.events if each["event"] == "done"}
        return {job for job in named if not job.startswith("generate:")}

    @property
    def stale(self) -> list[str]:
        """The templates to which something is to be done, by the JSON document."""
        return [each["name"] for each in self.data["templates"] if each["action"] != "up to date"]

    def of(self, template: str) -> dict[str, Any]:
        """What the JSON document says of a template."""
        found: dict[str, Any] = next(t for t in self.data["templates"] if t["name"] == template)
        return found


@dataclass(frozen=True, kw_only=True)
class User:
    """Runs commands in `root`; `environ` and HOME are the whole environment there is."""

    home: Path
    root: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def at(self, root: Path) -> "User":
        root.mkdir(parents=True, exist_ok=True)
        return replace(self, root=root)

    def having(self, **environ: str) -> "User":
        return replace(self, environ={**self.environ, **environ})

    def without(self, *names: str) -> "User":
        left = {name: value for name, value in self.environ.items() if name not in names}
        return replace(self, environ=left)

    # --- commands ----------------------------------------------------------------------------

    def run(self, *argv: str | Path, look: Look | None = None) -> Ran:
        """Run a command in this process, which is the faster way; its second stage."""
        environ = {**self.environ, "HOME": str(self.home)}
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.root), redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([str(each) for each in argv], environ, look)
            except SystemExit as end:  # as `--help` and `--version` end
                code = int(end.code or 0)
        return Ran(code=code, out=out.getvalue(), err=err.getvalue())

    def look(self, *argv: str) -> Look:
        """Look as the first stage of a command does, which takes the answer to its second."""
        with chdir(self.root):
            return look(sandboxfile.__version__, [*argv], {**self.environ, "HOME": str(self.home)})

    def command(
        self,
        *argv: str | Path,
        python: tuple[str, ...] = ("-m", "sandboxfile"),
        stdin: str = "",
        is_measured: bool = True,
    ) -> Ran:
        """Run a command as a process of its own; for coverage, too, if it `is_measured`."""
        line = [sys.executable, *python, *map(str, argv)]
        done = self.process(line, stdin=stdin, is_measured=is_measured)
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def process(
        self,
        argv: list[str],
        *,
        stdin: str = "",
        stdout: int = subprocess.PIPE,
        is_measured: bool = True,
    ) -> Any:
        """Run any program, in which `sandboxfile` can be imported."""
        return subprocess.run(
            argv,
            cwd=self.root,
            env=self.whole_environ(is_measured=is_measured),
            input=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=500,
            check=False,
        )

    def whole_environ(self, *, is_measured: bool = True) -> dict[str, str]:
        """The environment of a process: theirs, with what Python needs to find `sandboxfile`."""
        here = {"HOME": str(self.home), "PYTHONPATH": CHECKOUT}
        return {**(measured() if is_measured else {}), **here, **self.environ}

    def build(self, *argv: str | Path) -> Ran:
        """Build with events on standard error; it is to succeed."""
        ran = self.run("build", "--progress", "json", *argv)
        assert ran.code == 0, ran.err
        return ran

    # --- files -------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.root / name
        text = path.read_text()
        assert change(text) != text
        path.write_text(change(text))

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace the only occurrence of a text in a file."""
        assert (self.root / name).read_text().count(old) == 1
        self.edit(name, lambda text: text.replace(old, new))

    def entries(self, target: str = "local") -> Mapping[str, Entry]:
        name = "novita.local.lock" if target == "local" else "novita.lock"
        return read(self.root / name).targets.get(target, {})
