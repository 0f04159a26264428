import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Executed
from sandboxfile.errors import Cancelled
from sandboxfile.local.boot import Boot, NotReady, Patience, boot
from sandboxfile.local.guest import Guest
from sandboxfile.local.records import Level, Setting
from tests.fakes.hostbox import HostBox

QUICK = Patience(interval_s=0.02, timeout_s=20.0)


@dataclass
class Bench:
    """Boots on this machine and keeps what was said."""

    guest: Guest
    directory: Path
    cancel: Cancel = field(default_factory=Cancel)
    said: list[str] = field(default_factory=list)

    def say(self, message: str, *, level: Level = "info") -> None:
        self.said.append(f"{level}: {message}")

    def boot(self, start: str, ready: str, patience: Patience = QUICK) -> None:
        setting = Setting(user="root", workdir=str(self.directory), env={"WORD": "hello"})
        what = Boot(start=start, ready=ready, setting=setting)
        boot(self.guest, what, patience=patience, cancel=self.cancel, say=self.say)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    box = HostBox(tmp_path)
    yield Bench(Guest(box=box, shell="/bin/sh"), tmp_path)
    box.stop()


@pytest.mark.parametrize(
    ("start", "ready", "expected"),
    [
        ("", "", "sleep 0"),
        ("serve", "", "sleep 20"),
        ("serve", "true", "true"),
        ("", "true", "true"),
    ],
)
def test_the_ready_command_that_stands_for_none(start: str, ready: str, expected: str) -> None:
    assert Boot(start=start, ready=ready, setting=Setting(user="user")).check == expected


def test_a_template_without_commands_is_ready_at_once(bench: Bench) -> None:
    bench.boot("", "")
    assert bench.said == [
        "info: Waiting for template to be ready: sleep 0",
        "info: Template is ready",
    ]


def test_the_ready_command_is_tried_until_the_start_command_is_up(bench: Bench) -> None:
    bench.boot(
        "echo $WORD; sleep 0.2; touch up; sleep 60", "test -e up || { echo not yet; exit 4; }"
    )
    assert bench.said[0].startswith("info: Running start command: echo $WORD;")
    assert "info: [start] [stdout]: hello" in bench.said
    assert "debug: Template is not ready: exit status 4 not yet" in bench.said
    assert bench.said[-1] == "info: Template is ready"


def test_a_ready_command_whose_program_is_missing_is_told_of_once_and_early(bench: Bench) -> None:
    with pytest.raises(NotReady, match="timed out"):
        bench.boot("", "no-such-program", Patience(interval_s=0.02, timeout_s=1.0))
    warned = [line for line in bench.said if line.startswith("warn: ")]
    assert len(warned) == 1
    assert warned[0].startswith("warn: The ready command cannot be run: exit status 127 ")
    assert "no-such-program" in warned[0]
    assert bench.said.index(warned[0]) == 3


def test_a_program_that_the_start_command_brings_is_no_matter_of_a_warning(bench: Bench) -> None:
    once = "test -e once && exit 0; touch once; exit 127"
    bench.boot("", once, Patience(interval_s=0.02, timeout_s=60.0))
    assert not [line for line in bench.said if line.startswith("warn: ")]


def test_a_start_command_that_fails_ends_the_wait_at_once(bench: Bench) -> None:
    with pytest.raises(NotReady) as caught:
        bench.boot("echo oops; exit 7", "sleep 60")
    assert (
        caught.value.message == "start command failed: error running start command: exit status 7"
    )
    assert "info: [start] [stdout]: oops" in bench.said


def test_a_start_command_that_fails_between_attempts_is_noticed(bench: Bench) -> None:
    with pytest.raises(NotReady, match="exit status 3"):
        bench.boot("sleep 0.3; exit 3", "false", Patience(interval_s=60.0, timeout_s=120.0))


def test_a_start_command_that_ends_well_is_fine(bench: Bench) -> None:
    bench.boot("touch done", "sleep 0.2; test -e done")
    assert bench.said[-1] == "info: Template is ready"


def test_a_ready_command_that_never_succeeds_is_given_up(bench: Bench) -> None:
    with pytest.raises(NotReady) as caught:
        bench.boot("", "false", Patience(interval_s=0.05, timeout_s=0.5))
    assert caught.value.message == "ready command failed: ready command timed out after 0.5s"


class Barred(HostBox):
    """A box in which no command can be run, or none but the empty one."""

    def __init__(self, directory: Path, *, runs: str) -> None:
        super().__init__(directory)
        self.runs = runs

    def execute(self, argv: tuple[str, ...], **_: Any) -> Executed:
        refused = Executed(status=126, output="exec failed: no such group\n")
        return Executed(status=0, output="") if argv[-1] == self.runs else refused


def test_where_no_command_can_be_run_nothing_is_waited_for(bench: Bench) -> None:
    bench.guest = Guest(box=Barred(bench.directory, runs="nothing"), shell="/bin/sh")
    with pytest.raises(NotReady) as caught:
        bench.boot("", "", Patience(interval_s=60.0, timeout_s=120.0))
    assert caught.value.message == (
        "ready command failed: exit status 126 exec failed: no such group"
    )


def test_a_ready_command_that_cannot_be_run_yet_is_tried_again(bench: Bench) -> None:
    bench.guest = Guest(box=Barred(bench.directory, runs=":"), shell="/bin/sh")
    with pytest.raises(NotReady, match="timed out"):
        bench.boot("", "./later", Patience(interval_s=0.05, timeout_s=0.3))


def test_a_ready_command_that_blocks_uses_up_the_time(bench: Bench) -> None:
    with pytest.raises(NotReady, match=r"timed out after 0\.3s"):
        bench.boot("", "sleep 60", Patience(interval_s=2.0, timeout_s=0.3))


@pytest.mark.parametrize("ready", ["sleep 60", "false"])
def test_cancelling_ends_the_wait(bench: Bench, ready: str) -> None:
    threading.Timer(0.2, bench.cancel.set).start()
    with pytest.raises(Cancelled):
        bench.boot("sleep 60", ready, Patience(interval_s=60.0, timeout_s=120.0))
