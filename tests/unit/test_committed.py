"""Where all is as it was committed, git and the lock say what a survey would have found."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from hashlib import sha1
from pathlib import Path

import pytest

from sandboxfile import blobs
from sandboxfile.blobs import Blobs
from sandboxfile.committed import Committed
from sandboxfile.config import load
from sandboxfile.entries import Entry
from sandboxfile.frozen import replace
from sandboxfile.keys import Keys
from sandboxfile.lockfile import read
from sandboxfile.recall import Recall
from sandboxfile.statcache import NoCache, StatCache
from sandboxfile.survey import Changed, survey
from sandboxfile.surveyed import Survey
from tests.fakes.built import PINS, pretend
from tests.fakes.shell import User

CONFIG = """\
version: 1
default_target: prod
targets:
  prod: {provider: novita, builder: docker, registry: "127.0.0.1:9/x"}
templates:
  worker:
    base: {template: parent}
    files: [worker.py -> /srv/worker.py]
  parent:
    base: debian:12
    files:
      - {from: [data/], to: /srv/data/, ignore: ["*.log"]}
      - "*.md -> /srv/"
    start: sleep 600
  own:
    base: {dockerfile: docker/Dockerfile, args: {A: "1"}}
    packages:
      pip: {requirements: requirements.txt}
  plain:
    base: debian:12
    files: [data/ -> /srv/, worker.py -> /srv/]
  bare:
    base: debian:12
    run: [echo hello]
"""
DOCKERFILE = "ARG A\nFROM debian:12 AS x\nCOPY . /x\nFROM debian:12\nCOPY --from=x /x /x\n"
COPYING = {"worker", "parent", "own", "plain"}


class Unreadable(StatCache):
    """Hashes that nobody may ask for."""

    def digest(self, path: str, stat: os.stat_result) -> str:  # noqa: ARG002 - as it is called
        raise AssertionError(f"{path} was read")


@pytest.fixture(autouse=True)
def _asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have git asked about few small files, too."""
    monkeypatch.setattr(blobs, "_ASKING", -1_000_000_000)


@pytest.fixture
def full(user: User) -> User:
    """A committed workspace with something of everything, in which all is built."""
    user.write("novita.yaml", CONFIG)
    user.write("worker.py", "print()\n")
    user.write("README.md", "# Readme\n")
    user.write("data/one.txt", "one\n")
    user.write("data/deep/two.sh", "#!/bin/sh\n").chmod(0o755)
    user.write("data/noise.log", "x")
    (user.root / "data/link").symlink_to("one.txt")
    user.write("docker/Dockerfile", DOCKERFILE)
    user.write("docker/site/page", "page\n")
    user.write("docker/.dockerignore", "*.md\n")
    user.write("docker/README.md", "x")
    user.write("requirements.txt", "cowsay==6.1\n")
    pretend(user.root, target="prod")
    git(user, "init", "--quiet")
    commit(user)
    return user


