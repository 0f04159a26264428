"""A build that began before registry and service had answered ends when it is not wanted."""

import signal
from collections.abc import Callable

import docker
import pytest

from tests.fakes.program import Program, wait_until
from tests.fakes.scene import Scene
from tests.fakes.tripwire import Trap

pytestmark = pytest.mark.engine

SetScene = Callable[[str], Scene]


def write(stage: Scene, content: str) -> None:
    """Write the template with other content."""
    stage.write()
    path = stage.workspace.root / "novita.yaml"
    path.write_text(path.read_text().replace("/salt", content))


def begun(stage: Scene, *options: str) -> tuple[Program, Trap]:
    """Start a run whose build has begun, and which waits for the registry."""
    trap = stage.registry.trap("HEAD", "/manifests/")
    program = stage.workspace.start(*options)
    wait_until(lambda: trap.is_sprung, str(trap), program)
    wait_until(lambda: stage.building.is_busy, "RUN at the gate", program)
    return program, trap


def changed(set_scene: SetScene) -> tuple[Scene, Program]:
    """Build, change the template, and start a run whose build has begun."""
    stage = set_scene("v3")
    write(stage, "/one")
    stage.workspace.build()
    write(stage, "/two")
    stage.building.state = "hold"
    program, _ = begun(stage)
    return stage, program


def check_ended(stage: Scene) -> None:
    """See that the build has ended, and that the next run is in nobody's way."""
    wait_until(lambda: not stage.building.is_busy, "end of the RUN")
    stage.building.state = "open"
    stage.workspace.build()
    stage.check()


def test_what_turns_out_to_exist_is_taken_and_its_build_ends(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    write(stage, "/one")
    stage.workspace.build()
    first = stage.workspace.entries[stage.name]
    write(stage, "/two")
    stage.workspace.build()
    images = docker.APIClient(base_url=stage.workspace.environ["DOCKER_HOST"])
    key = first.image_key.partition(":")[2][:16]
    images.remove_image(f"sandboxfile/{stage.name}:sf-{key}", force=True)
    write(stage, "/one")
    stage.building.state = "hold"

    program, trap = begun(stage, "--no-cache")
    trap.release()
    program.succeed()

    assert stage.workspace.entries[stage.name].build_id == first.build_id
    wait_until(lambda: not stage.building.is_busy, "end of the RUN")
    assert "build" not in program.stderr.partition(f"{stage.name}: ")[2].partition("\n")[0]
    assert images.images(name=f"sandboxfile/{stage.name}:sf-{key}") == []
    images.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_it_is_certain(set_scene: SetScene, number: signal.Signals) -> None:
    stage, program = changed(set_scene)
    program.send(number, group=True)

    assert program.end() == 130, program.stderr
    assert "Traceback" not in program.stderr
    check_ended(stage)


def test_killed_before_it_is_certain(set_scene: SetScene) -> None:
    stage, program = changed(set_scene)
    program.kill()

    check_ended(stage)


def test_what_cannot_be_written_down_is_not_published(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    write(stage, "/one")
    stage.workspace.build()
    before = stage.workspace.entries[stage.name]
    write(stage, "/two")
    asked = stage.building.asked
    trap = stage.registry.trap("HEAD", "/manifests/")
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)
    wait_until(lambda: stage.building.asked > asked, "RUN at the gate", program)
    shown = stage.workspace.root / ".sandboxfile/generated" / stage.name / "Dockerfile"
    shown.unlink()
    shown.mkdir()
    pushed = len(stage.registry.passed("PUT", "/manifests/"))

    trap.release()

    assert program.end() == 1
    assert f"{stage.name}: generate failed" in program.stderr
    program.said(f"error: `{shown}`, for people to read, cannot be written: Is a directory")
    assert len(stage.registry.passed("PUT", "/manifests/")) == pushed
    assert stage.workspace.entries[stage.name] == before
    shown.rmdir()
    check_ended(stage)
