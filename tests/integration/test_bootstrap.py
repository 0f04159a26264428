import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxfile import bootstrap
from sandboxfile.cancel import Cancel
from sandboxfile.errors import Cancelled, SandboxfileError, Unreachable
from sandboxfile.events import Event, Log
from sandboxfile.model import BootstrapBase
from sandboxfile.places import Position
from tests.conftest import needs

pytestmark = [
    pytest.mark.engine,  # not for an engine's sake: for root, and for a mirror within reach
    pytest.mark.timeout(600),
]

EPOCH = 1716163200
BASE = BootstrapBase(
    distribution="debian",
    suite="bookworm",
    epoch=EPOCH,
    at=Position("novita.yaml", 2, 7),
)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of our own for what mmdebstrap unpacks."""
    needs("mmdebstrap")
    directory = tmp_path / "work"
    directory.mkdir(mode=0o755)
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)  # read again from the environment
    return directory


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def ignore(event: Event) -> None:
    """Nobody looks."""


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bootstrap.archive(BASE, cache=tmp_path / "one", emit=ignore, cancel=Cancel())
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    with umask(0o077):
        second = bootstrap.archive(BASE, cache=tmp_path / "two", emit=ignore, cancel=Cancel())
    assert second.digest == first.digest
    assert bootstrap.cached(BASE, tmp_path / "one") == first
    with tarfile.open(first.path) as tar:
        check(tar)


def check(tar: tarfile.TarFile) -> None:
    """Look for what a machine or a run leaves behind, and for what has to be there."""
    members = {member.name.removeprefix("./"): member for member in tar}
    assert max(member.mtime for member in members.values()) <= EPOCH
    mine = {"etc/hostname", "etc/resolv.conf", "etc/ssh", "var/lib/dbus/machine-id"}
    logs = {"var/log/dpkg.log", "var/log/apt/history.log", "var/cache/ldconfig/aux-cache"}
    assert not (mine | logs) & members.keys()
    # Newer versions of mmdebstrap take back a diversion of theirs behind all of our hooks.
    members.pop("var/lib/dpkg/diversions-old", None)
    assert not [name for name in members if name.endswith((".deb", "-old"))]
    assert members["etc/passwd"].uname in {"", "root"}
    assert (members["etc/passwd"].uid, members["etc/passwd"].mode) == (0, 0o644)
    assert {"usr/bin/apt-get", "usr/bin/perl", "etc/apt/sources.list"} <= members.keys()
    sources = tar.extractfile(members["etc/apt/sources.list"])
    assert sources is not None
    assert b"signed-by" not in sources.read()


def test_a_suite_that_does_not_exist_is_an_error_at_its_place(tmp_path: Path) -> None:
    base = replace(BASE, suite="nosuchsuite")
    with pytest.raises(SandboxfileError) as caught:
        bootstrap.archive(base, cache=tmp_path / "cache", emit=ignore, cancel=Cancel())
    assert type(caught.value) is SandboxfileError
    assert caught.value.message == "suite `nosuchsuite` of debian is not at the mirror"
    assert caught.value.at == BASE.at


def test_a_mirror_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    base = replace(BASE, mirror="http://127.0.0.1:1/debian")
    with pytest.raises(Unreachable, match=r"Connection refused|Unable to connect") as caught:
        bootstrap.archive(base, cache=tmp_path / "cache", emit=ignore, cancel=Cancel())
    assert caught.value.message.startswith("the mirror of `debian: bookworm` does not give")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["downloading packages", "installing essential packages"])
def test_stopping_leaves_nothing_behind(tmp_path: Path, work: Path, moment: str) -> None:
    cancel = Cancel()

    def emit(event: Event) -> None:
        if isinstance(event, Log) and moment in event.text:
            cancel.set()

    with pytest.raises(Cancelled):
        bootstrap.archive(BASE, cache=tmp_path / "cache", emit=emit, cancel=cancel)
    assert cancel.is_set
    assert list(work.iterdir()) == []
    assert str(work) not in Path("/proc/self/mounts").read_text()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


STUBBORN = """#!/bin/sh
trap '' TERM
mkdir "$TMPDIR/a dev" && mount -t tmpfs none "$TMPDIR/a dev" && touch "$TMPDIR/a dev/null"
echo mounted >&2
while :; do sleep 1; done
"""


def test_what_a_killed_mmdebstrap_had_mounted_is_unmounted(
    tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    program = tmp_path / "bin/mmdebstrap"
    program.parent.mkdir()
    program.write_text(STUBBORN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    test_stopping_leaves_nothing_behind(tmp_path, work, "mounted")