def git(user: User, *words: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    environ = {"HOME": str(user.home), "PATH": os.environ["PATH"]}
    subprocess.run(command, cwd=user.root, env=environ, check=True)


def commit(user: User) -> None:
    """Commit everything, when it is no longer young."""
    time.sleep(0.05)
    git(user, "add", "--all")
    git(user, "commit", "--quiet", "--message", "all")


def entries(user: User) -> Mapping[str, Entry]:
    return read(user.root / "novita.lock").targets["prod"]


def look(
    user: User,
    *,
    given: Mapping[str, Entry] | None = None,
    digests: type[StatCache] = StatCache,
    recall: Recall | None = None,
) -> Survey:
    """Survey as a fresh clone does."""
    workspace = load.load(user.root / "novita.yaml")
    known = entries(user) if given is None else given
    return survey(
        workspace,
        workspace.templates,
        resolved=PINS,
        digests=digests.open(user.root / "none", root=user.root),
        recall=recall,
        committed=Committed(known, Blobs(user.root, {"HOME": str(user.home)})),
    )


def keys(found: Survey) -> dict[str, Keys | None]:
    return {name: each.keys for name, each in found.templates.items()}


def real(user: User) -> dict[str, Keys | None]:
    """Return the keys that reading tells."""
    workspace = load.load(user.root / "novita.yaml")
    return keys(survey(workspace, workspace.templates, resolved=PINS, digests=NoCache()))


# --- nothing is read -----------------------------------------------------------------------------


def test_keys_are_those_that_reading_tells_and_nothing_is_read(full: User) -> None:
    found = look(full, digests=Unreadable)
    assert keys(found) == real(full)
    committed = {name for name, each in found.templates.items() if each.is_committed}
    assert committed == COPYING, "the other one has no files"


def test_what_is_looked_at_is_what_a_survey_looks_at(full: User) -> None:
    workspace = load.load(full.root / "novita.yaml")
    read_all = survey(workspace, workspace.templates, resolved=PINS, digests=NoCache())
    for name, each in look(full, digests=Unreadable).templates.items():
        other = read_all[name]
        assert dict(other.seen).items() <= dict(each.seen).items()
        looked = {path for path, _ in each.seen} | each.looked_at
        expected = {path for path, _ in other.seen} | other.looked_at
        assert {*map(os.path.normpath, looked)} == {*map(os.path.normpath, expected)}


def test_it_is_kept_for_later_runs(full: User, tmp_path: Path) -> None:
    later = time.time_ns() + 60_000_000_000
    recall = Recall(tmp_path / "kept", b"n" * 32, root=full.root, since=later)
    first = look(full, digests=Unreadable, recall=recall)
    again = look(full, digests=Unreadable, recall=recall)
    assert keys(again) == keys(first)
    assert {name for name, each in again.templates.items() if each.recalled} >= COPYING


def test_files_are_found_when_they_are_needed(full: User) -> None:
    found = look(full)
    assert [entry.name for entry in found["plain"].selections[2].entries] == ["worker.py"]


# --- the key of the lock -------------------------------------------------------------------------


def test_what_the_lock_says_depends_on_content_alone(full: User, tmp_path: Path) -> None:
    before = {name: entry.git_key for name, entry in entries(full).items()}
    other = full.at(tmp_path / "elsewhere")
    shutil.rmtree(other.root)
    shutil.copytree(
        full.root, other.root, symlinks=True, ignore=shutil.ignore_patterns(".git", "*.lock")
    )
    for path in other.root.rglob("*"):
        os.utime(path, ns=(0, 0), follow_symlinks=False)
    pretend(other.root, target="prod")
    assert {name: entry.git_key for name, entry in entries(other).items()} == before
    assert {name for name, key in before.items() if key} == COPYING
    assert len(set(before.values())) == len(before)


def test_files_that_change_meanwhile_leave_nothing_for_the_lock(full: User) -> None:
    workspace = load.load(full.root / "novita.yaml")
    found = survey(workspace, workspace.templates, resolved=PINS, digests=NoCache())
    assert found["worker"].git_key() == entries(full)["worker"].git_key
    full.write("worker.py", "print(1)\n")
    assert found["worker"].git_key() == ""
    full.write("worker.py", "print()\n")
    assert found["worker"].git_key() == "", "it is another file by now"
    (full.root / "worker.py").unlink()
    assert found["worker"].git_key() == ""


# --- and else all is read ------------------------------------------------------------------------


def content(user: User) -> set[str]:
    user.write("data/one.txt", "ONE\n")
    return {"parent", "worker", "plain"}


def committed_content(user: User) -> set[str]:
    content(user)
    commit(user)
    return {"parent", "worker", "plain"}


def touched(user: User) -> set[str]:
    os.utime(user.root / "worker.py")
    return set()


def mode(user: User) -> set[str]:
    (user.root / "worker.py").chmod(0o755)
    return {"worker", "plain"}


def another_file(user: User) -> set[str]:
    user.write("data/deep/more", "x")
    return {"parent", "worker", "plain"}


def one_less(user: User) -> set[str]:
    (user.root / "data/deep/two.sh").unlink()
    return {"parent", "worker", "plain"}


def a_link(user: User) -> set[str]:
    (user.root / "data/link").unlink()
    (user.root / "data/link").symlink_to("deep")
    return {"parent", "worker", "plain"}


def ignored(user: User) -> set[str]:
    user.write(".dockerignore", "data/deep\n")
    return {"parent", "worker", "plain"}


def a_dockerfile(user: User) -> set[str]:
    user.write("docker/Dockerfile", DOCKERFILE + "ENV B=2\n")
    return {"own"}


def a_context(user: User) -> set[str]:
    user.write("docker/site/page", "PAGE\n")
    return {"own"}


def configuration(user: User) -> set[str]:
    user.write(
        "novita.yaml", CONFIG.replace("files: [data/ ->", "workdir: /srv\n    files: [data/ ->")
    )
    return {"plain"}


def a_parent(user: User) -> set[str]:
    user.write("novita.yaml", CONFIG.replace("start: sleep 600", "env: {A: b}"))
    return {"parent", "worker"}


CHANGES: tuple[Callable[[User], set[str]], ...] = (
    content,
    committed_content,
    touched,
    mode,
    another_file,
    one_less,
    a_link,
    ignored,
    a_dockerfile,
    a_context,
    configuration,
    a_parent,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_what_has_changed_is_read(full: User, change: Callable[[User], set[str]]) -> None:
    before = real(full)
    moved = change(full)
    found = look(full)
    assert keys(found) == real(full)
    assert {name for name, each in keys(found).items() if each != before[name]} == moved
    assert not any(found[name].is_committed for name in moved)


@pytest.mark.parametrize("field", ["image_key", "template_key", "git_key"])
def test_a_lock_that_was_put_together_of_two_is_not_believed(full: User, field: str) -> None:
    known = dict(entries(full))
    other = getattr(known["worker"], field)
    known["plain"] = replace(known["plain"], **{field: other})
    found = look(full, given=known)
    assert keys(found) == real(full)
    assert not found["plain"].is_committed


def test_a_lock_without_parts_could_not_say_why(full: User) -> None:
    known = {name: replace(each, parts={}) for name, each in entries(full).items()}
    found = look(full, given=known)
    assert keys(found) == real(full)
    assert not any(each.is_committed for each in found.templates.values())


def test_hashes_of_all_files_are_better_than_git(full: User) -> None:
    workspace = load.load(full.root / "novita.yaml")
    cache = StatCache.open(full.root / "none", root=full.root)
    survey(workspace, workspace.templates, resolved=PINS, digests=cache)
    cache.save(whole=True)
    assert not any(each.is_committed for each in look(full).templates.values())


def test_what_git_is_wrong_about_is_noticed_before_anything_is_made_of_it(full: User) -> None:
    index = full.root / ".git/index"
    right = _blob(b"page\n")
    content = index.read_bytes()[:-20].replace(right, _blob(b"PAGE\n"))
    index.write_bytes(content + sha1(content, usedforsecurity=False).digest())
    page = full.root / "docker/site/page"
    stat = page.stat()
    page.write_bytes(b"PAGE\n")
    wrong = real(full)["own"]
    pretend(full.root, target="prod")
    page.write_bytes(b"page\n")
    os.utime(page, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    _restat(index, page)

    found = look(full)
    assert found["own"].is_committed
    assert found["own"].keys == wrong
    with pytest.raises(Changed):
        found["own"].take()


def _blob(content: bytes) -> bytes:
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).digest()


def _restat(index: Path, file: Path) -> None:
    """Have an index say that it has seen a file as it is now."""
    content = bytearray(index.read_bytes()[:-20])
    at = content.index(b"docker/site/page\0") - 62
    stat = file.stat()
    content[at : at + 8] = (stat.st_ctime_ns // 10**9).to_bytes(4, "big") + (
        stat.st_ctime_ns % 10**9
    ).to_bytes(4, "big")
    time.sleep(0.05)
    index.write_bytes(bytes(content) + sha1(content, usedforsecurity=False).digest())
