import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import fresh, records

ARGV = ["build", "a"]
ENVIRON = {"HOME": "/home/x", "PATH": "/bin"}
TEXT = "target local: asked for\n1 up to date, nothing to do\n"
SAID = (TEXT, "")
RECORDS = Path(fresh.DIRECTORY)
LOOKED_AT = ("novita.yaml", "file", "link", "data", "absent")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    """A directory with a state directory and a file that was looked at."""
    with chdir(tmp_path):
        RECORDS.parent.mkdir()
        Path("novita.yaml").write_text("version: 1\n")
        Path("file").write_text("one")
        Path("link").symlink_to("file")
        Path("data").mkdir()
        yield


def remember(argv: list[str] = ARGV, text: str = TEXT, **other: Any) -> None:
    paths = [str(Path(name).absolute()) for name in LOOKED_AT]
    usual: dict[str, Any] = {
        "here": str(Path.cwd()),
        "config": str(Path("novita.yaml").absolute()),
        "since": time.time_ns(),
        "paths": [*paths, paths[0]],
        "told": text,
    }
    records.remember("1", argv, other.pop("environ", ENVIRON), **{**usual, **other})


def record() -> Path:
    """The one record there is."""
    (found,) = RECORDS.iterdir()
    return found


@pytest.fixture
def remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    remember()
    assert fresh.look("1", ARGV, ENVIRON).said == SAID


# --- the same again --------------------------------------------------------------------------


@pytest.mark.usefixtures("remembered")
def test_a_run_that_found_nothing_to_do_is_repeated() -> None:
    assert fresh.look("1", list(ARGV), dict(ENVIRON)).said == SAID


@pytest.mark.usefixtures("remembered")
def test_reading_a_file_changes_nothing() -> None:
    os.utime("file", ns=(0, Path("file").stat().st_mtime_ns))  # as reading it would
    Path("unrelated").write_text("x")

    # The change time moved, though: the second stage looks, and finds the same content.
    assert fresh.look("1", ARGV, ENVIRON).said is None


def test_sixteen_command_lines_are_remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    for number in range(20):
        remember(["build", str(number)], f"{number}\n")
        os.utime(max(RECORDS.iterdir(), key=os.path.getmtime), ns=(number, number))
    remember(["build", "4"], "four\n")

    said = [fresh.look("1", ["build", str(number)], ENVIRON).said for number in range(20)]

    assert said[:4] == [None] * 4
    assert said[4:] == [("four\n", ""), *((f"{number}\n", "") for number in range(5, 20))]


def test_what_went_to_standard_output_is_said_too(grown_old: Callable[[], None]) -> None:
    grown_old()
    remember(printed=f"{{{fresh.TIMES}}}\n")

    assert fresh.look("1", ARGV, ENVIRON).said == (TEXT, "{\0}\n")


def test_a_run_from_below_is_repeated_from_there_only(grown_old: Callable[[], None]) -> None:
    grown_old()
    with chdir("data"):
        below = str(Path.cwd())
    config = str(Path("novita.yaml").absolute())
    remember(here=below)

    assert fresh.look("1", ARGV, ENVIRON).said is None
    with chdir("data"):
        assert fresh.look("1", ARGV, ENVIRON).said == SAID
    Path("deeper/and").mkdir(parents=True)
    with chdir("deeper/and"):
        for options in (
            ["-C../.."],
            ["--directory", "../../data"],
            ["--directory=/x", "-C", ".."],
            ["-f", "../../novita.yaml"],
            ["-fnovita.yaml", "-C", "../.."],
            ["--file=../../novita.yaml"],
        ):
            argv = [*options, "build"]
            arguments: Any = {"since": time.time_ns(), "paths": [], "told": TEXT}
            records.remember("1", argv, ENVIRON, here=str(Path.cwd()), config=config, **arguments)
            assert fresh.look("1", argv, ENVIRON).said == SAID
        assert fresh.look("1", ["-C..", "build"], ENVIRON).said is None
    os.utime("file")
    with chdir("data"):
        assert fresh.look("1", ARGV, ENVIRON).said is None


