"""A survey that is told of copies by another process is the one that would be made without."""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from sandboxfile import copied, looks, prefetch
from sandboxfile.ahead import Ahead
from sandboxfile.blobs import Blobs
from sandboxfile.config import load
from sandboxfile.copied import Copied, Copies, Finder
from sandboxfile.errors import ConfigError, SandboxfileError
from sandboxfile.gathering import Ground
from sandboxfile.keys import Keys
from sandboxfile.looks import Tops
from sandboxfile.model import Builder, Copy
from sandboxfile.places import Position
from sandboxfile.recall import Recall
from sandboxfile.statcache import Look, Reader, StatCache
from sandboxfile.survey import survey
from sandboxfile.surveyed import Survey
from tests.fakes.built import PINS
from tests.fakes.shell import User

COMMENT = "# " + "x" * (1 << 15) + "\n"  # makes a second process worth its start
CONFIG = """\
version: 1
members: [member]
templates:
  one:
    base: debian:12
    files: [app/ -> /app/]
  same:
    base: debian:12
    files: [{from: app/, to: /other/, owner: "1000", mode: "755"}]
  child:
    base: {template: one}
    files: [app/a.py -> /one.py, "app/*.py -> /all/", data/ -> /data/]
  none:
    base: debian:12
    run: [echo]
  several:
    base: debian:12
    files: [{from: [app/, data/], to: /srv/}, {from: data/, to: /x/, ignore: ["*.log"]}]
  own:
    base: {dockerfile: docker/Dockerfile, context: docker}
    packages: {pip: {requirements: requirements.txt}}
"""
TOLD = {"one", "same", "child", "none", "member-inner"}


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


@pytest.fixture
def tree(user: User) -> User:
    user.write("novita.yaml", CONFIG + COMMENT)
    user.write("app/a.py", "a")
    user.write("app/b.py", "b").chmod(0o755)
    user.write("app/deep/novita.lock", "not the workspace's own")
    (user.root / "app/link").symlink_to("a.py")
    user.write("data/left-out", "x")
    user.write("data/noise.log", "x")
    user.write("data/table", "t")
    user.write(".dockerignore", "**/left-out\n")
    user.write("docker/Dockerfile", "FROM debian:12\nCOPY . /x\n")
    user.write("docker/page", "page")
    user.write("requirements.txt", "cowsay==6.1\n")
    user.write(
        "member/novita.yaml",
        "version: 1\ntemplates:\n  member-inner:\n    base: debian:12\n    files: [. -> /srv/]\n",
    )
    user.write("member/file", "f")
    return user


def told(user: User) -> Copies:
    """Return what a second process has told when it is done."""
    copies = prefetch.begun(user.root / "novita.yaml", user.root, Blobs(user.root, {}))
    assert copies is not None
    os.waitid(os.P_PID, copies._ahead._child, os.WEXITED | os.WNOWAIT)
    return copies


def look(
    user: User,
    copies: Copies | None = None,
    *,
    builder: Builder = "docker",
    resolved: Mapping[str, str] = PINS,
    later_s: int = 60,
    digests: StatCache | None = None,
) -> tuple[Survey, Recall, StatCache]:
    workspace = load.load(user.root / "novita.yaml")
    since = time.time_ns() + later_s * 10**9
    kept = Recall(user.home / "survey", b"n" * 32, root=workspace.root, since=since)
    file = user.home / "hashes"
    digests = digests or StatCache.open(file, root=workspace.root, helper=copies)
    found = survey(
        workspace,
        workspace.templates,
        resolved=resolved,
        digests=digests,
        builder=builder,
        recall=kept,
        copies=copies,
    )
    return found, kept, digests


def keys(found: Survey) -> Mapping[str, Keys | None]:
    return {name: each.keys for name, each in found.templates.items()}


