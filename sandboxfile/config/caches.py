"""Where the layers of builds are kept for other machines (`cache`)."""

from collections.abc import Callable, Mapping
from functools import partial

from sandboxfile import buildcache
from sandboxfile.config import addresses, values
from sandboxfile.config.document import Node, quoted
from sandboxfile.config.problems import Fault, near
from sandboxfile.config.scope import Scope, value
from sandboxfile.model import BuildCache

# Fields that hold credentials, (Docker's documentation, "Cache storage backends").
_CREDENTIALS = frozenset(
    {"access_key_id", "account_key", "ghtoken", "password", "secret_access_key", "secret_key"}
    | {"session_token", "token", "username"}
)


def read(node: Node | None, scope: Scope) -> BuildCache | None:
    """Return the caches; None when none are written."""
    if node is None or not isinstance(node.content, dict):
        return None
    return BuildCache(
        to=_options(value(node, "to"), scope, partial(option, directory="dest")),
        from_=_options(value(node, "from"), scope, partial(option, directory="src")),
        at=node.at,
    )


def _options(
    node: Node | None, scope: Scope, grammar: Callable[[str], Fault | None]
) -> tuple[str, ...]:
    return scope.texts(node.items or [node], grammar) if node else ()


def option(text: str, *, directory: str) -> Fault | None:
    """Check a reference, or fields as `docker buildx build` takes them.

    `directory` is the field that names the directory of a local cache: `dest` or `src`.
    """
    if fault := values.invisible(text):
        return fault
    try:
        found = buildcache.fields(text)
    except ValueError as error:
        hint = "write `ghcr.io/acme/cache`, or `type=registry,ref=ghcr.io/acme/cache,mode=max`"
        return Fault(f"{quoted(text)} is no cache: {error}", hint)
    if secret := sorted(_CREDENTIALS & found.keys()):
        hint = "they come from `docker login` or the environment of the builder"
        return Fault(f"`{secret[0]}`: credentials are never in this file", hint, secret[0])
    kind = found.get("type", "")
    if kind not in buildcache.TYPES:
        hint = near(kind, buildcache.TYPES) or f"one of {', '.join(buildcache.TYPES)}"
        return Fault(f"{quoted(text)} has no type of cache", f"begin with `type=registry`: {hint}")
    return _whole(found, directory)


def _whole(found: Mapping[str, str], directory: str) -> Fault | None:
    if found["type"] == "registry":
        if not found.get("ref"):
            return Fault("a cache in a registry needs `ref`", "write `ref=ghcr.io/acme/cache`")
        return addresses.image(found["ref"])
    if found["type"] == "local":
        if directory not in found:
            return Fault(f"a local cache needs `{directory}`", f"write `{directory}=.cache`")
        return values.path(found[directory], 0)
    return None
