"""Commands to git that start nothing of what a checkout could bring along.

A repository's own configuration and hooks are its owner's, but a directory that somebody proposes
may be laid out as a repository itself (a bare one), with a configuration that names programs: such
are not used (git-config(1), safe.bareRepository). Hooks are for those who commit.
"""

from collections.abc import Mapping
from pathlib import Path

from sandboxfile.process import Command

_SAFE = (
    "safe.bareRepository=explicit",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.quotePath=true",
    "log.showSignature=false",
)


def command(
    directory: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Command:
    """Return a command to git for the repository that a directory is in."""
    safe = (word for setting in _SAFE for word in ("-c", setting))
    return Command(
        argv=("git", "-C", str(directory), *safe, *arguments),
        env={"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **(env or {})},
        stdin=stdin,
    )
