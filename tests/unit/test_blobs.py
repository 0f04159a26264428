"""What a copy brings in git's terms, whoever tells: git for whole directories, or for each file."""

import os
import subprocess
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import pytest

from sandboxfile import blobs, context, keys, looks
from sandboxfile.blobs import Blobs, UnknownError
from sandboxfile.contents import Tree
from sandboxfile.copied import Copied, Finder
from sandboxfile.errors import ConfigError
from sandboxfile.frozen import replace
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position
from sandboxfile.statcache import NoCache
from tests.fakes.shell import User


@pytest.fixture
def tree(user: User) -> User:
    """A working tree of which git knows all, written a while before its index."""
    for name in ("app/a.py", "app/lib/b.py", "app/lib/ü.py", "app/lib/Z", "app/lib-2/c", "top"):
        user.write(name, f"content of {name}\n")
    user.write("app/run.sh", "#!/bin/sh\n").chmod(0o755)
    user.write("novita.yaml", "version: 1\n")
    git(user, "init", "--quiet")
    time.sleep(0.05)
    git(user, "add", "--all")
    return user


def git(user: User, *words: str) -> str:
    environ = {"HOME": str(user.home), "PATH": os.environ["PATH"]}
    command = ["git", "-c", "core.quotePath=false", *words]
    done = subprocess.run(command, cwd=user.root, env=environ, check=True, capture_output=True)
    return os.fsdecode(done.stdout).strip()


def hashed(user: User, path: Path) -> str:
    return f"{git(user, 'hash-object', '--no-filters', str(path))}:{path.stat().st_size}"


class OneByOne(Blobs):
    """Knows nothing of whole directories."""

    def tree(self, path: str, strange: AbstractSet[str]) -> None:  # noqa: ARG002 - as it is called
        return None


def find(user: User, source: str, of: type[Blobs] = Blobs, *own: Path) -> Copied:
    copy = Copy(sources=(source,), to="/", root=user.root, at=Position("", 1, 1))
    found = Finder(Ground(user.root, own), of(user.root, {"HOME": str(user.home)})).find(copy)
    assert found is not None
    return found


def looked(found: Copied) -> tuple[dict[str, bytes], set[str], set[str]]:
    return (
        dict(looks.pairs(found.looked)),
        {*looks.split(found.looked.absent)},
        {*found.looked.above},
    )


def expected(user: User, source: str, *own: Path) -> keys.Content:
    """Return what the copy brings by the rules for copies and by what git says of each file."""
    copy = Copy(sources=(source,), to="/", root=user.root, at=Position("", 1, 1))
    selection = context.select(copy, Ground(user.root, own))
    texts = [
        hashed(user, Path(each.path)) if each.kind == "file" else each.link
        for each in selection.entries
    ]
    return keys.in_short(keys.content_of(selection, texts))


def nothing(_: User) -> None:
    pass


def untracked(user: User) -> None:
    user.write("app/lib/new", "new\n")


def changed(user: User) -> None:
    user.write("app/lib/b.py", "changed\n")


def link(user: User) -> None:
    (user.root / "app/lib/link").symlink_to("b.py")
    git(user, "add", "--all")


def ignore(user: User) -> None:
    user.write(".dockerignore", "app/lib\n!app/lib/Z\n!app/lib/b.py\n")
    git(user, "add", "--all")


def empty(user: User) -> None:
    (user.root / "app/lib/void").mkdir()


def own_names(user: User) -> None:
    user.write("app/novita.lock", "ours only at the root\n")
    user.write("app/.sandboxfile/x", "ours everywhere\n")
    git(user, "add", "--all", "--force")


def racy(user: User) -> None:
    user.write("app/lib/late", "late\n")
    git(user, "add", "--all")


def filtered(user: User) -> None:
    user.write("app/lib/.gitattributes", "*.py ident\n")
    git(user, "add", "--all")


STATES: tuple[Callable[[User], None], ...] = (
    nothing,
    untracked,
    changed,
    link,
    ignore,
    empty,
    own_names,
    racy,
    filtered,
)


