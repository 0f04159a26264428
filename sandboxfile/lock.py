"""For applications: the template IDs that `novita.lock` has.

from sandboxfile import lock

sandbox = Sandbox(lock.load()["prod"]["agent"].template_id)
"""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from sandboxfile import reading
from sandboxfile.errors import SandboxfileError
from sandboxfile.lockfile import Entry, read

__all__ = ["Entry", "load"]

_LOCAL = "novita.local.lock"


def load(path: str | PathLike[str] = "novita.lock") -> Mapping[str, Mapping[str, Entry]]:
    """Return what was built, by target and template, with this machine's local targets.

    `path` is the lock, or the directory it is in. Raises SandboxfileError when nothing was built
    there, ConfigError when a lock cannot be read.
    """
    file = Path(path)
    if reading.is_directory(file):
        file /= "novita.lock"
    targets = {**read(file.with_name(_LOCAL)).targets, **read(file).targets}
    if not targets:
        raise SandboxfileError(
            f"`{file}` has no template IDs",
            hint="run `sandboxfile build` first, and commit the lock",
        )
    return targets
