"""What the local template service remembers: templates, builds, tags, log entries, as values."""

from collections.abc import Mapping
from typing import Literal

from sandboxfile.frozen import dataclass, field
from sandboxfile.local.names import Name
from sandboxfile.model import Login, Resources

Status = Literal["waiting", "building", "ready", "error"]
Level = Literal["debug", "info", "warn", "error"]
Flow = Literal["v1", "v2"]  # v1: image pushed here, answers carry `logs`; v2: the current flow

LEVELS: tuple[Level, ...] = ("debug", "info", "warn", "error")


class Refusal(Exception):  # noqa: N818 - an answer of the service, not a defect of ours
    """A request that the service declines: an HTTP status and the text of its answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Failed(Exception):  # noqa: N818 - named for what it says
    """The end of a build, in the service's words (docs/protocol.md, 5.7); `lines` explain it."""

    def __init__(self, message: str, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A build to be registered.

    `template` is the id to rebuild (v1 only); then a name renames that template.
    """

    flow: Flow
    name: Name | None
    tags: tuple[str, ...]
    resources: Resources
    template: str | None = None
    start: str = ""
    ready: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What registration answers with."""

    template: str
    build: str
    public: bool
    aliases: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a build failed; `step` is `base`, `finalize`, a number from 1, or None."""

    message: str
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What later commands run in: user, directory (None: the user's home), variables."""

    user: str
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A step that was carried out; `image` is the engine's id, None for a quick step."""

    key: str
    image: str | None
    setting: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished template: its image in the engine and how it is to be started.

    `setting` is what it starts in and what templates upon it begin with; `user` and `workdir` are
    what commands of a sandbox run in, where that is something else (older clients).
    """

    image: str
    setting: Setting
    start: str
    ready: str
    user: str = ""
    workdir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build of a template; times are microseconds since 1970, UTC."""

    id: str
    template: str
    flow: Flow
    status: Status
    resources: Resources
    start: str
    ready: str
    created: int
    updated: int
    finished: int | None
    reason: Reason | None
    result: Result | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template; `current` is the newest ready build tagged `default`, `newest` the newest."""

    id: str
    public: bool
    aliases: tuple[str, ...]
    created: int
    updated: int
    builds: int
    current: Build | None = None
    newest: Build | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The newest assignment of a tag, whatever the state of its build."""

    tag: str
    build: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a build's log; `at` in microseconds since 1970, UTC."""

    at: int
    level: Level
    message: str
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One build step as requested; `type` in upper case."""

    type: str
    args: tuple[str, ...]
    files_hash: str | None = None
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What came as `fromImageRegistry`; `login` is None for kinds that we cannot use."""

    kind: str
    login: Login | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a trigger asks for; kept in memory alone, for it may hold a password.

    Exactly one of `image`, `template` is not None; an empty `image` stands for what was pushed
    for this build (v1). `start` and `ready` are None where the request had none. `as_root` are the
    steps of older clients; `force` builds everything anew.
    """

    image: str | None = None
    template: str | None = None
    credentials: Credentials | None = None
    steps: tuple[Step, ...] = ()
    start: str | None = None
    ready: str | None = None
    pre_boot: str = ""
    as_root: bool = False
    force: bool = False
