"""Imports point downwards, and only the named modules open each door."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "sandboxfile"
LAYERS = (
    ("frozen", "counts", "patterns"),
    ("collector", "several", "places", "fresh", "reading", "writing", "schedule", "ahead"),
    ("errors", "events", "flock", "loopback", "model", "settled", "looks", "gitattributes"),
    ("cancel", "redact", "drawing", "proxies", "commandline"),
    ("logs",),
    (
        "process",
        "web",
        "statcache",
        "graph",
        "reference",
        "ready",
        "turns",
        "once",
        "tags",
        "durations",
        "failures",
    ),
    ("headstart",),
    ("answers", "completing", "contents", "moves", "journal", "timeline", "records"),
    ("listing", "imageconfig", "inherit", "distribution", "declined", "triggers"),
    ("buildstatus",),
    ("ignore", "credentials", "git", "pulling", "scripts", "entries", "buildcache"),
    ("lockcheck", "gitindex"),
    ("locktext", "lockmerge", "leftovers", "gathering", "blobs"),
    ("config", "context", "console", "environment"),
    (
        "archive",
        "keys",
        "dockerfile",
        "lockfile",
        "secretfiles",
        "dockerfiletext",
        "expansion",
        "steps",
        "summary",
        "logfiles",
    ),
    ("copied", "committed"),
    (
        "userdockerfile",
        "packs",
        "recall",
        "prefetch",
        "uploads",
        "releases",
        "screens",
        "chrometrace",
        "lockwriter",
    ),
    ("translation", "livetable", "registryanswers"),
    ("registryaccess",),
    ("manifests", "plan", "fidelity", "engines", "registry", "service", "bootstrap", "report"),
    ("lock", "local", "taking", "results"),
    ("pins", "surveyed"),
    ("survey", "importing", "imagetags"),
    ("targets", "resolve", "account", "choosing", "configs", "changes", "estimate", "sharding"),
    ("recipes", "images"),
    ("pipeline",),
    ("app",),
    ("show", "parts"),
    ("beginning", "opening", "selection", "builds", "buildlog"),
    ("asking",),
    ("planning", "releasing"),
    ("inventory", "drift", "remembering", "upgrades"),
    ("pruning", "catalogue"),
    ("running",),
    ("commands",),
    ("main",),
    ("entry",),
    ("__main__",),
)
DOORS = {
    "subprocess": {"process"},
    "doit": {"graph"},
    "yaml": {"config.parser"},
    "httpx": {"web"},
    "docker": {"engines.sdk"},
    "requests": {"engines.sdk"},
    "urllib3": {"engines.sdk"},
    "fcntl": {"flock", "local.presence", "local.database"},
    "structlog": {"logs"},
    "rich": {"livetable"},
    "http.server": {"local.server"},
    "sqlite3": {"local.claims", "local.database", "local.rows", "local.store"},
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name not in {"__init__", "config"}:
            found.append((name, path))
    return found


def layer(name: str) -> int:
    """Return the row of the longest known name that `name` is or lies in."""
    known = {each: depth for depth, names in enumerate(LAYERS) for each in names}
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:length])) in known:
            return known[prefix]
    pytest.fail(f"{name} has no layer: add it to LAYERS")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, without the names taken from them."""
    known = {name for name, _ in modules()}
    for target in imports(path):
        inner = target.removeprefix("sandboxfile.")
        if inner != target:
            yield inner if inner in known else inner.rpartition(".")[0]


@pytest.mark.parametrize(("name", "path"), modules())
def test_every_module_has_a_layer(name: str, path: Path) -> None:
    assert path.exists()
    assert layer(name) >= 0


@pytest.mark.parametrize(("name", "path"), modules())
def test_imports_point_downwards(name: str, path: Path) -> None:
    for inner in filter(None, ours(path)):
        same_room = inner.partition(".")[0] == name.partition(".")[0]
        assert same_room or layer(inner) < layer(name), f"{name} imports {inner}"


@pytest.mark.parametrize(("name", "path"), modules())
def test_only_the_named_modules_open_a_door(name: str, path: Path) -> None:
    for target in imports(path):
        for door, allowed in DOORS.items():
            if target == door or target.startswith(f"{door}."):
                assert name in allowed, f"{name} imports {target}: go through {allowed}"


def test_there_is_no_cycle() -> None:
    graph = {name: set(filter(None, ours(path))) - {name} for name, path in modules()}
    TopologicalSorter(graph).prepare()


def test_contributing_names_every_module_and_no_other() -> None:
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    named = re.findall(
        r"`([a-z0-9_/]+\.py)`", text.partition("| You look for")[2].partition("\n\n")[0]
    )
    there = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py" and path.parent != ROOT / "commands"
    }
    assert there - set(named) == set(), "name it in a row of the table"
    assert sorted(named) == sorted(there), "named twice, or no longer there"


def test_nothing_is_a_drawer_for_odds_and_ends() -> None:
    banned = {"utils", "util", "helpers", "common", "manager", "base", "misc"}
    assert [name for name, _ in modules() if name.rpartition(".")[2] in banned] == []
