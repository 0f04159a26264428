"""What has changed since a commit: files, configuration, and what is built on them."""

import os
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from sandboxfile import changes, locktext
from sandboxfile.config import load
from sandboxfile.config.given import Given
from sandboxfile.errors import UsageError
from sandboxfile.lockfile import Entry, Lock, read
from tests.fakes.shell import User

FILES = {
    "novita.yaml": "version: 1\nmembers: ['services/*']\ninclude: [shared/all.yaml]\n"
    "defaults: {user: user}\nvariables: {v: {default: x, env: V}}\n"
    "templates:\n"
    "  python: {base: debian, files: [lib/ -> /lib/x]}\n"
    "  all: {base: debian, files: [. -> /src/]}\n",
    "shared/all.yaml": "version: 1\ntemplates: {shared: {base: debian, run: ['${var.v}']}}\n",
    "services/a/novita.yaml": "version: 1\nbase: {template: python}\nmatrix: {v: [x, y]}\n"
    "files: ['app/*.py -> /app/', 'data/**/*.csv -> /d/', '../../lib/y -> /y']\n",
    "services/b/novita.yaml": "version: 1\ntemplates:\n"
    "  b: {base: {template: a-x}, start: run, resources: {cpu: 2}}\n"
    "  d: {base: {dockerfile: docker/Dockerfile}}\n"
    "  u: {base: debian, packages: {uv: {project: web}, pip: {requirements: r.txt}}}\n",
    "services/b/docker/Dockerfile": "FROM debian\nCOPY x /x\n",
    "services/b/docker/x": "x",
    "services/b/web/pyproject.toml": "",
    "services/b/web/uv.lock": "",
    "services/b/r.txt": "requests\n",
    "services/a/app/x.py": "1",
    'services/a/app/ä "b"\\.py': "1",
    "services/a/app/notes.txt": "1",
    "services/a/data/one/two.csv": "1",
    "lib/y": "1",
    "README.md": "1",
    ".gitignore": "*.tmp\n",
    ".dockerignore": "README.md\n.git*\n**/*.md\n.git/\n",
}  # fmt: skip
A, B = {"a-x", "a-y"}, {"b"}


@pytest.fixture
def git(user: User) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        done = user.process(["git", *who, *arguments])
        assert done.returncode == 0, done.stderr
        return str(done.stdout).strip()

    return run


@pytest.fixture
def repository(user: User, git: Callable[..., str]) -> Iterator[User]:
    """A workspace of which everything is committed."""
    for name, text in FILES.items():
        user.write(name, text)
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    with chdir(user.root):
        yield user


def since(user: User, ref: str = "HEAD", **environ: str) -> dict[str, tuple[str, ...]]:
    given = Given(environ=environ)
    workspace = load.load(user.root / "novita.yaml", given=given)
    return dict(changes.since(workspace, ref, given, locks=("novita.lock", "novita.local.lock")))


def changed(user: User, ref: str = "HEAD") -> set[str]:
    """Return what has changed, apart from the template that copies everything."""
    return set(since(user, ref)) - {"all"}


def test_nothing_has_changed_since_the_last_commit(repository: User) -> None:
    assert since(repository) == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("lib/y", {"python", "b"} | A),
        ("lib/new", {"python", "b"} | A),
        ("services/a/app/x.py", A | B),
        ("services/a/app/new.py", A | B),
        ('services/a/app/ä "b"\\.py', A | B),
        ("services/a/app/notes.txt", set[str]()),
        ("services/a/app/below/new.py", set[str]()),
        ("services/a/data/one/two.csv", A | B),
        ("services/a/data/one/deep/er/new.csv", A | B),
        ("services/b/docker/x", {"d"}),
        ("services/b/docker/Dockerfile", {"d"}),
        ("services/b/docker/Dockerfile.dockerignore", {"d"}),
        ("services/b/docker/.dockerignore", {"d"}),
        ("services/b/web/uv.lock", {"u"}),
        ("services/b/web/pyproject.toml", {"u"}),
        ("services/b/web/other", set[str]()),
        ("services/b/r.txt", {"u"}),
        (".dockerignore", {"python", "u", "b"} | A),
        ("services/b/.dockerignore", {"u"}),
        ("README.md", set[str]()),
        ("other.yaml", set[str]()),
        ("ignored.tmp", set[str]()),
    ],
)
def test_a_file_changes_those_that_take_it(repository: User, path: str, expected: set[str]) -> None:
    with (
        (repository.root / path).open("a")
        if (repository.root / path).exists()
        else (repository.write(path, "").open("a")) as file
    ):
        file.write("# changed\n")
    assert changed(repository) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ('services/a/app/ä "b"\\.py', A | B),
        ("services/a/app/x.py", A | B),
        ("services/a/app/notes.txt", set[str]()),
        ("services/a/data/one/two.csv", A | B),
        ("services/b/docker/x", {"d"}),
        ("services/b/web/uv.lock", {"u"}),
        ("lib/y", {"python", "b"} | A),
    ],
)  # fmt: skip
def test_a_file_that_is_gone_changes_those_that_took_it(
    repository: User, path: str, expected: set[str]
) -> None:
    (repository.root / path).unlink()
    assert changed(repository) == expected