def test_a_survey_with_help_is_the_one_without(tree: User) -> None:
    without, kept_without, _ = look(tree)
    copies = told(tree)
    found, kept, digests = look(tree, copies)

    assert keys(found) == keys(without)
    assert digests.count == 1, "but for requirements.txt all were read by the other process"
    for name, each in found.templates.items():
        other = without[name]
        assert dict(each.seen) == dict(other.seen)
        assert each.looked_at == other.looked_at
        assert (each.recalled, other.recalled) == (False, False)
        assert each.contents == other.contents, "found here when it is asked for"
        mine, theirs = kept.told(name), kept_without.told(name)
        assert mine is not None
        assert theirs is not None
        assert set(mine[-1]) == set(theirs[-1]), "the ways"  # type: ignore[call-overload]
    assert {n for n, each in found.templates.items() if each.take().selections == {}} == {"none"}


@pytest.fixture
def silent() -> Iterator[Copies]:
    """A second process that is at work and has told nothing yet."""

    def never() -> Iterator[bytes]:
        time.sleep(60)
        yield b""

    copies = Copies(Ahead(never()))
    yield copies
    copies.close()


def test_what_is_not_told_yet_is_found_here_in_the_same_way(tree: User, silent: Copies) -> None:
    without, kept_without, alone = look(tree)
    found, kept, digests = look(tree, silent)

    assert keys(found) == keys(without)
    assert digests.count < alone.count, "most are read by what the second process reads with"
    for name, each in found.templates.items():
        assert dict(each.seen) == dict(without[name].seen)
        assert each.looked_at == without[name].looked_at
        assert each.contents == without[name].contents
        assert (kept.told(name) is None) == (kept_without.told(name) is None)


def test_what_is_wrong_with_a_copy_that_is_found_here_is_told(tree: User, silent: Copies) -> None:
    (tree.root / "app/a.py").unlink()
    (tree.root / "app/link").unlink()

    with pytest.raises(ConfigError) as without:
        look(tree)
    with pytest.raises(ConfigError) as with_help:
        look(tree, silent)

    assert with_help.value.problems == without.value.problems


class Asked(Copies):
    """Counts how often it is asked for a copy."""

    count = 0

    def find(self, copy: Copy, ground: Ground) -> Copied | None:
        self.count += 1
        return super().find(copy, ground)


def test_each_copy_is_asked_for_once(tree: User) -> None:
    asked = Asked(told(tree)._ahead)

    found, _, _ = look(tree, asked)

    assert set(found.templates) >= TOLD
    copies = {"one": 1, "same": 1, "child": 3, "several": 1, "member-inner": 1}
    assert asked.count == sum(copies.values()), "of `several` the first is told of by nobody"


def test_what_is_told_is_not_looked_for_again(tree: User) -> None:
    copies = told(tree)
    without, _, _ = look(tree)
    for file in ("app/a.py", "app/b.py", "member/file"):
        (tree.root / file).unlink()

    found, _, _ = look(tree, copies)

    told_keys = {name: each for name, each in keys(found).items() if name in TOLD - {"child"}}
    assert told_keys == {name: keys(without)[name] for name in told_keys}
    with pytest.raises(SandboxfileError, match="`one` changed while they were being read"):
        found["one"].take()


def test_templates_without_keys_get_them_when_their_bases_are_known(tree: User) -> None:
    copies = told(tree)
    first, _, digests = look(tree, copies, resolved={})
    assert set(keys(first).values()) == {None}
    assert first["one"].unresolved
    assert next(entry.name for entry in first["one"].entries) == "a.py"

    again, _, _ = look(tree, copies, digests=digests)

    assert digests.count == 1
    assert keys(again) == keys(look(tree)[0])


def test_nothing_young_is_kept_for_later(tree: User) -> None:
    found, kept, _ = look(tree, told(tree), later_s=-60)  # the run began before they were written

    assert keys(found) == keys(look(tree)[0])
    assert [kept.told(name) for name in TOLD - {"none"} if kept.told(name)] == []
    assert dict(found["one"].seen).keys() >= {f"{tree.root}/app/a.py"}


class Restless(Reader):
    """Looks at files that are written to right afterwards."""

    def within(self, directory: str) -> Look:
        def look(found: "os.DirEntry[str]") -> os.stat_result:
            stat = found.stat(follow_symlinks=False)
            with Path(directory, found.name).open("a") as file:
                file.write("more")
            return stat

        return look


