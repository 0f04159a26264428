"""The first stage says what the second would say, or nothing."""

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from sandboxfile import fresh, settled
from tests.fakes import built
from tests.fakes.shell import Ran, User

ROOT = """\
version: 1
members: ["services/*"]
include: [shared.yaml]
templates:
  root:
    base: debian:12
    files: ["deep/er/data/ -> /data/", "one.txt -> /one", "*.cfg -> /etc/", "far/off/data -> /far"]
"""
SHARED = "version: 1\ntemplates:\n  own: {base: {dockerfile: image/Dockerfile, context: deep}}\n"
MEMBER = """\
version: 1
base: {template: root}
packages: {pip: {requirements: requirements.txt}}
files: ["src/**/*.py -> /src/"]
"""
FILES = {
    "novita.yaml": ROOT,
    "shared.yaml": SHARED,
    "image/Dockerfile": "FROM debian:12\nCOPY . /x\n",
    "services/a/novita.yaml": MEMBER,
    "services/b/novita.yaml": MEMBER,
    **{f"services/{name}/requirements.txt": "six==1.17.0\n" for name in "ab"},
    **{f"services/{name}/src/x/main.py": "print()\n" for name in "ab"},
    **{f"deep/er/data/{name}": name for name in ("one", "two", "in/three")},
    "far/off/data/one": "one",
    "one.txt": "1",
    "a.cfg": "a",
}
NEW = (
    ".dockerignore", "services/a/.dockerignore", "image/Dockerfile.dockerignore", "b.cfg",
    "deep/er/data/four", "services/a/src/y.py", "services/a/src/y.txt", "services/a/uv.lock",
    "services/c/novita.yaml", "services/a/novita.yml", "unrelated", "services/unrelated",
    "services/a/.git", "novita.yml", "../novita.yaml",
)  # fmt: skip
COMMANDS = (
    ("", ["plan", "--offline", "--detailed-exitcode"]),
    ("services/a", ["plan", "--offline", ".", "--detailed-exitcode"]),
    ("deep/er", ["plan", "--offline", "own", "--json", "--detailed-exitcode"]),
)


@pytest.fixture
def mono(user: User) -> User:
    """A workspace of two members, of which everything is built, and a copy to go back to."""
    for path, content in FILES.items():
        user.write(path, content)
    built.pretend(user.root)
    user.run("status")
    shutil.copytree(user.root, user.root.with_name("kept"))
    return user


class Edits:
    """Changes of a workspace by chance, each of which something may or may not depend on."""

    def __init__(self, user: User, seed: int) -> None:
        self._user = user
        self._rng = random.Random(seed)

    def one(self) -> str:
        """Change something and say what."""
        kinds = (self._write, self._write, self._retime, self._new, self._new, self._remove,
                 self._rename, self._move, self._mode, self._link, self._lock)  # fmt: skip
        kind = self._rng.choice(kinds)
        name = self._rng.choice([*FILES])
        path = self._user.root / name
        with suppress(OSError):  # an edit before this one was of the same
            kind(path)
        return f"{kind.__name__} {name}"

    def back(self) -> None:
        """Bring all content back as it was, other in the times of some of it."""
        kept = self._user.root.with_name("kept")
        for path in (*self._user.root.iterdir(), self._user.root.with_name("novita.yaml")):
            if path.name == ".sandboxfile":
                continue
            with suppress(FileNotFoundError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copytree(
            kept, self._user.root, dirs_exist_ok=True, ignore=lambda *_: [".sandboxfile"]
        )

    def _write(self, path: Path) -> None:
        content = path.read_bytes()
        os.utime(path)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ self._rng.choice([0, 1, 2])]))

    def _retime(self, path: Path) -> None:
        before = path.stat()
        path.write_bytes(path.read_bytes().swapcase())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _new(self, _: Path) -> None:
        path = self._user.root / self._rng.choice(NEW)
        path.parent.mkdir(exist_ok=True)
        path.write_text(self._rng.choice(["version: 1\nbase: debian:12\n", "*.py\n", "", "er"]))

    def _remove(self, path: Path) -> None:
        path.unlink()

    def _rename(self, path: Path) -> None:
        other = self._user.root / self._rng.choice([*FILES])
        path.rename(path.with_name("aside"))
        other.rename(path)
        path.with_name("aside").rename(other)

    def _move(self, path: Path) -> None:
        above = path.parent
        if above != self._user.root:
            above.rename(above.with_name("moved"))
            if self._rng.random() < 0.5:
                above.symlink_to("moved")
            else:
                shutil.copytree(above.with_name("moved"), above)

    def _mode(self, path: Path) -> None:
        path.chmod(self._rng.choice([0o600, 0o644, 0o755]))

    def _link(self, path: Path) -> None:
        path.rename(path.with_name("target"))
        path.symlink_to("target")

    def _lock(self, _: Path) -> None:
        path = self._user.root / "novita.local.lock"
        text = path.read_text()
        path.write_text(self._rng.choice([text, text.replace("sf1:", "sf1:0", 1), ""]))


