"""What git knows of a file's content is what git itself says of the file, or nothing is known."""

import os
import random
import struct
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha1
from pathlib import Path

import pytest

from sandboxfile import gitindex
from sandboxfile.errors import SandboxfileError
from sandboxfile.gitindex import Index

OLD = time.time_ns() - 60_000_000_000


def index_of(root: Path, environ: Mapping[str, str]) -> Index | None:
    """Return the index that is believed, as `blobs` does."""
    with suppress(OSError, ValueError, LookupError, struct.error, SandboxfileError):
        return gitindex.Repository(root).index(environ)
    return None


class Repository:
    """A real repository, whose files are older than its index."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.home = root.parent / "home"
        self.home.mkdir(exist_ok=True)
        self.environ = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        self.git("init", "--quiet")

    def git(self, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=self.root,
            env={**self.environ, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"},
            input=stdin,
            capture_output=True,
            check=True,
        )
        return os.fsdecode(done.stdout).strip()

    def write(self, name: str, content: bytes = b"content\n") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def add(self, *words: str) -> None:
        """Add everything, and have it be a while ago that the files were written."""
        self.git("add", "--all", *words)
        self.settle()

    def settle(self) -> None:
        """Have git write the index when what is in it is no longer young."""
        time.sleep(0.05)
        self.write("settled", str(time.time_ns()).encode())
        self.git("add", "settled")

    def index(self, directory: str = ".") -> Index | None:
        return index_of((self.root / directory).resolve(), self.environ)

    def blob(self, name: str, directory: str = ".") -> str | None:
        index = self.index(directory)
        path = (self.root / directory).resolve() / name
        found = index.blob(str(path), path.lstat()) if index else None
        return found.hex() if found else None

    def hashed(self, name: str) -> str:
        return self.git("hash-object", "--no-filters", "--", name)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "tree")


def id_of(content: bytes) -> str:
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


# --- what is known -------------------------------------------------------------------------------

NAMES = ("a", "deep/er/b.txt", "sp ace/ü.md", "x" * 200, "-", "a.b")


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_what_is_known_is_what_git_says(repository: Repository, version: str) -> None:
    names = [*NAMES, *(f"many/{number:03}" for number in range(300))]
    for name in names:
        repository.write(name, f"{name}\n".encode())
    repository.write("later", b"x")
    repository.git("add", "--all")
    if version == "3":
        repository.git("rm", "--quiet", "--cached", "later")
        repository.git("add", "--intent-to-add", "later")
    else:
        repository.git("update-index", "--index-version", version)
    repository.settle()
    content = (repository.root / ".git/index").read_bytes()
    assert content[4:8] == int(version).to_bytes(4, "big"), "git has written what was asked for"

    assert [repository.blob(name) for name in names] == [repository.hashed(n) for n in names]
    assert (repository.blob("later") is None) == (version == "3")


def test_names_may_be_longer_than_an_entry_says(repository: Repository) -> None:
    name = "/".join(["d" * 200] * 22)  # more than 4,095 bytes, which no call takes at once
    blob = repository.git("hash-object", "-w", "--stdin", stdin=b"far away\n")
    repository.write("z")
    repository.git("add", "z")
    repository.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    repository.settle()
    assert repository.blob("z") == repository.hashed("z"), "found behind the long one"


def test_names_are_bytes(repository: Repository) -> None:
    name = os.fsdecode(b"caf\xe9")
    repository.write(name)
    repository.add()
    assert repository.blob(name) == id_of(b"content\n")


def test_a_directory_below_the_top(repository: Repository) -> None:
    repository.write("member/file", b"one\n")
    repository.write("member-2/file", b"two\n")
    repository.write("file", b"three\n")
    repository.add()
    assert repository.blob("file", "member") == id_of(b"one\n")
    assert repository.blob("member/file") == id_of(b"one\n")
    index = repository.index("member")
    assert index is not None
    outside = repository.root / "file"
    assert index.blob(str(outside), outside.lstat()) is None


def test_working_trees_of_one_repository(repository: Repository, tmp_path: Path) -> None:
    repository.write("file", b"one\n")
    repository.add()
    repository.git("commit", "--quiet", "--message", "first")
    repository.git("worktree", "add", "--quiet", str(tmp_path / "other"))
    other = Repository.__new__(Repository)
    other.root, other.environ = tmp_path / "other", repository.environ
    other.settle()
    assert other.blob("file") == id_of(b"one\n")
    (repository.root / ".git/info").mkdir(exist_ok=True)
    (repository.root / ".git/info/attributes").write_text("* filter=x\n")
    assert other.blob("file") is None, "they have their attributes in common"


def test_nothing_is_known_outside_of_a_repository(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gitindex.Repository(tmp_path)


def test_a_clone_knows_nearly_all(repository: Repository, tmp_path: Path) -> None:
    names = [f"d{number % 7}/{number}" for number in range(500)]
    for name in names:
        repository.write(name, name.encode())
    repository.add()
    repository.git("commit", "--quiet", "--message", "first")
    repository.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Repository.__new__(Repository)
    clone.root, clone.environ = tmp_path / "clone", repository.environ
    index = clone.index()
    assert index is not None
    found = {n: index.blob(str(clone.root / n), (clone.root / n).lstat()) for n in names}
    known = {name: blob.hex() for name, blob in found.items() if blob}
    assert known == {name: id_of(name.encode()) for name in known}
    clone.settle()
    assert all(clone.blob(name) for name in names)


# --- what is not ---------------------------------------------------------------------------------


def changed(repository: Repository) -> None:
    repository.write("file", b"CONTENT\n")


def touched(repository: Repository) -> None:
    os.utime(repository.root / "file")


def replaced(repository: Repository) -> None:
    before = (repository.root / "file").lstat()
    repository.write("new", b"CONTENT\n").rename(repository.root / "file")
    os.utime(repository.root / "file", ns=(before.st_atime_ns, before.st_mtime_ns))


def a_link(repository: Repository) -> None:
    (repository.root / "file").unlink()
    repository.write("other", b"content\n")
    (repository.root / "file").symlink_to("other")


def a_link_that_is_known(repository: Repository) -> None:
    a_link(repository)
    repository.add()


def not_added(repository: Repository) -> None:
    repository.git("rm", "--quiet", "--cached", "file")
    repository.settle()


def thought_unchanged(repository: Repository) -> None:
    repository.git("update-index", "--assume-unchanged", "file")
    repository.settle()


def left_out(repository: Repository) -> None:
    repository.git("update-index", "--skip-worktree", "file")
    repository.settle()


def in_conflict(repository: Repository) -> None:
    blob = repository.hashed("file")
    lines = "".join(f"100644 {blob} {stage}\tfile\n" for stage in (1, 2, 3))
    repository.git("rm", "--quiet", "--cached", "file")
    repository.git("update-index", "--index-info", stdin=lines.encode())
    repository.settle()


def split(repository: Repository) -> None:
    repository.git("update-index", "--split-index")
    repository.settle()


def locked_away(repository: Repository) -> None:
    (repository.root / ".git/index").unlink()


def a_link_to_an_index(repository: Repository) -> None:
    index = repository.root / ".git/index"
    index.rename(repository.root / ".git/real")
    index.symlink_to("real")


def short(repository: Repository) -> None:
    index = repository.root / ".git/index"
    index.write_bytes(index.read_bytes()[:-30])


def damaged(repository: Repository) -> None:
    index = repository.root / ".git/index"
    content = bytearray(index.read_bytes())
    content[60] ^= 1
    index.write_bytes(content)


def of_the_future(repository: Repository) -> None:
    index = repository.root / ".git/index"
    content = bytearray(index.read_bytes())
    content[7] = 9
    whole = bytes(content[:-20])
    index.write_bytes(whole + sha1(whole, usedforsecurity=False).digest())


def with_what_must_be_understood(repository: Repository) -> None:
    index = repository.root / ".git/index"
    whole = index.read_bytes()[:-20] + b"what\0\0\0\x02xx"
    index.write_bytes(whole + sha1(whole, usedforsecurity=False).digest())


def no_index(repository: Repository) -> None:
    (repository.root / ".git/index").write_bytes(b"")


def filtered(repository: Repository) -> None:
    repository.write(".gitattributes", b"file filter=upper\n")


def filtered_by_ending(repository: Repository) -> None:
    repository.write(".gitattributes", b"[attr]own filter=upper\nfil* own\n")


def recoded(repository: Repository) -> None:
    repository.write(".gitattributes", b"* text working-tree-encoding=UTF-16\n")


def filtered_here(repository: Repository) -> None:
    (repository.root / ".git/info").mkdir(exist_ok=True)
    (repository.root / ".git/info/attributes").write_text("file filter=upper\n")


def filtered_for_the_user(repository: Repository) -> None:
    own = repository.home / ".config/git"
    own.mkdir(parents=True)
    (own / "attributes").write_text("file filter=upper\n")


def filtered_elsewhere(repository: Repository) -> None:
    repository.git("config", "core.attributesFile", "/somewhere")


def filtered_elsewhere_for_the_user(repository: Repository) -> None:
    (repository.home / ".gitconfig").write_text("[include]\n\tpath = more\n")
    (repository.home / "more").write_text("[include] path = ~/most\n")
    (repository.home / "most").write_text("[core] attributesFile = /somewhere\n")


def filtered_by_the_environment(repository: Repository) -> None:
    repository.environ |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "filter.upper.smudge",
        "GIT_CONFIG_VALUE_0": "tr a-z A-Z",
    }


def attributes_of_another_tree(repository: Repository) -> None:
    repository.environ["GIT_ATTR_SOURCE"] = "HEAD"


def attributes_of_the_user_elsewhere(repository: Repository) -> None:
    repository.environ["XDG_CONFIG_HOME"] = str(repository.home / "xdg")
    (repository.home / "xdg/git").mkdir(parents=True)
    (repository.home / "xdg/git/attributes").write_text("file ident\n")


def attributes_that_only_git_has(repository: Repository) -> None:
    repository.write("deep/.gitattributes", b"# nothing\n")
    repository.add()
    assert repository.blob("file")
    (repository.root / "deep/.gitattributes").unlink()


def without_a_format(repository: Repository) -> None:
    repository.git("config", "--unset", "core.repositoryFormatVersion")


def with_a_filter_that_no_attribute_names_any_more(repository: Repository) -> None:
    repository.git("config", "filter.upper.smudge", "tr a-z A-Z")


def with_an_identity(repository: Repository) -> None:
    repository.write(".gitattributes", b"* ident\n")


def broken_configuration(repository: Repository) -> None:
    (repository.home / ".gitconfig").write_text("[core\n")


def no_git(repository: Repository) -> None:
    repository.environ["PATH"] = "/nowhere"


def unreadable_attributes(repository: Repository) -> None:
    (repository.root / ".gitattributes").mkdir()


UNKNOWN: tuple[Callable[[Repository], None], ...] = (
    changed,
    touched,
    replaced,
    a_link,
    a_link_that_is_known,
    not_added,
    thought_unchanged,
    left_out,
    in_conflict,
    split,
    locked_away,
    a_link_to_an_index,
    short,
    damaged,
    of_the_future,
    with_what_must_be_understood,
    no_index,
    filtered,
    filtered_by_ending,
    recoded,
    filtered_here,
    filtered_for_the_user,
    filtered_elsewhere,
    filtered_elsewhere_for_the_user,
    filtered_by_the_environment,
    attributes_of_another_tree,
    attributes_of_the_user_elsewhere,
    attributes_that_only_git_has,
    without_a_format,
    with_a_filter_that_no_attribute_names_any_more,
    with_an_identity,
    broken_configuration,
    no_git,
    unreadable_attributes,
)


@pytest.mark.parametrize("change", UNKNOWN, ids=lambda each: each.__name__)
def test_nothing_is_known_of_what_git_does_not_vouch_for(
    repository: Repository, change: Callable[[Repository], None]
) -> None:
    repository.write("file")
    repository.add()
    assert repository.blob("file") == id_of(b"content\n")
    change(repository)
    assert repository.blob("file") is None


def test_another_kind_of_repository_from_the_beginning(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "first")
    tree = tmp_path / "tree"
    repository.git("init", "--quiet", "--object-format=sha256", str(tree))
    repository.root = tree
    repository.write("file")
    repository.add()
    assert repository.blob("file") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_index_of_somebody_else_is_not_believed(repository: Repository) -> None:
    repository.write("file")
    repository.add()
    os.chown(repository.root / ".git/index", 12345, 12345)
    assert repository.blob("file") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_tree_of_somebody_else_is_not_believed(repository: Repository) -> None:
    """Git says that its ownership is dubious, and does not read its configuration."""
    repository.write("file")
    repository.add()
    repository.git("config", "filter.upper.smudge", "tr a-z A-Z")
    os.chown(repository.root, 12345, 12345)
    assert repository.blob("file") is None


@pytest.mark.parametrize(
    "name",
    [
        "GIT_CEILING_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DIR",
        "GIT_INDEX_FILE",
        "GIT_WORK_TREE",
    ],
)
def test_who_tells_git_of_another_place_is_told_nothing(repository: Repository, name: str) -> None:
    repository.write("file")
    repository.add()
    index = gitindex.Repository(repository.root)
    index.index(repository.environ)
    with pytest.raises(ValueError, match=name):
        index.index({**repository.environ, name: str(repository.root / ".git")})


def rewritten(repository: Repository, change: Callable[[bytearray], None], total: bytes) -> None:
    """Change the bytes of an index; without a `total` at its end it gets the right one."""
    index = repository.root / ".git/index"
    content = bytearray(index.read_bytes()[:-20])
    change(content)
    end = total or sha1(content, usedforsecurity=False).digest()
    index.write_bytes(bytes(content) + end)


@pytest.mark.parametrize(
    ("field", "at", "counts"),
    [
        ("device", 16, False),
        ("inode", 20, True),
        ("owner", 28, True),
        ("group", 32, True),
        ("size", 36, True),
    ],
)
def test_each_number_counts(repository: Repository, field: str, at: int, *, counts: bool) -> None:
    """The times are there for most that happens to a file, but may have been set."""
    repository.write("file")
    repository.add()

    def change(content: bytearray) -> None:
        content[content.index(b"file\0") - 62 + at + 3] ^= 1

    rewritten(repository, change, b"")
    assert (repository.blob("file") is None) == counts, field


def test_git_may_be_told_to_leave_the_checksum_out(repository: Repository) -> None:
    repository.write("file")
    repository.add()
    rewritten(repository, lambda _: None, bytes(20))
    assert repository.blob("file") == id_of(b"content\n")


def test_an_index_may_have_directories_in_place_of_files(repository: Repository) -> None:
    for name in ("here/file", "there/file", "top"):
        repository.write(name)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", "all")
    repository.git("sparse-checkout", "set", "--cone", "--sparse-index", "here")
    repository.settle()
    assert b"sdir" in (repository.root / ".git/index").read_bytes()
    assert repository.blob("here/file") == id_of(b"content\n")
    assert repository.blob("top") == id_of(b"content\n")


def test_racy_files_are_not_known(repository: Repository) -> None:
    path = repository.write("file")
    repository.git("add", "--all")
    assert (
        path.lstat().st_mtime_ns + 20_000_000 > (repository.root / ".git/index").stat().st_mtime_ns
    ), "they were written within two ticks of the clock"
    assert repository.blob("file") is None
    repository.settle()
    assert repository.blob("file") == id_of(b"content\n")


def test_an_index_that_was_written_before_its_time_is_that_young(repository: Repository) -> None:
    repository.write("file")
    repository.git("add", "--all")
    far = time.time_ns() + 3_600_000_000_000
    os.utime(repository.root / ".git/index", ns=(far, far))
    assert repository.blob("file") is None, "its own change tells when it was written"


def test_times_in_whole_seconds_are_coarse(repository: Repository) -> None:
    path = repository.write("file")
    now = time.time_ns() // 1_000_000_000 * 1_000_000_000
    os.utime(path, ns=(now, now))
    repository.add()
    assert repository.blob("file") is None


def test_directories_may_be_deep(repository: Repository) -> None:
    name = "d/" * 1_200 + "file"
    handle = os.open(repository.root, os.O_RDONLY)
    for _ in range(1_200):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    try:
        repository.add()
        assert repository.blob(name) == id_of(b"")
        assert len(tree(repository, "d") or ()) == 1_200
    finally:  # deeper than Python's own ways go
        subprocess.run(["rm", "-r", repository.root / "d"], check=True)


# --- attributes ----------------------------------------------------------------------------------


def test_a_filter_of_some_files_leaves_the_others_known(repository: Repository) -> None:
    repository.write(".gitattributes", b"# filter=none\n*.bin filter=lfs -text\n*.sh text eol=lf\n")
    repository.write("deep/.gitattributes", b"*.dat filter=lfs\n")
    for name in ("a.bin", "A.BIN", "a.dat", "a.txt", "run.sh", "deep/a.dat", "deep/a.txt"):
        repository.write(name)
    repository.git("config", "filter.lfs.clean", "cat")  # as `git lfs install` does
    repository.add()
    known = {
        name: repository.blob(name) is not None
        for name in ("a.bin", "A.BIN", "a.dat", "a.txt", "run.sh", "deep/a.dat", "deep/a.txt")
    }
    assert known == {
        "a.bin": False,
        "A.BIN": False,
        "a.dat": True,
        "a.txt": True,
        "run.sh": True,
        "deep/a.dat": False,
        "deep/a.txt": True,
    }


# --- whole directories ---------------------------------------------------------------------------


def tree(repository: Repository, name: str, *strange: str) -> dict[str, str] | None:
    """Return the names in a directory of which git knows all, each with the ID of its content."""
    index = repository.index()
    assert index is not None
    found = index.tree(str(repository.root / name).rstrip("/"), frozenset(strange))
    return None if found is None else {each: blob.hex() for each, _, blob in found}


@pytest.fixture
def grown(repository: Repository) -> Repository:
    for name in ("d/a", "d/e/b", "d/e/f/c", "d2/a", "z"):
        repository.write(name, name.encode())
    repository.add()
    return repository


def test_all_that_is_in_a_directory(grown: Repository) -> None:
    expected = {
        "a": id_of(b"d/a"),
        "e": "",
        "e/b": id_of(b"d/e/b"),
        "e/f": "",
        "e/f/c": id_of(b"d/e/f/c"),
    }
    assert tree(grown, "d") == expected
    assert tree(grown, "d/e/f") == {"c": id_of(b"d/e/f/c")}
    assert tree(grown, "d", "b", "novita.yaml") is None, "a name that counts otherwise"


def test_the_root_of_the_tree_has_what_is_not_in_git(grown: Repository) -> None:
    assert tree(grown, "") is None
    assert tree(grown, ".git") is None
    assert tree(grown, "nowhere") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "d/new").write_text("x"),
        lambda root: (root / "d/e/f/new").mkdir(),
        lambda root: (root / "d/e/b").unlink(),
        lambda root: (root / "d/e/b").write_text("x"),
        lambda root: os.utime(root / "d/e/f/c"),
        lambda root: ((root / "d/a").unlink(), (root / "d/a").symlink_to("e/b")),
        lambda root: ((root / "d/e/f").rename(root / "f"), (root / "d/e/f").symlink_to(root / "f")),
        lambda root: (root / "d/.gitattributes").write_text("* filter=x\n"),
        lambda root: (root / "d/e/.gitattributes").write_text("b ident\n"),
    ],
)
def test_of_a_directory_that_is_otherwise_nothing_is_known(
    grown: Repository, change: Callable[[Path], object]
) -> None:
    change(grown.root)
    assert tree(grown, "d") is None
    assert tree(grown, "d2") == {"a": id_of(b"d2/a")}


def test_a_filter_by_ending_counts_for_directories(grown: Repository) -> None:
    grown.write("d/.gitattributes", b"*.bin filter=lfs\n")
    grown.add()
    assert tree(grown, "d") is not None
    grown.write("d/e/f/large.BIN")
    grown.add()
    assert tree(grown, "d") is None


def test_attributes_count_below_a_directory_nobody_asked_about(grown: Repository) -> None:
    grown.write("d/e/.gitattributes", b"*.bin filter=lfs\n")
    grown.write("d/e/f/large.bin")
    grown.add()
    assert tree(grown, "d/e/f") is None


# --- whatever is done ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_after_any_edits_what_is_known_is_so(repository: Repository, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"{chance.choice(['', 'a/', 'a/b/'])}{number}" for number in range(40)]
    known = 0
    for _ in range(12):
        for name in chance.sample(names, 6):
            path = repository.root / name
            match chance.randrange(6):
                case 0:
                    path.unlink(missing_ok=True)
                case 1 if path.exists():
                    path.write_bytes(chance.randbytes(path.stat().st_size))
                case 2 if path.exists():
                    path.chmod(chance.choice([0o644, 0o755]))
                case 3 if path.exists():
                    os.utime(path, ns=(OLD, OLD))
                case 4 if path.exists():
                    repository.write("other", path.read_bytes().swapcase()).rename(path)
                case _:
                    repository.write(name, chance.randbytes(chance.randrange(20)))
        if chance.random() < 0.7:
            repository.git("add", "--all")
        if chance.random() < 0.5:
            repository.settle()
        index = repository.index()
        assert index is not None or not (repository.root / ".git/index").exists()
        for name in names:
            path = repository.root / name
            if index is not None and path.exists():
                found = index.blob(str(path), path.lstat())
                known += found is not None
                assert found is None or found.hex() == id_of(path.read_bytes())
    assert known, "or nothing was tried"
