"""Docker's own clients as child processes, for builds that need a session with BuildKit.

A session brings secrets, other builders than the engine's own, and logins asked for on the way.
"""

import base64
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from sandboxfile import reading
from sandboxfile.cancel import Cancel
from sandboxfile.engines import BuildSpec, builders
from sandboxfile.engines.builders import Builder
from sandboxfile.engines.trace import Narrator, Output, Vertex
from sandboxfile.engines.transport import Address
from sandboxfile.errors import SandboxfileError, Unreachable
from sandboxfile.events import Emit
from sandboxfile.model import DIGEST
from sandboxfile.process import Command, Outcome, run
from sandboxfile.reference import DOCKER_HUB

DOCKER_HUB_KEY = "https://index.docker.io/v1/"  # what Docker's configuration calls it

BUILDKIT_CLIENT = range(18, 23)  # majors of the docker client with BuildKit built in
BOOT_S = 300.0  # a builder may have to be pulled and started
RAWJSON = (0, 13)  # the first buildx with `--progress=rawjson`
REMEDY = "install docker-buildx (the package docker-buildx or docker-buildx-plugin)"
PLUGINS = (
    "usr/local/lib/docker/cli-plugins",
    "usr/local/libexec/docker/cli-plugins",
    "usr/lib/docker/cli-plugins",
    "usr/libexec/docker/cli-plugins",
    "opt/homebrew/lib/docker/cli-plugins",
)