def _first(user: User, argv: list[str]) -> tuple[str, str] | None:
    return user.look(*argv).said


@pytest.mark.parametrize("seed", range(5))
def test_the_first_stage_says_what_the_second_would_say_or_nothing(
    mono: User, grown_old: Callable[[], None], seed: int
) -> None:
    edits = Edits(mono, seed)
    for _ in range(4):
        edits.back()
        grown_old()
        for below, argv in COMMANDS:
            user = mono.at(mono.root / below)
            ran = user.run(*argv)
            assert ran.code == 0, ran.err
            assert _first(user, argv) == (ran.err, ran.out)  # what is up to date is remembered
        done = [edits.one() for _ in range(1 + seed % 2)]
        for below, argv in COMMANDS:
            user = mono.at(mono.root / below)
            first = _first(user, argv)
            if first is not None:
                again = user.run(*argv)
                assert (0, *first) == (again.code, again.err, again.out), (argv, done)


@pytest.mark.parametrize("way", ["far", "far/off", "deep", "image", "services"])
def test_a_directory_on_the_way_that_comes_to_lead_out_is_refused(
    mono: User, grown_old: Callable[[], None], way: str
) -> None:
    grown_old()
    argv = COMMANDS[0][1]
    assert mono.run(*argv).code == 0
    assert _first(mono, argv) is not None

    directory = mono.root / way
    directory.symlink_to(directory.rename(mono.home / "elsewhere"))

    assert _first(mono, argv) is None
    assert mono.run(*argv).code == 3


def test_a_link_on_the_way_inside_of_the_workspace_is_looked_at(
    mono: User, grown_old: Callable[[], None]
) -> None:
    directory = mono.root / "far"
    (mono.root / "a").mkdir()
    directory.symlink_to(directory.rename(mono.root / "a/real"))
    grown_old()
    argv = COMMANDS[0][1]
    ran = mono.run(*argv)
    assert _first(mono, argv) == (ran.err, ran.out)

    (mono.root / "a").rename(mono.home / "a")
    (mono.root / "a").symlink_to(mono.home / "a")

    assert _first(mono, argv) is None
    assert mono.run(*argv).code == 3


# --- what is settled -------------------------------------------------------------------------


def _whole(user: User, argv: list[str], aside: Path) -> Ran:
    """Run a command as in a fresh clone."""
    state = next(each / ".sandboxfile" for each in (user.root, *user.root.parents)
                 if (each / ".sandboxfile").exists())  # fmt: skip
    state.rename(aside)
    try:
        return user.run(*argv)
    finally:
        shutil.rmtree(state, ignore_errors=True)
        aside.rename(state)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_looks_only_at_what_moved_says_what_a_whole_one_would(
    mono: User, grown_old: Callable[[], None], seed: int
) -> None:
    edits, aside = Edits(mono, seed), mono.home / "aside"
    for _ in range(3):
        edits.back()
        grown_old()
        for below, argv in COMMANDS:
            assert mono.at(mono.root / below).run(*argv).code == 0
        done = []
        for number in range(3):
            done.append(edits.one())
            if number % 2:
                grown_old()
            for below, argv in COMMANDS:
                user = mono.at(mono.root / below)
                ran = user.run(*argv, look=user.look(*argv))
                assert ran == _whole(user, argv, aside), (argv, done)
                if (said := user.look(*argv).said) is not None:
                    assert said == (ran.err, ran.out), (argv, done)


