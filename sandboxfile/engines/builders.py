"""Builders of docker buildx, as `docker buildx inspect` tells of them."""

import re

from sandboxfile.errors import SandboxfileError, Unreachable, Unsupported
from sandboxfile.frozen import dataclass
from sandboxfile.model import PLATFORM
from sandboxfile.process import Outcome

# Drivers whose nodes are started by the first build; others run wherever they were set up.
STARTED = frozenset({"docker-container", "kubernetes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """A builder and its nodes taken together; `error` is what a node says that does not run."""

    name: str
    driver: str
    running: int = 0
    platforms: frozenset[str] = frozenset()
    error: str = ""

    @property
    def is_running(self) -> bool:
        return self.running > 0

    @property
    def elsewhere(self) -> bool:
        """Whether it builds where the engine's own images cannot be seen."""
        return self.driver != "docker"


def read(name: str, inspected: Outcome) -> Builder:
    """Read what the client told. Raises Unsupported when it knows no such builder, Unreachable."""
    if inspected.status != 0:
        raise _failure(name, inspected.stderr)
    driver, running, error = "", 0, ""
    platforms: set[str] = set()
    for line in inspected.stdout.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        if key == "Driver":
            driver = value
        elif key == "Status":
            running += value == "running"
        elif key == "Platforms":
            platforms.update(re.findall(r"[a-z0-9]+/[a-z0-9]+(?:/v[0-9]+)?", value))
        elif key == "Error":
            error = error or value
    return Builder(
        name=name,
        driver=driver,
        running=running,
        platforms=frozenset(platforms),
        error=error,
    )


def _failure(name: str, said: tuple[str, ...]) -> SandboxfileError:
    message = next((line for line in reversed(said) if line.strip()), "").removeprefix("ERROR: ")
    if "no builder" in message:
        return missing(name)
    return Unreachable(
        f"the builder `{name}` cannot be used: {message}", hint=f"`docker buildx inspect {name}`"
    )


def missing(name: str) -> SandboxfileError:
    return Unsupported(
        f"buildx has no builder `{name}`",
        hint=f"`docker buildx ls` lists them, `docker buildx create --name {name}` makes one",
    )


def checked(builder: Builder) -> Builder:
    """Return a builder that can build for the service. Raises Unreachable, Unsupported."""
    if not builder.is_running:
        why = f": {builder.error}" if builder.error else f" (driver {builder.driver})"
        raise Unreachable(
            f"the builder `{builder.name}` does not run{why}",
            hint=f"`docker buildx inspect {builder.name}` shows where it should",
        )
    if builder.platforms and PLATFORM not in builder.platforms:
        can = ", ".join(sorted(builder.platforms))
        raise Unsupported(
            f"the builder `{builder.name}` cannot build for {PLATFORM}, only for {can}",
            hint=f"add a node: `docker buildx create --append --name {builder.name} "
            f"--platform {PLATFORM}`",
        )
    return builder
