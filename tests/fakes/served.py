"""`sandboxfile serve` as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dev.private import bound
from tests.contract.contract import faults
from tests.contract.recording import recorded


@contextmanager
def serving(environ: Mapping[str, str], *argv: str, root: Path | None = None) -> Iterator[str]:
    """Run `sandboxfile serve` with these arguments, in `root`; its URL. It has to end well."""
    with subprocess.Popen(
        bound(sys.executable, "-m", "sandboxfile", "serve", *argv),
        cwd=root,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert url.startswith("http://127.0.0.1:")
            yield url
        finally:
            process.terminate()
            _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said


@contextmanager
def described(environ: Mapping[str, str], *argv: str, root: Path | None = None) -> Iterator[str]:
    """As `serving`; all that is asked and answered is held against the description of the API."""
    with serving(environ, *argv, root=root) as url, recorded(url) as recording:
        yield recording.url
    assert faults(recording.exchanges()) == []
