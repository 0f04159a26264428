import ast
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sandboxfile import contents, context, gathering, lockfile
from sandboxfile.contents import Selection
from sandboxfile.context import select, select_context
from sandboxfile.errors import ConfigError
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy, DockerfileBase
from sandboxfile.places import Position
from tests.fakes.shell import unprivileged

AT = Position("novita.yaml", 9, 5)
Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files of the workspace; a name with `/` at its end is a directory."""

    def write(*names: str, **texts: str) -> Path:
        for name in names:
            path = tmp_path / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_text(name)
        for name, text in texts.items():
            (tmp_path / name.replace("_", ".")).write_text(text)
        return tmp_path

    return write


def take(root: Path, *sources: str, within: str = "", ignore: tuple[str, ...] = ()) -> Selection:
    copy = Copy(sources=sources, to="/app/", root=root / within, ignore=ignore, at=AT)
    return select(copy, Ground(root))


def names(selection: Selection) -> list[str]:
    return [each.name + "/" * (each.kind == "directory") for each in selection.entries]


def complaint(root: Path, *sources: str, within: str = "", ignore: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        take(root, *sources, within=within, ignore=ignore)
    assert {problem.at for problem in caught.value.problems} == {AT}
    return str(caught.value)


# --- sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (("app",), [".env", "a.py", "empty/", "sub/", "sub/b.py"]),
        (("app/",), [".env", "a.py", "empty/", "sub/", "sub/b.py"]),
        (("./app/../app",), [".env", "a.py", "empty/", "sub/", "sub/b.py"]),
        (("app/**",), [".env", "a.py", "empty/", "sub/", "sub/b.py"]),
        (("app/a.py",), ["a.py"]),
        (("app/*",), [".env", "a.py", "b.py"]),
        (("app/*.py",), ["a.py"]),
        (("app/?.py",), ["a.py"]),
        (("app/[^b-z].py",), ["a.py"]),
        (("**/*.py",), ["a.py", "b.py"]),
        (("**/sub",), ["b.py"]),
        (("a**/sub/*.py",), ["b.py"]),
        (("*/a.py",), ["a.py"]),
        (("one.txt", "app/sub"), ["b.py", "one.txt"]),
        (("app", "app/a.py"), [".env", "a.py", "empty/", "sub/", "sub/b.py"]),
        (("app/empty",), []),
    ],
)
def test_sources_bring(tree: Tree, sources: tuple[str, ...], expected: list[str]) -> None:
    root = tree("app/a.py", "app/.env", "app/empty/", "app/sub/b.py", "one.txt")
    assert names(take(root, *sources)) == expected


@pytest.mark.parametrize("source", ["a[", "app/*/\\d", "[z-a]/x"])
def test_a_source_that_is_no_pattern_is_an_error(tree: Tree, source: str) -> None:
    assert f"`{source}` is no pattern: " in complaint(tree("app/a"), source)


def test_the_whole_directory_can_be_taken(tree: Tree) -> None:
    assert names(take(tree("a", "b/c"), ".")) == ["a", "b/", "b/c"]


@pytest.mark.parametrize(
    ("sources", "single"),
    [
        (("one.txt",), True),
        (("./one.txt",), True),
        (("one.*",), False),
        (("one.txt", "two.txt"), False),
        (("app",), False),
    ],
)
def test_one_file_named_as_such_is_single(
    tree: Tree, sources: tuple[str, ...], *, single: bool
) -> None:
    root = tree("one.txt", "two.txt", "app/a.py")
    assert take(root, *sources).single is single


def test_directories_of_several_sources_merge(tree: Tree) -> None:
    root = tree("a/lib/x", "b/lib/y")
    assert names(take(root, "a", "b")) == ["lib/", "lib/x", "lib/y"]


@pytest.mark.parametrize("sources", [("a", "b"), ("?/*.py",), ("**/x.py",)])
def test_two_files_of_one_name_are_an_error(tree: Tree, sources: tuple[str, ...]) -> None:
    text = complaint(tree("a/x.py", "b/x.py"), *sources)
    assert "both `a/x.py` and `b/x.py` would become `x.py`" in text


def test_a_file_and_a_directory_of_one_name_are_an_error(tree: Tree) -> None:
    assert "both `a/x` and `b/x` would become `x`" in complaint(tree("a/x", "b/x/y"), "a", "b")


def test_an_archive_is_told_by_its_content(tree: Tree) -> None:
    root = tree("a", "b")
    selection = take(root, "a", "b")
    assert contents.packed(selection) is None
    (root / "b").write_bytes(b"\x1f\x8b\x08")
    assert contents.packed(selection) == "b"
    (root / "b").unlink()  # who sends it will say so
    assert contents.packed(selection) is None


def test_names_are_sorted_by_their_bytes(tree: Tree) -> None:
    root = tree("d/é", "d/Z", "d/a.b", "d/a/b", "d/\uffee", "d/\U0001f600")
    (root / "d" / os.fsdecode(b"\xc3")).write_text("")
    (root / "d" / os.fsdecode(b"\xff")).write_text("")
    found = [contents.as_bytes(entry.name) for entry in take(root, "d").entries]
    assert found == sorted(found)
    assert found[-1] == b"\xff"


def test_only_the_executable_bit_of_the_owner_counts(tree: Tree) -> None:
    root = tree("d/a", "d/b", "d/c")
    for name, mode in (("a", 0o4700), ("b", 0o677), ("c", 0o444)):
        (root / "d" / name).chmod(mode)
    assert [entry.executable for entry in take(root, "d").entries] == [True, False, False]


def test_sizes_are_of_files(tree: Tree) -> None:
    root = tree("d/abc", "d/e/")
    assert [entry.size for entry in take(root, "d").entries] == [5, 0]


# --- links -----------------------------------------------------------------------------------


def test_links_are_kept_as_their_text(tree: Tree) -> None:
    root = tree("d/a", "d/sub/b")
    texts = {
        "absolute": "/usr/bin/python3",
        "dangling": "./no/../where",
        "up": "../../..",
        "s": "sub",
    }
    for name, target in texts.items():
        (root / "d" / name).symlink_to(target)
    found = take(root, "d")
    assert {e.name: e.link for e in found.entries if e.kind == "link"} == texts
    assert "s/b" not in names(found)
    assert "b" not in names(take(root, "d/*/b"))[1:]


@pytest.mark.parametrize("target", ["real", "real/f", "nowhere"])
def test_a_source_that_is_a_link_is_an_error(tree: Tree, target: str) -> None:
    root = tree("real/f")
    (root / "l").symlink_to(target)
    text = complaint(root, "l")
    assert "`l` is a link, and links are not followed" in text
    assert f"hint: name what it points to: `{target}`" in text
    assert text == complaint(root, "l/**").replace("l/**", "l")


def test_a_source_that_is_a_link_out_names_no_target(tree: Tree) -> None:
    root = tree("a")
    (root / "l").symlink_to("/etc/hostname")
    assert "hint: put the files there" in complaint(root, "l")


def test_globs_keep_links(tree: Tree) -> None:
    root = tree("d/f")
    (root / "d/l").symlink_to("f")
    assert [entry.kind for entry in take(root, "d/?").entries] == ["file", "link"]


def test_a_link_on_the_way_may_stay_inside(tree: Tree) -> None:
    root = tree("releases/1/app/a")
    (root / "current").symlink_to("releases/1")
    assert names(take(root, "current/app")) == ["a"]
    assert names(take(root, "current/*/a")) == ["a"]


@pytest.mark.parametrize("source", ["out/app", "out/*", "out/../out/app/a"])
def test_a_link_on_the_way_may_not_lead_out(tree: Tree, tmp_path: Path, source: str) -> None:
    tree("outside/app/a", "workspace/")
    (tmp_path / "workspace/out").symlink_to("../outside")
    text = complaint(tmp_path / "workspace", source)
    assert f"`{source}` is outside the workspace: `{tmp_path / 'outside'}" in text


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("../x", "is outside the workspace"),
        ("a/../../x", "is outside the workspace"),
        ("../workspace2", "is outside the workspace"),
        ("/etc/passwd", "is an absolute path"),
    ],
)
def test_sources_may_not_leave_the_workspace(
    tree: Tree, tmp_path: Path, source: str, what: str
) -> None:
    tree("workspace/a/", "workspace2/f", "x")
    assert f"`{source}` {what}" in complaint(tmp_path / "workspace", source)


def test_a_workspace_reached_through_a_link_is_fine(tree: Tree, tmp_path: Path) -> None:
    tree("real/app/a")
    (tmp_path / "link").symlink_to("real")
    assert names(take(tmp_path / "link", "app")) == ["a"]


# --- ignoring --------------------------------------------------------------------------------


def test_a_dockerignore_that_is_a_fifo_is_not_waited_for(tree: Tree) -> None:
    root = tree("app/a")
    os.mkfifo(root / ".dockerignore")
    assert "cannot read `.dockerignore`: it is not a regular file" in complaint(root, "app/")


def test_dockerignore_of_the_stating_directory_applies(tree: Tree) -> None:
    root = tree("m/app/a.py", "m/app/a.pyc", "m/.dockerignore", ".dockerignore", "app/a.pyc")
    (root / "m/.dockerignore").write_text("**/*.pyc\n")
    (root / ".dockerignore").write_text("**/*.py\n")
    assert names(take(root, "app", within="m")) == ["a.py"]
    assert names(take(root, "../app", within="m")) == ["a.pyc"]


def test_a_directory_left_out_comes_back_with_what_is_taken_back(tree: Tree) -> None:
    root = tree("a/b/c/keep", "a/b/drop", "a/z/y", _dockerignore="a\n!a/b/c/keep")
    assert names(take(root, ".")) == [".dockerignore", "a/", "a/b/", "a/b/c/", "a/b/c/keep"]
    assert names(take(root, "a")) == ["b/", "b/c/", "b/c/keep"]
    assert names(take(root, "a/b/c/keep")) == ["keep"]


def test_the_copys_own_patterns_apply_to_the_names_that_arrive(tree: Tree) -> None:
    root = tree("app/a.py", "app/t/a.txt", "app/t/b.txt", "b.py")
    ignore = ("*.py", "t", "!t/b.txt")
    assert names(take(root, "app", ignore=ignore)) == ["t/", "t/b.txt"]
    assert names(take(root, "app/?", "app/t/*", ignore=("a*",))) == ["b.txt"]
    assert "`b.py` is left out by `*.py` (novita.yaml:9:5)" in complaint(
        root, "b.py", ignore=ignore
    )


def test_a_bad_pattern_of_the_copy_is_told_at_its_place(tree: Tree) -> None:
    assert "`a[` is no pattern" in complaint(tree("a"), "a", ignore=("a[",))


def test_a_bad_dockerignore_is_told_at_its_line(tree: Tree) -> None:
    with pytest.raises(ConfigError, match=r"^\.dockerignore:2:1: error: `\[` is no pattern"):
        take(tree("a", _dockerignore="x\n["), "a")


def test_what_sandboxfile_writes_is_never_taken(tree: Tree) -> None:
    root = tree(
        "novita.lock", "novita.local.lock", ".sandboxfile/x", "a/.sandboxfile/y", "a/novita.lock",
        *map(lockfile.draft, gathering.LOCKS), _dockerignore="!**",
    )  # fmt: skip
    assert names(take(root, ".")) == [".dockerignore", "a/", "a/novita.lock"]
    assert names(take(root, "**/novita.lock")) == ["novita.lock"]
    text = complaint(root, "novita.lock", ".sandboxfile/x", ".sandboxfile")
    assert text.count("what sandboxfile writes itself is never copied") == 3


# --- what is not there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("dist", "`dist` is left out by `dist/` (.dockerignore:2:1)"),
        ("dist/*.js", "`dist/o.js` is left out by `dist/` (.dockerignore:2:1)"),
        ("app/mian.py", "did you mean `app/main.py` or"),
        ("app/main.py/x", "or `app/main.pyc` (left out by `*/*.pyc`, .dockerignore:1:1)?"),
        ("app/*.ts", "did you mean `app/x.js`"),
        ("zzzzzzzz", ""),
    ],
)  # fmt: skip
def test_nothing_is_an_error_that_helps(tree: Tree, source: str, hint: str) -> None:
    root = tree("dist/o.js", "app/main.py", "app/main.pyc", "app/x.js", ".git/app/x.ts")
    tree(_dockerignore="*/*.pyc\ndist/")
    text = complaint(root, source)
    assert text.startswith(f"novita.yaml:9:5: error: nothing matches `{source}`")
    assert hint in text
    assert ("hint:" in text) is bool(hint)


def test_all_problems_are_told_at_once(tree: Tree) -> None:
    root = tree("a")
    (root / "l").symlink_to("a")
    text = complaint(root, "l", "nowhere", "../x")
    assert text.count("error:") == 3


# --- what cannot be copied -------------------------------------------------------------------


@pytest.fixture
def special(tree: Tree) -> Iterator[Mapping[str, str]]:
    root = tree("d/")
    os.mkfifo(root / "d/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(root / "d")  # a socket's path is short
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
        yield {"pipe": "it is a FIFO", "sock": "it is a socket"}


def test_special_files_are_an_error(tree: Tree, special: Mapping[str, str]) -> None:
    root = tree()
    text = complaint(root, "d")
    for name, what in special.items():
        assert f"`d/{name}` cannot be copied: {what}" in text
        assert f"`d/{name}` cannot be copied: {what}" in complaint(root, f"d/{name}")
    tree(_dockerignore="d/pipe\nd/sock")
    assert names(take(root, "d")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_devices_are_an_error(tree: Tree) -> None:
    root = tree("d/")
    try:
        os.mknod(root / "d/null", 0o020666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may not make devices")
    assert "`d/null` cannot be copied: it is a device" in complaint(root, "d")


def test_whiteouts_are_an_error(tree: Tree) -> None:
    assert "its name begins with `.wh.`" in complaint(tree("d/.wh.a"), "d")
    assert "its name begins with `.wh.`" in complaint(tree("d/.wh.a"), "d/.wh.a")
    root = tree("below/.wh.d/kept")
    (root / ".dockerignore").write_text("below/.wh.d\n!below/.wh.d/kept\n")
    assert "`below/.wh.d` cannot be copied: its name begins with `.wh.`" in complaint(root, "below")


def test_names_are_shown_without_control_characters(tree: Tree) -> None:
    root = tree("d/")
    os.mkfifo(os.fsencode(root) + b"/d/a\n\x1b\xff")
    assert r"`d/a\n\x1b\udcff` cannot be copied" in complaint(root, "d")


@pytest.fixture
def guarded() -> Iterator[Path]:
    """A directory that others than its owner may enter too, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_unreadable_directories_are_listed(guarded: Path) -> None:
    for number in range(22):
        (guarded / f"d/{number:02}").mkdir(parents=True)
        (guarded / f"d/{number:02}").chmod(0)
    with unprivileged():
        text = complaint(guarded, "d")
    assert "cannot read `d/00`: Permission denied, `d/01`: Permission denied" in text
    assert text.endswith("`d/19`: Permission denied and 2 more")


