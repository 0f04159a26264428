"""The nouns: what a `novita.yaml` means once read, merged and checked. Frozen, no I/O."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sandboxfile.frozen import dataclass, field
from sandboxfile.patterns import regex
from sandboxfile.places import Position

PLATFORM = "linux/amd64"  # the service boots nothing else (docs/protocol.md, 3.10)

# What a Dockerfile may need of the engine that builds it.
Feature = Literal[
    "secrets", "cache_import", "cache_export", "cancel", "heredoc", "cache_mounts", "load"
]

Manager = Literal["apt", "pip", "npm", "uv", "bun"]


# --- bases -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBase:
    """A container image at a registry, or only in the engine."""

    image: str
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateBase:
    """Another template of this workspace: an edge of the graph."""

    template: str
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBase:
    """A template that exists at the target, `name` or `name:tag`; never built by us."""

    remote: str
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerfileBase:
    """The user's own Dockerfile; paths are absolute."""

    dockerfile: Path
    context: Path
    stage: str | None = None
    args: Mapping[str, str] = field(default_factory=dict)
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapBase:
    """A minimal root filesystem made from a distribution's own packages by mmdebstrap.

    `snapshot` is a timestamp of the distribution's snapshot archive (YYYYMMDDTHHMMSSZ),
    `epoch` the SOURCE_DATE_EPOCH in seconds; with either the archive is the same byte for byte.
    """

    distribution: Literal["debian", "ubuntu"]
    suite: str
    mirror: str | None = None
    components: tuple[str, ...] = ("main",)
    include: tuple[str, ...] = ()
    snapshot: str | None = None
    epoch: int = 0
    at: Position


Base = ImageBase | TemplateBase | RemoteBase | DockerfileBase | BootstrapBase


# --- instructions ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    """Environment variables, in written order; also there at run time in a sandbox."""

    values: Mapping[str, str]
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Make sure that a user (and its group and home) exists in the image."""

    user: str
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Packages by name: `apt`, `pip`, `npm` (global), `uv` (system), `bun` (global)."""

    manager: Manager
    packages: tuple[str, ...]
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Files of the workspace into the image.

    `root` is the directory of the file that states the copy (absolute): `sources` are paths or
    globs relative to it, and its `.dockerignore` applies. `mode` is octal digits or None. `allow`
    has patterns of files that may be sent away although they look like secrets.
    """

    sources: tuple[str, ...]
    to: str
    root: Path
    owner: str | None = None
    mode: str | None = None
    ignore: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallProject:
    """Packages listed by the project's own files, in the frozen form when a lock is there.

    pip: `requirements` file, or a project directory's pyproject.toml; npm, bun, uv: `project`,
    a directory whose manifest and lock are copied to `to` and installed there. `copy` brings
    exactly these files; `locked` says that a lock file is among them.
    """

    manager: Manager
    copy: Copy
    files: tuple[str, ...]
    locked: bool
    to: str
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A shell script, as `user` (root when None), with BuildKit secrets mounted by id."""

    command: str
    user: str | None = None
    secrets: tuple[str, ...] = ()
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir:
    """The working directory of what follows; created if missing, owned by `owner`."""

    path: str
    owner: str | None = None
    at: Position


Instruction = Env | Account | Install | InstallProject | Copy | Run | Workdir


# --- the template ----------------------------------------------------------------------------

# What a template takes over from its image unless it says so itself (key `inherit`).
Inherit = Literal["start", "user", "workdir"]
INHERIT: tuple[Inherit, ...] = ("start", "user", "workdir")

