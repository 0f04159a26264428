import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from sandboxfile import fresh

ARGV = ["build", "a"]
ENVIRON = {"HOME": "/home/x", "PATH": "/bin"}
TEXT = "target local: asked for\n1 up to date, nothing to do\n"
RECORD = Path(fresh.FILE)
LOOKED_AT = ("novita.yaml", "file", "link", "data", "absent")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    """A directory with a state directory and a file that was looked at."""
    with chdir(tmp_path):
        RECORD.parent.mkdir()
        Path("novita.yaml").write_text("version: 1\n")
        Path("file").write_text("one")
        Path("link").symlink_to("file")
        Path("data").mkdir()
        yield


def remember(argv: list[str] = ARGV, text: str = TEXT) -> None:
    looked_at = [str(Path(name).absolute()) for name in LOOKED_AT]
    now = time.time_ns()
    fresh.remember("1", argv, ENVIRON, since=now, paths=[*looked_at, looked_at[0]], text=text)


@pytest.fixture
def remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    remember()
    assert fresh.said("1", ARGV, ENVIRON) == TEXT


# --- the same again --------------------------------------------------------------------------


@pytest.mark.usefixtures("remembered")
def test_a_run_that_found_nothing_to_do_is_repeated() -> None:
    assert fresh.said("1", list(ARGV), dict(ENVIRON)) == TEXT


@pytest.mark.usefixtures("remembered")
def test_reading_a_file_changes_nothing() -> None:
    os.utime("file", ns=(0, Path("file").stat().st_mtime_ns))  # as reading it would
    Path("unrelated").write_text("x")

    # The change time moved, though: the second stage looks, and finds the same content.
    assert fresh.said("1", ARGV, ENVIRON) is None


def test_sixteen_command_lines_are_remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    for number in range(20):
        remember(["build", str(number)], f"{number}\n")
    remember(["build", "4"], "four\n")

    said = [fresh.said("1", ["build", str(number)], ENVIRON) for number in range(20)]

    assert said[:4] == [None] * 4
    assert said[4:] == ["four\n", *(f"{number}\n" for number in range(5, 20))]
    assert [path.name for path in RECORD.parent.iterdir()] == ["fresh"]


@pytest.mark.parametrize("is_written_to", [False, True])
def test_a_record_that_is_a_fifo_is_not_waited_for(
    grown_old: Callable[[], None], *, is_written_to: bool
) -> None:
    os.mkfifo(RECORD)
    grown_old()
    other = os.open(RECORD, os.O_RDWR | os.O_NONBLOCK) if is_written_to else None

    assert fresh.said("1", ARGV, ENVIRON) is None
    remember()

    if other is not None:
        os.close(other)
    assert fresh.said("1", ARGV, ENVIRON) == TEXT


# --- what is different -----------------------------------------------------------------------


