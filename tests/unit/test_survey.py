import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path

import pytest

from sandboxfile.config import load
from sandboxfile.errors import ConfigError
from sandboxfile.keys import Keys
from sandboxfile.pins import pin_name, pinned
from sandboxfile.statcache import NoCache
from sandboxfile.survey import ordered, survey
from sandboxfile.surveyed import Survey
from tests.fakes.built import DIGEST, PINS
from tests.fakes.shell import User

CONFIG = """\
version: 1
templates:
  worker:
    base: {template: parent}
    files: [worker.py -> /srv/worker.py]
  parent:
    base: debian:12
    files:
      - {from: [data/], to: /srv/data/, ignore: ["*.log"]}
    start: sleep 600
    tags: [stable]
  own:
    base: {dockerfile: docker/Dockerfile, args: {A: "1"}}
    packages:
      pip: {requirements: requirements.txt}
"""
DOCKERFILE = "ARG A\nFROM debian:12 AS x\nCOPY . /x\nFROM debian:12\nCOPY --from=x /x /x\n"


@pytest.fixture
def full(user: User) -> User:
    """A workspace with something of everything that a survey looks at."""
    user.write("novita.yaml", CONFIG)
    user.write("worker.py", "print()\n")
    user.write("data/one.txt", "one\n")
    user.write("data/deep/two.sh", "#!/bin/sh\n").chmod(0o755)
    user.write("data/noise.log", "x")
    (user.root / "data/link").symlink_to("one.txt")
    user.write("docker/Dockerfile", DOCKERFILE)
    user.write("docker/site/page", "page\n")
    user.write("docker/.dockerignore", "*.md\n")
    user.write("docker/README.md", "x")
    user.write("requirements.txt", "cowsay==6.1\n")
    return user


def look(user: User, *names: str, resolved: Mapping[str, str] = PINS) -> Survey:
    workspace = load.load(user.root / "novita.yaml")
    return survey(workspace, names or workspace.templates, resolved=resolved, digests=NoCache())


def keys(user: User, *names: str) -> dict[str, Keys]:
    return {name: each.keys for name, each in look(user, *names).templates.items() if each.keys}


# --- the order -------------------------------------------------------------------------------


def test_parents_come_first(full: User) -> None:
    workspace = load.load(full.root / "novita.yaml")

    assert ordered(workspace, ["worker"]) == ("parent", "worker")
    assert ordered(workspace, ["own", "worker", "parent"]) == ("parent", "own", "worker")
    assert ordered(workspace, []) == ()
    assert look(full, "worker")["worker"].parent == "parent"
    assert look(full, "parent")["parent"].parent is None


# --- what changes no key ---------------------------------------------------------------------


def _touched(user: User) -> User:
    for path in user.root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    return user


def _other_umask(user: User) -> User:
    for path in user.root.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o077 | 0o700 if path.is_dir() else 0o600)
    (user.root / "data/deep/two.sh").chmod(0o700)
    return user


def _elsewhere(user: User) -> User:
    root = user.root.parent / "some where" / "else"
    shutil.copytree(user.root, root, symlinks=True)
    return user.at(root)


def _written_in_another_order(user: User) -> User:
    root = user.root.parent / "other order"
    paths = [path for path in user.root.rglob("*") if not path.is_dir()]
    for path in sorted(paths, reverse=True):
        to = root / path.relative_to(user.root)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to, follow_symlinks=False)
    return user.at(root)


def _templates_in_another_order(user: User) -> User:
    head, *rest = CONFIG.split("\n  worker:")
    worker, _, others = rest[0].partition("\n  parent:")
    user.write("novita.yaml", f"{head}\n  parent:{others}  worker:{worker}\n")
    return user


def _ignored_files(user: User) -> User:
    user.write("data/more.log", "x")
    user.write("docker/CHANGES.md", "x")
    user.write("unrelated", "x")
    return user


def _tags(user: User) -> User:
    user.replace("novita.yaml", "tags: [stable]", "tags: [newest, x]")
    return user


NO_CHANGES: dict[str, Callable[[User], User]] = {
    "touched": _touched,
    "umask": _other_umask,
    "checkout path": _elsewhere,
    "order of files": _written_in_another_order,
    "order of templates": _templates_in_another_order,
    "ignored files": _ignored_files,
    "tags": _tags,
}


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES)
def test_keys_depend_on_content_alone(full: User, change: Callable[[User], User]) -> None:
    before = keys(full)
    assert set(before) == {"worker", "parent", "own"}

    assert keys(change(full)) == before


