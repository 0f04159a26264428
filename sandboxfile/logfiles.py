"""Whole logs on disk: `<directory>/<template>/<step>.log`."""

import os
from collections import Counter
from pathlib import Path
from typing import TextIO

from sandboxfile.model import NAME

_LOG_BYTES = 64 << 20


class LogFiles:
    """Whole logs: `<directory>/<template>/<step>.log`, for the user alone, of limited size."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._files: dict[str, TextIO | None] = {}
        self._sizes: Counter[str] = Counter()

    def path(self, job: str) -> Path | None:
        step, _, template = job.partition(":")
        if self._directory is None or not NAME.fullmatch(step) or not NAME.fullmatch(template):
            return None
        return self._directory / template / f"{step}.log"

    def write(self, job: str, line: str) -> None:
        """Add a line; the first of a run empties the file."""
        if job not in self._files:
            path = self.path(job)
            self._files[job] = None if path is None else self._create(path)
        file = self._files[job]
        if file is None or self._sizes[job] > _LOG_BYTES:
            return
        self._sizes[job] += len(line) + 1
        if self._sizes[job] > _LOG_BYTES:
            line = f"… (this log is cut at {_LOG_BYTES >> 20} MiB)"
        file.write(line + "\n")

    def end(self, job: str) -> Path | None:
        """Close the log of a job that ended; where it is, None if there is none."""
        file = self._files.get(job)
        if file is None:
            return None
        file.close()
        self._files[job] = None
        return self.path(job)

    def close(self) -> None:
        for job in self._files:
            self.end(job)

    @staticmethod
    def _create(path: Path) -> TextIO | None:
        """Open a log; without a place for it (a full disk, a read-only checkout) there is none."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, flags, 0o600)
        except OSError:
            return None
        return os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace")
