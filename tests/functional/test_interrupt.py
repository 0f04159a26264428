"""Ctrl-C and SIGTERM at every step of a build: out at once, nothing left behind, nothing lost."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.program import Program, is_running, wait_until
from tests.fakes.scene import Scene
from tests.fakes.tripwire import Moment

pytestmark = pytest.mark.engine

SetScene = Callable[[str], Scene]

INTERRUPTED = 130

# A terminal sends to the whole group, `kill` and a supervisor to the process alone.
WAYS = [
    pytest.param(signal.SIGINT, True, id="ctrl-c"),
    pytest.param(signal.SIGINT, False, id="sigint"),
    pytest.param(signal.SIGTERM, False, id="sigterm"),
]


def stop(program: Program, number: signal.Signals, *, group: bool) -> None:
    """Send the signal, and see that the program is out with all that it has started."""
    children = program.descendants()
    program.send(number, group=group)
    status = program.end()  # within two seconds, as users are promised; no test asserts a time
    assert status == INTERRUPTED, program.stderr
    assert [pid for pid in children if is_running(pid)] == []
    assert "run the same command again" in program.stderr
    assert "Traceback" not in program.stderr


def running_from(path: str) -> list[str]:
    """Return the processes that have this in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if path.encode() in (process / "environ").read_bytes() and is_running(
                int(process.name)
            ):
                found.append((process / "cmdline").read_text())
    return found


STUBBORN = "trap '' TERM INT\nsleep 600 & sleep 600\nsleep 600"


@pytest.mark.parametrize(
    ("number", "group", "script"),
    [
        pytest.param(signal.SIGINT, True, "sleep 600 & sleep 600", id="ctrl-c"),
        pytest.param(signal.SIGINT, False, "sleep 600 & sleep 600", id="sigint"),
        pytest.param(signal.SIGTERM, False, "sleep 600 & sleep 600", id="sigterm"),
        pytest.param(signal.SIGTERM, False, STUBBORN, id="stubborn"),
    ],
)
def test_stopped_while_a_base_is_bootstrapped(
    set_scene: SetScene, tmp_path: Path, number: signal.Signals, *, group: bool, script: str
) -> None:
    stalling_mmdebstrap = tmp_path / "bin"
    stalling_mmdebstrap.mkdir()
    (stalling_mmdebstrap / "mmdebstrap").write_text(f"#!/bin/sh\n{script}\n")
    (stalling_mmdebstrap / "mmdebstrap").chmod(0o755)
    work = set_scene("local").workspace
    work.write("version: 1\nname: stalled\nbase: {debian: bookworm}\n")
    path = f"{stalling_mmdebstrap}:{os.environ['PATH']}"
    program = work.start("-v", environ={"PATH": path, "TMPDIR": str(work.root.parent)})
    wait_until(program.descendants, "mmdebstrap", program)

    stop(program, number, group=group)

    assert running_from(str(stalling_mmdebstrap)) == []
    assert list(work.root.parent.glob("sandboxfile-*")) == []
    assert not work.lock_path.exists()


@pytest.mark.parametrize(("number", "group"), WAYS)
def test_stopped_while_an_image_is_built(
    set_scene: SetScene, number: signal.Signals, *, group: bool
) -> None:
    stage = set_scene("local")
    stage.write()
    stage.building.state = "hold"
    program = stage.workspace.start()
    wait_until(lambda: stage.building.is_busy, "RUN at the gate", program)

    stop(program, number, group=group)

    wait_until(lambda: not stage.building.is_busy, "end of the RUN")


# The program, with less patience: it is given the arguments of `python -m sandboxfile`.
IMPATIENT = """\
import os, sys
from sandboxfile import screens
from sandboxfile.main import main
screens.NEWS_S = 0.2
sys.exit(main(sys.argv[sys.argv.index("sandboxfile") + 1 :], dict(os.environ)))
"""


def test_a_command_that_prints_nothing_is_told_of_until_the_run_is_stopped(
    set_scene: SetScene,
) -> None:
    stage = set_scene("local")
    stage.write()
    stage.building.state = "hold"
    program = stage.workspace.start(under=(sys.executable, "-c", IMPATIENT))
    silent = re.compile(rf"^ +\S+s  {stage.name}: … .*RUN .*\(silent for [0-9.]+s\)$", re.MULTILINE)
    wait_until(lambda: len(silent.findall(program.stderr)) > 1, "two signs of life", program)

    stop(program, signal.SIGINT, group=False)

    _, cancelled, after = program.stderr.rpartition("build cancelled")
    assert cancelled
    assert "silent for" not in after