def test_many_paths_are_compared_to_the_last(grown_old: Callable[[], None]) -> None:
    Path("many").mkdir()
    count = fresh._MANY + 10
    paths = [Path("many", str(number)) for number in range(count)]
    for path in paths:
        path.touch()
    grown_old()
    remember(paths=[str(path.absolute()) for path in paths])
    assert fresh.look("1", ARGV, ENVIRON).said == SAID

    names = b"".join(bytes(path) + b"\0" for path in paths)
    marks = fresh._marks(names.split(b"\0")[:-1])

    def moved(marks: bytes, most: int = 9) -> list[list[int] | None]:
        found: list[list[int] | None] = []
        for compare in (fresh._compare, fresh._compare_in_two):
            try:
                found.append(compare(names, marks, most))
            except ValueError:
                found.append(None)
        return found

    assert moved(marks) == [[], []]
    for other in (marks[:-40], marks + bytes(40), bytes(40) + marks, marks[40:]):
        assert moved(other) == [None, None]
    for number in (0, fresh._CHUNK, count - 1):
        os.utime(paths[number], ns=(1, 1))
        assert moved(marks) == [[number], [number]]
        assert moved(marks, 0) == [None, None]
        marks = fresh._marks(names.split(b"\0")[:-1])
    paths[-1].unlink()
    paths[0].unlink()
    assert moved(marks) == [[0, count - 1], [0, count - 1]]
    assert moved(marks, 0) == [None, None]

    inodes = fresh.packed([fresh.inode(Path("many").lstat())])
    assert fresh._compare_in_two(names, marks, 9, b"many\0", inodes) == [0, count - 1]
    with pytest.raises(ValueError, match="many"):
        fresh._compare_in_two(names, marks, 9, b"many\0", fresh.packed([1]))
    with pytest.raises(FileNotFoundError):
        fresh._compare_in_two(names, marks, 9, b"gone\0", inodes)


@pytest.mark.parametrize("is_written_to", [False, True])
def test_a_record_that_is_a_fifo_is_not_waited_for(
    grown_old: Callable[[], None], *, is_written_to: bool
) -> None:
    grown_old()
    remember()
    name = record()
    name.unlink()
    os.mkfifo(name)
    other = os.open(name, os.O_RDWR | os.O_NONBLOCK) if is_written_to else None

    assert fresh.look("1", ARGV, ENVIRON).said is None
    remember()

    if other is not None:
        os.close(other)
    assert fresh.look("1", ARGV, ENVIRON).said == SAID


def _link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    RECORDS.symlink_to(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "brought", [_link, lambda _: RECORDS.touch(), lambda _: os.mkfifo(RECORDS)]
)
def test_what_is_in_the_place_of_the_records_goes(
    grown_old: Callable[[], None], tmp_path: Path, brought: Callable[[Path], object]
) -> None:
    brought(tmp_path)
    grown_old()
    remember()

    assert fresh.look("1", ARGV, ENVIRON).said == SAID
    assert not RECORDS.is_symlink()


def test_a_state_directory_that_is_a_link_is_not_written_to(
    grown_old: Callable[[], None], tmp_path: Path
) -> None:
    RECORDS.parent.rmdir()
    (tmp_path / "elsewhere").mkdir()
    RECORDS.parent.symlink_to("elsewhere")
    grown_old()
    remember()

    assert list((tmp_path / "elsewhere").iterdir()) == []


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

    assert fresh.look("1", ARGV, ENVIRON).said is None


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
    assert fresh.look(version, argv, environ).said is None


@pytest.mark.usefixtures("remembered")
def test_variables_that_decide_nothing_decide_nothing() -> None:
    assert fresh.look("1", ARGV, {**ENVIRON, "PATH": "/sbin", "PWD": "/"}).said == SAID


@pytest.mark.usefixtures("remembered")
def test_another_python_is_for_the_second_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", "4.0")

    assert fresh.look("1", ARGV, ENVIRON).said is None


@pytest.mark.parametrize("name", ["NOVITA_API_KEY", "E2B_ACCESS_TOKEN", "SANDBOXFILE_A_PASSWORD"])
def test_a_secret_is_not_written_down(grown_old: Callable[[], None], name: str) -> None:
    grown_old()
    environ = {**ENVIRON, name: "s3cr3t-value"}

    remember(environ=environ)

    assert b"s3cr3t" not in record().read_bytes()
    assert fresh.look("1", ARGV, environ).said == SAID
    assert fresh.look("1", ARGV, {**ENVIRON, name: "another"}).said is None
    assert fresh.look("1", ARGV, {**ENVIRON, name: ""}).said is None


