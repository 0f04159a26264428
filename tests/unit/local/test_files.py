import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from sandboxfile.local.files import KEEP_S, Files
from tests.unit.local.conftest import Clock

HASH = "a" * 64


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "files"


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {".key"}


def test_an_archive_is_kept_across_restarts_and_shared_between_processes(directory: Path) -> None:
    one, other = Files(directory), Files(directory)
    assert one.path(HASH) is None
    one.save(HASH, [b"an ", b"archive"])
    found = other.path(HASH)
    assert found is not None
    assert found.read_bytes() == b"an archive"
    assert names(directory) == {f"{HASH}.tar"}


def test_a_link_of_one_process_is_good_in_another_and_after_a_restart(directory: Path) -> None:
    link = urlsplit(Files(directory).link(HASH))
    assert link.path == f"/storage/files/{HASH}.tar"
    query = dict(parse_qsl(link.query))
    assert Files(directory).wrong(HASH, query) == ""
    assert "signature" in Files(directory.with_name("another")).wrong(HASH, query)
    assert "signature" in Files(directory).wrong(HASH, {**query, "expires": "x"})
    assert "signature" in Files(directory).wrong(HASH, {**query, "signature": "ä"})
    assert (directory / ".key").stat().st_mode & 0o777 == 0o600


def test_an_upload_that_fails_leaves_what_was_there(directory: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    files = Files(directory)
    with pytest.raises(ConnectionResetError):
        files.save(HASH, broken())
    assert names(directory) == set()
    files.save(HASH, [b"whole"])
    with pytest.raises(ConnectionResetError):
        files.save(HASH, broken())
    found = files.path(HASH)
    assert found is not None
    assert found.read_bytes() == b"whole"


@pytest.mark.parametrize("wrong", ["", "../" + "a" * 61, "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_what_is_no_hash_is_nowhere(directory: Path, wrong: str) -> None:
    assert Files(directory).path(wrong) is None


def test_what_nobody_asks_for_is_dropped(directory: Path, clock: Clock) -> None:
    files = Files(directory, now=clock)
    for letter in "abc":
        files.save(letter * 64, [b"x"])
    (directory / ".young.part").touch()
    os.utime(directory / ".young.part", (clock.now, clock.now))
    clock.now += KEEP_S - 10
    assert files.path("b" * 64)
    files.sweep()
    assert names(directory) == {f"{letter * 64}.tar" for letter in "abc"}  # the part was a day old
    clock.now += 20
    files.sweep()
    assert names(directory) == {f"{'b' * 64}.tar"}


HALF = """
import sys, time
from pathlib import Path
from sandboxfile.local.files import Files

def half():
    yield b"x" * (1 << 20)
    print("half", flush=True)
    time.sleep(60)

Files(Path(sys.argv[1])).save("a" * 64, half())
"""


def test_kill_9_leaves_no_half_archive_that_counts_as_present(
    directory: Path, clock: Clock
) -> None:
    command = [sys.executable, "-c", HALF, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    files = Files(directory, now=clock)
    assert files.path(HASH) is None
    [part] = names(directory)
    assert part.endswith(".part")
    clock.now = (directory / part).stat().st_mtime + 24 * 3600 + 1
    files.sweep()
    assert names(directory) == set()