def test_keys_do_not_depend_on_where_one_stands(full: User, tmp_path: Path) -> None:
    before = keys(full)

    with chdir(tmp_path):
        assert keys(full) == before
    assert keys(full, "worker")["worker"] == before["worker"]


# --- what changes which key ------------------------------------------------------------------


def _relinked(user: User) -> None:
    (user.root / "data/link").unlink()
    (user.root / "data/link").symlink_to("deep/two.sh")


CHANGES: dict[str, tuple[Callable[[User], object], set[str]]] = {
    "a byte of a copied file": (lambda u: u.write("data/one.txt", "eno\n"), {"parent", "worker"}),
    "a file more": (lambda u: u.write("data/new", ""), {"parent", "worker"}),
    "a file less": (lambda u: (u.root / "data/one.txt").unlink(), {"parent", "worker"}),
    "an empty directory": (lambda u: (u.root / "data/e").mkdir(), {"parent", "worker"}),
    "executable": (lambda u: (u.root / "data/one.txt").chmod(0o755), {"parent", "worker"}),
    "another link": (
        _relinked,
        {"parent", "worker"},
    ),
    "a new ignore file": (lambda u: u.write(".dockerignore", "data/one.txt"), {"parent", "worker"}),
    "a file of the child": (lambda u: u.write("worker.py", "exit()"), {"worker"}),
    "the Dockerfile": (lambda u: u.write("docker/Dockerfile", DOCKERFILE + "\n#"), {"own"}),
    "the context": (lambda u: u.write("docker/site/page", "other"), {"own"}),
    "the context's ignore file": (lambda u: u.write("docker/.dockerignore", ""), {"own"}),
    "requirements": (lambda u: u.write("requirements.txt", "cowsay==6.0\n"), {"own"}),
    "an argument": (lambda u: u.replace("novita.yaml", '"1"', '"2"'), {"own"}),
}


@pytest.mark.parametrize(("change", "names"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_where_it_is_copied_and_above(
    full: User, change: Callable[[User], object], names: set[str]
) -> None:
    before = keys(full)
    watched = {
        name: each.looked_at | {entry.path for entry in each.entries}
        for name, each in look(full).templates.items()
    }
    marks = {path: _lstat(path) for paths in watched.values() for path in paths}

    change(full)

    after = keys(full)
    changed = {name for name in before if after[name].image_key != before[name].image_key}
    assert changed == names
    # And the first stage would have seen it: something that was looked at has another stat.
    moved = {path for path, mark in marks.items() if _lstat(path) != mark}
    configured = (full.root / "novita.yaml").read_text() != CONFIG
    assert configured or any(watched[name] & moved for name in names)


def _lstat(path: str) -> object:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_mode


def test_a_changed_start_command_keeps_the_image(full: User) -> None:
    before = keys(full)["parent"]
    full.replace("novita.yaml", "sleep 600", "sleep 601")
    after = keys(full)["parent"]

    assert after.image_key == before.image_key
    assert after.template_key != before.template_key


def test_a_new_digest_of_the_base_is_a_new_key(full: User) -> None:
    moved = look(full, resolved=dict.fromkeys(PINS, "sha256:" + "e" * 64))
    before = keys(full)

    for name, each in moved.templates.items():
        assert each.keys is not None
        assert each.keys.image_key != before[name].image_key


# --- what is not known yet -------------------------------------------------------------------


def test_without_digests_of_bases_there_are_no_keys(full: User) -> None:
    found = look(full, resolved={})

    assert found.unresolved == tuple(PINS)
    assert [each.keys for each in found.templates.values()] == [None] * 3
    assert {name: each.unresolved for name, each in found.templates.items()} == {
        "parent": tuple(PINS),
        "own": tuple(PINS),
        "worker": tuple(PINS),
    }


@pytest.mark.parametrize(
    ("name", "resolved", "expected"),
    [
        ("a", {}, None),
        ("a", {"a": DIGEST}, DIGEST),
        ("a", {"engine:a": DIGEST}, DIGEST),
        ("a", {"a": DIGEST, "engine:a": "sha256:0"}, DIGEST),
        (f"docker.io/library/x@{DIGEST} linux/amd64", {}, DIGEST),
    ],
)
def test_a_pin_comes_from_the_name_a_registry_or_the_engine(
    name: str, resolved: Mapping[str, str], expected: str | None
) -> None:
    assert pinned(name, resolved) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("debian:12", "docker.io/library/debian:12 linux/amd64"),
        ("ghcr.io/acme/x", "ghcr.io/acme/x:latest linux/amd64"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST} linux/amd64"),
    ],
)
def test_a_pin_is_named_by_the_whole_reference(image: str, expected: str) -> None:
    assert pin_name(image) == expected