@pytest.mark.usefixtures("remembered")
def test_a_copied_checkout_does_not_believe_the_record_of_the_other(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(Path.cwd(), copy, symlinks=True, ignore=shutil.ignore_patterns("copy"))

    with chdir(copy):
        assert fresh.look("1", ARGV, ENVIRON).said is None
    before = Path.cwd()
    before.rename(tmp_path.with_name("before"))
    shutil.copytree(tmp_path.with_name("before"), before, symlinks=True)  # as a restored one is
    with chdir(before):
        assert fresh.look("1", ARGV, ENVIRON).said is None


def test_in_a_directory_that_is_gone_nothing_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with chdir(gone):
        gone.rmdir()
        assert fresh.look("1", ARGV, ENVIRON).said is None


# --- what is not remembered ------------------------------------------------------------------


def test_what_is_younger_than_the_clock_is_exact_is_not_remembered() -> None:
    remember()

    assert not RECORDS.exists()


@pytest.mark.parametrize("name", ["file", "data", "link"])
def test_one_young_path_is_enough(grown_old: Callable[[], None], name: str) -> None:
    grown_old()
    future = time.time_ns()  # the time that it is now said to be
    os.utime(name, ns=(future, future), follow_symlinks=False)
    remember()

    assert not RECORDS.exists()


def test_without_a_state_directory_nothing_is_remembered(
    grown_old: Callable[[], None],
) -> None:
    grown_old()
    RECORDS.parent.rmdir()
    remember()

    assert not RECORDS.parent.exists()


# --- what others wrote -----------------------------------------------------------------------


def _of(data: bytes, **other: bytes) -> bytes:
    """A record with other parts, rightly put together."""
    before = fresh.Record(data)
    parts = [other.get(name, getattr(before, name)) for name in fresh.PARTS]
    header = fresh.HEADER.pack(fresh.MAGIC, *map(len, parts))
    return header + b"".join(parts)


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"\0",
        lambda _: b"\0" * 4096,
        lambda _: os.urandom(4096),
        lambda data: b"{" + data,
        lambda data: data + b"\0",
        lambda data: data[: len(data) // 2],
        lambda data: data[:20],
        lambda data: data[: len(data) - 40] + bytes(40),
        lambda data: data.replace(fresh.MAGIC, b"sffresh4"),
        lambda data: data[:16] + b"\xff" * 104 + data[120:],
        lambda data: _of(data, told=b"\xff\xfe"),
        lambda data: _of(data, printed=b"\xff\xfe"),
        lambda data: _of(data, read=b""),
        lambda data: _of(data, read=b"\xff"),
        lambda data: _of(data, absent=b"file\0"),
        lambda data: _of(data, ways=b"data\0"),
        lambda data: _of(data, ways=b"file\0", inodes=bytes(8)[1:]),
        lambda data: _of(data, general=b"", general_marks=b""),
        lambda data: _of(data, general=b"file\0"),
        lambda data: _of(data, general=b"novita.yaml\0", general_marks=bytes(40)),
        lambda data: _of(data, general=b"x/novita.yaml\0"),
        lambda data: _of(data, general=b"\0" * 5),
        lambda data: _of(data, paths=b"file\0"),
        lambda data: _of(data, contents=b"file\0"),
        lambda data: _of(data, contents=b"file\0" + bytes(64) + b"\0"),
        lambda data: data.replace(b"\0file\0", b"\0fil\0\0"),
        lambda data: data.replace(b"\0file\0", b"\0link\0"),
    ],
)
def test_a_record_of_another_make_is_no_record(damage: Callable[[bytes], bytes]) -> None:
    name = record()
    name.write_bytes(damage(name.read_bytes()))

    assert fresh.look("1", ARGV, ENVIRON).said is None
    remember()  # and it is replaced by a good one
    assert fresh.look("1", ARGV, ENVIRON).said == SAID


@pytest.mark.usefixtures("remembered")
def test_a_record_that_is_larger_than_any_is_not_read() -> None:
    os.truncate(record(), 200 << 30)

    assert fresh.look("1", ARGV, ENVIRON).said is None


@pytest.mark.usefixtures("remembered")
def test_a_record_that_cannot_be_read_is_left_alone() -> None:
    name = record()
    name.unlink()
    name.mkdir()

    assert fresh.look("1", ARGV, ENVIRON).said is None
    remember()
    assert name.is_dir()
    assert [*RECORDS.iterdir()] == [name]


@pytest.mark.usefixtures("remembered")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_record_of_somebody_else_is_not_believed() -> None:
    os.chown(record(), 65534, -1)

    assert fresh.look("1", ARGV, ENVIRON).said is None


