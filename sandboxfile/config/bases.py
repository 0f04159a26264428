"""What a template is built on: `base:` as one of its five kinds."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from sandboxfile.config import addresses, specifiers, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.expand import KINDS
from sandboxfile.config.problems import Fault, near
from sandboxfile.config.scope import Scope, number, value
from sandboxfile.model import (
    Base,
    BootstrapBase,
    DockerfileBase,
    ImageBase,
    RemoteBase,
    TemplateBase,
)

# Which other keys stand beside which kind.
_BESIDE: Mapping[str, tuple[str, ...]] = {
    "dockerfile": ("context", "stage", "args"),
    "debian": ("mirror", "components", "include", "snapshot", "epoch"),
    "ubuntu": ("mirror", "components", "include", "snapshot", "epoch"),
}


def read(node: Node, scope: Scope) -> Base | None:
    """Return the base; None when it is wrong, which is then among the problems."""
    if node.text is not None:
        return _image(node, node, scope)
    if not isinstance(node.content, dict):
        return None
    beside = tuple(key for keys in _BESIDE.values() for key in keys)
    kind = scope.one_of(node, KINDS[("base",)], "`base`", beside=beside)
    if kind is None:
        return None
    _refuse_strangers(node, kind, scope)
    return _READERS[kind](node.entries[kind], node, scope)


def _refuse_strangers(node: Node, kind: str, scope: Scope) -> None:
    for key, child in node.entries.items():
        homes = [f"`{home}`" for home, keys in _BESIDE.items() if key in keys]
        if homes and key not in _BESIDE.get(kind, ()):
            message = f"`{key}` belongs to {' and '.join(homes)}, not to `{kind}`"
            scope.problems.add_key(child, message, "remove it")


def _image(written: Node, node: Node, scope: Scope) -> Base | None:
    image = scope.text(written, addresses.image)
    return ImageBase(image=image, at=node.at) if image else None


def _template(written: Node, _: Node, scope: Scope) -> Base | None:
    name = scope.text(written)
    if name is None:
        return None
    found = scope.names.find(name, scope.member)
    if len(found) == 1:
        variants = next(iter(found.values()))
        chosen = variants if len(variants) == 1 else scope.alike(variants)
        if len(chosen) == 1:
            return TemplateBase(template=chosen[0], at=written.at)
        message = f"{quoted(name)} has a matrix, and a base is one template"
        scope.problems.add(written, message, f"name one of {', '.join(variants)}")
    elif found:
        message = f"{quoted(name)} stands for several templates"
        scope.problems.add(written, message, f"name one of {', '.join(found)}")
    elif scope.names.complete:
        hint = near(name, scope.names.words(name))
        scope.problems.add(written, f"there is no template {quoted(name)} here", hint)
    return None


def _remote(written: Node, _: Node, scope: Scope) -> Base | None:
    name = scope.text(written, addresses.remote)
    return RemoteBase(remote=name, at=written.at) if name else None


def _dockerfile(written: Node, node: Node, scope: Scope) -> Base | None:
    path = scope.path(written, values.path)
    stage = scope.text(value(node, "stage"), values.stage)
    args = _args(value(node, "args"), scope)
    around = value(node, "context")
    context = scope.path(around, values.path)
    if path is None:
        return None
    if PurePosixPath(path) == PurePosixPath() or path.endswith("/"):
        scope.problems.add(written, f"{quoted(path)} is a directory, not a Dockerfile")
        return None
    file = _inside(path, written, scope)
    return DockerfileBase(
        dockerfile=file,
        context=_inside(context, around, scope) if around and context else file.parent,
        stage=stage,
        args=args,
        at=written.at,
    )


def _inside(path: str, written: Node, scope: Scope) -> Path:
    """Join lexically: a link on the way is followed, or refused, where the file is read."""
    return Path(os.path.normpath(scope.beside(written) / path))


def _args(node: Node | None, scope: Scope) -> dict[str, str]:
    args = {}
    for name, child in node.entries.items() if node else ():
        if scope.problems.key_fault(child, values.argument(name)):
            continue
        text = scope.text(child, values.build_argument)
        if text is not None:
            args[name] = text
    return args


def _bootstrap(distribution: Literal["debian", "ubuntu"]) -> "_Reader":
    def read_bootstrap(written: Node, node: Node, scope: Scope) -> Base | None:
        suite = scope.text(written, values.suite)
        mirror = scope.text(value(node, "mirror"), addresses.service_url)
        components, include = value(node, "components"), value(node, "include")
        names = scope.texts(components.items, values.component) if components else ()
        packages = scope.texts(include.items, _apt) if include else ()
        snapshot = scope.text(value(node, "snapshot"), values.snapshot)
        epoch = value(node, "epoch")
        seconds = number(epoch, scope)
        if suite is None:
            return None
        return BootstrapBase(
            distribution=distribution,
            suite=suite,
            mirror=mirror,
            components=names or ("main",),
            include=packages,
            snapshot=snapshot,
            epoch=seconds or 0,
            at=written.at,
        )

    return read_bootstrap


def _apt(text: str) -> Fault | None:
    return specifiers.package("apt", text)


_Reader = Callable[[Node, Node, Scope], Base | None]
_READERS: Mapping[str, _Reader] = {
    "image": _image,
    "template": _template,
    "remote": _remote,
    "dockerfile": _dockerfile,
    "debian": _bootstrap("debian"),
    "ubuntu": _bootstrap("ubuntu"),
}
