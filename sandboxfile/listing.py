"""What a template service lists: templates, and the builds of one (docs/protocol.md, 2.6)."""

from collections.abc import Mapping
from typing import Literal

from sandboxfile import answers
from sandboxfile.frozen import dataclass
from sandboxfile.model import UUID
from sandboxfile.web import Reply

State = Literal["waiting", "building", "ready", "error"]
NO_BUILD = "00000000-0000-0000-0000-000000000000"  # of a template that has nothing by default


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTemplate:
    """A template in a list; `build_id` is what its bare name stands for, empty if nothing.

    `names` are without the team's. Sizes are MiB, 0 where the service does not say. Times are
    as the service wrote them.
    """

    template_id: str
    names: tuple[str, ...]
    build_id: str = ""
    state: str = ""
    cpu: int = 0
    memory: int = 0
    disk: int = 0
    builds: int = 0
    public: bool = False
    created: str = ""
    updated: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBuild:
    """A build of a template; `finished` is empty while it is under way."""

    build_id: str
    state: State
    created: str = ""
    finished: str = ""
    cpu: int = 0
    memory: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateBuilds:
    """A template of ours with its builds, the newest first."""

    template_id: str
    names: tuple[str, ...]
    builds: tuple[ListedBuild, ...]


def state(text: str) -> State:
    """Return a build's state; what came after us is not final, so it counts as building."""
    match text.lower():
        case "waiting" | "ready" | "error" as known:
            return known
        case "uploaded":  # how the legacy line calls what is ready
            return "ready"
        case "failed":
            return "error"
        case _:
            return "building"


def templates(reply: Reply, rows: object) -> list[ListedTemplate]:
    """Read a page of templates. Raises Unreachable when it is none."""
    return [_template(reply, answers.mapping(reply, row)) for row in answers.array(reply, rows)]


def builds(reply: Reply) -> TemplateBuilds:
    """Read a template with a page of its builds. Raises Unreachable when it is none."""
    answer = answers.fields(reply)
    rows = answers.array(reply, answer.get("builds") or [])
    return TemplateBuilds(
        template_id=answers.template_id(reply, answer),
        names=names(reply, answer),
        builds=tuple(_build(reply, answers.mapping(reply, row)) for row in rows),
    )


def names(reply: Reply, row: Mapping[str, object]) -> tuple[str, ...]:
    """Return a template's names without that of its team, each once."""
    given = [
        *answers.array(reply, row.get("aliases") or []),
        *answers.array(reply, row.get("names") or []),
    ]
    bare = [answers.clean(name).rpartition("/")[2] for name in given]
    return tuple(dict.fromkeys(name for name in bare if name))


def _template(reply: Reply, row: Mapping[str, object]) -> ListedTemplate:
    build = answers.clean(row.get("buildID"))
    return ListedTemplate(
        template_id=answers.template_id(reply, row),
        names=names(reply, row),
        build_id=build if UUID.fullmatch(build) and build != NO_BUILD else "",
        state=answers.clean(row.get("buildStatus")),
        cpu=_number(row, "cpuCount"),
        memory=_number(row, "memoryMB"),
        disk=_number(row, "diskSizeMB"),
        builds=_number(row, "buildCount"),
        public=row.get("public") is True,
        created=answers.clean(row.get("createdAt")),
        updated=answers.clean(row.get("updatedAt")),
    )


def _build(reply: Reply, row: Mapping[str, object]) -> ListedBuild:
    return ListedBuild(
        build_id=answers.build_id(reply, row),
        state=state(answers.text(reply, row, "status")),
        created=answers.clean(row.get("createdAt")),
        finished=answers.clean(row.get("finishedAt")),
        cpu=_number(row, "cpuCount"),
        memory=_number(row, "memoryMB"),
        disk=_number(row, "diskSizeMB"),
    )


def _number(row: Mapping[str, object], name: str) -> int:
    value = row.get(name)
    return value if type(value) is int and value > 0 else 0