def test_what_cannot_be_looked_at_is_listed(guarded: Path) -> None:
    (guarded / "d").mkdir()
    (guarded / "d/f").write_text("f")
    (guarded / "d").chmod(0o444)  # names can be read, nothing else
    with unprivileged():
        assert "cannot read `d/f`: Permission denied" in complaint(guarded, "d")
        assert "cannot read `d/f`: Permission denied" in complaint(guarded, "d/f")


def test_an_unreadable_dockerignore_is_told(tree: Tree) -> None:
    assert "cannot read `.dockerignore`: Is a directory" in complaint(
        tree("a", ".dockerignore/"), "a"
    )


# --- contexts --------------------------------------------------------------------------------


def context_of(root: Path, dockerfile: str = "Dockerfile", within: str = ".") -> Selection:
    base = DockerfileBase(dockerfile=root / dockerfile, context=root / within, at=AT)
    return select_context(base, Ground(root))


def test_a_context_is_the_whole_directory(tree: Tree) -> None:
    root = tree(
        "c/Dockerfile", "c/a", "c/b/c", "c/.git/x", "c/skip", "novita.lock", "c/novita.lock"
    )
    (root / "c/.dockerignore").write_text("skip")
    found = context_of(root, "c/Dockerfile", "c")
    assert names(found) == [
        ".dockerignore", ".git/", ".git/x", "Dockerfile", "a", "b/", "b/c", "novita.lock",
    ]  # fmt: skip
    assert (found.copy, found.single) == (None, False)


