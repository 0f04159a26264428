"""A box without an engine: its commands run on this machine, as this user, in one directory."""

import io
import os
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sandboxfile.engines import Executed


class HostBox:
    """Runs commands as child processes; `stop` kills them, as removing a container does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[subprocess.Popen[str]] = []

    @property
    def id(self) -> str:
        return "host"

    def execute(
        self,
        argv: tuple[str, ...],
        *,
        user: str | None = None,  # noqa: ARG002 - there is but one here
        workdir: str | None = None,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_error: Callable[[str], None] | None = None,  # noqa: ARG002 - both are one here
    ) -> Executed:
        command = subprocess.Popen(
            argv,
            cwd=workdir or self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._running.append(command)
        output = ""
        with command:
            assert command.stdout is not None
            for line in command.stdout:
                output += line
                if on_line:
                    on_line(line.rstrip("\n"))
        return Executed(status=command.returncode % 256, output=output)

    def put(self, archive: Iterable[bytes], directory: str) -> None:
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as tar:
            tar.extractall(directory, filter="fully_trusted")

    def interact(self, argv: tuple[str, ...], *, tty: bool, **_: object) -> int:
        raise NotImplementedError

    def commit(self, tag: str, *, labels: Mapping[str, str]) -> str:
        raise NotImplementedError

    def stop(self) -> None:
        for command in self._running:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
