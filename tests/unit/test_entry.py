import signal
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from sandboxfile import __version__, fresh, records
from tests.fakes.shell import CHECKOUT, User

TEXT = "target local: asked for\n1 up to date, nothing to do\n"


@pytest.fixture
def without_second_stage(user: User, tmp_path: Path) -> User:
    """Somebody whose Python has the first stage of sandboxfile only."""
    package = tmp_path / "half"
    package.mkdir()
    (package / "sitecustomize.py").write_text("import sys\nsys.modules['sandboxfile.main'] = None")
    return user.having(PYTHONPATH=f"{package}:{CHECKOUT}")


def _remember(user: User, grown_old: Callable[[], None], printed: str = "") -> None:
    environ = {**user.environ, "HOME": str(user.home)}
    (user.root / ".sandboxfile").mkdir()
    (user.root / "novita.yaml").write_text("version: 1\n")
    grown_old()
    with chdir(user.root):
        own = str(user.root / "novita.yaml")
        records.remember(
            __version__,
            ["build"],
            environ,
            here=str(user.root),
            config=own,
            since=time.time_ns(),
            paths=[],
            told=TEXT,
            printed=printed,
        )


def test_the_first_stage_answers_alone(
    without_second_stage: User, grown_old: Callable[[], None]
) -> None:
    _remember(without_second_stage, grown_old)

    ran = without_second_stage.command("build")

    assert (ran.code, ran.out, ran.err) == (0, "", TEXT)


def test_the_seconds_are_those_of_this_run(
    without_second_stage: User, grown_old: Callable[[], None]
) -> None:
    _remember(without_second_stage, grown_old, f'{{"seconds": {fresh.TIMES}}}\n')

    ran = without_second_stage.command("build")

    assert (ran.code, ran.err) == (0, TEXT)
    assert 0 <= ran.data["seconds"] < 60


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">/dev/full", "2>/dev/full"])
def test_what_cannot_be_said_is_for_the_second_stage(
    without_second_stage: User, grown_old: Callable[[], None], closed: str
) -> None:
    _remember(without_second_stage, grown_old, f'{{"seconds": {fresh.TIMES}}}\n')
    line = f"exec {sys.executable} -m sandboxfile build {closed}"

    ran = without_second_stage.process(["/bin/sh", "-c", line])

    assert (ran.returncode == 0) == (closed == "<&-"), ran
    assert bool(ran.stdout) == (closed == "<&-"), "data is printed once, by one of the stages"


def test_an_interrupt_ends_the_first_stage_in_one_word(user: User, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\ndef getcwd(): raise KeyboardInterrupt\nos.getcwd = getcwd\n"
    )

    ran = user.having(PYTHONPATH=f"{tmp_path}:{CHECKOUT}").command("build")

    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")


def test_an_interrupt_while_the_second_stage_is_loaded_ends_in_one_word(
    user: User, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Loading:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'sandboxfile.main': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Loading())\n"
    )

    ran = user.having(PYTHONPATH=f"{tmp_path}:{CHECKOUT}").command("list")

    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")