def test_the_dockerfiles_own_ignore_file_wins(tree: Tree) -> None:
    root = tree("x.Dockerfile", "a", "b", _dockerignore="a")
    (root / "x.Dockerfile.dockerignore").write_text("b")
    assert names(context_of(root, "x.Dockerfile")) == [
        ".dockerignore", "a", "x.Dockerfile", "x.Dockerfile.dockerignore",
    ]  # fmt: skip


def test_a_context_may_not_lead_out(tree: Tree, tmp_path: Path) -> None:
    tree("outside/a", "w/Dockerfile")
    (tmp_path / "w/c").symlink_to("../outside")
    with pytest.raises(ConfigError, match="the context is outside the workspace"):
        context_of(tmp_path / "w", within="c")


def test_a_context_that_is_not_there_is_told(tree: Tree) -> None:
    with pytest.raises(ConfigError, match="cannot read `c`: No such file or directory"):
        context_of(tree("Dockerfile"), within="c")


# --- the same everywhere ---------------------------------------------------------------------


def test_a_selection_is_the_same_for_any_way_of_making_the_tree(tmp_path: Path) -> None:
    files = [f"{a}/{b}{c}" for a in "xyz" for b in "abc" for c in (f".{a}.py", f"/{a}")]
    seen = []
    for seed, umask in enumerate((0o022, 0o077, 0o000)):
        root = tmp_path / f"checkout-{seed}"
        shuffled = random.Random(seed).sample(files, len(files))
        before = os.umask(umask)
        try:
            for name in shuffled:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(name)
                os.utime(root / name, ns=(seed, seed * 10**18))
        finally:
            os.umask(before)
        found = take(root, "x", "y/a", "z/*.py").entries
        seen.append([(e.name, e.kind, e.executable, e.link, e.size) for e in found])
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) > 9


