"""What is read ahead is what copies take, and never anything else."""

import os
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from sandboxfile import prefetch
from sandboxfile.blobs import Blobs
from sandboxfile.copied import Copies
from tests.fakes.shell import User

LARGE = "# " + "x" * (1 << 15) + "\n"


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def begun(root: Path, config: str = "novita.yaml") -> Copies | None:
    return prefetch.begun(root / config, root, Blobs(root, {}))


def finished(root: Path) -> Copies:
    """Return what a second process tells that has come to its end."""
    second = begun(root)
    assert second is not None
    os.waitid(os.P_PID, second._ahead._child, os.WEXITED | os.WNOWAIT)
    return second


def read(root: Path) -> list[str]:
    """Return the files that are read ahead, in the order in which they are."""
    (root / "novita.yaml").write_text((root / "novita.yaml").read_text() + LARGE)
    second = finished(root)
    told: list[str] = []
    for found in second.hashes():
        hashes = found()
        assert not hashes.old, "what was written just now cannot be trusted later"
        for name, record in hashes.young.items():
            assert record[-32:] == sha256((root / name).read_bytes()).digest()
            told.append(name)
    assert second.is_done
    second.close()
    return told


@pytest.mark.parametrize(
    "written",
    [
        "files: [data/ -> /srv/]",
        "files: ['data/ -> /srv/', \"data/ -> /opt/\"]",
        "files:\n      - data/ -> /srv/",
        "files: [{from: data/, to: /srv/}]",
        "files:\n      - from: 'data/'\n        to: /srv/",
        "steps: [{copy: {from: data, to: /srv/}}]",
        "base: {dockerfile: Dockerfile, context: data}",
        "files: [da*/ -> /srv/]",
    ],
)
def test_a_source_is_found_however_it_is_written(user: User, written: str) -> None:
    user.write("novita.yaml", f"version: 1\ntemplates:\n  web:\n    {written}\n")
    user.write("data/one", "1")
    user.write("data/deep/two", "2")
    user.write("other/three", "3")

    assert sorted(read(user.root)) == ["data/deep/two", "data/one"]


def test_a_path_that_is_taken_under_several_names_is_told_once(user: User) -> None:
    user.write("novita.yaml", "files: [data/**/x -> /srv/]\n")
    for name in ("x/a", "x/x/b", "x/x/x/c", "x/z"):
        user.write(f"data/{name}", name)
    (user.root / "data/x/link").symlink_to("z")

    assert sorted(read(user.root)) == [f"data/x/{name}" for name in ("a", "x/b", "x/x/c", "z")]


def test_what_several_copies_bring_is_read_once(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.write("novita.yaml", "files: [data/deep/ -> /a/, data/ -> /b/, da*/ -> /c/, x -> /d]\n")
    user.write("data/one", "1")
    user.write("data/deep/two", "2")
    user.write("x", "3")
    opened, system = user.root / "opened", os.open

    def note(path: str, flags: int) -> int:
        with opened.open("a") as file:
            file.write(f"{path}\n")
        return system(path, flags)

    monkeypatch.setattr(os, "open", note)

    assert {*read(user.root)} == {"data/deep/two", "data/one", "x"}
    files = [user.root / name for name in ("data/deep/two", "data/one", "x")]
    assert [opened.read_text().split("\n").count(os.fspath(file)) for file in files] == [1, 1, 1]


def test_the_last_is_read_first(user: User) -> None:
    user.write("novita.yaml", "files: [a/ -> /a/, b/ -> /b/, c/ -> /c/]\n")
    for name in "abc":
        user.write(f"{name}/file", name)

    assert read(user.root) == ["c/file", "b/file", "a/file"]


def test_members_are_looked_at_too(user: User) -> None:
    user.write("novita.yaml", "version: 1\nmembers:\n  - services/*\n  - one/novita.yaml\n")
    user.write("services/api/novita.yaml", "files: [app/ -> /srv/]\n")
    user.write("services/api/app/main.py", "1")
    user.write("one/novita.yaml", "files: [x -> /srv/]\n")
    user.write("one/x", "2")

    assert sorted(read(user.root)) == ["one/x", "services/api/app/main.py"]


def test_what_no_copy_would_take_is_not_read(user: User, tmp_path: Path) -> None:
    """Neither outside, nor behind a link, nor what is left out or special; nor does it wait."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    sources = ["../outside/", str(outside), "link/", "data/", "pipe", "nowhere/", ".", "\0"]
    user.write("novita.yaml", "".join(f"- {each} -> /srv/\n" for each in sources))
    (user.root / "link").symlink_to(outside)
    user.write("data/one", "1")
    user.write("data/left-out", "2")
    user.write("data/.sandboxfile/own", "3")
    user.write(".dockerignore", "**/left-out\nnot-this\n")
    user.write("not-this/file", "4")
    (user.root / "data/link").symlink_to(outside / "file")

    assert set(read(user.root)) == {"data/one", ".dockerignore"}

    os.mkfifo(user.root / "pipe")
    assert set(read(user.root)) == {"data/one"}, "a copy of `.` is refused where it is asked for"


def test_what_is_no_pattern_keeps_nothing_else_from_being_read(user: User) -> None:
    user.write("novita.yaml", "files: [a/ -> /a/, 'b[ -> /b/', c* -> /c/]\n")
    user.write("a/file", "1")
    user.write("c/file", "2")

    assert read(user.root) == ["c/file", "a/file"]


def test_little_is_not_read_ahead(user: User) -> None:
    user.write("novita.yaml", "files: [data/ -> /srv/]\n")
    user.write("data/one", "1")
    assert begun(user.root) is None

    user.write("novita.lock", LARGE)
    second = begun(user.root)
    assert second is not None, "the lock shows that there are many templates"
    second.close()


def test_nothing_is_read_ahead_where_there_is_one_core(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.write("novita.yaml", LARGE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)

    assert begun(user.root) is None


def test_too_many_processes_are_no_error(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError

    user.write("novita.yaml", LARGE)
    monkeypatch.setattr(os, "fork", refuse)

    assert begun(user.root) is None


@pytest.mark.parametrize("config", [LARGE.encode() + b"\xff", b"x" * (2 << 20)])
def test_what_is_no_configuration_names_nothing(user: User, config: bytes) -> None:
    (user.root / "novita.yaml").write_bytes(config)
    second = finished(user.root)
    assert not list(second.hashes())
    second.close()