def test_what_a_run_that_was_killed_left_is_in_nobodys_way(grown_old: Callable[[], None]) -> None:
    grown_old()
    remember()
    name = record()
    left = name.with_name(f"{name.name}.{os.getpid()}")
    left.write_bytes(name.read_bytes()[:100])
    os.utime("file", ns=(1, 1))
    remember()
    assert fresh.look("1", ARGV, ENVIRON).said is None

    remember()

    assert fresh.look("1", ARGV, ENVIRON).said == SAID
    assert not left.exists()


def test_names_that_are_no_text_are_remembered(grown_old: Callable[[], None]) -> None:
    grown_old()
    name = os.fsdecode(b"\xff\n\x01")
    Path(name).touch()
    grown_old()
    remember(paths=[str(Path(name).absolute())])

    assert fresh.look("1", ARGV, ENVIRON).said == SAID
    Path(name).unlink()
    assert fresh.look("1", ARGV, ENVIRON).said is None


@pytest.mark.parametrize("seconds", [-1, 1 << 33])
def test_times_beyond_those_of_the_record_are_for_the_second_stage(
    grown_old: Callable[[], None], seconds: int
) -> None:
    grown_old()
    remember()
    os.utime("file", (seconds, seconds))

    assert fresh.look("1", ARGV, ENVIRON).said is None
    remember()
    assert fresh.look("1", ARGV, ENVIRON).said == (SAID if seconds < 0 else None)


def test_what_changed_while_the_run_looked_is_not_remembered(grown_old: Callable[[], None]) -> None:
    began = time.time_ns()
    Path("file").write_text("two, after it was read")
    grown_old()
    remember(since=began)

    assert fresh.look("1", ARGV, ENVIRON).said is None


def test_what_changed_after_it_was_read_is_seen(grown_old: Callable[[], None]) -> None:
    seen = {str(Path("file").absolute()): fresh.mark(Path("file").lstat())}
    grown_old()
    Path("file").unlink()
    remember(seen=seen)

    assert fresh.look("1", ARGV, ENVIRON).said is None


def test_of_a_directory_below_the_names_it_has_not_got_are_not_looked_for_one_by_one(
    grown_old: Callable[[], None],
) -> None:
    grown_old()
    absent = ["data/one", "data/two", "three", "link/four"]
    remember(paths=[str(Path(name).absolute()) for name in absent])

    made = fresh.Record(record().read_bytes())
    left, paths = made.absent, made.general
    assert (left, paths) == (b"three\0link/four\0", b"novita.yaml\0data\0")
    Path("data/other").touch()
    assert fresh.look("1", ARGV, ENVIRON).said is None


# --- the directories on the way --------------------------------------------------------------


def _to_link() -> None:
    moved = Path("way").rename("moved")
    Path("way").symlink_to(moved)


def _to_elsewhere() -> None:
    Path("through").unlink()
    Path("through").symlink_to("./data")


def _another() -> None:
    moved = Path("way").rename("moved")
    Path("way").mkdir()
    (moved / "in").rename("way/in")


WAYS: dict[str, tuple[Callable[[], object], bool]] = {
    "a new file in one": (lambda: Path("way/new").touch(), True),
    "replaced by a link": (_to_link, False),
    "replaced by another": (_another, False),
    "a link that leads elsewhere": (_to_elsewhere, False),
    "one that came to be": (lambda: Path("none").mkdir(), False),
}


@pytest.mark.parametrize(("change", "is_same"), WAYS.values(), ids=WAYS)
def test_the_directories_on_the_way_must_be_the_same_ones(
    grown_old: Callable[[], None], change: Callable[[], object], *, is_same: bool
) -> None:
    Path("way/in").mkdir(parents=True)
    Path("way/in/file").touch()
    Path("through").symlink_to("data")
    grown_old()
    directories = {"way": Path("way").stat().st_ino, "way/in": Path("way/in").stat().st_ino}
    ways = {**directories, "through": 0, "none": 0}
    remember(
        paths=[str(Path("way/in/file").absolute()), str(Path("none/file").absolute())],
        ways={str(Path(name).absolute()): inode for name, inode in ways.items()},
    )
    assert fresh.look("1", ARGV, ENVIRON).said == SAID

    change()

    assert fresh.look("1", ARGV, ENVIRON).said == (SAID if is_same else None)
