"""The local template service on a real engine, asked by our own client."""

import base64
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from sandboxfile.buildstatus import BuildStatus, Registration
from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from sandboxfile.errors import BuildFailed, Cancelled, NotAllowed, SandboxfileError
from sandboxfile.events import Event
from sandboxfile.local.limits import Limits
from sandboxfile.local.service import LocalBuild, LocalService, open_box
from sandboxfile.model import ImageBase, Login, Ready, Resources, Secret, Target, Template
from sandboxfile.places import Position
from sandboxfile.service import TemplateService
from sandboxfile.targets import Release
from sandboxfile.targets.local import LocalPublisher
from sandboxfile.triggers import BuildStep, Start
from sandboxfile.web import Web
from tests.fakes import calls, push
from tests.fakes.registry import PASSWORD, USER

pytestmark = pytest.mark.engine

T = TypeVar("T")
SMALL = {"cpu": 1, "memory": 128}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A local service with a client of it."""

    service: LocalService
    client: TemplateService
    url: str

    def register(self, name: str, *tags: str) -> Registration:
        return self.client.register(name, tags=tags, **SMALL)

    def begin(self, name: str, start: Start, *tags: str) -> Registration:
        ids = self.register(name, *tags)
        self.client.trigger(ids, start)
        return ids

    def build(self, name: str, start: Start, *tags: str) -> BuildStatus:
        return self.end(self.begin(name, start, *tags))

    def end(self, ids: Registration) -> BuildStatus:
        return wait(lambda: self.client.status(ids), lambda s: s.state in {"ready", "error"})

    def log(self, status: BuildStatus) -> list[str]:
        ids = Registration(template_id=status.template_id, build_id=status.build_id)
        return self.lines(ids)

    def lines(self, ids: Registration) -> list[str]:
        """Read a log page by page to its end."""
        lines: list[str] = []
        while page := self.client.status(ids, offset=len(lines)).entries:
            lines += [entry.message for entry in page]
        return lines

    def said(self, ids: Registration, text: str) -> None:
        """Wait until the log has a line with this text."""
        wait(
            lambda: self.lines(ids),
            lambda log: any(text in line for line in log),
        )


def wait(look: Callable[[], T], enough: Callable[[T], object], seconds: float = 60) -> T:
    """Look until it is enough; return what was seen."""
    deadline = time.monotonic() + seconds
    while not enough(seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"still {seen!r} after {seconds} s")
        time.sleep(0.05)
    return seen


Serve = Callable[..., Running]
PATIENT = Limits(ready=30.0)


@pytest.fixture
def serve(engine: Engine, tmp_path: Path) -> Iterator[Serve]:
    """Start local services on one data directory; all images of theirs are removed afterwards."""
    with ExitStack() as stack:

        def started(
            *, registry: str | None = None, logins: Callable[[str], Login | None] | None = None,
            limits: Limits = PATIENT, parallel: int = 4,
        ) -> Running:  # fmt: skip
            service = LocalService(
                engine,
                tmp_path / "data",
                logins=logins or (lambda _: None),
                ready_interval_s=0.1,
                limits=limits,
                registry=registry,
                parallel=parallel,
            )
            url = service.start()
            stack.callback(service.stop)
            web = Web(user_agent="sandboxfile-tests")
            stack.callback(web.close)
            return Running(service=service, client=TemplateService(web, url, Secret("k")), url=url)

        yield started


@pytest.fixture
def running(serve: Serve) -> Running:
    return serve()


def step(kind: str, *args: str) -> BuildStep:
    return BuildStep(type=kind, args=args)


# --- building --------------------------------------------------------------------------------


def test_a_template_is_built_from_an_image_and_waits_until_it_is_ready(
    running: Running, engine: Engine, busybox: str
) -> None:
    start = Start(
        image=engine.find(busybox),
        start="echo warming up; sleep 0.5; echo $$ > ready; sleep 600",
        ready="test -s ready",
    )

    status = running.build("warm", start, "v1")

    assert status.state == "ready"
    log = running.log(status)
    assert log[0] == f"Building template {status.template_id}/{status.build_id}"
    assert log[1].startswith("[base] FROM sha256:")
    assert "[start] [stdout]: warming up" in log
    assert any(line.startswith("Template is not ready: exit status 1") for line in log)
    assert log[-2] == "Template is ready"
    assert log[-1].startswith("Build finished, took ")
    assert running.service.resolve("warm:v1") == LocalBuild(
        template_id=status.template_id,
        build_id=status.build_id,
        image=f"sandboxfile/local:{status.build_id}",
        start=start.start or "",
        ready="test -s ready",
        user="user",
        workdir="/home/user",
        env={},
        resources=Resources(**SMALL),
    )
    engine.untag(f"sandboxfile/local:{status.build_id}")


def test_steps_are_carried_out_for_real(running: Running, engine: Engine, busybox: str) -> None:
    steps = (
        step("ENV", "A", "1", "B", "$A-2"),
        step("RUN", "echo $B; id -un; pwd; echo bad >&2"),
        step("RUN", "id -un", "root"),
        step("USER", "bob"),
        step("WORKDIR", "work"),
        step("RUN", "id -un; pwd; touch mine; ls -ld . | cut -c1-10"),
        step("WORKDIR", "/srv/deep/er"),
        step("RUN", "pwd; touch it"),
        step("user", "root"),
        step("ARG", "C", "3"),
    )
    status = running.build(
        "steps", Start(image=busybox, steps=steps, ready='test "$B$C" = 1-23'), "v1"
    )

    assert status.state == "ready", status.reason
    log = running.log(status)

    def output(number: int) -> list[str]:
        prefix = f"[builder {number}/{len(steps)}] ["
        lines = sorted(line.removeprefix(prefix) for line in log if line.startswith(prefix))
        return [line.removeprefix("stdout]: ") for line in lines]

    assert output(2) == ["stderr]: bad", "/home/user", "1-2", "user"]
    assert output(3) == ["root"]
    assert output(6) == ["/home/bob/work", "bob", "drwxr-xr-x"]
    assert output(8) == ["/srv/deep/er"]
    build = running.service.resolve("steps:v1")
    assert (build.user, build.workdir) == ("root", "/srv/deep/er")
    assert build.env == {"A": "1", "B": "1-2", "C": "3"}
    engine.untag(build.image)


@pytest.mark.parametrize(
    ("start", "step_name", "reason"),
    [
        (
            {"steps": (step("RUN", "true"), step("RUN", "echo why; exit 3"))},
            "2",
            "failed to run command 'echo why; exit 3': exit status 3",
        ),
        (
            {"steps": (step("COPY", "a", "/b", "", ""),)},
            "1",
            "files for hash '' were not uploaded",
        ),
        ({"steps": (step("DANCE"),)}, "1", "command type DANCE is not implemented"),
        ({"steps": (step("ENV", "A"),)}, "1", "ENV cannot have 1 arguments"),
        ({"steps": (step("RUN"),)}, "1", "RUN cannot have 0 arguments"),
        (
            {"steps": (step("ENV", "1A", "x"),)},
            "1",
            "'1A' is not a name of an environment variable",
        ),
        ({"steps": (step("USER", "a b"),)}, "1", "'a b' cannot be the name of a user"),
        (
            {"steps": (step("RUN", "true"), step("USER", "root:nowhere"))},
            "2",
            "failed to switch to user 'root:nowhere': exit status 126",
        ),
        (
            {"steps": (step("ENV", "BIG", "x" * 200_000),)},
            "1",
            "the environment is too large: no command would run in it",
        ),
        (
            {"steps": (step("WORKDIR", "/etc/passwd/x"),)},
            "1",
            "failed to create directory '/etc/passwd/x': exit status 1",
        ),
        (
            {"start": "echo oops; exit 7"},
            "finalize",
            "start command failed: error running start command: exit status 7",
        ),
        (
            {"ready": "false"},
            "finalize",
            "ready command failed: ready command timed out after 1s",
        ),
        (
            {"pre_boot": "echo no >&2; exit 9"},
            "base",
            "error waiting for provisioning sandbox: exit status: 9",
        ),
    ],
)
def test_a_failure_is_told_at_its_step(
    serve: Serve, busybox: str, start: dict[str, object], step_name: str, reason: str
) -> None:
    running = serve(limits=Limits(ready=1.0))
    status = running.build("bad", Start(image=busybox, **start))  # type: ignore[arg-type]
    assert (status.state, status.step, status.reason) == ("error", step_name, reason)
    assert running.log(status)[-1] == f"Build failed: {reason}"
    with pytest.raises(SandboxfileError, match="no local template `bad`"):
        running.service.resolve("bad")


def test_a_step_that_takes_too_long_is_ended_with_its_container(
    serve: Serve, busybox: str, engine_environ: dict[str, str]
) -> None:
    running = serve(limits=Limits(step=0.5))
    slow = running.begin("slow", Start(image=busybox, steps=(step("RUN", "sleep 600"),)))
    status = running.end(slow)
    reason = "build timed out: the step took longer than 0.5s"
    assert (status.state, status.step, status.reason) == ("error", "1", reason)
    wait(lambda: boxes(engine_environ, slow), lambda found: not found)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (Start(template="nope"), "template 'nope' not found"),
        (Start(template="a b"), "invalid template reference: "),
        (Start(template="itself:v1"), "tag 'v1' does not exist for template 'itself'"),
        (Start(image="Not An Image"), "image 'Not An Image' not found: "),
        (Start(image="sha256:" + "0" * 64), "image 'sha256:000"),
    ],
)
def test_a_base_that_is_not_there_fails_at_base(
    running: Running, start: Start, reason: str
) -> None:
    status = running.build("itself", start, "x")
    assert (status.state, status.step) == ("error", "base")
    assert status.reason.startswith(reason)


def test_a_template_on_a_template_keeps_its_setting_and_its_commands(
    running: Running, engine: Engine, busybox: str
) -> None:
    first = Start(
        image=busybox,
        steps=(step("ENV", "A", "1"), step("USER", "bob"), step("WORKDIR", "/srv/app")),
        start="echo $A > started; sleep 600",
        ready="test -s started",
    )
    running.build("below", first)
    more = (step("RUN", "cat started; id -un; pwd"), step("ENV", "B", "$A$A"))
    status = running.build("above", Start(template="local/below:default", steps=more))

    assert status.state == "ready", status.reason
    log = running.log(status)
    assert [line.rpartition(": ")[2] for line in log if "[builder 1/2] [stdout]" in line] == [
        "1",
        "bob",
        "/srv/app",
    ]
    above, below = running.service.resolve("above"), running.service.resolve("below")
    assert (above.start, above.ready) == (below.start, below.ready)
    assert (above.user, above.workdir, above.env) == ("bob", "/srv/app", {"A": "1", "B": "11"})

    assert running.build("alone", Start(template="below", ready="true")).state == "ready"
    alone = running.service.resolve("alone")
    assert (alone.start, alone.ready) == ("", "true"), "one of the two given discards both"
    for build in (alone, above, below):
        engine.untag(build.image)
    gone = running.build("above", Start(template="below"))
    assert (gone.step, "not found" in gone.reason) == ("base", True)


USERADD = """
printf '%s\\n' '#!/bin/sh' 'echo "useradd $*" >/tmp/calls' 'for name; do :; done' \
  'echo "$name:x:2000:50::/home/$name:/bin/sh" >>/etc/passwd' >/tmp/useradd
