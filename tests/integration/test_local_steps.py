"""Build steps in a real container that has nothing but busybox."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxfile.engines import Engine
from sandboxfile.errors import BuildFailed
from sandboxfile.local import guest as guests
from sandboxfile.local.guest import Guest
from sandboxfile.local.records import Failed, Setting, Step
from sandboxfile.local.steps import Bench

pytestmark = pytest.mark.engine
USER = Setting(user="user")


@pytest.fixture(scope="module")
def guest(engine: Engine, busybox: str) -> Iterator[Guest]:
    """One box for all of these tests; each uses a directory of its own."""
    with engine.box(busybox, labels={"sandboxfile.tests": "steps"}) as box:
        entered, done = guests.enter(box)
        assert done.status == 0
        yield entered


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a client uploads for `web` and `run.sh`: with its own owners."""
    path = tmp_path_factory.mktemp("uploads") / "archive"
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, mode, to in (
            ("run.sh", tarfile.REGTYPE, 0o755, ""),
            ("web", tarfile.DIRTYPE, 0o755, ""),
            ("web/in", tarfile.DIRTYPE, 0o750, ""),
            ("web/in/page", tarfile.REGTYPE, 0o640, ""),
            ("web/latest", tarfile.SYMTYPE, 0o777, "in/page"),
            ("web/same", tarfile.LNKTYPE, 0o640, "web/in/page"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname, info.uid, info.gid = kind, mode, to, 501, 20
            info.size = len(name) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(name.encode()))
    return path


@pytest.fixture
def bench(guest: Guest, archive: Path) -> Bench:
    return Bench(guest=guest, files=lambda files_hash: archive if files_hash == "here" else None)


def perform(bench: Bench, kind: str, *args: str, setting: Setting = USER) -> Setting:
    step = Step(type=kind, args=args, files_hash="here")
    return bench.perform(step, setting, tell=lambda *_: None)


def listed(guest: Guest, path: str) -> list[str]:
    """Return mode, owner, group and name of all that lies there, as `ls` says."""
    script = 'cd "$1" && ls -ldn $(find . | sort) | tr -s " " | cut -d" " -f1,3,4,9-'
    return guest.script(script, path).output.splitlines()


def shell(guest: Guest, command: str) -> str:
    return guest.script(command).output.strip()


def test_a_directory_is_merged_and_belongs_to_the_user(bench: Bench, guest: Guest) -> None:
    shell(guest, "mkdir -p /srv/merged/in; echo old >/srv/merged/in/old; chmod 0711 /srv/merged")

    perform(bench, "COPY", "web", "/srv/merged", "", "")

    assert listed(guest, "/srv/merged") == [
        "drwx--x--x 0 0 .",
        "drwxr-x--- 1000 1000 ./in",
        "-rw-r--r-- 0 0 ./in/old",
        "-rw-r----- 1000 1000 ./in/page",
        "lrwxrwxrwx 1000 1000 ./latest -> in/page",
        "-rw-r----- 1000 1000 ./same",
    ]
    assert shell(guest, "cat /srv/merged/latest; ls -i /srv/merged/same /srv/merged/in/page "
                        "| cut -d' ' -f1 | uniq | wc -l") == "web/in/page1"  # fmt: skip


def test_a_file_comes_with_owner_and_mode_and_its_directories(bench: Bench, guest: Guest) -> None:
    perform(bench, "ADD", "run.sh", "/srv/one/deep/", "nobody:user", "0700")
    perform(bench, "COPY", "run.sh", "/srv/one/other", "root")
    perform(bench, "COPY", "run.sh", "/srv/one/deep", "65534", "600")

    assert listed(guest, "/srv/one") == [
        "drwxr-xr-x 65534 1000 .",
        "drwxr-xr-x 65534 1000 ./deep",
        "-rw------- 65534 65534 ./deep/run.sh",
        "-rwxr-xr-x 0 0 ./other",
    ]


def test_a_destination_is_relative_to_the_directory_or_to_the_home(
    bench: Bench, guest: Guest
) -> None:
    perform(bench, "COPY", "run.sh", "bin/")
    perform(bench, "COPY", "run.sh", ".", setting=Setting(user="user:nogroup", workdir="/srv/w"))
    perform(bench, "COPY", "web/*", "../up", setting=Setting(user="1000", workdir="/srv/w/x"))

    assert listed(guest, "/home/user/bin") == [
        "drwxr-xr-x 1000 1000 .",
        "-rwxr-xr-x 1000 1000 ./run.sh",
    ]
    assert listed(guest, "/srv/w")[:4] == [
        "drwxr-xr-x 1000 65534 .",
        "-rwxr-xr-x 1000 65534 ./run.sh",
        "drwxr-xr-x 1000 1000 ./up",
        "drwxr-x--- 1000 1000 ./up/in",
    ]


def test_a_link_in_the_way_is_followed_as_far_as_it_is_a_directory(
    bench: Bench, guest: Guest
) -> None:
    shell(guest, "mkdir -p /srv/real /srv/bad; ln -s real /srv/link; ln -s /srv/real /srv/bad/in")

    perform(bench, "COPY", "web", "/srv/link/app")
    assert shell(guest, "ls /srv/real/app") == "in\nlatest\nsame"

    with pytest.raises(BuildFailed, match="cannot overwrite non-directory"):
        perform(bench, "COPY", "web", "/srv/bad")
    assert shell(guest, "readlink /srv/bad/in; ls /srv/real") == "/srv/real\napp"


@pytest.mark.parametrize(
    ("args", "files_hash", "reason"),
    [
        (("none", "/x", "", ""), "here", "source path does not exist"),
        (("web", "/x", "stranger", ""), "here", "there is no user 'stranger'"),
        (("web", "/x", "root:strangers", ""), "here", "there is no group 'strangers'"),
        (("web", "/x", "a;b", ""), "here", "'a;b' cannot be an owner"),
        (("web", "/x", "", "u+x"), "here", "'u+x' cannot be a mode"),
        (("web", "/x", "", "", ""), "here", "COPY cannot have 5 arguments"),
        (("web",), "here", "COPY cannot have 1 arguments"),
        (("web", "/x"), "elsewhere", "files for hash 'elsewhere' were not uploaded"),
        (("web", "/x"), None, "files for hash '' were not uploaded"),
    ],
)
def test_a_copy_that_cannot_be_made_fails_its_step(
    bench: Bench, args: tuple[str, ...], files_hash: str | None, reason: str
) -> None:
    with pytest.raises(Failed) as caught:
        bench.perform(Step(type="COPY", args=args, files_hash=files_hash), USER, tell=print)
    assert str(caught.value) == reason


def test_a_path_that_a_step_sets_gets_the_standard_directories(bench: Bench) -> None:
    lines: list[str] = []
    step = Step(type="RUN", args=("echo $PATH",))
    bench.perform(
        step,
        Setting(user="root", env={"PATH": "/opt/bin:/bin"}),
        tell=lambda _, line: lines.append(line),
    )
    assert lines == ["/opt/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin"]
