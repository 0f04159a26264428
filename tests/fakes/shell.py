"""Somebody at a shell: a home, a directory, and whole commands run there without an engine."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sandboxfile
from sandboxfile.main import main

CHECKOUT = str(Path(sandboxfile.__file__).parents[1])
_COVERAGE = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")  # of children, too


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

    def run(self, *argv: str | Path) -> Ran:
        """Run a command in this process, which is the faster way."""
        environ = {**self.environ, "HOME": str(self.home)}
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.root), redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([str(each) for each in argv], environ)
            except SystemExit as end:  # as `--help` and `--version` end
                code = int(end.code or 0)
        return Ran(code=code, out=out.getvalue(), err=err.getvalue())

    def command(self, *argv: str | Path, python: tuple[str, ...] = ("-m", "sandboxfile")) -> Ran:
        """Run a command as a process of its own."""
        done = self.process([sys.executable, *python, *map(str, argv)])
        return Ran(code=done.returncode, out=done.stdout, err=done.stderr)

    def process(self, argv: list[str], *, stdout: int = subprocess.PIPE) -> Any:
        """Run any program, in which `sandboxfile` can be imported."""
        kept = {name: os.environ[name] for name in _COVERAGE if name in os.environ}
        here = {"HOME": str(self.home), "PYTHONPATH": CHECKOUT}
        return subprocess.run(
            argv,
            cwd=self.root,
            env={**kept, **here, **self.environ},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=500,
            check=False,
        )

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        """Replace the only occurrence of a text in a file."""
        text = (self.root / name).read_text()
        assert text.count(old) == 1
        (self.root / name).write_text(text.replace(old, new))