@pytest.mark.parametrize(("number", "group"), WAYS)
def test_stopped_while_an_image_is_pushed(
    set_scene: SetScene, number: signal.Signals, *, group: bool
) -> None:
    stage = set_scene("v3")
    stage.write()
    trap = stage.registry.trap("PUT", "/manifests/")
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)

    stop(program, number, group=group)


@pytest.mark.parametrize(
    ("api", "number"), [("v3", signal.SIGINT), ("v1", signal.SIGINT), ("v3", signal.SIGTERM)]
)
def test_stopped_while_the_service_builds(
    set_scene: SetScene, api: str, number: signal.Signals
) -> None:
    stage = set_scene(api)
    stage.write()
    stage.booting.state = "refuse"
    program = stage.workspace.start()
    wait_until(lambda: stage.booting.asked > 1, "ready command at the gate", program)

    stop(program, number, group=True)

    assert "goes on at the service" in program.stderr
    stage.booting.state = "open"
    stage.workspace.build()
    stage.check()


@pytest.mark.parametrize(("number", "group"), WAYS)
def test_stopped_while_the_local_service_builds(
    set_scene: SetScene, number: signal.Signals, *, group: bool
) -> None:
    stage = set_scene("local")
    stage.write()
    stage.booting.state = "refuse"
    program = stage.workspace.start()
    wait_until(lambda: stage.booting.asked > 1, "ready command at the gate", program)

    stop(program, number, group=group)

    assert stage.containers() == []
    stage.booting.state = "open"
    stage.workspace.build()


STALLS = [
    pytest.param("HEAD", "/manifests/", True, id="looking-for-the-image"),
    pytest.param("GET", "^/templates/aliases/", False, id="looking-for-the-template"),
    pytest.param("POST", "^/v3/templates$", False, id="registering"),
    pytest.param("POST", "^/v2/templates/", False, id="triggering"),
    pytest.param("POST", "^/templates/tags$", False, id="tagging"),
]


@pytest.mark.parametrize(("method", "path", "at_registry"), STALLS)
def test_stopped_while_somebody_does_not_answer(
    set_scene: SetScene, method: str, path: str, *, at_registry: bool
) -> None:
    stage = set_scene("v3")
    stage.write()
    trap = (stage.registry if at_registry else stage.service).trap(method, path)
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)

    stop(program, signal.SIGTERM, group=False)


@pytest.mark.parametrize("moment", ["arrived", "carried out"])
def test_stopped_while_files_are_uploaded(set_scene: SetScene, moment: Moment) -> None:
    stage = set_scene("v3")
    stage.workspace.write(
        f"version: 1\nname: {stage.name}\nbase: {stage.base}\n"
        "resources: {cpu: 1, memory: 128}\nfiles: [data -> /data]\ntags: [blue]\n"
        f'targets: {{far: {{provider: novita, api_url: "http://{stage.service.address}"}}}}\n'
    )
    (stage.workspace.root / "data").write_text(stage.salt)
    trap = stage.service.trap("PUT", "", moment)
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)

    stop(program, signal.SIGINT, group=True)

    trap.release()
    assert stage.workspace.entries == {}
    stage.workspace.build()
    assert stage.workspace.entries[stage.name].tags == ("blue",)
    assert len(stage.service.passed("POST", "^/v3/templates$")) == 1  # gone on with
    sent = stage.service.passed("PUT", "")
    assert len(sent) == 1, "what had arrived is not sent again"


def test_what_was_finished_before_is_in_the_lock(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    done, stalled = stage.names
    stage.write(*stage.names)
    trap = stage.registry.trap("PUT", f"/{stalled}/manifests/")
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)
    wait_until(lambda: done in stage.workspace.entries, "entry in the lock", program)
    wait_until(lambda: stage.workspace.entries[done].tags, "tags in the lock", program)

    stop(program, signal.SIGINT, group=True)

    assert list(stage.workspace.entries) == [done]
    assert stage.workspace.entries[done].tags == ("blue",)
    stage.workspace.build()
    stage.check(done, stalled)


def test_a_second_ctrl_c_ends_the_run_at_once(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    stage.write()
    trap = stage.service.trap("POST", "^/v2/templates/")  # waited for: it may be carried out
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)

    program.send(signal.SIGINT, group=True)
    time.sleep(0.2)
    program.send(signal.SIGINT, group=True)
    status = program.end()

    assert status == INTERRUPTED
    assert "Traceback" not in program.stderr
