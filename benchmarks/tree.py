"""The monorepo that is measured on: N templates of twenty files each, in git, with its lock."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandboxfile import app, environment, lockfile
from sandboxfile.config import load
from sandboxfile.frozen import replace
from sandboxfile.lockfile import ENGINE_PREFIX, Entry, Lock
from sandboxfile.pins import pin_name
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey

FILES = (
    *(f"notes-{number}.txt" for number in range(5)),
    *(f"src/module_{number}.py" for number in range(8)),
    *(f"src/lib/part_{number}.py" for number in range(5)),
    *(f"conf/setting_{number}.yml" for number in range(2)),
)
# As our archives call it: so the Dockerfiles that we write can be built by hand, too.
FOLDER = "copy-1"
DIRECTORIES = ("", "src", "src/lib", "conf")
MEAN_BYTES = 10_000
MOST_BYTES = 200_000
PREFIX = "sfbench"  # begins the name of all that is put into an engine
BASE = f"{PREFIX}/base:1"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing is there, and nothing asks
DIGEST = "sha256:" + "0" * 64
PARTS = ("base", "env", "files", "ready", "resources", "run", "start", "workdir")
IDENTITY = ("-c", "user.name=benchmarks", "-c", "user.email=benchmarks@localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A checkout of N templates; the files of template `name` are in `context(name)`."""

    root: Path
    names: tuple[str, ...]

    def context(self, name: str) -> Path:
        return self.root / "templates" / name / FOLDER

    def dockerfile(self, name: str) -> Path:
        return self.root / "templates" / name / "Dockerfile"

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(self.context(name) / file for name in self.names for file in FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What the templates of a tree are like.

    `work` makes each RUN take a moment of processor time, `served` gives them a start command.
    """

    target: str = "box"
    api_url: str = NOWHERE
    registry: str = "127.0.0.1:9/benchmarks"
    work: bool = False
    served: bool = True


def make(root: Path, count: int, kind: Kind) -> Tree:
    """Write the files of a tree; the same count gives the same bytes."""
    root.mkdir(parents=True, exist_ok=True)
    tree = Tree(root=root, names=tuple(f"{PREFIX}-{number:04d}" for number in range(count)))
    chance = random.Random(count)  # noqa: S311 - content, no secret
    pool = chance.randbytes(MOST_BYTES * 8)
    for number, name in enumerate(tree.names):
        for directory in DIRECTORIES:
            (tree.context(name) / directory).mkdir(parents=True, exist_ok=True)
        for file in FILES:
            (tree.context(name) / file).write_bytes(_content(chance, pool))
        tree.dockerfile(name).write_text(_dockerfile(number, kind))
    (root / "novita.yaml").write_text(_configuration(tree, kind))
    (root / ".gitignore").write_text("/.sandboxfile/\n/novita.local.lock\n")
    return tree


def copied(tree: Tree, root: Path) -> Tree:
    """Return a copy of the files as they are."""
    shutil.copytree(tree.root, root)
    return Tree(root=root, names=tree.names)


def _content(chance: random.Random, pool: bytes) -> bytes:
    size = min(int(chance.expovariate(1 / MEAN_BYTES)) + 16, MOST_BYTES)
    start = chance.randrange(len(pool) - size)
    return b"%016x" % chance.getrandbits(64) + pool[start : start + size - 16]


def _work(number: int, kind: Kind) -> str:
    """Return the RUN of a template: one that all builders carry out with the same words."""
    count = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; " if kind.work else ""
    return f"{count}echo built {number} > /app/stamp"


def _dockerfile(number: int, kind: Kind) -> str:
    """Return what the template says, as somebody would write it by hand."""
    return (
        f"FROM {BASE}\n"
        f"ENV APP_ENV=production PORT={3000 + number}\n"
        f"COPY {FOLDER}/ /app/\n"
        f'RUN ["/bin/sh", "-c", "{_work(number, kind)}"]\n'
        "WORKDIR /app\n"
    )


def _configuration(tree: Tree, kind: Kind) -> str:
    lines = [
        "version: 1",
        f"default_target: {kind.target}",
        "targets:",
        "  box:",
        "    provider: novita",
        "    builder: docker",
        f'    api_url: "{kind.api_url}"',
        f'    registry: "{kind.registry}"',
        "  here: {provider: local}",
        "templates:",
    ]
    for number, name in enumerate(tree.names):
        lines += _template(number, name, kind)
    return "\n".join(lines) + "\n"


def _template(number: int, name: str, kind: Kind) -> Sequence[str]:
    served = [
        "    start: python3 /app/src/module_0.py",
        f"    ready: {{port: {3000 + number}}}",
    ]
    return (
        f"  {name}:",
        f"    base: {BASE}",
        "    env:",
        *(f'      {variable}: "{value}"' for variable, value in _variables(number).items()),
        f"    files: [templates/{name}/{FOLDER}/ -> /app/]",
        f'    run: ["{_work(number, kind)}"]',
        "    workdir: /app",
        *(served if kind.served else ()),
        f"    resources: {{cpu: {2 + 2 * (number % 2)}, memory: {512 * (1 + number % 4)}}}",
        f"    tags: [team-{number % 10}]",
    )


# --- git and the lock --------------------------------------------------------------------------


def commit(tree: Tree, environ: Mapping[str, str]) -> None:
    """Put the whole tree under version control."""
    _git(tree.root, environ, "init", "--quiet")
    _git(tree.root, environ, "add", "--all")
    _git(tree.root, environ, *IDENTITY, "commit", "--quiet", "--message", "All templates")


def locked(root: Path, count: int, environ: Mapping[str, str]) -> Tree:
    """Make a tree in which everything is built, and commit it; the base is not looked at."""
    made = make(root, count, Kind())
    pin(made, None)
    lock(made, "box", environ)
    commit(made, environ)
    return made


def clone(tree: Tree, root: Path, environ: Mapping[str, str]) -> Tree:
    """Return a fresh clone."""
    _git(tree.root, environ, "clone", "--quiet", "--local", ".", str(root))
    return Tree(root=root, names=tree.names)


def untold(tree: Tree) -> None:
    """Have the lock say nothing of what git calls the content of files: all are to be read."""
    path = tree.root / app.LOCK
    entries = {
        target: {name: replace(entry, git_key="") for name, entry in found.items()}
        for target, found in lockfile.read(path).targets.items()
    }
    lockfile.update(path, lambda old: Lock(resolved=old.resolved, targets=entries))


def _git(directory: Path, environ: Mapping[str, str], *words: str) -> None:
    subprocess.run(["git", *words], cwd=directory, env=environ, check=True)  # noqa: S607


def pin(tree: Tree, image_id: str | None) -> None:
    """Say in the lock what the base is: an image of the engine, or one that nobody looks at."""
    name = pin_name(BASE)
    if image_id is None:
        lock, found = app.LOCK, {name: DIGEST}
    else:
        lock, found = app.LOCAL_LOCK, {f"{ENGINE_PREFIX}{name}": image_id}
    lockfile.update(tree.root / lock, lambda old: old.with_resolved(found))


def lock(tree: Tree, target: str, environ: Mapping[str, str]) -> None:
    """Write the lock as it is when everything is built, with the keys that the program computes.

    The IDs are made up: what is up to date is never asked for.
    """
    plan = subprocess.run(
        [sys.executable, "-m", "sandboxfile", "plan", "--offline", "--json", "--target", target],
        cwd=tree.root,
        env=environ,
        stdout=subprocess.PIPE,
        check=True,
    )
    committed = _git_keys(tree)
    entries = {
        each["name"]: _entry(each, committed[each["name"]])
        for each in json.loads(plan.stdout)["templates"]
    }
    name = app.LOCAL_LOCK if target == "here" else app.LOCK
    lockfile.update(tree.root / name, lambda old: _with_entries(old, target, entries))


def _git_keys(tree: Tree) -> Mapping[str, str]:
    """Return what a build writes into the lock for who has just cloned the tree."""
    workspace = load.load(tree.root / "novita.yaml")
    locks = [lockfile.read(tree.root / name) for name in (app.LOCAL_LOCK, app.LOCK)]
    resolved = {name: digest for lock in locks for name, digest in lock.resolved.items()}
    found = survey(workspace, tree.names, resolved=resolved, digests=NoCache())
    return {name: each.git_key() for name, each in found.templates.items()}


def generate(tree: Tree, environ: Mapping[str, str], *names: str) -> None:
    """Put the Dockerfiles that sandboxfile writes in place of those by hand: all, or the named."""
    shown = subprocess.run(
        [sys.executable, "-m", "sandboxfile", "show", "dockerfile", "--json", *names],
        cwd=tree.root,
        env=environ,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name, text in json.loads(shown.stdout).items():
        tree.dockerfile(name).write_text(text)
        variables = _variables(tree.names.index(name))
        for path, content in environment.files(variables).items():
            file = tree.dockerfile(name).parent / environment.DIRECTORY / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _variables(number: int) -> dict[str, str]:
    """Return what a template has in its environment; its base has nothing there."""
    return {"APP_ENV": "production", "PORT": f"{3000 + number}"}


def _with_entries(old: Lock, target: str, entries: Mapping[str, Entry]) -> Lock:
    return Lock(resolved=old.resolved, targets={**old.targets, target: entries})


def _entry(planned: Mapping[str, object], git_key: str) -> Entry:
    key = str(planned["template_key"])
    made_up = key.partition(":")[2]
    tags = planned["tags"]
    assert isinstance(tags, list)
    return Entry(
        parts={part: made_up[at : at + 8] for at, part in enumerate(PARTS)},
        template_id=made_up[:20],
        build_id=f"{made_up[:8]}-{made_up[8:12]}-4000-8000-{made_up[20:32]}",
        git_key=git_key,
        image_key=str(planned["image_key"]),
        template_key=key,
        image=f"127.0.0.1:9/benchmarks/{planned['name']}@{DIGEST}",
        tags=tuple(sorted(tags)),
    )