mkdir -p /usr/sbin && mv /tmp/useradd /usr/sbin && chmod +x /usr/sbin/useradd
echo staff:x:50: >>/etc/group
"""


def test_useradd_is_used_where_it_is_and_a_group_of_that_name_is_kept(
    running: Running, engine: Engine, busybox: str
) -> None:
    look = "cat /tmp/calls; id -un; id -gn; ls -ldn ~ | tr -s ' ' | cut -d' ' -f3,4"
    steps = (step("RUN", USERADD, "root"), step("USER", "staff"), step("RUN", look))
    status = running.build("users", Start(image=busybox, steps=steps))

    assert status.state == "ready", status.reason
    prefix = "[builder 3/3] [stdout]: "
    output = [line.removeprefix(prefix) for line in running.log(status) if prefix in line]
    assert output == ["useradd -m -s /bin/sh -g 50 staff", "staff", "staff", "2000 50"]
    engine.untag(running.service.resolve("users").image)


def test_an_account_that_cannot_be_made_fails_its_step(running: Running, busybox: str) -> None:
    broken = "mkdir -p /usr/sbin; cd /usr/sbin; echo exit 12 >useradd; chmod +x useradd"
    steps = (step("RUN", broken, "root"), step("USER", "bob"))
    status = running.build("users", Start(image=busybox, steps=steps))
    assert (status.step, status.reason) == ("2", "failed to create user 'bob': exit status 12")


def test_more_cpus_than_the_engine_has_are_no_obstacle(
    running: Running, engine: Engine, busybox: str
) -> None:
    ids = running.client.register("wide", tags=(), cpu=32, memory=128)
    running.client.trigger(ids, Start(image=busybox))
    assert running.end(ids).state == "ready"
    assert running.service.resolve("wide").resources.cpu == 32
    engine.untag(running.service.resolve("wide").image)


# --- images from a registry ------------------------------------------------------------------


def pushed(engine: Engine, image: str, repository: str, tag: str, login: Login | None) -> str:
    """Push an image and take it out of the engine again."""
    digest = engine.push(
        image, repository, tag, login=login, emit=lambda _: None, cancel=Cancel(), job="test"
    )
    engine.untag(f"{repository}:{tag}")
    return f"{repository}@{digest}"


def test_an_image_is_pulled_with_the_login_of_the_request_or_of_this_machine(
    serve: Serve, engine: Engine, busybox: str, secured_registry: str
) -> None:
    alice = Login(username=USER, password=Secret(PASSWORD))
    reference = pushed(engine, busybox, f"{secured_registry}/local-l/base", "1", alice)
    stranger = serve()
    status = stranger.build("pulled", Start(image=reference))
    assert (status.state, status.step) == ("error", "base")
    assert status.reason.startswith(f"access denied to '{reference}': ")

    assert stranger.build("pulled", Start(image=reference, login=alice)).state == "ready"

    engine.untag(stranger.service.resolve("pulled").image)
    engine.untag(reference)
    known = serve(logins=lambda host: alice if host == secured_registry else None)
    assert known.build("pulled", Start(image=reference)).state == "ready"
    engine.untag(known.service.resolve("pulled").image)
    engine.untag(reference)


@pytest.mark.parametrize("path", ["/e2b/custom-envs", ""])
def test_a_v1_build_takes_what_was_pushed_for_it(
    serve: Serve, engine: Engine, busybox: str, registry: str, path: str
) -> None:
    running = serve(registry=registry)
    ids = running.client.register_v1(
        dockerfile="FROM x",
        alias="legacy",
        start="touch up; sleep 600",
        ready="test -e up",
        cpu=1,
        memory=128,
    )
    pushed(engine, busybox, f"{registry}{path}/{ids.template_id}", ids.build_id, None)

    running.client.trigger_v1(ids)

    assert running.end(ids).state == "ready"
    build = running.service.resolve("legacy")
    assert (build.start, build.ready) == ("touch up; sleep 600", "test -e up")
    engine.untag(build.image)


def test_a_v1_build_that_was_never_pushed_fails(serve: Serve, registry: str) -> None:
    running = serve(registry=registry)
    ids = running.client.register_v1(dockerfile="FROM x", alias="legacy", cpu=1, memory=128)
    running.client.trigger_v1(ids)
    status = running.end(ids)
    assert (status.state, status.step) == ("error", "base")
    assert status.reason.startswith("failed to pull build image from registry: ")


TOKEN_USER = Login(username="_e2b_access_token", password=Secret("any"))


def test_a_v1_build_takes_what_was_pushed_to_the_service_itself(
    running: Running, engine: Engine, busybox: str, tmp_path: Path
) -> None:
    ids = running.client.register_v1(dockerfile="FROM x", alias="legacy", cpu=1, memory=128)
    mine = f"e2b/custom-envs/{ids.template_id}"
    repository = f"{running.url.removeprefix('http://')}/{mine}"
    reference = pushed(engine, busybox, repository, ids.build_id, TOKEN_USER)
    engine.ensure(
        reference, login=TOKEN_USER, emit=lambda _: None, cancel=Cancel(), job="it can be pulled"
    )
    engine.untag(reference)

    running.client.trigger_v1(ids)

    assert running.end(ids).state == "ready"
    running.said(ids, f"Pulling {mine}:{ids.build_id}")
    wait(lambda: list((tmp_path / "data" / "registry").iterdir()), lambda left: not left)
    assert engine.find(f"{mine}:{ids.build_id}") is None
    engine.untag(running.service.resolve("legacy").image)
    with pytest.raises(NotAllowed):  # it waits no longer
        pushed(engine, busybox, repository, ids.build_id, TOKEN_USER)
    engine.untag(f"{repository}:{ids.build_id}")


def test_a_v1_build_that_was_not_pushed_anywhere_asks_nobody(running: Running) -> None:
    ids = running.client.register_v1(dockerfile="FROM x", alias="legacy", cpu=1, memory=128)
    running.client.trigger_v1(ids)
    reason = running.end(ids).reason
    assert reason.startswith("failed to pull build image from registry: ")
    assert "was not pushed to this service" in reason


def test_an_image_that_the_engine_does_not_take_fails_at_base(
    running: Running, engine: Engine
) -> None:
    ids = running.client.register_v1(dockerfile="FROM x", alias="legacy", cpu=1, memory=128)
    host = running.url.removeprefix("http://")
    # Its layer is none: an engine that unpacks it, or compares it with the configuration, says so.
    broken = push.image(layer=b"not an archive", diff=b"another")
    token = registry_token(running.url, ids.template_id)
    push.push(
        f"http://{host}", f"e2b/custom-envs/{ids.template_id}", ids.build_id, broken,
        headers={"Authorization": f"Bearer {token}"},
    )  # fmt: skip
    running.client.trigger_v1(ids)
    status = running.end(ids)
    assert (status.state, status.step) == ("error", "base")
    assert status.reason.startswith("failed to pull build image from registry: ")
    assert engine.find(f"e2b/custom-envs/{ids.template_id}:{ids.build_id}") is None


def registry_token(url: str, template: str) -> str:
    basic = base64.b64encode(b"_e2b_access_token:any").decode()
    request = urllib.request.Request(
        f"{url}/v2/token?scope=repository:e2b/custom-envs/{template}:push,pull",
        headers={"Authorization": f"Basic {basic}"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(json.load(response)["token"])


def test_credentials_of_a_kind_we_cannot_use_are_named(running: Running, registry: str) -> None:
    ids = running.register("app")
    image = f"{registry}/never:1"
    web = Web(user_agent="sandboxfile-tests")
    reply = web.send(
        "POST",
        f"{running.url}/v2/templates/{ids.template_id}/builds/{ids.build_id}",
        json={"fromImage": image, "fromImageRegistry": {"type": "oci"}},
    )
    web.close()
    assert reply.status == 202
    status = running.end(ids)
    assert status.step == "base"
    assert status.reason.startswith(
        f"access denied to '{image}': registry credentials of type 'oci'"
    )


def test_an_image_that_its_registry_does_not_have_is_not_found(
    running: Running, registry: str
) -> None:
    status = running.build("app", Start(image=f"{registry}/never:1"))
    assert status.step == "base"
    assert status.reason.startswith(f"image '{registry}/never:1' not found: ")


# --- ending early ----------------------------------------------------------------------------

ENDLESS = "echo here we go; sleep 600"


def boxes(engine_environ: dict[str, str], ids: Registration) -> list[str]:
    """Return the containers of a build."""
    label = f"label=sandboxfile.build={ids.build_id}"
    command = ["docker", "ps", "--all", "--quiet", "--filter", label]
    return subprocess.run(
        command, env=engine_environ, capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_newer_build_of_the_tag_ends_the_running_one_and_its_container(
    running: Running, busybox: str, engine_environ: dict[str, str]
) -> None:
    old = running.begin("app", Start(image=busybox, steps=(step("RUN", ENDLESS),)))
    running.said(old, "[stdout]: here we go")
    assert len(boxes(engine_environ, old)) == 1

    new = running.begin("app", Start(image=busybox, steps=(step("RUN", ENDLESS),)))

    assert running.end(old).reason == "build was cancelled"
    wait(lambda: boxes(engine_environ, old), lambda found: not found)
    assert running.client.status(new).state == "building"


def test_a_build_in_another_process_is_ended_too(
    serve: Serve, busybox: str, engine_environ: dict[str, str]
) -> None:
    first, second = serve(), serve()
    old = first.begin("app", Start(image=busybox, start=ENDLESS, ready="false"))
    first.said(old, "[stdout]: here we go")

    second.begin("app", Start(image=busybox, ready="false"))

    assert second.client.status(old).reason == "build was cancelled"
    wait(lambda: boxes(engine_environ, old), lambda found: not found)


def test_deleting_a_template_ends_its_build_and_takes_its_images(
    running: Running, engine: Engine, busybox: str, engine_environ: dict[str, str]
) -> None:
    done = running.build("app", Start(image=busybox), "v1")
    ids = running.begin("app", Start(image=busybox, start=ENDLESS, ready="false"), "v2")
    running.said(ids, "[stdout]: here we go")
    image = f"sandboxfile/local:{done.build_id}"
    assert engine.find(image) is not None

    calls.delete(running.url, "k", "app")

    assert engine.find(image) is None
    wait(lambda: boxes(engine_environ, ids), lambda found: not found)


def test_stopping_cancels_builds_and_removes_their_containers(
    serve: Serve, busybox: str, engine_environ: dict[str, str]
) -> None:
    running = serve(parallel=1)
    going = running.begin("one", Start(image=busybox, start=ENDLESS, ready="false"))
    queued = running.begin("two", Start(image=busybox))
    running.said(going, "[stdout]: here we go")

    running.service.stop()

    assert boxes(engine_environ, going) == []
    again = serve()
    for ids in (going, queued):
        assert again.client.status(ids).reason == "build was cancelled"


SERVE = """
import sys
from pathlib import Path
from sandboxfile.engines.choose import choose
from sandboxfile.local.limits import Limits
from sandboxfile.local.service import LocalService
from sandboxfile.model import EngineChoice
engine = choose(EngineChoice(), environ={"DOCKER_HOST": sys.argv[2]}, network="host")
service = LocalService(engine, Path(sys.argv[1]), logins=lambda host: None)
print(service.start(), flush=True)
sys.stdin.read()
"""


def test_kill_9_loses_the_running_build_alone_and_its_container_is_removed(
    serve: Serve, engine: Engine, busybox: str, tmp_path: Path, engine_environ: dict[str, str]
) -> None:
    host = engine_environ["DOCKER_HOST"]
    command = [sys.executable, "-c", SERVE, str(tmp_path / "data"), host]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        ) as process,
        ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        web = Web(user_agent="sandboxfile-tests")
        stack.callback(web.close)
        client = TemplateService(web, url, Secret("k"))
        victim = Running(service=None, client=client, url=url)  # type: ignore[arg-type]
        done = victim.build("done", Start(image=busybox), "v1")
        waiting = victim.register("waiting")
        lost = victim.begin("lost", Start(image=busybox, start=ENDLESS, ready="false"))
        victim.said(lost, "[stdout]: here we go")
        other = serve()
        assert other.client.status(lost).state == "building", "its process lives"
        image = f"sandboxfile/local:{lost.build_id}"  # as if it was killed just before its end
        with engine.box(busybox, labels={}) as box:
            box.commit(image, labels={})
        process.kill()
        process.wait()

        status = other.client.status(lost)

        assert status.reason == "polling received unrecoverable error: builder lost"
        wait(lambda: boxes(engine_environ, lost), lambda found: not found)
        wait(lambda: engine.find(image), lambda found: found is None)
        assert other.client.status(waiting).state == "waiting"
        assert other.service.resolve("done:v1").build_id == done.build_id
        other.client.trigger(waiting, Start(image=busybox))
        assert other.end(waiting).state == "ready"
        for name in ("done:v1", "waiting"):
            engine.untag(other.service.resolve(name).image)


def test_builds_wait_in_line_beyond_the_limit(serve: Serve, engine: Engine, busybox: str) -> None:
    running = serve(parallel=2)
    all_ids = [running.begin(f"app-{n}", Start(image=busybox)) for n in range(5)]
    assert [running.end(ids).state for ids in all_ids] == ["ready"] * 5
    for number in range(5):
        engine.untag(running.service.resolve(f"app-{number}").image)


# --- running templates -----------------------------------------------------------------------


def test_a_template_runs_with_its_start_command_its_user_and_its_variables(
    running: Running, engine: Engine, busybox: str
) -> None:
    start = Start(
        image=busybox,
        steps=(
            step("ENV", "GREETING", "hello world"),
            step("USER", "bob"),
            step("WORKDIR", "/srv/app"),
        ),
        start="rm -f /dev/shm/up; sleep 0.3; echo $GREETING >/dev/shm/up; sleep 600",
        ready="test -s /dev/shm/up",
    )
    assert running.build("runs", start).state == "ready"
    with open_box(running.service, engine, "runs") as template:
        done = template.box.execute(
            ("/bin/busybox", "sh", "-c", "id -un; pwd; echo $GREETING; cat /dev/shm/up"),
            user=template.user,
            workdir=template.workdir,
            env=template.env,
        )
    assert done.output.splitlines() == ["bob", "/srv/app", "hello world", "hello world"]
    engine.untag(running.service.resolve("runs").image)


def test_a_template_that_no_longer_starts_says_so_with_its_output(
    running: Running, engine: Engine, busybox: str
) -> None:
    once = "if test -e seen; then echo seen before; exit 5; fi; touch seen; sleep 600"
    running.build("once", Start(image=busybox, start=once, ready="test -e seen && sleep 0.5"))
    with (
        pytest.raises(BuildFailed, match="does not start: start command failed") as caught,
        open_box(running.service, engine, "once"),
    ):
        pytest.fail("it started")
    assert "[start] [stdout]: seen before" in caught.value.tail
    engine.untag(running.service.resolve("once").image)


def test_waiting_for_a_template_can_be_cancelled(
    running: Running, engine: Engine, busybox: str
) -> None:
    first = "test -e /dev/shm/up || touch /dev/shm/up; sleep 600"
    ready = "test -e never || { touch never; }"
    running.build("slow", Start(image=busybox, start=first, ready=f"{ready} && rm -f x"))
    assert running.build(
        "slow", Start(template="slow", start="touch go; sleep 600", ready="test -e go"), "v2"
    ).state == "ready"  # fmt: skip
    cancel = Cancel()
    threading.Timer(0.1, cancel.set).start()
    with (
        pytest.raises(Cancelled),
        open_box(running.service, engine, "slow:v2", cancel=cancel),
    ):
        cancel.wait(10)
    for name in ("slow", "slow:v2"):
        engine.untag(running.service.resolve(name).image)


def test_a_template_whose_image_was_removed_says_so(
    running: Running, engine: Engine, busybox: str
) -> None:
    status = running.build("gone", Start(image=busybox))
    engine.untag(f"sandboxfile/local:{status.build_id}")
    with (
        pytest.raises(SandboxfileError, match="no longer in the engine") as caught,
        open_box(running.service, engine, "gone"),
    ):
        pytest.fail("it started")
    assert "--force" in caught.value.hint


# --- the target ------------------------------------------------------------------------------


AT = Position("novita.yaml", 1, 1)
HEX = "0123456789abcdef" * 4


def release(image: str | None, content: str = HEX) -> Release:
    template = Template(
        name="published",
        base=ImageBase(image="x", at=AT),
        instructions=(),
        user="bob",
        workdir="/srv/app",
        start="touch up; sleep 600",
        ready=Ready(kind="file", value="/srv/app/up", at=AT),
        resources=Resources(**SMALL),
        tags=("stable",),
        pre_boot=None,
        at=AT,
    )
    return Release(
        template=template,
        image=image,
        image_key=f"sf1:{HEX}",
        template_key=f"sf1:{content}",
        tags=("stable",),
    )


@pytest.fixture
def publish(engine: Engine, tmp_path: Path) -> Iterator[Callable[[], LocalPublisher]]:
    with ExitStack() as stack:

        def opened() -> LocalPublisher:
            publisher = LocalPublisher(
                engine=engine,
                data=tmp_path / "data",
                journal=tmp_path / "journal.jsonl",
                target=Target(name="local", provider="local"),
                logins=lambda _: None,
                emit=ignore,
                cancel=Cancel(),
                ready_interval_s=0.1,
            )
            stack.callback(publisher.close)
            return publisher

        yield opened


def ignore(_event: Event) -> None:
    """Take events."""


def test_the_target_publishes_without_a_registry(
    publish: Callable[[], LocalPublisher], engine: Engine, busybox: str, tmp_path: Path
) -> None:
    publisher = publish()
    wanted = release(busybox)
    image = publisher.push(wanted, emit=ignore, cancel=Cancel())
    assert image == publisher.find_image(wanted) == engine.find(busybox)
    assert not (tmp_path / "data").exists(), "the service starts when it is needed, not before"
    assert publisher.find_snapshot(wanted) is None

    fast = release(busybox, "f" * 64)
    snapshot = publisher.snapshot(fast, image, emit=ignore, cancel=Cancel())
    for remove in ((), ("old",)):
        tagged = replace(fast, tags=("stable",) if remove else ("old", "stable"))
        moved = publisher.tag(tagged, snapshot, remove=remove, emit=ignore, cancel=Cancel())
        assert moved == tagged.tags
    publisher.close()

    again = publish()
    assert again.find_snapshot(fast) == snapshot
    service = LocalService(engine, tmp_path / "data", logins=lambda _: None)
    for name in ("published", "published:stable", f"published:{fast.content_tag}"):
        build = service.resolve(name)
        assert (build.build_id, build.user, build.workdir) == (
            snapshot.build_id,
            "bob",
            "/srv/app",
        )
    with pytest.raises(SandboxfileError, match="published:old"):
        service.resolve("published:old")
    service.stop()
    lost = replace(fast, image="local-l/never:1")
    assert again.find_snapshot(lost) is None, "the image it was made of is gone"
    engine.untag(f"sandboxfile/local:{snapshot.build_id}")
    assert again.find_snapshot(fast) is None, "its image is gone"


def test_the_target_has_nothing_to_push_for_a_remote_base_and_misses_what_is_gone(
    publish: Callable[[], LocalPublisher],
) -> None:
    publisher = publish()
    assert publisher.push(release(None), emit=ignore, cancel=Cancel()) is None
    assert publisher.find_image(release(None)) is None
    with pytest.raises(SandboxfileError, match="not in the engine any more"):
        publisher.push(release("local-l/never:1"), emit=ignore, cancel=Cancel())