def test_of_a_copy_that_does_not_hold_still_nothing_is_told(tree: User) -> None:
    for source, is_told in (("app/a.py", True), ("data/", False)):
        copy = Copy(sources=(source,), to="/", root=tree.root, at=Position("", 1, 1))
        finder = Finder(Ground(tree.root), digests=Restless())
        told = [*copied.told(iter([copy]), finder)]
        assert len(told) == 2 + is_told, "what is never taken, and the end"


def test_a_file_that_becomes_a_link_between_two_of_its_names_has_no_hash(tree: User) -> None:
    file = tree.write("deep/x/x/y", "y")
    tree.write("deep/x/x/z", "z")
    seen = set[str]()

    class Turning(Reader):
        def within(self, directory: str) -> Look:
            if directory in seen:
                file.unlink()
                file.symlink_to("z")
            seen.add(directory)
            return super().within(directory)

    copy = Copy(sources=("deep/**/x",), to="/", root=tree.root, at=Position("", 1, 1))
    found = Finder(Ground(tree.root), digests=Turning()).find(copy)

    assert found is not None
    hashes = {name: record[-32:] for name, record in found.hashes().young.items()}
    assert hashes == {"deep/x/x/z": sha256(b"z").digest()}


def test_another_ground_is_another_selection(tree: User) -> None:
    """What is a file of the configuration is left out, and here one more is."""
    copies = told(tree)
    tree.write("novita.yaml", CONFIG.replace("[member]", "[member, more]") + COMMENT)
    tree.write("more/novita.yaml", "version: 1\nbase: debian:12\n")

    found, _, _ = look(tree, copies)

    assert keys(found) == keys(look(tree)[0])
    copy = Copy(sources=("app/",), to="/", root=tree.root, at=Position("", 1, 1))
    here = [tree.root / "novita.yaml", tree.root / "member/novita.yaml"]
    assert copies.find(copy, Ground(tree.root, here)) is not None
    assert copies.find(copy, Ground(tree.root, [*here, tree.root / "more/novita.yaml"])) is None


def test_problems_are_found_here(tree: User) -> None:
    text = "  bad:\n    base: debian:12\n    files: [data/left-out -> /x]\n"
    tree.write("novita.yaml", CONFIG + text + COMMENT)
    with pytest.raises(ConfigError, match="nothing matches `data/left-out`"):
        look(tree, told(tree))


def test_what_the_builder_cannot_do_is_refused_all_the_same(tree: User) -> None:
    text = "  far:\n    base: {remote: base}\n    files: [app/ -> /app/]\n"
    tree.write("novita.yaml", CONFIG + text + COMMENT)
    with pytest.raises(ConfigError, match="cannot be added to `base`"):
        look(tree, told(tree))


def test_a_file_of_the_far_future_is_no_reason_to_fail(tree: User) -> None:
    os.utime(tree.root / "app/a.py", (2**34, 2**34))
    if (tree.root / "app/a.py").stat().st_mtime < 2**33:
        pytest.fail("this file system has no such times")

    found, _, _ = look(tree, told(tree))

    assert keys(found) == keys(look(tree)[0])


def test_an_end_is_an_end(tree: User) -> None:
    copies = told(tree)
    copies.close()
    copies.close()

    assert copies.is_done
    assert not Path(f"/proc/self/fd/{copies._ahead._file}").exists()


def test_what_was_not_there_once_is_not_there_in_this_run(tree: User) -> None:
    """Its text was taken for absent; who looks in a later run sees that it has come."""
    tops, file = Tops(os.fspath(tree.root)), tree.root / "data/.dockerignore"
    before = looks.of([], [os.fspath(file)], tops)
    tree.write("data/.dockerignore", "*")

    assert looks.of([], [os.fspath(file)], tops) == before
    assert looks.split(before.absent) == ["data/.dockerignore"]
    assert looks.of([], [os.fspath(file)], Tops(os.fspath(tree.root))).absent == b""