def _names(looked: fresh.Look) -> set[str] | None:
    found = settled.of(looked)
    return None if found is None else {*found.open}


def test_only_templates_of_which_something_moved_and_those_built_on_them_are_looked_at(
    mono: User, grown_old: Callable[[], None]
) -> None:
    grown_old()
    argv = ["plan", "--offline"]
    assert mono.run(*argv).code == 0
    assert _names(mono.look(*argv)) == set()

    mono.write("services/a/src/x/main.py", "print(2)\n")
    looked = mono.look(*argv)
    assert _names(looked) == {"a"}
    ran = mono.run(*argv, look=looked)
    assert re.search(r"^a +build +files changed", ran.out, re.MULTILINE)
    assert "3 up to date" in ran.out
    mono.write("far/off/data/two", "2")
    assert _names(mono.look(*argv)) == {"root", "a", "b"}
    mono.write("services/a/novita.yaml", MEMBER + "\n")
    assert _names(mono.look(*argv)) is None


@pytest.mark.parametrize("more", ["", "# by hand\n"])
def test_only_a_lock_that_is_as_it_is_written_is_not_checked_again(
    mono: User, grown_old: Callable[[], None], more: str
) -> None:
    argv = ["plan", "--offline"]
    lock = mono.root / "novita.local.lock"
    lock.write_text(lock.read_text() + more)
    grown_old()
    assert mono.run(*argv).code == 0
    mono.write("services/a/src/x/main.py", "print(2)\n")
    looked = mono.look(*argv)
    found = settled.of(looked)
    assert found is not None
    assert found.open == {"a"}
    assert (sha256(lock.read_bytes()).hexdigest() in found.locks) == (not more)
    assert "3 up to date" in mono.run(*argv, look=looked).out


@pytest.mark.parametrize("young", [".dockerignore", "image/Dockerfile"])
def test_what_decides_what_is_taken_is_not_known_by_its_content_as_it_is_copied(
    user: User, grown_old: Callable[[], None], young: str
) -> None:
    """It was read before that, too, and may have been another then."""
    user.write(".dockerignore", "none\n")
    user.write("image/Dockerfile", "FROM debian:12\nCOPY . /x\n")
    user.write("one", "1")
    user.write(
        "novita.yaml",
        """\
version: 1
templates:
  a: {base: {dockerfile: image/Dockerfile, context: .}}
  b: {base: debian:12, files: [one -> /one]}
""",
    )
    built.pretend(user.root)
    grown_old()
    for name in (young, "one"):
        os.utime(user.root / name, ns=(time.time_ns(), time.time_ns()))
    argv = ["plan", "--offline"]
    assert user.run(*argv).code == 0

    opened = _names(user.look(*argv))
    assert opened is not None
    assert "a" in opened
    assert ("b" in opened) == (young == ".dockerignore")


@pytest.mark.parametrize("is_looked_at", [True, False])
def test_a_directory_of_one_template_on_the_way_to_anothers_is_not_replaced_unseen(
    user: User, grown_old: Callable[[], None], *, is_looked_at: bool
) -> None:
    user.write("image/Dockerfile", "FROM debian:12\nCOPY other /x\n")
    user.write("image/Dockerfile.dockerignore", "none\n")
    for path in ("deep/er/data/one", "deep/two", "other/three"):
        user.write(path, path)
    user.write(
        "novita.yaml",
        """\
version: 1
templates:
  a: {base: {dockerfile: image/Dockerfile, context: .}}
  b: {base: debian:12, files: ["deep/er/data/ -> /data/"]}
""",
    )
    built.pretend(user.root)
    argv = ["plan", "--offline"]
    grown_old()
    assert user.run(*argv).code == 0
    if not is_looked_at:
        user.write("image/Dockerfile.dockerignore", "deep\n")
        user.write("deep/new", "it moves")
        grown_old()
        user.run(*argv, look=user.look(*argv))
    directory = user.root / "deep"
    directory.symlink_to(directory.rename(user.home / "elsewhere"))

    ran = user.run(*argv, look=user.look(*argv))

    assert ran == _whole(user, argv, user.home / "aside")
    assert ran.code == 3
    assert "`deep/er/data/` is outside the workspace" in ran.err
