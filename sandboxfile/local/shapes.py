"""What the local service knows, in the JSON shapes of the template API.

Numbers in brackets are sections of docs/protocol.md.
"""

from collections.abc import Iterable

from sandboxfile.local.names import NAMESPACE
from sandboxfile.local.records import (
    LEVELS,
    Assignment,
    Build,
    Entry,
    Registered,
    Template,
)
from sandboxfile.local.wire import timestamp

TEAM = "5a0d9c1e-6b7f-4c53-9d2a-0c1b2a3d4e5f"  # the one team of every local service
NO_BUILD = "00000000-0000-0000-0000-000000000000"
NEVER = "0001-01-01T00:00:00Z"
DISK_MB = 20_480  # docs/protocol.md, 6
ENVD = "local"  # no control daemon runs in local templates


def names(aliases: Iterable[str]) -> list[str]:
    return [f"{NAMESPACE}/{alias}" for alias in aliases]


def registered(made: Registered) -> dict[str, object]:
    """Return the answer of `POST /v3/templates`."""
    return {
        "templateID": made.template,
        "buildID": made.build,
        "public": made.public,
        "names": names(made.aliases),
        "aliases": list(made.aliases),
        "tags": list(made.tags),
    }


def registered_legacy(made: Registered) -> dict[str, object]:
    """Return the answer of the older registrations, most of it zero as at the service (2.3)."""
    return {
        "templateID": made.template,
        "buildID": made.build,
        "public": made.public,
        "aliases": list(made.aliases) or None,
        "names": names(made.aliases) or None,
        "cpuCount": 0,
        "memoryMB": 0,
        "diskSizeMB": 0,
        "createdAt": NEVER,
        "updatedAt": NEVER,
        "createdBy": None,
        "lastSpawnedAt": None,
        "spawnCount": 0,
        "buildCount": 0,
        "envdVersion": "",
    }


def listed(template: Template, *, metadata: bool = False) -> dict[str, object]:
    """Return a template as lists show it: by its builds under the tag `default` (2.6)."""
    build = template.current
    shape: dict[str, object] = {
        "templateID": template.id,
        "buildID": build.id if build else NO_BUILD,
        "cpuCount": build.resources.cpu if build else 0,
        "memoryMB": build.resources.memory if build else 0,
        "diskSizeMB": DISK_MB if build else 0,
        "public": template.public,
        "aliases": list(template.aliases),
        "names": names(template.aliases),
        "createdAt": timestamp(template.created),
        "updatedAt": timestamp(template.updated),
        "createdBy": None,
        "lastSpawnedAt": None,
        "spawnCount": 0,
        "buildCount": template.builds,
        "envdVersion": ENVD if build else "",
        "buildStatus": template.newest.status if template.newest else "waiting",
    }
    return {**shape, "metadata": {}} if metadata else shape


def with_builds(template: Template, builds: Iterable[Build]) -> dict[str, object]:
    return {
        "templateID": template.id,
        "public": template.public,
        "aliases": list(template.aliases),
        "names": names(template.aliases),
        "createdAt": timestamp(template.created),
        "updatedAt": timestamp(template.updated),
        "lastSpawnedAt": None,
        "spawnCount": 0,
        "builds": [_build(build) for build in builds],
    }


def _build(build: Build) -> dict[str, object]:
    shape: dict[str, object] = {
        "buildID": build.id,
        "status": build.status,
        "createdAt": timestamp(build.created),
        "updatedAt": timestamp(build.updated),
        "cpuCount": build.resources.cpu,
        "memoryMB": build.resources.memory,
    }
    if build.finished is not None:
        shape["finishedAt"] = timestamp(build.finished)
    if build.status == "ready":
        shape |= {"diskSizeMB": DISK_MB, "envdVersion": ENVD}
    return shape


def status(build: Build, entries: list[Entry]) -> dict[str, object]:
    """Return a build's state with a page of its log; `logs` for v1 builds alone (3.7)."""
    shape: dict[str, object] = {
        "templateID": build.template,
        "buildID": build.id,
        "status": build.status,
        "logs": [_line(entry) for entry in entries] if build.flow == "v1" else [],
        "logEntries": [entry_shape(entry) for entry in entries],
    }
    if build.reason is not None:
        step = build.reason.step
        bad = [e for e in entries if e.step == step and LEVELS.index(e.level) >= _WARN]
        shape["reason"] = {
            "message": build.reason.message,
            **({"step": step} if step else {}),
            "logEntries": [entry_shape(entry) for entry in bad],
        }
    return shape


_WARN = LEVELS.index("warn")


def entry_shape(entry: Entry) -> dict[str, str]:
    shape = {"timestamp": timestamp(entry.at), "message": entry.message, "level": entry.level}
    return {**shape, "step": entry.step} if entry.step else shape


def _line(entry: Entry) -> str:
    return f"[{timestamp(entry.at)}] {entry.message}\n"


def tag(assignment: Assignment) -> dict[str, str]:
    return {
        "tag": assignment.tag,
        "buildID": assignment.build,
        "createdAt": timestamp(assignment.created),
    }