@pytest.mark.parametrize("state", STATES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("source", ["app/", "app", "app/lib", "app/**", "app/*/b.py", "top", "."])
def test_it_makes_no_difference_who_tells(
    tree: User, source: str, state: Callable[[User], None]
) -> None:
    state(tree)
    whole, single = find(tree, source), find(tree, source, OneByOne)
    assert whole.is_committed
    assert single.is_committed
    assert whole.content == single.content == expected(tree, source)
    assert looked(whole) == looked(single)


def test_a_configuration_in_a_directory_is_left_out_of_it(tree: User) -> None:
    own = tree.write("app/lib/member.yaml", "version: 1\n")
    git(tree, "add", "--all")
    assert find(tree, "app/", Blobs, own).content == expected(tree, "app/", own)
    assert find(tree, "app/").content != expected(tree, "app/", own)


def test_whole_directories_are_told_of_without_reading(tree: User) -> None:
    known = Blobs(tree.root, {"HOME": str(tree.home)}).tree(str(tree.root / "app"), frozenset())
    assert known is not None
    assert [name for name, _, blob in known if blob] == [
        "a.py",
        "lib-2/c",
        "lib/Z",
        "lib/b.py",
        "lib/ü.py",
        "run.sh",
    ]


class Telling(Blobs):
    """Notes of which directories git has told."""

    told: ClassVar[list[tuple[str, bool]]] = []

    def tree(self, path: str, strange: AbstractSet[str]) -> Tree | None:
        found = super().tree(path, strange)
        self.told.append((Path(path).name, found is not None))
        return found


def test_git_is_asked_for_directories_without_rules(tree: User) -> None:
    Telling.told.clear()
    for source in ("app/", "app/lib", "app/**", "top", "."):
        find(tree, source, Telling)
    assert Telling.told == [("app", True), ("lib", True), (tree.root.name, False)]
    tree.write(".dockerignore", "app/lib/Z\n")
    find(tree, "app/", Telling)
    assert len(Telling.told) == 3


@pytest.mark.parametrize(
    ("sources", "ignore"), [(("app/", "top"), ()), (("app/",), ("*.py",)), (("app/**",), ())]
)
def test_a_copy_with_rules_of_its_own_is_no_whole_directory(
    tree: User, sources: tuple[str, ...], ignore: tuple[str, ...]
) -> None:
    at = Position("", 1, 1)
    copy = Copy(sources=sources, to="/", root=tree.root, at=at, ignore=ignore)
    assert context.whole(copy, Ground(tree.root)) is None


def test_our_own_directory_is_nobodys_to_tell(tree: User) -> None:
    tree.write(".sandboxfile/x", "x")
    git(tree, "add", "--all", "--force")
    copy = Copy(sources=(".sandboxfile/",), to="/", root=tree.root, at=Position("", 1, 1))
    with suppress(ConfigError):
        assert context.whole(copy, Ground(tree.root)) is None


def test_names_are_in_the_order_of_their_bytes(tree: User) -> None:
    for name in (b"\xff", "\N{GRINNING FACE}".encode(), b"z", "é".encode()):
        (tree.root / "app/lib" / os.fsdecode(name)).write_bytes(name)
    time.sleep(0.05)
    git(tree, "add", "--all")
    known = Blobs(tree.root, {"HOME": str(tree.home)}).tree(str(tree.root / "app/lib"), frozenset())
    assert known is not None
    names = [os.fsencode(name) for name, _, _ in known]
    assert names == sorted(names)
    assert find(tree, "app/").content == expected(tree, "app/")


def test_what_is_large_is_not_read_before_git_is_asked(tree: User) -> None:
    large = tree.root / "app/large"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    time.sleep(0.05)
    git(tree, "add", "--all")
    of_git = Blobs(tree.root, {"HOME": str(tree.home)})
    assert of_git.are_there
    of_git.digest(str(large), large.lstat())
    assert of_git._most == blobs._MOST, "nothing was read"


def test_who_would_have_to_read_much_asks_somebody_else(
    tree: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_MOST", 10 * blobs._A_FILE)
    for number in range(12):
        tree.write(f"app/new-{number}", "")
    assert not find(tree, "app/").is_committed
    assert find(tree, "app/lib").is_committed


def test_names_that_would_delete_files_are_refused_as_ever(tree: User) -> None:
    tree.write("app/.wh.a", "x")
    time.sleep(0.05)
    git(tree, "add", "--all")
    copy = Copy(sources=("app/",), to="/", root=tree.root, at=Position("", 1, 1))
    finder = Finder(Ground(tree.root), Blobs(tree.root, {"HOME": str(tree.home)}))
    assert finder.find(copy) is None, "who asks for it finds the problem"


def test_outside_of_a_repository_nobody_is_asked(user: User) -> None:
    user.write("top", "x")
    assert not Blobs(user.root, {}).are_there
    found = find(user, "top")
    assert not found.is_committed
    assert found.digests == sha256(b"x").digest()


def test_who_asks_for_little_of_a_large_repository_has_it_read(tree: User) -> None:
    """To ask git, and to take its index apart, takes longer than to read few small files."""
    for number in range(3_000):
        tree.write(f"many/{number}", "")
    time.sleep(0.05)
    git(tree, "add", "--all")
    of_git = Blobs(tree.root, {"HOME": str(tree.home)})
    assert of_git.are_there
    paths = [tree.root / f"many/{number}" for number in range(3_000)]
    count = 0
    while not of_git._is_read:
        of_git.digest(str(paths[count]), paths[count].lstat())
        count += 1
    assert 500 < count < 1_500


def test_where_git_is_not_believed_nothing_is_read_for_it(tree: User) -> None:
    git(tree, "config", "filter.upper.clean", "tr a-z A-Z")
    of_git = Blobs(tree.root, {"HOME": str(tree.home)})
    with pytest.raises(UnknownError):
        of_git.digest(str(tree.root / "top"), (tree.root / "top").lstat())
    assert not find(tree, "app/").is_committed


# --- reading -------------------------------------------------------------------------------------


def test_what_git_does_not_know_is_read_as_it_hashes(tree: User) -> None:
    path = tree.write("new", "x" * (3 << 20))
    of_git = Blobs(tree.root, {"HOME": str(tree.home)})
    assert of_git.digest(str(path), path.lstat()) == hashed(tree, path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("y"),
        lambda path: path.write_text("longer"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("top")),
        fifo,
        lambda path: os.utime(path, ns=(1, 1)),
    ],
)
def test_what_is_no_longer_as_it_was_looked_at_has_no_content(
    tree: User, change: Callable[[Path], object]
) -> None:
    path = tree.write("new", "x")
    stat = path.lstat()
    change(path)
    with pytest.raises(UnknownError):
        Blobs(tree.root, {"HOME": str(tree.home)}).digest(str(path), stat)


def test_the_lock_is_told_of_what_was_read(tree: User) -> None:
    copy = Copy(sources=("app/",), to="/", root=tree.root, at=Position("", 1, 1))
    selection = context.select(copy, Ground(tree.root))
    found = keys.manifest(selection, NoCache())
    committed = blobs.as_committed(selection, found)
    assert keys.in_short(keys.content(committed)) == expected(tree, "app/")
    wrong = replace(found, files=tuple(each._replace(content="0" * 64) for each in found.files))
    with pytest.raises(UnknownError):
        blobs.as_committed(selection, wrong)