def test_an_image_named_by_digest_needs_no_pin(user: User) -> None:
    user.write("novita.yaml", f"version: 1\nname: x\nbase: debian@{DIGEST}\n")

    found = look(user, resolved={})

    assert found.unresolved == ()
    assert found["x"].keys is not None


@pytest.mark.parametrize("key", ["epoch: 1", "include: [git]", "components: [main, contrib]"])
def test_each_bootstrapped_base_has_a_pin_of_its_own(user: User, key: str) -> None:
    names = list[str]()
    for base in ("{debian: bookworm}", f"{{debian: bookworm, {key}}}", "{ubuntu: noble}"):
        user.write("novita.yaml", f"version: 1\nname: x\nbase: {base}\n")
        names += look(user, resolved={}).unresolved

    assert len(set(names)) == 3
    assert [name.split(" ")[0] for name in names] == [
        "debian:bookworm",
        "debian:bookworm",
        "ubuntu:noble",
    ]
    assert look(user, resolved={names[-1]: DIGEST})["x"].keys is not None


def test_a_remote_base_is_known_by_its_name(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: {remote: 'y:stable'}\n")

    assert look(user, resolved={})["x"].keys is not None


# --- what is wrong ---------------------------------------------------------------------------


def test_problems_of_all_templates_are_told_at_once(full: User) -> None:
    shutil.rmtree(full.root / "data")
    (full.root / "docker/Dockerfile").write_bytes(b"FROM \xff")

    with chdir(full.root), pytest.raises(ConfigError) as caught:
        look(full)

    assert [str(problem.at) for problem in caught.value.problems] == [
        "novita.yaml:9:9",
        "novita.yaml:13:24",
    ]
    text = "the Dockerfile `docker/Dockerfile` cannot be read: it is not UTF-8 text"
    assert caught.value.problems[1].message == text


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (
            "base: {dockerfile: docker/dockerfile}",
            """\
novita.yaml:3:20: error: there is no Dockerfile `docker/dockerfile`
    2 | name: x
    3 | base: {dockerfile: docker/dockerfile}
      |                    ^^^^^^^^^^^^^^^^^ did you mean `docker/Dockerfile`?""",
        ),
        (
            "base: {dockerfile: nope/Dockerfile}",
            """\
novita.yaml:3:20: error: there is no Dockerfile `nope/Dockerfile`
    2 | name: x
    3 | base: {dockerfile: nope/Dockerfile}
      |                    ^^^^^^^^^^^^^^^ there is no directory `nope` either: correct the path""",
        ),
        (
            "base: {dockerfile: deep/x}",
            """\
novita.yaml:3:20: error: there is no Dockerfile `deep/x`
    2 | name: x
    3 | base: {dockerfile: deep/x}
      |                    ^^^^^^ write it, or correct the path""",
        ),
        (
            "base: a\nfiles: [worker.yp -> /x]",
            """\
novita.yaml:4:9: error: nothing matches `worker.yp`
    3 | base: a
    4 | files: [worker.yp -> /x]
      |         ^^^^^^^^^ did you mean `worker.py` or""",
        ),
        (
            "base: a\nfiles: ['zzz -> /x']",
            """\
novita.yaml:4:9: error: nothing matches `zzz`
    3 | base: a
    4 | files: ['zzz -> /x']
      |         ^^^^^^^^^^^""",
        ),
        (
            "base: a\nfiles:\n  - from: worker.py\n    to: /x\n    ignore: ['[']",
            "    5 |   - from: worker.py\n      |     ^",
        ),
    ],
)
def test_what_is_wrong_with_files_is_shown_where_they_are_named(
    full: User, rest: str, expected: str
) -> None:
    full.write("novita.yaml", f"version: 1\nname: x\n{rest}\n")
    full.write("deep/other", "")

    with chdir(full.root), pytest.raises(ConfigError) as caught:
        look(full)

    assert expected in str(caught.value)


def test_a_place_in_a_file_that_has_changed_since_is_told_without_its_lines(full: User) -> None:
    workspace = load.load(full.root / "novita.yaml")
    shutil.rmtree(full.root / "data")
    full.write("novita.yaml", "version: 1\n")

    with chdir(full.root), pytest.raises(ConfigError) as caught:
        survey(workspace, ["parent"], resolved=PINS, digests=NoCache())

    assert [problem.excerpt for problem in caught.value.problems] == [()]


def test_a_child_of_a_broken_template_is_no_problem_of_its_own(full: User) -> None:
    shutil.rmtree(full.root / "data")

    with pytest.raises(ConfigError) as caught:
        look(full, "worker")

    assert len(caught.value.problems) == 1