def test_a_file_that_was_renamed_changes_both_sides(
    repository: User, git: Callable[..., str]
) -> None:
    git("mv", "services/a/app/x.py", "services/b/docker/x.py")
    assert changed(repository) == A | B | {"d"}


def test_the_reasons_are_told_in_the_order_of_the_workspace(repository: User) -> None:
    repository.write("lib/y", "2")
    repository.write("services/a/app/x.py", "2")
    repository.replace("services/b/novita.yaml", "start: run", "start: walk")
    found = since(repository)
    assert list(found) == ["python", "all", "a-x", "a-y", "b"]
    assert found["python"] == ("lib/y",)
    assert found["a-x"] == ("services/a/app/x.py", "lib/y", "built on `python`")
    assert found["b"] == ("its configuration", "built on `a-x`")


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("novita.yaml", "defaults: {user: user}", "defaults: {user: root}", None),
        ("novita.yaml", "version: 1", "# only a comment\nversion: 1", set()),
        ("novita.yaml", "defaults:", "x-note: 1\ndefaults:", set()),
        ("novita.yaml", "default: x", "default: y", {"shared"}),
        ("services/b/novita.yaml", "  b:", "  c: {base: debian}\n  b:", {"c"}),
        ("services/a/novita.yaml", "[x, y]", "[x, z]", {"a-z"}),
        ("services/b/novita.yaml", "start: run", "tags: [t]", {"b"}),
        ("services/b/novita.yaml", "cpu: 2", "cpu: 4", {"b"}),
        ("shared/all.yaml", "base: debian", "base: alpine", {"shared"}),
    ],
)
def test_configuration_changes_those_of_which_it_says_something_else(
    repository: User, file: str, old: str, new: str, expected: set[str] | None
) -> None:
    repository.replace(file, old, new)
    everything = {"python", "shared", "d", "u"} | A | B
    assert changed(repository) == (everything if expected is None else expected)


def test_a_variable_is_what_it_is_now_on_both_sides(repository: User) -> None:
    repository.replace("novita.yaml", "default: x", "default: y")
    assert "shared" not in since(repository, V="z")


def test_a_member_that_is_new_or_moved_is_changed(
    repository: User, git: Callable[..., str]
) -> None:
    repository.write("services/c/novita.yaml", "version: 1\nbase: debian\n")
    assert changed(repository) == {"c"}
    git("mv", "services/b", "services/e")
    assert changed(repository) == {"c", "d", "u", "b"}
    assert since(repository)["b"] == ("its configuration",)


def test_configuration_that_could_not_be_read_then_counts_as_changed(
    repository: User, git: Callable[..., str]
) -> None:
    good = (repository.root / "novita.yaml").read_text()
    repository.write("novita.yaml", "version: 1\ntemplates: [\n")
    git("commit", "-q", "-a", "-m", "broken")
    repository.write("novita.yaml", good)
    assert changed(repository) == {"python", "shared", "d", "u"} | A | B


def test_a_root_that_was_not_there_then_counts_as_changed(
    repository: User, git: Callable[..., str]
) -> None:
    git("rm", "-q", "--cached", "novita.yaml")
    git("commit", "-q", "-m", "without")
    assert changed(repository) == {"python", "shared", "d", "u"} | A | B


def test_a_file_that_cannot_be_selected_counts_as_changed(repository: User) -> None:
    for path in (repository.root / "services/a/app").glob("*.py"):
        path.unlink()
    assert changed(repository) == A | B