class Client:
    """One docker client on this machine; `builder` names a buildx builder, None the engine's."""

    def __init__(
        self,
        *,
        program: Path,
        environ: Mapping[str, str] | None = None,
        address: Address | None = None,
        builder: str | None = None,
    ) -> None:
        self.program = program
        self.environ = environ or {}
        self.address = address
        self.builder = builder

    @property
    def name(self) -> str:
        return f"docker client {self.program}"

    @cached_property
    def way(self) -> tuple[str, ...]:
        """The arguments that begin a BuildKit build with it, empty when it cannot."""
        if self.program.name == "docker-buildx":
            return ("build",) if self._said("version") else ()
        version = re.search(r"version (\d+)", self._said("--version"))
        if version and int(version[1]) in BUILDKIT_CLIENT and self.builder is None:
            return ("build",)
        return ("buildx", "build") if "buildx" in self._said("buildx", "version") else ()

    @property
    def is_buildx(self) -> bool:
        return bool(self.way) and (self.program.name == "docker-buildx" or len(self.way) > 1)

    def works(self) -> bool:
        return bool(self.way)

    def inspect(self) -> Builder:
        """Ask what the builder is; one that can be started is. Raises Unsupported, Unreachable."""
        name = self.builder or "default"
        found = builders.read(name, self._inspected(name))
        if not found.is_running and found.driver in builders.STARTED:
            found = builders.read(name, self._inspected("--bootstrap", name))
        return builders.checked(found)

    def _inspected(self, *arguments: str) -> Outcome:
        argv = (str(self.program), *self.way[:-1], "inspect", *arguments)
        return run(Command(argv=argv, env=self._environment(), remedy=REMEDY), timeout_s=BOOT_S)

    def verdict(self) -> str:
        """Return one line for `doctor`."""
        if not self.works():
            return "no BuildKit: the plug-in docker-buildx is missing"
        return "builds with secrets, " + ("by buildx" if self.is_buildx else "by itself")

    def build(self, spec: BuildSpec, *, network: str | None, emit: Emit, cancel: Cancel) -> str:
        """Build and tag an image in the engine, or push it; the digest of what was pushed.

        Raises BuildFailed, Unsupported, Unreachable, Cancelled, and what reading the context does.
        """
        raw = self.is_buildx and self._buildx_version >= RAWJSON
        narrator = Narrator(spec.job, emit, within=spec.within)
        reader = _RawReader(narrator) if raw else _PlainReader(narrator)
        from tempfile import TemporaryDirectory

        with TemporaryDirectory(prefix="sandboxfile-") as made:
            told = Path(made) / "metadata.json"
            options = (
                f"--progress={'rawjson' if raw else 'plain'}",
                *self._output(spec, network, told),
                *self._options(spec, network),
            )
            command = Command(
                argv=(str(self.program), *self.way, *options, "-"),
                env={**self._environment(), **self._logins(spec, Path(made))},
                stdin=spec.context(),
                remedy=REMEDY,
            )
            outcome = run(command, on_line=reader.line, cancel=cancel)
            if outcome.status != 0:
                raise self._failure(reader, outcome)
            digest = _pushed(told) if spec.push else ""
        narrator.close()
        return digest

    def _output(self, spec: BuildSpec, network: str | None, told: Path) -> Iterator[str]:
        """Yield where the build is made, and where its image and its layers go."""
        if self.is_buildx:
            # Attestations would make the image an index, which a template cannot start from.
            yield from ("--provenance=false", "--sbom=false")
            if not spec.push:
                yield "--load"
            yield f"--builder={self.builder or 'default'}"
        if network == "host" and self.builder:
            yield "--allow=network.host"  # which builders of their own ask for
        if spec.push:
            yield f"--output={_fields('type=image', f'name={spec.push}', 'push=true')}"
            yield f"--metadata-file={told}"
        else:
            yield f"--tag={spec.tag}"
        yield from (f"--cache-to={option}" for option in spec.cache_to)
        yield from (f"--cache-from={option}" for option in spec.cache_from)

    def _options(self, spec: BuildSpec, network: str | None) -> Iterator[str]:
        yield f"--file={spec.dockerfile}"
        yield f"--platform={spec.platform}"
        if network:
            yield f"--network={network}"
        if spec.stage:
            yield f"--target={spec.stage}"
        if spec.no_cache:
            yield "--no-cache"
        for name, value in {"SOURCE_DATE_EPOCH": "0", **spec.args}.items():
            yield f"--build-arg={name}={value}"
        for name, value in spec.labels.items():
            yield f"--label={name}={value}"
        for identifier, file in spec.secrets.items():
            yield f"--secret={_fields(f'id={identifier}', f'src={file}')}"

    def _environment(self) -> dict[str, str]:
        environment = {**self.environ, "DOCKER_BUILDKIT": "1", "BUILDX_BUILDER": ""}
        if self.address:
            tls = self.address.tls
            environment |= {
                "DOCKER_HOST": self.address.url,
                "DOCKER_CONTEXT": "",
                "DOCKER_TLS_VERIFY": "1" if tls else "",
                "DOCKER_CERT_PATH": str(tls) if tls else "",
            }
        return environment

    def _logins(self, spec: BuildSpec, directory: Path) -> Mapping[str, str]:
        """Let the client know more logins than Docker's configuration has: by a copy of that.

        An empty helper keeps it from asking the user's store for these hosts. Builders are found
        by another variable then (the plug-in's documentation, `BUILDX_CONFIG`).
        """
        if not spec.logins:
            return {}
        home = Path(self.environ.get("DOCKER_CONFIG") or f"{self.environ.get('HOME', '')}/.docker")
        try:
            known = json.loads((home / "config.json").read_bytes())
        except (OSError, ValueError):
            known = {}
        config = known if isinstance(known, dict) else {}
        auths = dict(config.get("auths") or {})
        helpers = dict(config.get("credHelpers") or {})
        for host, login in spec.logins.items():
            pair = f"{login.username}:{login.password.reveal()}"
            key = DOCKER_HUB_KEY if host == DOCKER_HUB else host
            auths[key] = {"auth": base64.b64encode(pair.encode()).decode()}
            helpers[key] = ""
        text = json.dumps({**config, "auths": auths, "credHelpers": helpers})
        (directory / "config.json").write_text(
            text, encoding="utf-8"
        )  # the directory is ours alone
        # Configuration and builders may name contexts, which the client looks for beside it.
        (directory / "contexts").symlink_to(home.absolute() / "contexts")
        buildx = self.environ.get("BUILDX_CONFIG") or str(home / "buildx")
        return {"DOCKER_CONFIG": str(directory), "BUILDX_CONFIG": buildx}

    @cached_property
    def _buildx_version(self) -> tuple[int, ...]:
        said = self._said(*self.way[:-1], "version")
        found = re.search(r"\bv?(\d+)\.(\d+)\.\d+", said)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def _said(self, *arguments: str) -> str:
        """Return what the program prints, nothing when it fails."""
        command = Command(argv=(str(self.program), *arguments), env=self._environment())
        try:
            outcome = run(command, timeout_s=10)
        except SandboxfileError:
            return ""
        return outcome.stdout if outcome.status == 0 else ""

    def _failure(self, reader: "_Reader", outcome: Outcome) -> SandboxfileError:
        message = reader.text.removeprefix("ERROR: ") or f"exit status {outcome.status}"
        if "no builder" in message:
            return builders.missing(self.builder or "default")
        if "Cannot connect to the Docker daemon" in message:
            hint = "`sandboxfile doctor` says which engine was found"
            return Unreachable(f"the container engine cannot be reached: {message}", hint=hint)
        return reader.narrator.failure(message)