EngineKind = Literal["auto", "docker", "buildx", "podman", "classic"]
ReadyKind = Literal["command", "url", "port", "file", "process", "delay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """When a started template counts as ready.

    `value` is the command, the URL, the port, the path, the process name, or the delay in
    seconds, by `kind`; `status` the HTTP status that `url` waits for.
    """

    kind: ReadyKind
    value: str
    status: int = 200
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """CPU count and memory in MiB of the machine; the service's defaults are 2 and 1024."""

    cpu: int = 2
    memory: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template, merged and checked; `places` says where each top-level key was written.

    `inherit` names what it takes over from its image where it says nothing itself, sorted.
    `name` is what it is published as, unique in the workspace. `key` is what its file calls it
    (the variants of a matrix share one), `member` the directory of that file relative to the
    root, `""` for the root itself. `matrix` has the values that make this variant, `extends` the
    names of the templates whose configuration it takes over. None of these is in any key.
    """

    name: str
    base: Base
    instructions: tuple[Instruction, ...]
    user: str | None
    workdir: str | None
    start: str | None
    ready: Ready | None
    resources: Resources
    tags: tuple[str, ...]
    pre_boot: str | None
    inherit: tuple[Inherit, ...] = INHERIT
    at: Position
    places: Mapping[str, Position] = field(default_factory=dict)
    key: str = ""
    member: str = ""
    matrix: Mapping[str, str] = field(default_factory=dict)
    extends: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Return `path:name`, which names it wherever its short name is not enough."""
        return f"{self.member}:{self.name}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that its commands are given."""
        commands = (each for each in self.instructions if isinstance(each, Run))
        return tuple(name for command in commands for name in command.secrets)

    def place(self, key: str) -> Position:
        """Return where `key` of this template was written, else where the template was."""
        return self.places.get(key, self.at)


# --- targets ---------------------------------------------------------------------------------

Provider = Literal["novita", "local"]
Api = Literal["v1", "v3"]
Builder = Literal["docker", "remote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCache:
    """Where BuildKit writes the layers of builds `to` and takes them `from_`; in no key.

    References of a registry, or fields as `docker buildx build --cache-to` takes them.
    """

    to: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    at: Position | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where templates are published.

    `api_url` has no trailing slash; `registry` is `host[:port]/repository` without a tag, in
    which images are pushed as `<registry>/<template>`. `default` also moves the tag `default`.
    `cache` stands for that of the workspace.
    """

    name: str
    provider: Provider
    domain: str | None = None
    api_url: str | None = None
    api: Api = "v3"
    registry: str | None = None
    builder: Builder = "docker"
    tags: tuple[str, ...] = ()
    default: bool = True
    cache: BuildCache | None = None
    at: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """Which engine the workspace asks for: `kind` as in `engine:`, `builder` names a buildx one.

    `at` is where it asks for it, None if something else does.
    """

    kind: EngineKind = "auto"
    builder: str | None = None
    at: Position | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """Where a build secret's value comes from at build time; the value itself is never kept."""

    id: str
    env: str | None = None
    file: Path | None = None
    at: Position | None = field(default=None, compare=False)


DEFAULT_GROUP = "default"  # what is meant when no template is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Everything a `novita.yaml` and its members say; `root` is its directory (absolute).

    `groups` have the names of their templates. `files` are the configuration files that were
    read, `looked_at` all paths whose `lstat` must stay for the same files to be read again,
    `environment` the variables of the environment that may change a value.
    """

    root: Path
    file: Path
    templates: Mapping[str, Template]
    targets: Mapping[str, Target]
    default_target: str | None = None
    engine: EngineChoice = field(default_factory=EngineChoice)
    cache: BuildCache | None = None
    secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    looked_at: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


# --- what is resolved and known about content ------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedBase:
    """A base as the build uses it.

    `reference` is what `FROM` names (`repo@sha256:…`, or a tag in the engine), `digest` what the
    key contains (`sha256:…`), `local` that it exists in this engine only and cannot be pulled.
    """

    reference: str
    digest: str
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says of itself (OCI image specification, image configuration).

    `commands` is the history, oldest first: what each layer was made by, as far as it is told;
    `ports`, `volumes` and `commands` are empty where the image, or who tells of it, has none.
    `shell` is what carries out commands in shell form, `on_build` the instructions that a
    Dockerfile based on the image begins with.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    has_healthcheck: bool = False
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that must not be shown: no repr, no str; `reveal` it only where it is sent."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


# The user name under which credential helpers hand out an identity token instead of a password
# (docker-credential-helpers, "The credential helper protocol").
TOKEN_USER = "<token>"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """User and password for one registry; an identity token has the user `<token>`."""

    username: str
    password: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsCredentials:
    """An access key for Amazon's registries (ECR)."""

    access_key_id: str
    secret_access_key: Secret
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpCredentials:
    """A service account for Google's registries: the JSON of its key file."""

    service_account: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class OciCredentials:
    """An API key for Oracle's registry (OCIR); `private_key` is PEM without a pass phrase."""

    tenancy: str
    user: str
    fingerprint: str
    private_key: Secret
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HuaweiCredentials:
    """An access key for Huawei's registry (SWR)."""

    access_key_id: str
    secret_access_key: Secret
    region: str


# What a service may be given to pull an image with (docs/protocol.md, 3.6).
RegistryCredentials = Login | AwsCredentials | GcpCredentials | OciCredentials | HuaweiCredentials


# Domains that speak only the v1 flow (docs/protocol.md, 1.1).
LEGACY_DOMAINS = frozenset(
    {
        "sandbox.novita.ai",
        "us-01.sandbox.novita.ai",
        "us-ga-01.sandbox.novita.ai",
        "us-ga-1.sandbox.novita.ai",
        "sandbox-dev.novita.ai",
        "us-01.sandbox-dev.novita.ai",
        "us-ga-01.sandbox-dev.novita.ai",
        "us-ca-1.sandbox-dev.novita.ai",
    }
)

NAME = regex(r"[a-z0-9][a-z0-9_-]{0,127}")
TAG = regex(r"[a-z0-9._-]{1,128}")
UUID = regex(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
DIGEST = regex(r"sha256:[0-9a-f]{64}")
VARIABLE = regex(r"[A-Za-z_][A-Za-z0-9_]*")  # as shells can have it (POSIX, 2.5)
