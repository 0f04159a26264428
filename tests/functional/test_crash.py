"""Kill -9 at every step of a build: the next run ends as if nothing had happened."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev.private import PrivateEngine
from sandboxfile.engines import Engine
from sandboxfile.engines.choose import choose
from sandboxfile.model import EngineChoice, Login, Secret
from tests.conftest import StartEngine
from tests.fakes.program import wait_until
from tests.fakes.registry import PASSWORD, USER
from tests.fakes.scene import Scene, scene
from tests.fakes.tripwire import Moment

pytestmark = pytest.mark.engine

SetScene = Callable[[str], Scene]


@dataclass(frozen=True, kw_only=True)
class Point:
    """A request, of the program to the service or of the engine to the registry."""

    step: str
    method: str
    path: str
    moment: Moment = "arrived"
    nth: int = 1
    at_registry: bool = False

    def __str__(self) -> str:
        return f"{self.step}-{self.moment.replace(' ', '-')}" + ("-again" * (self.nth > 1))


def kill_at(stage: Scene, point: Point) -> None:
    """Run until the point, and not one instruction further."""
    wire = stage.registry if point.at_registry else stage.service
    trap = wire.trap(point.method, point.path, point.moment, nth=point.nth)
    stage.booting.state = "refuse" if point.step == "poll" else "open"
    program = stage.workspace.start()
    wait_until(lambda: trap.is_sprung, str(trap), program)
    program.kill()
    trap.release()
    stage.booting.state = "open"


PUSH = [
    Point(step="push", method="POST", path="/blobs/uploads/", at_registry=True),
    Point(step="push-manifest", method="PUT", path="/manifests/", at_registry=True),
    Point(
        step="push-manifest", method="PUT", path="/manifests/", moment="carried out",
        at_registry=True,
    ),
    Point(step="confirm", method="GET", path="/manifests/sha256:", at_registry=True),
]  # fmt: skip
# First with the bytes of a layer there, and the upload not closed.
AMID = [
    Point(
        step="layer", method="PATCH", path="/blobs/uploads/", moment="carried out",
        at_registry=True,
    ),
    *PUSH[1:],
]  # fmt: skip
FOLLOWED = [
    Point(step="poll", method="GET", path="/status", moment="carried out", nth=3),
    Point(step="tag", method="POST", path="^/templates/tags$"),
    Point(step="tag", method="POST", path="^/templates/tags$", moment="carried out"),
]
V3_TRIGGER = "^/v2/templates/[^/]+/builds/"
V1_TRIGGER = "^/templates/[^/]+/builds/"
POINTS = {
    "v3": [
        *PUSH,
        Point(step="register", method="POST", path="^/v3/templates$"),
        Point(step="register", method="POST", path="^/v3/templates$", moment="carried out"),
        Point(step="trigger", method="POST", path=V3_TRIGGER, moment="carried out"),
        *FOLLOWED,
        Point(step="read-back", method="GET", path="^/templates/[^/]+/tags$"),
    ],
    "v1": [
        Point(step="register", method="POST", path="^/templates$"),
        Point(step="register", method="POST", path="^/templates$", moment="carried out"),
        *PUSH,
        Point(step="trigger", method="POST", path=V1_TRIGGER, moment="carried out"),
        *FOLLOWED,
    ],
}


LATE = [
    pytest.param(api, point, id=f"{api}-{point}")
    for api, points in POINTS.items()
    for point in points
    if point.moment == "carried out"
]


@pytest.mark.parametrize(("api", "point"), LATE)
def test_a_run_killed_after_an_effect_and_before_its_answer_is_finished_by_the_next(
    set_scene: SetScene, api: str, point: Point
) -> None:
    stage = set_scene(api)
    stage.write()

    kill_at(stage, point)
    stage.workspace.build()

    stage.check()
    assert "nothing to do" in stage.workspace.build().stderr


@pytest.mark.parametrize("api", ["v3", "v1"])
def test_a_run_killed_at_one_step_after_the_other_is_finished_in_the_end(
    set_scene: SetScene, api: str
) -> None:
    stage = set_scene(api)
    stage.write()
    kill_while_building(stage)

    for point in POINTS[api]:
        if str(point) not in {"push-manifest-carried-out", "poll-carried-out-again"}:
            kill_at(stage, point)
    stage.workspace.build()

    stage.check()


def test_a_run_killed_amid_a_push_that_wants_a_login_is_finished_by_the_next(
    engine: Engine,
    secured_registry: str,
    busybox: str,
    engine_environ: Mapping[str, str],
    tmp_path: Path,
) -> None:
    with scene(
        tmp_path,
        engine=engine,
        registry=secured_registry,
        base=busybox,
        api="v1",
        environ={"DOCKER_HOST": engine_environ["DOCKER_HOST"]},
        login=Login(username=USER, password=Secret(PASSWORD)),
    ) as stage:
        stage.write()

        for point in AMID:
            kill_at(stage, point)
        stage.workspace.build()

        stage.check()
        assert "nothing to do" in stage.workspace.build().stderr
        pushed = stage.registry.passed("PUT", "/manifests/")
        assert [each.status for each in pushed][-1] == 201
        assert PASSWORD not in stage.workspace.lock_path.read_text()


def test_a_trigger_that_may_have_been_sent_is_sent_again_only_after_a_while(
    set_scene: SetScene,
) -> None:
    stages = [set_scene(api) for api in ("v3", "v1")]
    for stage, path in zip(stages, (V3_TRIGGER, V1_TRIGGER), strict=True):
        stage.write()
        kill_at(stage, Point(step="trigger", method="POST", path=path))

    runs = [stage.workspace.start() for stage in stages]  # at once: both wait for 20 s

    for stage, program in zip(stages, runs, strict=True):
        program.succeed()
        stage.check()


def kill_while_building(stage: Scene) -> None:
    stage.building.state = "hold"
    program = stage.workspace.start()
    wait_until(lambda: stage.building.is_busy, "RUN at the gate", program)
    program.kill()
    wait_until(lambda: not stage.building.is_busy, "end of the RUN that nobody waits for")
    stage.building.state = "open"


@pytest.mark.parametrize("api", ["v3", "v1", "local"])
def test_a_run_killed_while_an_image_is_built_leaves_nothing_running(
    set_scene: SetScene, api: str
) -> None:
    stage = set_scene(api)
    stage.write()

    kill_while_building(stage)
    stage.workspace.build()

    if api != "local":
        stage.check()
    assert stage.workspace.entries[stage.name].tags == ("blue",)


def test_two_runs_at_once_build_everything_once(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    stage.write(*stage.names)

    for program in [stage.workspace.start(), stage.workspace.start()]:
        program.succeed()

    stage.check(*stage.names)
    assert sorted(stage.workspace.entries) == sorted(stage.names)
    assert len(stage.service.passed("POST", "^/v3/templates$")) == len(stage.names)


def test_two_runs_at_once_lose_nothing_of_each_other(set_scene: SetScene) -> None:
    stage = set_scene("v3")
    stage.write(*stage.names)

    for program in [stage.workspace.start(name) for name in stage.names]:
        program.succeed()

    stage.check(*stage.names)


def test_two_local_runs_at_once_build_everything_once(set_scene: SetScene) -> None:
    stage = set_scene("local")
    stage.write(*stage.names)

    for program in [stage.workspace.start(), stage.workspace.start()]:
        program.succeed()

    assert sorted(stage.workspace.entries) == sorted(stage.names)
    assert {entry.tags for entry in stage.workspace.entries.values()} == {("blue",)}


def test_an_engine_killed_in_the_middle_of_a_build_is_named_and_nothing_is_locked(
    start_engine: StartEngine, busybox_archive: Path, registry: str, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(start_engine()) for _ in range(2))
        engine = connected(first, stack)
        engine.load_root(busybox_archive, "sandboxfile-tests/busybox:1", labels={})
        stage = stack.enter_context(
            scene(
                tmp_path,
                engine=engine,
                registry=registry,
                base="sandboxfile-tests/busybox:1",
                api="local",
                environ={"DOCKER_HOST": first.url},
            )
        )
        stage.write()
        stage.building.state = "hold"
        program = stage.workspace.start()
        wait_until(lambda: stage.building.is_busy, "RUN at the gate", program)

        first.stop()

        assert program.end() in {1, 6}
        assert "error: the container engine at" in program.stderr
        assert "Traceback" not in program.stderr
        assert stage.workspace.entries == {}

        stage.building.state = "open"
        again = stage.workspace.start(environ={"DOCKER_HOST": second.url})
        again.succeed()
        assert stage.workspace.entries[stage.name].tags == ("blue",)


def connected(private: PrivateEngine, stack: contextlib.ExitStack) -> Engine:
    environ = {"DOCKER_HOST": private.url, "PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    engine = choose(EngineChoice(), environ=environ, network="host")
    stack.callback(engine.close)
    return engine