SCRIPT = """
import sys
from pathlib import Path
from sandboxfile.context import select
from sandboxfile.gathering import Ground
from sandboxfile.model import Copy
from sandboxfile.places import Position

root = Path(sys.argv[1])
for source in ("\\u00e9", "*/\\u00fc?", "."):
    copy = Copy(sources=(source,), to="/", root=root, at=Position("f", 1, 1))
    print(ascii([(e.name, e.kind, e.link) for e in select(copy, Ground(root)).entries]))
"""


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONUTF8": "1"}]
)
def test_a_selection_is_the_same_in_every_locale(tree: Tree, locale: Mapping[str, str]) -> None:
    root = tree("é/ü1", "é/x/ö")
    (root / "é" / os.fsdecode(b"\xff")).symlink_to("ß")
    package = os.fspath(Path(context.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT, root],
        env={"PYTHONPATH": package, **locale},
        capture_output=True,
        text=True,
        check=True,
    )
    below = [("é/x", "directory", ""), ("é/x/ö", "file", ""), ("é/ü1", "file", "")]
    below.append(("é/\udcff", "link", "ß"))
    assert [ast.literal_eval(line) for line in found.stdout.splitlines()] == [
        [(name[2:], kind, link) for name, kind, link in below],
        [("ü1", "file", "")],
        [("é", "directory", ""), *below],
    ]


def test_what_decides_the_selection_is_known(tree: Tree) -> None:
    root = tree("app/a", "app/sub/b", "app/left/c", _dockerignore="app/left")
    found = take(root, "app", "**/b")
    assert found.looked_at == {
        os.fspath(root / name) for name in (".dockerignore", "app", "app/sub", "app/left", ".")
    }
    shutil.rmtree(root / "app/sub")
    assert context.select(Copy(sources=("app",), to="/", root=root, at=AT), Ground(root)) != found


def test_what_selections_share_is_told_in_each_of_them(tree: Tree) -> None:
    root = tree("one/a", "two/b", "inner/c")
    (root / ".dockerignore").mkdir()
    (root / "way").symlink_to("inner")
    (root / "out").symlink_to("/")
    ground = Ground(root)
    for source in ("one", "two"):
        with pytest.raises(ConfigError, match=r"cannot read `\.dockerignore`: Is a dir"):
            select(Copy(sources=(source,), to="/", root=root, at=AT), ground)
    assert ground.inside(os.fspath(root / "way/c")) == "inner/c"
    assert ground.inside(os.fspath(root)) == "."
    assert ground.inside(os.fspath(root / "out/etc")) is None
    assert ground.real("/") == "/"
