"""What a workspace says beside its templates: targets, engine, secrets."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar, get_args

from sandboxfile.config import addresses, caches, template, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.problems import near
from sandboxfile.config.scope import Scope, is_true, value
from sandboxfile.model import (
    LEGACY_DOMAINS,
    Api,
    Builder,
    EngineChoice,
    EngineKind,
    Provider,
    SecretSource,
    Target,
)

KEYS = ("targets", "default_target", "engine", "cache", "secrets")

# Words people try to write credentials under. They come from the environment or Docker's logins.
CREDENTIALS = (
    "password",
    "token",
    "api_key",
    "apikey",
    "access_token",
    "key",
    "secret",
    "username",
    "credentials",
    "auth",
)

_PROVIDERS: Mapping[str, Provider] = {"novita": "novita", "local": "local"}
_APIS: Mapping[str, Api] = {"v1": "v1", "v3": "v3"}
_BUILDERS: Mapping[str, Builder] = {"docker": "docker", "remote": "remote"}
_T = TypeVar("_T")
_ENGINES: Mapping[str, EngineKind] = {kind: kind for kind in get_args(EngineKind)}


# --- targets ---------------------------------------------------------------------------------


def targets(node: Node | None, scope: Scope) -> dict[str, Target]:
    """Return the targets; `local` is always there, `novita` when none is written."""
    found = {}
    for name, child in node.entries.items() if node else ():
        if scope.problems.key_fault(child, values.name(name, "target")):
            continue
        target = _target(name, child, scope)
        if target is not None:
            found[name] = target
    if not found:
        found["novita"] = Target(name="novita", provider="novita", builder="remote")
    return {**found, "local": found.get("local") or Target(name="local", provider="local")}


def default_target(node: Node | None, known: Iterable[str], scope: Scope) -> str | None:
    """Return the target that `default_target` names."""
    name = scope.text(node)
    if node is None or name is None or name in known:
        return name
    scope.problems.add(node, f"there is no target {quoted(name)}", near(name, known))
    return None


def _target(name: str, node: Node, scope: Scope) -> Target | None:
    if not isinstance(node.content, dict):
        return None
    _refuse_credentials(node, scope)
    provider = _choice(value(node, "provider"), _PROVIDERS)
    if value(node, "provider") is None:
        hint = "write `provider: novita` or `provider: local`"
        scope.problems.add_key(node, f"target `{name}` needs `provider`", hint)
    domain = scope.text(value(node, "domain"), addresses.domain)
    api_url = scope.text(value(node, "api_url"), addresses.service_url)
    registry = scope.text(value(node, "registry"), addresses.registry)
    api = _choice(value(node, "api"), _APIS) or ("v1" if domain in LEGACY_DOMAINS else "v3")
    is_here = provider == "local" or api == "v1" or registry is not None
    builder = _choice(value(node, "builder"), _BUILDERS) or ("docker" if is_here else "remote")
    default = value(node, "default")
    tags = template.tags(value(node, "tags"), scope)
    _refuse_contradictions(name, node, provider=provider, api=api, scope=scope)
    if provider is None:
        return None
    return Target(
        name=name,
        provider=provider,
        domain=domain,
        api_url=api_url.rstrip("/") if api_url else None,
        api=api,
        registry=registry,
        builder=builder,
        tags=tags,
        default=_default(default, scope),
        cache=caches.read(value(node, "cache"), scope),
        at=node.key_at,
    )


def _default(node: Node | None, scope: Scope) -> bool:
    """Return whether the tag `default` follows: it does where nothing is said."""
    return node is None or is_true(node, scope)


def _choice(node: Node | None, choices: Mapping[str, _T]) -> _T | None:
    return choices.get(node.text) if node and node.text else None


def _refuse_credentials(node: Node, scope: Scope) -> None:
    for key, child in node.entries.items():
        if key.lower().replace("-", "_") in CREDENTIALS:
            hint = "use NOVITA_API_KEY for the service and `docker login` for the registry"
            scope.problems.add_key(child, "credentials are never in this file", hint)


def _refuse_contradictions(
    name: str, node: Node, *, provider: str | None, api: str, scope: Scope
) -> None:
    if provider == "local":
        for key in ("domain", "api_url", "api", "registry"):
            if (child := value(node, key)) is not None:
                message = f"target `{name}` is local and has no `{key}`"
                scope.problems.add_key(child, message, "remove it, or write `provider: novita`")
    builder = value(node, "builder")
    if builder is None:
        return
    if builder.text == "remote" and (provider == "local" or api == "v1"):
        why = "a local target builds here" if provider == "local" else "the v1 API cannot build"
        scope.problems.add(builder, f"`remote` is not possible: {why}", "write `docker`")
    is_pushed = builder.text == "docker" and api == "v3" and provider == "novita"
    if is_pushed and value(node, "registry") is None:
        hint = "name a `registry` to push to, or write `remote`"
        scope.problems.add(builder, "`docker` needs a registry for the image", hint)


# --- engine ----------------------------------------------------------------------------------


def engine(node: Node | None, scope: Scope) -> EngineChoice:
    """Return the choice of an engine; `auto` when none is written."""
    if node is None:
        return EngineChoice()
    if isinstance(node.content, dict):
        name = scope.text(value(node, "buildx"), values.builder)
        return EngineChoice(kind="buildx", builder=name, at=node.at)
    kind = _choice(node, _ENGINES)
    if kind is None and node.text is not None:
        message = f"there is no engine {quoted(node.text)}"
        scope.problems.add(node, message, near(node.text, _ENGINES))
    return EngineChoice(kind=kind or "auto", at=node.at)


# --- secrets ---------------------------------------------------------------------------------


def secrets(node: Node | None, scope: Scope) -> dict[str, SecretSource]:
    """Return where build secrets come from; their values are read when a build needs them."""
    found = {}
    for name, child in node.entries.items() if node else ():
        if scope.problems.key_fault(child, values.secret_id(name)):
            continue
        if child.text is not None:
            hint = f"write {name}: {{env: NAME}} or {{file: PATH}}"
            scope.problems.add(child, "a secret is never in this file, only its source", hint)
        if isinstance(child.content, dict) and (source := _source(name, child, scope)):
            found[name] = source
    return found


def _source(name: str, node: Node, scope: Scope) -> SecretSource | None:
    kind = scope.one_of(node, ("env", "file"), f"secret `{name}`")
    if kind == "env":
        variable = scope.text(node.entries["env"], values.secret_variable)
        return SecretSource(id=name, env=variable, at=node.key_at) if variable else None
    if kind == "file":
        written = node.entries["file"]
        path = scope.path(written, values.path)
        file = os.path.normpath(scope.beside(written) / path) if path else None
        return SecretSource(id=name, file=Path(file), at=node.key_at) if file else None
    return None