def starting_with(user: User, directory: Path, text: str) -> User:
    """Have a workspace, and a program in which Python itself does this first."""
    user.write("novita.yaml", "version: 1\nname: web\nbase: debian:12\n")
    (directory / "sitecustomize.py").write_text(text)
    return user.having(PYTHONPATH=f"{directory}:{CHECKOUT}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["sandboxfile.main", "sandboxfile.config.load"])
def test_what_ends_a_run_ends_it_as_an_interrupt_does_from_the_beginning(
    user: User, tmp_path: Path, number: signal.Signals, module: str
) -> None:
    user = starting_with(
        user,
        tmp_path,
        "import os, signal, sys\n"
        f"signal.signal({number}, signal.SIG_DFL)\n"
        "class Loading:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), {number})\n"
        "sys.meta_path.insert(0, Loading())\n",
    )

    ran = user.command("list")

    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_run_is_heard_in_the_first_stage(
    user: User, tmp_path: Path, number: signal.Signals
) -> None:
    user = starting_with(
        user,
        tmp_path,
        "import os, signal\n"
        f"signal.signal({number}, signal.SIG_DFL)\n"
        "before = os.open\n"
        "def opened(path, *flags, **more):\n"
        f"    if '.sandboxfile/fresh' in str(path): os.kill(os.getpid(), {number})\n"
        "    return before(path, *flags, **more)\n"
        "os.open = opened\n",
    )

    ran = user.command("build")

    assert (ran.code, ran.out, ran.err) == (130, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_comes_when_all_is_done_changes_nothing(
    user: User, tmp_path: Path, number: signal.Signals
) -> None:
    """Python takes its handlers away at its very end, and an object may live until then."""
    user = starting_with(
        user,
        tmp_path,
        "import os, sys\n"
        "class Last:\n"
        "    def __init__(self): self.kill, self.me = os.kill, os.getpid()\n"
        f"    def __del__(self): self.kill(self.me, {number.value})\n"
        "sys.last = Last()\n",
    )

    ran = user.command("list")

    assert (ran.code, ran.out, ran.err) == (0, "web  debian:12\n", "")


def test_an_interrupt_of_a_run_that_is_being_interrupted_is_quiet(
    user: User, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Standard:\n"
        "    def write(self, text): os.kill(os.getpid(), signal.SIGINT)\n"
        "    def flush(self): pass\n"
        "class Loading:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'sandboxfile.config.load':\n"
        "            sys.stderr = Standard()\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Loading())\n"
    )
    user.write("novita.yaml", "version: 1\nname: web\nbase: debian:12\n")

    ran = user.having(PYTHONPATH=f"{tmp_path}:{CHECKOUT}").command("list")

    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_a_hang_up_that_was_ignored_stays_so(user: User, tmp_path: Path) -> None:
    user.write("novita.yaml", "version: 1\nname: web\nbase: debian:12\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "class Loading:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'sandboxfile.main': os.kill(os.getpid(), signal.SIGHUP)\n"
        "sys.meta_path.insert(0, Loading())\n"
    )

    assert user.having(PYTHONPATH=f"{tmp_path}:{CHECKOUT}").command("list").code == 0


def test_what_the_first_stage_does_not_know_is_for_the_second(without_second_stage: User) -> None:
    ran = without_second_stage.command("build")

    assert ran.code == 1
    assert "import of sandboxfile.main halted" in ran.err


def test_the_second_stage_gives_output_and_exit_code(user: User) -> None:
    assert user.command("--version").out == f"sandboxfile {__version__}\n"
    assert user.command("list").code == 3


def test_the_first_stage_imports_next_to_nothing(user: User, grown_old: Callable[[], None]) -> None:
    _remember(user, grown_old)
    script = (
        "import os, sys; before = set(sys.modules); sys.argv[1:] = ['build'];"
        "os._exit = lambda code: sys.exit(' '.join(sorted(set(sys.modules) - before)));"
        "from sandboxfile.entry import run; run()"
    )
    ran = user.command(python=("-S", "-c", script), is_measured=False)

    assert ran.err.startswith(TEXT), ran.err
    assert set(ran.err.removeprefix(TEXT).split()) <= {
        "sandboxfile", "sandboxfile.entry", "sandboxfile.fresh", "_struct", "struct",
        "_sha2", "_sha256",  # of which a Python has one
    }  # fmt: skip


def test_who_ignores_the_ends_of_children_is_told_of_failures_all_the_same(user: User) -> None:
    """Some supervisors do, and programs that they start inherit it."""
    user.write("novita.yaml", "version: 1\nname: x\nbase: debian:12\n")
    user.process(["git", "init", "-q"])
    argv = ("list", "--since", "no-such-commit")
    ignoring = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'sandboxfile', *sys.argv[1:]])\n"
    )

    ran = user.command(*argv, python=("-c", ignoring))

    assert ran == user.command(*argv)
    assert ran.code == 64
