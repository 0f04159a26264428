"""What an engine is and can do: asked once, and checked before anything is sent to it."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from sandboxfile import buildcache
from sandboxfile.engines import BuilderKind, BuildSpec, EngineInfo, Kind, Store
from sandboxfile.engines.buildx import REMEDY
from sandboxfile.engines.wire import Wire
from sandboxfile.errors import SandboxfileError, Unreachable, Unsupported
from sandboxfile.model import Feature

BUILDKIT_API = (1, 39)
UNPACKING_API = (1, 42)  # 20.10 starts itself anew for each archive
HEREDOC_MAJOR, HEREDOC_API = 23, (1, 42)  # the frontend built into 20.10 is too old
PODMAN_HEREDOC_MAJOR = 5


def probe(
    wire: Wire,
    wanted: BuilderKind | None,
    *,
    has_client: Callable[[], bool],
    has_buildx: Callable[[], bool],
    why: str,
    elsewhere: bool = False,
) -> EngineInfo:
    """Ask an engine what it is. Raises Unreachable, and Unsupported when it is of no use.

    `has_client` says whether a docker client is there for what needs a session, `has_buildx`
    whether that is docker-buildx, `elsewhere` whether it has a builder of its own build.
    """
    version = wire.probe()
    podman = any(part.get("Name") == "Podman Engine" for part in version.get("Components") or ())
    builder = wanted or ("podman" if podman else "buildkit")
    api, number = str(version["ApiVersion"]), str(version.get("Version", ""))
    if version.get("Os", "linux") != "linux":
        raise Unsupported(
            f"the engine at `{wire.address}` runs {version['Os']} containers",
            hint="switch it to Linux containers",
        )
    if builder == "buildkit" and _numbers(api) < BUILDKIT_API:
        raise Unsupported(
            f"the engine at `{wire.address}` is too old for BuildKit (API {api})",
            hint="use Docker Engine 20.10 or newer",
        )
    kind: Kind = "podman" if podman else "buildx" if builder == "buildx" else "docker"

    @cache
    def keeps() -> Store:  # what takes an engine longest to say, and few want to know
        return _store(wire.ask("GET", "/info") or {})

    def exports() -> bool:
        return elsewhere or keeps() == "containerd"

    return EngineInfo(
        kind=kind,
        builder=builder,
        version=number,
        api=api,
        keeps=keeps,
        alone=frozenset(_features(builder, number, api)),
        helped=lambda: frozenset(_helped(builder, has_client, has_buildx, exports=exports)),
        address=str(wire.address),
        why=why,
        elsewhere=elsewhere,
        starts_to_unpack=builder == "buildkit" and _numbers(api) < UNPACKING_API,
    )


def _features(builder: BuilderKind, version: str, api: str) -> Iterator[Feature]:
    yield "load"
    if builder != "podman":
        yield "cancel"
    if builder == "classic":
        return
    yield "cache_mounts"
    if _heredoc(builder, version, api):
        yield "heredoc"


def _helped(
    builder: BuilderKind,
    has_client: Callable[[], bool],
    has_buildx: Callable[[], bool],
    *,
    exports: Callable[[], bool],
) -> Iterator[Feature]:
    if builder == "buildx" or (builder == "buildkit" and has_client()):
        yield "secrets"
    if builder == "buildx" or (builder == "buildkit" and has_buildx()):
        yield "cache_import"
        if exports():
            yield "cache_export"


def _heredoc(builder: BuilderKind, version: str, api: str) -> bool:
    major = _numbers(version)[:1]
    if builder == "podman":
        return major >= (PODMAN_HEREDOC_MAJOR,)
    return major >= (HEREDOC_MAJOR,) if major else _numbers(api) >= HEREDOC_API


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _store(system: Mapping[str, Any]) -> Store:
    status = system.get("DriverStatus") or ()
    if any(list(pair)[:2] == ["driver-type", "io.containerd.snapshotter.v1"] for pair in status):
        return "containerd"
    return "overlay" if str(system.get("Driver", "")).startswith("overlay") else "unknown"


def refuse(spec: BuildSpec, info: EngineInfo) -> None:
    """Raise Unsupported or Unreachable when the engine cannot do what the build needs."""
    needs: set[Feature] = set(spec.needs)
    if spec.secrets:
        needs.add("secrets")
    if spec.cache_from or spec.cache_to:
        needs.add("cache_import")
    if not all(map(buildcache.is_inline, spec.cache_to)):
        needs.add("cache_export")
    if needs <= info.alone:
        return  # and no docker client is started
    for need in sorted(needs - info.can, reverse=True):  # importing a cache, then exporting
        raise lack(need, info)


def no_buildx(who: str) -> Unreachable:
    """Return the error for what needs the client's plugin where that is not installed."""
    return Unreachable(f"{who} needs docker-buildx, which is not installed", hint=REMEDY)


def lack(need: Feature, info: EngineInfo) -> SandboxfileError:
    """Return the error for what an engine cannot do."""
    what, remedy = _LACKS[need]
    if need in _BY_BUILDX and info.builder == "buildkit":
        return no_buildx(_BY_BUILDX[need])
    if info.kind == "podman":
        remedy = "use Docker Engine"
    return Unsupported(
        f"{what}, which {info.kind} {info.version} ({info.builder}) cannot do", hint=remedy
    )


_BY_BUILDX: Mapping[Feature, str] = {
    "cache_import": "a cache of the build (`cache`)",
    "secrets": "a secret of the build",
}
_LACKS: Mapping[Feature, tuple[str, str]] = {
    "heredoc": (
        "the Dockerfile uses here-documents",
        "use Docker Engine 23 or newer, or write `RUN` with `&&`",
    ),
    "secrets": (
        "the build uses secrets",
        REMEDY,
    ),
    "cache_mounts": (
        "the build uses cache mounts",
        "use BuildKit: `engine: docker` instead of `classic`",
    ),
    "cache_export": (
        "the build writes its layers to a cache (`cache.to`)",
        "use a builder of its own (`engine: {buildx: NAME}`, made by `docker buildx create`)",
    ),
    "cache_import": (
        "the build uses a cache (`cache`)",
        "use BuildKit: `engine: docker`, or `engine: {buildx: NAME}`",
    ),
    "cancel": ("the build must be stoppable", "use Docker Engine"),
    "load": ("the image must be in the engine", "use Docker Engine"),
}
