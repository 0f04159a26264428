"""Which engine to use: what was asked for, then what is found; everything tried is remembered."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args
from urllib.parse import SplitResult, urlsplit

from sandboxfile import reading
from sandboxfile.engines import BuilderKind, Engine, EngineInfo, probe
from sandboxfile.engines.buildx import clients
from sandboxfile.engines.docker import DockerEngine
from sandboxfile.engines.transport import Address
from sandboxfile.errors import SandboxfileError, Unreachable, UsageError
from sandboxfile.frozen import dataclass
from sandboxfile.loopback import is_loopback
from sandboxfile.model import EngineChoice, EngineKind

KINDS: tuple[EngineKind, ...] = get_args(EngineKind)
SYSTEM = Path("/")
INSTALL = (
    "install Docker Engine (Debian: `sudo apt-get install docker.io`) and start it, or set"
    " DOCKER_HOST to one that runs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """One place where an engine could be: either it is there, or why it cannot be used."""

    what: str
    verdict: str = ""
    engine: DockerEngine | None = None
    error: SandboxfileError | None = None


def choose(
    choice: EngineChoice,
    *,
    environ: Mapping[str, str],
    network: str | None,
    system: Path = SYSTEM,
) -> Engine:
    """Return the engine that was asked for, else the first that answers.

    The order: `choice`, SANDBOXFILE_ENGINE, DOCKER_HOST, the docker client's context, the usual
    sockets of Docker and of Podman (below `system` and the user's directories). Raises Unreachable
    with everything that was tried, UsageError for a wrong SANDBOXFILE_ENGINE.
    """
    tried = []
    for each in _tried(choice, environ, network, system):
        if each.engine:
            return each.engine
        tried.append(each)
    raise _nothing_found(tried)


def describe(
    choice: EngineChoice,
    *,
    environ: Mapping[str, str],
    network: str | None = None,
    system: Path = SYSTEM,
) -> tuple[tuple[str, str], ...]:
    """Return (what, verdict) of every place where an engine could be, for `doctor`."""
    told = []
    chosen = False
    for each in _tried(choice, environ, network, system):
        verdict = each.verdict
        if each.engine:
            verdict = f"{'works too' if chosen else 'chosen'}: {summary(each.engine.info())}"
            chosen = True
            each.engine.close()
        told.append((each.what, verdict))
    told += [(client.name, client.verdict()) for client in clients(environ, system=system)]
    return tuple(told)


def summary(info: EngineInfo) -> str:
    """Return one line on an engine: what it is, how it builds, what it can do."""
    can = ", ".join(sorted(info.can)).replace("_", " ")
    return f"{info.kind} {info.version}, API {info.api}, builds by {info.builder}; can: {can}"


def _tried(
    choice: EngineChoice, environ: Mapping[str, str], network: str | None, system: Path
) -> Iterator[_Tried]:
    wanted = asked(choice, environ)
    builders: dict[str, BuilderKind | None] = {
        "auto": None, "docker": "buildkit", "buildx": "buildx", "classic": "classic",
        "podman": "podman",
    }  # fmt: skip
    for place in _places(environ, wanted.kind, system):
        if isinstance(place, _Tried):
            yield place
            continue
        engine = None
        found = clients(environ, place, wanted.builder, system=system)
        try:
            if wanted.builder and not any(client.is_buildx for client in found):
                raise probe.no_buildx(f"the builder `{wanted.builder}`")
            engine = DockerEngine(
                place,
                builder=builders[wanted.kind],
                network=network,
                clients=found,
                why=f"{place.source}: {place.url}",
            )
            info = engine.info()
            if wanted.kind != "auto" and (wanted.kind == "podman") != (info.kind == "podman"):
                raise SandboxfileError(  # noqa: TRY301
                    f"it is {info.kind} {info.version}, and `{wanted.kind}` was asked for"
                )
        except SandboxfileError as error:
            if engine:
                engine.close()
            error.at = error.at or (wanted.at if wanted.builder else None)
            yield _Tried(what=_what(place), verdict=error.message, error=error)
        else:
            yield _Tried(what=_what(place), engine=engine)


def _what(place: Address) -> str:
    return f"{place.source} ({place.url})"


def asked(choice: EngineChoice, environ: Mapping[str, str]) -> EngineChoice:
    """Return the choice, else what SANDBOXFILE_ENGINE says. Raises UsageError."""
    named = environ.get("SANDBOXFILE_ENGINE", "")
    if choice.kind != "auto" or not named:
        return choice
    kind, _, builder = named.partition(":")
    for known in KINDS:
        if kind == known and (not builder or kind == "buildx"):
            return EngineChoice(kind=known, builder=builder or None)
    raise UsageError(
        f"SANDBOXFILE_ENGINE is `{named}`, which is no engine",
        hint=f"one of {', '.join(KINDS)}, or `buildx:NAME`",
    )


def _places(environ: Mapping[str, str], kind: str, system: Path) -> Iterator[Address | _Tried]:
    """Yield where to look; a place that somebody named is the only one."""
    try:
        named = _named(environ)
    except SandboxfileError as error:
        yield _Tried(what="the address of the engine", verdict=error.message, error=error)
        return
    if named:
        yield named
        return
    for source, socket in _sockets(environ, kind, system):
        if reading.exists(socket):
            yield Address(url=f"unix://{socket}", source=source)
        else:
            yield _Tried(what=f"{source} (unix://{socket})", verdict="no such socket")


def _sockets(environ: Mapping[str, str], kind: str, system: Path) -> Iterator[tuple[str, Path]]:
    home, runtime = environ.get("HOME"), environ.get("XDG_RUNTIME_DIR")
    if kind != "podman":
        yield "Docker's usual socket", system / "var/run/docker.sock"
        if runtime:
            yield "rootless Docker", Path(runtime) / "docker.sock"
        if home:
            yield "Docker Desktop", Path(home) / ".docker/run/docker.sock"
            yield "Docker Desktop", Path(home) / ".docker/desktop/docker.sock"
    if kind in {"auto", "podman"}:
        if runtime:
            yield "rootless Podman", Path(runtime) / "podman/podman.sock"
        yield "Podman", system / "run/podman/podman.sock"


def _nothing_found(tried: list[_Tried]) -> Unreachable:
    errors = [each.error for each in tried if each.error]
    if len(tried) == 1 and errors:
        return Unreachable(errors[0].message, hint=errors[0].hint, at=errors[0].at)
    lines = [f"  {each.what}: {each.verdict}" for each in tried]
    hint = next((error.hint for error in errors if error.hint), INSTALL)
    return Unreachable("\n".join(["no container engine was found; tried:", *lines]), hint=hint)


# --- what the environment and the docker client's configuration name --------------------------


def _named(environ: Mapping[str, str]) -> Address | None:
    """Return the address that DOCKER_HOST or the docker client's context names."""
    if host := environ.get("DOCKER_HOST"):
        return checked(Address(url=host, source="DOCKER_HOST", tls=_tls(environ)))
    name, source = environ.get("DOCKER_CONTEXT", ""), "DOCKER_CONTEXT"
    directory = _configuration(environ)
    if not name and directory:
        name, source = _current_context(directory), f"context of {directory / 'config.json'}"
    if not name or name == "default" or directory is None:
        return None
    return checked(_context(directory, name, source))


def _tls(environ: Mapping[str, str]) -> Path | None:
    if not environ.get("DOCKER_TLS_VERIFY"):
        return None
    given = environ.get("DOCKER_CERT_PATH")
    return Path(given) if given else _configuration(environ)


def _configuration(environ: Mapping[str, str]) -> Path | None:
    if given := environ.get("DOCKER_CONFIG"):
        return Path(given)
    home = environ.get("HOME")
    return Path(home) / ".docker" if home else None


def _current_context(directory: Path) -> str:
    try:
        content = json.loads((directory / "config.json").read_bytes())
        name = content.get("currentContext", "")
    except (OSError, ValueError, AttributeError):
        return ""  # no configuration, or none that the docker client would follow either
    return name if isinstance(name, str) else ""


def _context(directory: Path, name: str, source: str) -> Address:
    """Read a context as the docker client stores it: below the SHA-256 of its name."""
    stored = hashlib.sha256(name.encode()).hexdigest()
    file = directory / "contexts" / "meta" / stored / "meta.json"
    try:
        host = json.loads(file.read_bytes())["Endpoints"]["docker"]["Host"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unreachable(
            f"the docker context `{name}` (named by {source}) cannot be read",
            hint="`docker context ls` lists those there are; `docker context use default`",
        ) from error
    tls = directory / "contexts" / "tls" / stored / "docker"
    return Address(
        url=str(host),
        source=f"docker context `{name}`",
        tls=tls if reading.is_file(tls / "ca.pem") else None,
    )


def checked(address: Address) -> Address:
    """Return an address that is safe to talk to. Raises Unreachable."""
    if address.socket and "\0" not in address.socket:
        return address
    parts = _split(address.url)
    named = f"{address.source} is `{address.url}`"
    if parts.scheme == "ssh":
        raise Unreachable(
            f"{named}: engines by ssh are reached through a forwarded socket",
            hint=f"`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock {parts.netloc}`, then"
            " DOCKER_HOST=unix:///tmp/docker.sock",
        )
    if "@" in parts.netloc:  # a password, perhaps: it is not shown
        raise Unreachable(
            f"{address.source} names a user, which an engine does not ask for",
            hint="leave out what is before the `@`; TLS certificates say who you are",
        )
    if parts.scheme not in {"tcp", "http", "https"} or not parts.hostname:
        raise Unreachable(
            f"{named}, which is no address of an engine",
            hint="write it as unix:///var/run/docker.sock or tcp://host:2376",
        )
    if address.tls is None and not is_loopback(parts.hostname):
        raise Unreachable(
            f"{named} without TLS: anybody on the way could change what is built",
            hint="set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or forward the socket by ssh",
        )
    return address


def _split(url: str) -> SplitResult:
    """Take an address apart; nothing is in what is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        return urlsplit("")
    return parts
