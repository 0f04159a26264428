"""Writes a template with the words of `novita.yaml`, as it stands once all is merged. Pure.

Paths are relative to the root of the workspace. What is not said in these words begins with `x-`,
as notes of users do: `x-at` is the place where something was written.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import assert_never

from sandboxfile.config.projects import MANIFESTS
from sandboxfile.model import (
    Account,
    Base,
    BootstrapBase,
    Copy,
    DockerfileBase,
    Env,
    ImageBase,
    Install,
    InstallProject,
    Instruction,
    Ready,
    RemoteBase,
    Run,
    Template,
    TemplateBase,
    Workdir,
)

_Written = dict[str, object]


def template(template: Template, root: Path) -> _Written:
    """Return a template in the long form, its instructions as `steps`."""
    said = {
        "base": _base(template.base, root) | {"x-at": str(template.base.at)},
        "steps": _steps(template, root),
        "user": template.user,
        "workdir": template.workdir,
        "start": template.start,
        "ready": _ready(template.ready) if template.ready else None,
        "resources": {"cpu": template.resources.cpu, "memory": template.resources.memory},
        "tags": list(template.tags),
        "pre_boot": template.pre_boot,
        "x-key": template.key,
        "x-member": template.member or ".",
        "x-matrix": dict(template.matrix),
        "x-extends": list(template.extends),
        "x-at": str(template.at),
        "x-places": {key: str(at) for key, at in template.places.items()},
    }
    return {**_given(said), "inherit": list(template.inherit)}


def briefly(base: Base) -> str:
    """Say in a few words what a template is built on."""
    match base:
        case ImageBase():
            return base.image
        case TemplateBase():
            return f"template {base.template}"
        case RemoteBase():
            return f"remote template {base.remote}"
        case DockerfileBase():
            return base.dockerfile.name + (f" ({base.stage})" if base.stage else "")
        case BootstrapBase():
            return f"{base.distribution} {base.suite}"
        case _:
            assert_never(base)


def _given(said: Mapping[str, object]) -> _Written:
    """Leave out what is not said, as people do."""
    return {key: each for key, each in said.items() if each not in (None, "", (), [], {})}


def _base(base: Base, root: Path) -> _Written:
    match base:
        case ImageBase():
            return {"image": base.image}
        case TemplateBase():
            return {"template": base.template}
        case RemoteBase():
            return {"remote": base.remote}
        case DockerfileBase():
            return _given(
                {
                    "dockerfile": _inside(base.dockerfile, root),
                    "context": _inside(base.context, root),
                    "stage": base.stage,
                    "args": dict(base.args),
                }
            )
        case BootstrapBase():
            return _given(
                {
                    base.distribution: base.suite,
                    "mirror": base.mirror,
                    "components": list(base.components),
                    "include": list(base.include),
                    "snapshot": base.snapshot,
                    "epoch": base.epoch or None,
                }
            )
        case _:
            assert_never(base)


def _inside(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _steps(template: Template, root: Path) -> list[_Written]:
    """Write the steps without those that `user` and `workdir` make by themselves."""
    instructions = template.instructions
    last = instructions[-1] if instructions else None
    if isinstance(last, Workdir) and last.path == template.workdir:
        instructions = instructions[:-1]
    written = ((step(each, root), each.at) for each in instructions)
    return [{**said, "x-at": str(at)} for said, at in written if said]


def step(instruction: Instruction, root: Path) -> _Written:
    """Return an instruction as it would be one of `steps`, empty for what no step says."""
    match instruction:
        case Env():
            return {"env": dict(instruction.values)}
        case Account():
            return {}
        case Install():
            return {instruction.manager: list(instruction.packages)}
        case InstallProject():
            return {instruction.manager: _project(instruction, root)}
        case Copy():
            return {"copy": _copy(instruction, root)}
        case Run():
            said = {"user": instruction.user, "secrets": list(instruction.secrets)}
            return {"run": instruction.command, **_given(said)}
        case Workdir():
            return {"workdir": instruction.path}
        case _:
            assert_never(instruction)


def _project(project: InstallProject, root: Path) -> _Written:
    first = _from((project.copy.sources[0],), project.copy.root, root)[0]
    if project.files[0] in MANIFESTS:
        return {"project": str(PurePosixPath(first).parent), "to": project.to}
    return {"requirements": first, "to": project.to}


def _copy(copy: Copy, root: Path) -> _Written:
    sources = _from(copy.sources, copy.root, root)
    said = {
        "owner": copy.owner,
        "mode": copy.mode,
        "ignore": list(copy.ignore),
        "allow": list(copy.allow),
    }
    return {"from": sources if len(sources) > 1 else sources[0], "to": copy.to, **_given(said)}


def _from(sources: Iterable[str], directory: Path, root: Path) -> list[str]:
    """Return paths or globs relative to the root; a slash at the end stays where it is."""
    parts = directory.relative_to(root).parts
    return [_joined(parts, source) for source in sources]


def _joined(parts: tuple[str, ...], source: str) -> str:
    while source.startswith(("./", "../")):
        parts = parts[:-1] if source.startswith("..") else parts
        source = source.partition("/")[2].lstrip("/")
    if source in {"..", ".", ""}:
        parts = parts[:-1] if source == ".." else parts
        return "/".join(parts) + "/" if parts else "."
    return "/".join((*parts, source))


def _ready(ready: Ready) -> _Written:
    said: _Written = {"x-at": str(ready.at)}
    match ready.kind:
        case "port":
            return {"port": int(ready.value), **said}
        case "delay":
            return {"delay": f"{ready.value}s", **said}
        case "url":
            return {"url": ready.value, "status": ready.status, **said}
        case _:
            return {ready.kind: ready.value, **said}