def _same_size_and_time() -> None:
    before = Path("file").stat()
    Path("file").write_text("two")
    os.utime("file", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Path("file").stat().st_mtime_ns == before.st_mtime_ns


def _relinked() -> None:
    Path("link").unlink()
    Path("link").symlink_to("eilf")


CHANGES: dict[str, Callable[[], object]] = {
    "edited": lambda: Path("file").write_text("longer"),
    "edited, size and time as before": _same_size_and_time,
    "replaced": lambda: (Path("new").write_text("one"), Path("new").replace("file")),
    "removed": lambda: Path("file").unlink(),
    "mode": lambda: Path("file").chmod(0o755),
    "link": _relinked,
    "added to a directory": lambda: Path("data/new").touch(),
    "came to be": lambda: Path("absent").touch(),
}


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_for_the_second_stage(change: Callable[[], object]) -> None:
    change()

    assert fresh.said("1", ARGV, ENVIRON) is None


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize(
    ("version", "argv", "environ"),
    [
        ("2", ARGV, ENVIRON),
        ("1", ["build"], ENVIRON),
        ("1", ["build", "b"], ENVIRON),
        ("1", ["build", "a", "--force"], ENVIRON),
        ("1", ["plan", "a"], ENVIRON),
        ("1", ARGV, {**ENVIRON, "HOME": "/home/y"}),
        ("1", ARGV, {**ENVIRON, "SANDBOXFILE_TARGET": "prod"}),
        ("1", ARGV, {**ENVIRON, "NOVITA_DOMAIN": "sandbox.novita.ai"}),
        ("1", ARGV, {**ENVIRON, "NOVITA_API_KEY": "key"}),
        ("1", ARGV, {**ENVIRON, "E2B_API_KEY": "key"}),
        ("1", ARGV, {**ENVIRON, "CI": "1"}),
    ],
)
def test_another_run_is_for_the_second_stage(
    version: str, argv: list[str], environ: dict[str, str]
) -> None:
    assert fresh.said(version, argv, environ) is None


@pytest.mark.usefixtures("remembered")
def test_variables_that_decide_nothing_decide_nothing() -> None:
    assert fresh.said("1", ARGV, {**ENVIRON, "PATH": "/sbin", "PWD": "/"}) == TEXT


@pytest.mark.usefixtures("remembered")
def test_another_python_is_for_the_second_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", "4.0")

    assert fresh.said("1", ARGV, ENVIRON) is None


@pytest.mark.parametrize("name", ["NOVITA_API_KEY", "E2B_ACCESS_TOKEN", "SANDBOXFILE_A_PASSWORD"])
def test_a_secret_is_not_written_down(grown_old: Callable[[], None], name: str) -> None:
    grown_old()
    environ = {**ENVIRON, name: "s3cr3t-value"}

    own = str(Path("novita.yaml").absolute())
    fresh.remember("1", ARGV, environ, since=time.time_ns(), paths=[own], text=TEXT)

    assert b"s3cr3t" not in RECORD.read_bytes()
    assert fresh.said("1", ARGV, environ) == TEXT
    assert fresh.said("1", ARGV, {**ENVIRON, name: "another"}) is None
    assert fresh.said("1", ARGV, {**ENVIRON, name: ""}) is None


@pytest.mark.usefixtures("remembered")
def test_a_copied_checkout_does_not_believe_the_record_of_the_other(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / RECORD.parent).mkdir(parents=True)
    (copy / RECORD).write_bytes(RECORD.read_bytes())

    with chdir(copy):
        assert fresh.said("1", ARGV, ENVIRON) is None


def test_in_a_directory_that_is_gone_nothing_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with chdir(gone):
        gone.rmdir()
        assert fresh.said("1", ARGV, ENVIRON) is None


# --- what is not remembered ------------------------------------------------------------------


def test_what_is_younger_than_the_clock_is_exact_is_not_remembered() -> None:
    remember()

    assert not RECORD.exists()


@pytest.mark.parametrize("name", ["file", "data", "link"])
def test_one_young_path_is_enough(grown_old: Callable[[], None], name: str) -> None:
    grown_old()
    future = time.time_ns()  # the time that it is now said to be
    os.utime(name, ns=(future, future), follow_symlinks=False)
    remember()

    assert not RECORD.exists()


def test_without_a_state_directory_nothing_is_remembered(
    grown_old: Callable[[], None],
) -> None:
    grown_old()
    RECORD.parent.rmdir()
    remember()

    assert not RECORD.parent.exists()


# --- what others wrote -----------------------------------------------------------------------


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"\0",
        lambda _: b"\0\0\0\0",
        lambda _: os.urandom(4096),
        lambda data: b"{" + data,
        lambda data: data.replace(TEXT.encode(), b"\xff\xfe"),
        lambda data: data.split(b"\0")[0] + b"\0\0",
        lambda data: data.split(b"\0")[0] + b"\0text\0\0",
        lambda data: data.split(b"\0")[0] + b"\0text\x00ff\0/absent\0\0",
        lambda data: data.replace(b"/file\0", b"/fil\0"),
        lambda data: data[: len(data) // 2],
    ],
)
def test_a_record_of_another_make_is_no_record(damage: Callable[[bytes], bytes]) -> None:
    RECORD.write_bytes(damage(RECORD.read_bytes()))

    assert fresh.said("1", ARGV, ENVIRON) is None
    remember()  # and it is replaced by a good one
    assert fresh.said("1", ARGV, ENVIRON) == TEXT


@pytest.mark.usefixtures("remembered")
def test_a_record_that_cannot_be_read_is_left_alone() -> None:
    RECORD.unlink()
    RECORD.mkdir()

    assert fresh.said("1", ARGV, ENVIRON) is None
    remember()
    assert RECORD.is_dir()


def test_names_that_are_no_text_are_remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    name = os.fsdecode(b"\xff\n\x01")
    Path(name).touch()
    grown_old()
    own = str(Path("novita.yaml").absolute())
    fresh.remember("1", ARGV, ENVIRON, since=time.time_ns(), paths=[own, name], text=TEXT)

    assert fresh.said("1", ARGV, ENVIRON) == TEXT
    Path(name).unlink()
    assert fresh.said("1", ARGV, ENVIRON) is None


def test_a_record_that_a_checkout_brings_is_not_believed(grown_old: Callable[[], None]) -> None:
    """It can name what is absent, but no inode and change time of the file that is here."""
    grown_old()
    for paths in (
        ["/absent"],
        [str(Path("file").absolute())],
        [str(Path("novita.yml").absolute())],
    ):
        fresh.remember("1", ARGV, ENVIRON, since=time.time_ns(), paths=paths, text=TEXT)

        assert fresh.said("1", ARGV, ENVIRON) is None


def test_what_changed_while_the_run_looked_is_not_remembered(grown_old: Callable[[], None]) -> None:
    began = time.time_ns()
    Path("file").write_text("two, after it was read")
    grown_old()
    own = [str(Path(name).absolute()) for name in LOOKED_AT]
    fresh.remember("1", ARGV, ENVIRON, since=began, paths=own, text=TEXT)

    assert fresh.said("1", ARGV, ENVIRON) is None
