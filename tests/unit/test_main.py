import os
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import __version__
from tests.fakes.shell import CHECKOUT, User

BUG = "a bug of ours, with s3cr3t-value in its message"


# --- where it runs ---------------------------------------------------------------------------


def test_a_directory_is_entered_first(three: User, tmp_path: Path) -> None:
    elsewhere = three.at(tmp_path / "elsewhere")

    assert elsewhere.run("list").code == 3
    for argv in (["-C", "../work", "list"], ["list", "--directory", str(three.root)]):
        ran = elsewhere.run(*argv)
        assert (ran.code, ran.out.split()[0]) == (0, "parent")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent", "No such file or directory"), ("novita.yaml", "Not a directory")],
)
def test_a_directory_that_cannot_be_entered_is_64(three: User, name: str, reason: str) -> None:
    ran = three.run("-C", name, "list")

    assert (ran.code, ran.out, ran.err) == (64, "", f"error: `-C {name}`: {reason}\n")


@pytest.mark.parametrize("argv", ["list", "build", "init", "-C . plan", "schema"])
def test_a_directory_that_was_removed_is_told(three: User, argv: str) -> None:
    ran = _in_removed(three, argv)

    assert (ran.returncode, ran.stdout) == (64, "")
    assert ran.stderr == (
        "error: the current directory is not there any more\n"
        "hint: change to one that is, or name it with `-C DIR`\n"
    )


def test_out_of_a_directory_that_was_removed_one_can_lead(three: User) -> None:
    for _ in range(2):
        ran = _in_removed(three, f"-C {three.root} plan --offline")
        assert (ran.returncode, "parent  build" in ran.stdout) == (0, True), ran.stderr
    assert _in_removed(three, "--version").returncode == 0


def _in_removed(user: User, argv: str) -> Any:
    line = f"mkdir q && cd q && rmdir ../q && exec {sys.executable} -m sandboxfile {argv}"
    return user.process(["/bin/sh", "-c", line])


# --- how it ends -----------------------------------------------------------------------------


def test_all_problems_of_a_file_are_told_and_counted(user: User) -> None:
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian:12\nuser: 5\nworkdir: here\n")

    ran = user.run("validate")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("novita.yaml:4:7: error: ")
    assert "\nnovita.yaml:5:10: error: " in ran.err
    assert ran.err.endswith("\n2 problems\n")


def test_a_single_problem_is_not_counted(user: User) -> None:
    ran = user.run("validate")

    assert (ran.code, ran.out) == (3, "")
    assert ran.err == (
        "novita.yaml:1:1: error: this file does not exist\n"
        "hint: looked for novita.yaml and novita.yml here and above; "
        "create one with `sandboxfile init`\n"
    )


RUN = (
    "import os, sys\n"
    "from sandboxfile import main\n"
    "sys.exit(main.main(['list'], dict(os.environ)))\n"
)


@pytest.fixture
def faulty(user: User, tmp_path: Path) -> User:
    """A machine on which `list` fails in a way that nobody thought of: its libraries are broken."""
    package = tmp_path / "broken"
    package.mkdir()
    (package / "sitecustomize.py").write_text(
        "import sandboxfile.config.finding as load\n"
        "def find(*_):\n"
        f"    raise RuntimeError({BUG!r})\n"
        "load.find = find\n"
    )
    return user.having(
        PYTHONPATH=f"{package}:{CHECKOUT}", TMPDIR=str(tmp_path), NOVITA_API_KEY="s3cr3t-value"
    )


def test_a_bug_of_ours_is_one_line_and_a_file(faulty: User, tmp_path: Path) -> None:
    ran = faulty.command("list")

    assert (ran.code, ran.out) == (70, "")
    said = re.fullmatch(
        r"error: this is a bug in sandboxfile \(RuntimeError\); please report it with (.*)\n",
        ran.err,
    )
    assert said is not None
    report = Path(said[1])
    assert report.parent == tmp_path
    text = report.read_text()
    assert text.startswith(f"sandboxfile {__version__}, Python {sys.version}\n\nTraceback ")
    assert "a bug of ours, with *** in its message" in text
    assert "s3cr3t" not in text
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


def test_a_bug_of_which_no_report_can_be_written_says_where_it_is(faulty: User) -> None:
    script = f"import tempfile\ntempfile.tempdir = '/dev/null/none'\n{RUN}"
    ran = faulty.command(python=("-c", script))

    assert (ran.code, ran.out) == (70, "")
    assert re.fullmatch(
        r"error: this is a bug in sandboxfile \(RuntimeError\); its report cannot be written "
        r"\(Not a directory\): \w+, line \d+ of \S+\n",
        ran.err,
    )


def test_what_an_interrupt_breaks_is_no_bug(three: User) -> None:
    fault = (
        "import sandboxfile.config.finding as finding\n"
        "def find(*_):\n"
        "    try: raise KeyboardInterrupt\n"
        "    finally: [].remove('what was taken away meanwhile')\n"
        "finding.find = find\n"
    )

    ran = three.command(python=("-c", fault + RUN))

    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("raise MemoryError", "error: there is not enough memory\nhint: free some, or raise "),
        (
            'raise RuntimeError("can\'t start new thread")',
            "error: no more threads can be started\nhint: raise the limits",
        ),
    ],
)
def test_what_the_machine_does_not_give_is_no_bug(three: User, fault: str, said: str) -> None:
    script = (
        "import os, sys\n"
        "from sandboxfile import main\n"
        "import sandboxfile.config.finding as finding\n"
        "def find(*_):\n"
        f"    {fault}\n"
        "finding.find = find\n"
        "sys.exit(main.main(['list'], dict(os.environ)))\n"
    )
    ran = three.command(python=("-c", script))

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(said)


def _piped(user: User, stdout: int, *argv: str) -> tuple[int, str]:
    done = user.process([sys.executable, "-m", "sandboxfile", *argv], stdout=stdout)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "argv", [["schema"], ["list"]], ids=["more than a buffer", "less than a buffer"]
)
def test_a_reader_that_has_gone_is_no_error_to_talk_about(three: User, argv: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert _piped(three, writer, *argv) == (1, "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", ["schema", "list"])
def test_a_full_disk_is_told_and_is_no_bug(three: User, command: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, said = _piped(three, full, command)
    finally:
        os.close(full)

    told = "error: no more can be written: No space left on device\n"
    assert (code, said) == (1, f"{told}hint: make room, and run it again\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(("command", "code"), [("plan none", 64), ("--none", 64), ("show", 64)])
def test_an_error_that_cannot_be_told_ends_with_its_code(
    three: User, command: str, code: int
) -> None:
    script = f'exec "$@" {command} 2>/dev/full'
    done = three.process(["/bin/sh", "-c", script, "sh", sys.executable, "-m", "sandboxfile"])

    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.parametrize("closed", ["1", "2"])
def test_a_closed_stream_is_no_bug(three: User, closed: str) -> None:
    script = f'exec "$@" {closed}>&-'
    command = ["sh", sys.executable, "-m", "sandboxfile", "validate"]
    done = three.process(["/bin/sh", "-c", script, *command])

    assert done.returncode == 0, done.stderr


def test_ctrl_c_is_130(user: User) -> None:
    script = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "from sandboxfile import main\n"
        "import sandboxfile.config.finding as load\n"
        "load.find = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(main.main(['list'], dict(os.environ)))\n"
    )
    ran = user.command(python=("-c", script))

    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")