def clients(
    environ: Mapping[str, str],
    address: Address | None = None,
    builder: str | None = None,
    *,
    system: Path = Path("/"),
) -> tuple[Client, ...]:
    """Return the docker clients on this machine, buildx first, without running any."""
    home = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    path = [Path(each) for each in environ.get("PATH", "").split(":") if each]
    plugins = [Path(home) / "cli-plugins", *(system / each for each in PLUGINS), *path]
    programs = [each / "docker-buildx" for each in plugins] + [each / "docker" for each in path]
    found: dict[Path, Path] = {}  # /bin may be /usr/bin: the same program is asked once
    for program in programs:
        if reading.is_file(program) and os.access(program, os.X_OK):
            found.setdefault(program.resolve(), program)
    return tuple(
        Client(program=program, environ=environ, address=address, builder=builder)
        for program in found.values()
    )


def _pushed(file: Path) -> str:
    """Return the digest of the image that was pushed, from the metadata of its build."""
    try:
        digest = json.loads(file.read_bytes())["containerimage.digest"]
    except (OSError, ValueError, KeyError, TypeError):
        digest = ""
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise Unreachable("the builder did not say which image it has pushed")
    return digest


def _fields(*values: str) -> str:
    """Write a value of several fields as the docker client reads it: a line of CSV."""
    import csv

    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


class _Reader:
    """Reads the progress of a client; `text` is the last line that was not progress."""

    def __init__(self, narrator: Narrator) -> None:
        self.narrator = narrator
        self.text = ""
        self._lock = Lock()  # lines come from two threads, one for each stream

    def line(self, line: str) -> None:
        with self._lock:
            self._line(line)

    def _line(self, line: str) -> None:
        raise NotImplementedError

    def _said(self, line: str) -> None:
        if line.strip() and not line.startswith(("---", " >")):
            self.text = line.strip()


class _RawReader(_Reader):
    """`--progress=rawjson`: JSON objects, on one line each or (buildx 0.13) on many."""

    def __init__(self, narrator: Narrator) -> None:
        super().__init__(narrator)
        self._pending: list[str] = []

    def _line(self, line: str) -> None:
        if line == "{" or self._pending:
            self._pending.append(line)
            if line != "}":
                return
            line, self._pending = "\n".join(self._pending), []
        try:
            status = json.loads(line)
        except ValueError:
            status = None
        if isinstance(status, dict):
            self._status(status)
        else:
            self._said(line)

    def _status(self, status: Mapping[str, Any]) -> None:
        for each in status.get("vertexes") or ():
            self.narrator.vertex(
                Vertex(
                    digest=str(each.get("digest")),
                    name=str(each.get("name", "")),
                    cached=bool(each.get("cached")),
                    started=_seconds(each.get("started")),
                    completed=_seconds(each.get("completed")),
                    error=str(each.get("error", "")),
                )
            )
        for each in status.get("logs") or ():
            data = base64.b64decode(each.get("data") or "")
            self.narrator.output(
                Output(vertex=str(each.get("vertex")), stream=each.get("stream", 1), data=data)
            )


def _seconds(stamp: str | None) -> float | None:
    if not stamp:
        return None
    # Nanoseconds are more digits than Python reads.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp)).timestamp()


class _PlainReader(_Reader):
    """`--progress=plain`: lines that begin with the number of their step."""

    _FORMS: tuple[tuple[str, str], ...] = (
        (r"#(\d+) (CACHED)$", "_cached"),
        (r"#(\d+) DONE ([\d.]+)s$", "_done"),
        (r"#(\d+) ERROR: (.*)$", "_failed"),
        (r"#(\d+) \d+\.\d+ (.*)$", "_output"),
        (r"#(\d+) (\[.+|exporting to .+|copy /context /)$", "_begun"),
    )

    def __init__(self, narrator: Narrator) -> None:
        super().__init__(narrator)
        self._began: dict[str, float] = {}

    def _line(self, line: str) -> None:
        for pattern, name in self._FORMS:
            if match := re.match(pattern, line):
                act: Callable[[str, str], None] = getattr(self, name)
                act(match[1], match[2])
                return
        if not re.match(r"#\d+ ", line):  # other lines of a step tell of bytes moved
            self._said(line)

    def _begun(self, number: str, name: str) -> None:
        began = self._began.setdefault(number, time.time())
        self.narrator.vertex(Vertex(digest=number, name=name, started=began))

    def _cached(self, number: str, _: str) -> None:
        self._ended(number, 0.0, cached=True)

    def _done(self, number: str, seconds: str) -> None:
        self._ended(number, float(seconds), cached=False)

    def _ended(self, number: str, seconds: float, *, cached: bool) -> None:
        began = self._began.setdefault(number, time.time())
        self.narrator.vertex(
            Vertex(digest=number, cached=cached, started=began, completed=began + seconds)
        )

    def _failed(self, number: str, error: str) -> None:
        began = self._began.setdefault(number, time.time())
        self.narrator.vertex(Vertex(digest=number, started=began, completed=began, error=error))

    def _output(self, number: str, text: str) -> None:
        self.narrator.output(Output(vertex=number, stream=1, data=text.encode() + b"\n"))
