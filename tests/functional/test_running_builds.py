"""Builds that outlive the run that began them: left, found again, and never begun twice."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.fakes import calls
from tests.fakes.program import Program, Workspace, wait_until, workspace
from tests.fakes.scene import KEY, Scene

pytestmark = pytest.mark.engine

SetScene = Callable[..., Scene]
Checkout = Callable[[str], Workspace]
REGISTER = r"^/v3/templates$"
TRIGGER = r"^/v2/templates/[^/]+/builds/[^/]+$"
STATUS = r"/status\?"
REFUSED = 400


@pytest.fixture
def checkouts(set_scene: SetScene) -> Iterator[tuple[Scene, Checkout]]:
    """A scene, and what makes further checkouts of its workspace, each with its own journal."""
    stage = set_scene("v3")
    stage.write()
    with ExitStack() as stack:

        def another(name: str) -> Workspace:
            first = stage.workspace
            made = stack.enter_context(
                workspace(first.root.parent.parent / name, first.target, first.environ)
            )
            made.write((first.root / "novita.yaml").read_text())
            return made

        yield stage, another


def builds(stage: Scene) -> list[str]:
    """Return the states of all builds that the service ever had of the template."""
    (row,) = [
        row for row in calls.templates(f"http://{stage.near}", KEY) if stage.name in row["aliases"]
    ]
    return [each["status"] for each in calls.builds(f"http://{stage.near}", KEY, row["templateID"])]


def left(stage: Scene) -> Program:
    """Build with `--detach` while the template cannot get ready."""
    stage.booting.state = "refuse"
    program = stage.workspace.start("--detach", "--json")
    program.succeed()
    return program


@pytest.mark.parametrize("api", ["v3", "v1"])
def test_a_build_that_was_left_is_picked_up_where_it_is(set_scene: SetScene, api: str) -> None:
    stage = set_scene(api)
    stage.write()

    program = left(stage)

    (said,) = json.loads(program.stdout)["templates"]
    assert said["status"] == "detached"
    assert f"build {said['build_id']} goes on at the service" in program.stderr
    assert f"`sandboxfile build {stage.name} --target far` goes on with it" in program.stderr
    assert stage.workspace.entries == {}
    stage.booting.state = "open"
    stage.workspace.build()
    entry = stage.workspace.entries[stage.name]
    assert (entry.template_id, entry.build_id) == (said["template_id"], said["build_id"])
    stage.check()
    assert builds(stage) == ["ready"]


@pytest.mark.parametrize("state", ["building", "ready"])
def test_another_machine_goes_on_with_a_build_that_was_left(
    checkouts: tuple[Scene, Checkout], state: str
) -> None:
    stage, another = checkouts
    (said,) = json.loads(left(stage).stdout)["templates"]
    shutil.rmtree(stage.workspace.root / ".sandboxfile")
    if state == "ready":
        stage.booting.state = "open"
        wait_until(lambda: builds(stage) == ["ready"], "end of the build")
    machine = another("machine")

    program = machine.start()
    if state == "building":
        program.said("snapshot started")
        stage.booting.state = "open"
    program.succeed()

    assert machine.entries[stage.name].build_id == said["build_id"]
    assert len(stage.service.passed("POST", REGISTER)) == 1
    assert builds(stage) == ["ready"]


def test_a_run_that_takes_too_long_leaves_its_build(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    stage.write()
    stage.booting.state = "refuse"

    program = stage.workspace.start("--timeout", "1s")

    assert program.end() == 6, program.stderr
    assert "goes on at the service" in program.stderr
    stage.booting.state = "open"
    stage.workspace.build()
    stage.check()
    assert builds(stage) == ["ready"]


def test_runs_at_the_same_time_share_one_build(checkouts: tuple[Scene, Checkout]) -> None:
    stage, another = checkouts
    places = [stage.workspace, stage.workspace, another("two"), another("three")]

    for program in [each.start() for each in places]:
        program.succeed()

    assert len({each.entries[stage.name].build_id for each in places}) == 1
    assert builds(stage).count("ready") == 1
    begun = [each for each in stage.service.passed("POST", TRIGGER) if each.status != REFUSED]
    assert len(begun) == 1  # what another registered in between was superseded, and never ran
    assert {*builds(stage)} <= {"ready", "error"}


def test_stopped_while_it_follows_a_build_that_was_left(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    stage.write()
    (said,) = json.loads(left(stage).stdout)["templates"]
    program = stage.workspace.start()
    program.said("snapshot started")
    polls = len(stage.service.passed("GET", STATUS))
    wait_until(lambda: len(stage.service.passed("GET", STATUS)) > polls, "poll", program)

    program.send(signal.SIGTERM)

    assert program.end() == 130
    assert f"build {said['build_id']} goes on at the service" in program.stderr
    stage.booting.state = "open"
    stage.workspace.build()
    stage.check()
    assert builds(stage) == ["ready"]


def test_stopped_while_it_waits_in_line(set_scene: SetScene) -> None:
    stage = set_scene("v3", "register-limit")
    stage.write()
    program = stage.workspace.start()
    program.said("wait in line")

    program.send(signal.SIGINT, group=True)

    assert program.end() == 130
    assert "run the same command again" in program.stderr
    assert calls.templates(f"http://{stage.near}", KEY) == []
    assert stage.workspace.entries == {}
    stage.workspace.build()
    stage.check()


def test_a_log_is_followed_and_left_and_followed_to_its_end(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    stage.write()
    (said,) = json.loads(left(stage).stdout)["templates"]
    work = stage.workspace
    program = work.start(stage.name, "--follow", command="logs")
    wait_until(lambda: "Building template" in program.stdout, "first line", program)

    program.send(signal.SIGINT, group=True)

    assert program.end() == 130
    assert f"build {said['build_id']} goes on at the service" in program.stderr
    again = work.start(stage.name, "--follow", command="logs")
    stage.booting.state = "open"
    again.succeed()
    assert again.stdout.splitlines()[0] == program.stdout.splitlines()[0]
    assert again.stdout.splitlines()[-1].startswith("Build finished")


def test_what_needs_a_build_that_was_left_waits_for_the_next_run(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    parent, child = stage.names
    stage.write()
    text = (stage.workspace.root / "novita.yaml").read_text()
    text = text.replace("    api: v3\n", "    api: v3\n    builder: remote\n")
    upon = f"  {child}:\n    base: {{template: {parent}}}\n    run: ['true']\n"
    stage.workspace.write(text + upon)

    program = left(stage)

    said = {each["name"]: each for each in json.loads(program.stdout)["templates"]}
    assert (said[parent]["status"], said[child]["status"]) == ("detached", "waiting")
    assert said[child]["build_id"] is None
    again = f"`sandboxfile build {child} --target far` goes on"
    assert f"{child}: waits for `{parent}`; {again}" in program.stderr