def test_what_happened_on_the_other_branch_is_no_change_of_this_one(
    repository: User, git: Callable[..., str]
) -> None:
    git("checkout", "-q", "-b", "topic")
    repository.write("services/b/docker/x", "mine")
    git("commit", "-q", "-a", "-m", "mine")
    git("checkout", "-q", "main")
    repository.write("lib/y", "theirs")
    git("commit", "-q", "-a", "-m", "theirs")
    git("checkout", "-q", "topic")
    repository.write("services/a/app/x.py", "not committed")
    assert changed(repository, "main") == {"d"} | A | B
    assert changed(repository, "HEAD") == A | B
    assert changed(repository, "HEAD~1") == {"d"} | A | B


def test_a_submodule_is_a_change_of_all_that_is_taken_from_it(
    repository: User, git: Callable[..., str], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git("init", "-q", str(other))
    (other / "sub").mkdir()
    (other / "sub/f").write_text("1")
    git("-C", str(other), "add", "-A")
    git("-C", str(other), "commit", "-q", "-m", "x")
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "vendor")
    repository.replace("novita.yaml", "templates:\n", "templates:\n"
                       "  v: {base: debian, files: [vendor/sub/ -> /v/]}\n"
                       "  w: {base: debian, files: ['v*/sub/f -> /w/']}\n")  # fmt: skip
    git("add", "-A")
    git("commit", "-q", "-m", "submodule")
    assert changed(repository) == set()
    (repository.root / "vendor/sub/f").write_text("2")
    assert changed(repository) == {"v", "w"}


def test_a_workspace_may_be_a_directory_of_the_repository(
    user: User, git: Callable[..., str]
) -> None:
    inner = user.at(user.root / "in/side")
    inner.write("novita.yaml", "version: 1\nname: x\nbase: debian\nfiles: [f -> /f]\n")
    inner.write("f", "1")
    user.write("other", "1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    with chdir(inner.root):
        user.write("other", "2")
        assert since(inner) == {}
        inner.replace("novita.yaml", "name: x", "name: x\nuser: root")
        assert since(inner) == {"x": ("its configuration",)}
        inner.write("f", "2")
        assert since(inner) == {"x": ("its configuration", "f")}


# --- what is refused -------------------------------------------------------------------------


def refused(user: User, ref: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        since(user, ref)
    return caught.value.message, caught.value.hint


def test_a_directory_without_a_repository_is_refused(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian\n")
    message, hint = refused(user, "main")
    assert message == "`--since main` needs a git repository"
    assert hint.startswith("not a git repository")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_of_somebody_else_is_refused_with_the_remedy_of_git(repository: User) -> None:
    os.chown(repository.root, 1234, 1234)
    os.chown(repository.root / ".git", 1234, 1234)
    message, hint = refused(repository, "HEAD")
    assert message.startswith("`--since HEAD`: git says: detected dubious ownership in repository")
    assert hint == f"run `git config --global --add safe.directory {repository.root}`"


def test_a_repository_without_a_commit_is_refused(user: User, git: Callable[..., str]) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian\n")
    git("init", "-q")
    for ref in ("HEAD", "main"):
        message, hint = refused(user, ref)
        assert message == f"`--since {ref}`: there is no commit yet"
        assert hint == "commit first, or name the templates instead"


@pytest.mark.parametrize("ref", ["", "nope", "--output=x", "HEAD~9", "HEAD^{tree}"])
def test_a_commit_that_is_not_there_is_refused(repository: User, ref: str) -> None:
    message, hint = refused(repository, ref)
    assert message == f"`--since {ref}`: git knows no such commit"
    assert "shallow clone" in hint
    assert not (repository.root / "x").exists()


def test_branches_without_a_common_commit_are_refused(
    repository: User, git: Callable[..., str]
) -> None:
    git("checkout", "-q", "--orphan", "other")
    git("commit", "-q", "-m", "other")
    message, _ = refused(repository, "main")
    assert message == "`--since main`: no commit is common to it and HEAD"


def test_what_git_says_of_a_broken_repository_is_passed_on(repository: User) -> None:
    index = repository.root / ".git/index"
    index.write_bytes(b"broken")
    message, _ = refused(repository, "HEAD")
    assert message.startswith("`--since HEAD`: git says: ")


def test_a_name_of_any_bytes_is_told_apart(repository: User) -> None:
    path = os.fsdecode(b"lib/\xff\n\t\x01")
    (repository.root / path).write_text("1")
    assert since(repository)["python"] == (path,)


# --- what a checkout brings along ------------------------------------------------------------


def test_hooks_are_not_run(repository: User) -> None:
    hook = repository.write(".git/hooks/post-index-change", "#!/bin/sh\necho ran >> ran\n")
    hook.chmod(0o755)
    repository.replace("novita.yaml", "user: user", "user: root")

    assert changed(repository) >= A
    assert not list(repository.root.rglob("ran"))


def test_programs_of_a_directory_that_poses_as_a_repository_are_not_run(
    user: User, git: Callable[..., str]
) -> None:
    git("init", "-q", "--bare")
    user.write("config", "[core]\nrepositoryformatversion = 0\nbare = false\nworktree = .\n")
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian\nfiles: [f -> /f]\n")
    user.write("f", "1")
    user.write(".gitattributes", "f filter=evil\n")
    git("add", "-f", "novita.yaml", "f", ".gitattributes")
    git("commit", "-q", "-m", "one")
    with (user.root / "config").open("a") as config:
        config.write('[filter "evil"]\nclean = touch ran; cat\n')
    user.write("f", "2")

    with chdir(user.root):
        _, hint = refused(user, "HEAD")

    assert "bare repository" in hint
    assert not (user.root / "ran").exists()


def test_an_empty_commit_is_no_wish_for_everything(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian\n")
    assert user.run("list", "--since", "").code == 64
    assert user.run("list", "--since", "", "--changed").code == 64


# --- bases in the lock -----------------------------------------------------------------------

DEBIAN = "docker.io/library/debian:latest linux/amd64"
OTHER = "docker.io/library/alpine:3 linux/amd64"
ON_DEBIAN = {"python", "d", "u", "shared", "b"} | A


def locked(**resolved: str) -> str:
    """The text of a lock that pins `debian`, `own` (of the engine) and `other` to a digest each."""
    names = {"debian": DEBIAN, "own": f"engine:{DEBIAN}", "other": OTHER}
    pins = {names[each]: f"sha256:{digit * 64}" for each, digit in resolved.items()}
    return locktext.render(Lock(resolved=pins))


@pytest.fixture
def pinned(repository: User, git: Callable[..., str]) -> User:
    """The same, with locks that pin bases."""
    for file in ("novita.lock", "novita.local.lock"):
        repository.write(file, locked(debian="1", own="1", other="1"))
    git("add", "-A", "-f")
    git("commit", "-q", "-m", "locks")
    return repository


@pytest.mark.parametrize("file", ["novita.lock", "novita.local.lock"])
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (locked(debian="1", own="1", other="1"), set[str]()),
        (locked(debian="2", own="1", other="1"), ON_DEBIAN),
        (locked(debian="1", own="2", other="1"), ON_DEBIAN),
        (locked(debian="1", own="1", other="2"), set[str]()),
        (locked(), ON_DEBIAN),
    ],
)
def test_a_base_that_is_pinned_anew_changes_what_is_built_on_it(
    pinned: User, file: str, now: str, expected: set[str]
) -> None:
    pinned.write(file, now)

    found = since(pinned)

    assert set(found) - {"all"} == expected
    if expected:
        assert found["u"] == found["d"] == (f"{file}: docker.io/library/debian:latest",)
        assert found["a-x"] == ("built on `python`",)


def test_a_lock_counts_from_where_it_is_in_git_on(
    repository: User, git: Callable[..., str]
) -> None:
    repository.write("novita.lock", locked(debian="1"))
    assert changed(repository) == set()

    repository.write("novita.lock", "not: a lock\n")
    git("add", "-A")
    git("commit", "-q", "-m", "lock")
    repository.write("novita.lock", locked(debian="1"))

    assert changed(repository) == ON_DEBIAN


def test_a_result_in_the_lock_is_no_change(pinned: User) -> None:
    key = f"sf1:{'1' * 64}"
    entry = Entry(image_key=key, template_key=key, template_id="t", build_id="b")
    lock = read(pinned.root / "novita.lock").with_entry("prod", "python", entry)
    pinned.write("novita.lock", locktext.render(lock))

    assert changed(pinned) == set()


def test_of_a_dockerfile_that_cannot_be_read_no_base_is_known(
    pinned: User, git: Callable[..., str]
) -> None:
    pinned.write("services/b/docker/Dockerfile", "FROM ${\n")
    git("commit", "-q", "-a", "-m", "broken")
    pinned.write("novita.lock", locked(debian="2", own="1", other="1"))

    assert changed(pinned) == ON_DEBIAN - {"d"}


def test_a_lock_that_is_none_now_is_refused(pinned: User) -> None:
    pinned.write("novita.lock", "x\n")

    ran = pinned.run("list", "--since", "HEAD")

    assert ran.code == 3
    assert ran.err.startswith("novita.lock:1:1: error: ")
