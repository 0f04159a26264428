import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.context import select
from sandboxfile.declined import Busy, NameTaken
from sandboxfile.errors import (
    BuildFailed,
    Cancelled,
    Left,
    NotAllowed,
    SandboxfileError,
    Unreachable,
)
from sandboxfile.gathering import Ground
from sandboxfile.journal import Journal, JournalFailed, Record, Step
from sandboxfile.model import (
    AwsCredentials,
    Copy,
    Login,
    RegistryCredentials,
    RemoteBase,
    Resources,
    Secret,
    Target,
)
from sandboxfile.statcache import NoCache
from sandboxfile.targets import Recipe, Release, Snapshot
from sandboxfile.uploads import upload
from sandboxfile.web import Reply, Web
from tests.fakes import push
from tests.fakes.publishing import AT, CONTENT, MANIFEST, PLACES, World, release
from tests.fakes.registry import LOGIN, FakeRegistry, running
from tests.fakes.service import Answer, Build, FakeService, Sent, error

REGISTER = "/v3/templates"
TRIGGER = "/v2/templates/.*/builds/"
STATUS = "/status"
IMAGE = "sha256:" + "77" * 32


def snapshot(world: World, what: Release | None = None, **changes: Any) -> Snapshot:
    return world.v3(**changes).snapshot(
        what or release(),
        f"{world.registry}/api@{IMAGE}",
        emit=world.events.append,
        cancel=world.cancel,
    )


def result_of(build: Build) -> Snapshot:
    return Snapshot(template_id=build.template, build_id=build.id)


def journaled(world: World, build: Build | None, step: Step, content: str = CONTENT) -> None:
    journal = world.journal()
    journal.write(
        Record(
            template="api",
            content=content,
            step=step,
            template_id=build.template if build else "",
            build_id=build.id if build else "",
        )
    )


def builds(world: World) -> list[Build]:
    return list(world.service.builds.values())


# --- the ordinary way ------------------------------------------------------------------------


def test_a_build_is_registered_under_its_content_tag_alone(world: World) -> None:
    snapshot(world, release(tags=("stable",), resources=Resources(cpu=4, memory=2048)))
    (sent,) = world.service.sent("POST", REGISTER)
    assert sent.body == {"name": "api", "tags": [CONTENT], "cpuCount": 4, "memoryMB": 2048}


def test_the_trigger_carries_everything_the_image_cannot(world: World) -> None:
    snapshot(world, release(user="user", workdir="/app", pre_boot="echo hi"))
    (build,) = builds(world)
    assert build.body == {
        "fromImage": f"{world.registry}/api@{IMAGE}",
        "fromImageRegistry": {
            "type": "registry",
            "username": "alice",
            "password": "pass-123456",
        },
        "steps": [
            {"type": "USER", "args": ["user"], "force": False},
            {"type": "WORKDIR", "args": ["/app"], "force": False},
        ],
        "force": False,
        "startCmd": "python -m app",
        "readyCmd": "test -e /ok",
        "preBootScript": "echo hi",
    }


def test_only_what_the_template_has_is_sent(world: World) -> None:
    world.login = None
    snapshot(world, release(start=None, ready=None))
    (build,) = builds(world)
    assert build.body == {
        "fromImage": f"{world.registry}/api@{IMAGE}",
        "steps": [],
        "force": False,
    }


def test_the_login_is_for_the_registry_of_the_target_only(world: World) -> None:
    world.v3().snapshot(
        release(), f"elsewhere.example/a@{IMAGE}", emit=world.events.append, cancel=world.cancel
    )
    assert "fromImageRegistry" not in builds(world)[0].body


def remote(image: str) -> Release:
    return replace(release(), image=None, recipe=Recipe(image=image))


def triggered(world: World, image: str, **changes: Any) -> Any:
    """Return what the service is given for a base image that it pulls itself."""
    target = Target(name="prod", provider="novita", registry=world.registry, builder="remote")
    key = AwsCredentials(access_key_id="A", secret_access_key=Secret("S"), region="r")
    asked: list[str] = []

    def pulls(host: str) -> RegistryCredentials:
        asked.append(host)
        return key

    publisher = world.v3(**{"target": target, "pulls": pulls, **changes})
    publisher.snapshot(remote(image), None, emit=world.events.append, cancel=world.cancel)
    body = builds(world)[-1].body
    assert bool(asked) == ("fromImageRegistry" in body)
    return body.get("fromImageRegistry")


def test_a_base_image_that_everybody_gets_is_pulled_without_credentials(world: World) -> None:
    with running() as registry:
        digest = registry.add("acme/base", "1", push.image())
        assert triggered(world, f"{registry.host}/acme/base@{digest}") is None
        assert not any("authorization" in each.headers for each in registry.seen)


@pytest.mark.parametrize("wants", ["basic", "bearer"])
def test_a_private_base_image_is_pulled_with_the_credentials_of_its_registry(
    world: World, wants: Any
) -> None:
    with running(FakeRegistry(wants=wants, anonymous_tokens=False)) as registry:
        digest = registry.add("acme/base", "1", push.image())
        sent = triggered(world, f"{registry.host}/acme/base@{digest}")
        assert sent["type"] == "aws"
        assert not any(each.headers.get("authorization") == LOGIN for each in registry.seen)


def test_an_image_that_nobody_shows_may_be_private(world: World) -> None:
    with running() as registry:
        sent = triggered(world, f"{registry.host}/acme/base@{IMAGE}")
        assert sent["type"] == "aws"


def test_an_image_of_the_targets_registry_is_pulled_with_its_credentials(world: World) -> None:
    assert triggered(world, f"{world.registry}/base@{IMAGE}")["type"] == "aws"


def test_nothing_is_sent_where_images_are_built_here_or_have_no_registry(world: World) -> None:
    here = Target(name="local", provider="local", builder="remote")
    assert triggered(world, f"elsewhere.example/a@{IMAGE}", target=here) is None
    docker = Target(name="prod", provider="novita", registry=world.registry)
    assert triggered(world, f"elsewhere.example/a@{IMAGE}", target=docker) is None
    assert triggered(world, IMAGE) is None


def test_the_ids_come_back_and_stay_in_the_journal(world: World) -> None:
    done = snapshot(world)
    assert done == result_of(builds(world)[0])
    last = world.journal().pending("api")
    assert last is not None
    assert (last.step, last.template_id, last.build_id) == (
        "ready",
        done.template_id,
        done.build_id,
    )


def test_ids_are_on_disk_before_the_trigger(world: World) -> None:
    seen: list[str] = []

    class Watching(FakeService):
        def trigger(self, build: Build, body: Any = None) -> Answer:
            seen.extend(world.path.read_text().splitlines())
            return super().trigger(build, body)

    world.service.__class__ = Watching
    snapshot(world)
    records = [json.loads(line) for line in seen]
    assert [record["step"] for record in records] == ["register", "registered", "trigger"]
    assert records[-1]["build_id"] == builds(world)[0].id


def test_the_journal_holds_no_secret_and_no_command(world: World) -> None:
    snapshot(world)
    text = world.path.read_text()
    assert not [word for word in ("key-123456", "pass-123456", "python", "alice") if word in text]


def test_a_build_on_a_remote_template_names_it(world: World) -> None:
    base = RemoteBase(remote="code:v1", at=AT)
    what = release(base=base, start=None, ready=None)
    world.v3().snapshot(what, None, emit=world.events.append, cancel=world.cancel)
    assert builds(world)[0].body == {"fromTemplate": "code:v1", "steps": [], "force": False}
    assert not world.notices


@pytest.mark.parametrize("lacking", ["start", "ready"])
def test_half_a_pair_of_commands_was_told_of_when_the_build_was_planned(
    world: World, lacking: str
) -> None:
    changes: dict[str, Any] = {lacking: None}
    what = release(base=RemoteBase(remote="code", at=AT), **changes)
    world.v3().snapshot(what, None, emit=world.events.append, cancel=world.cancel)
    assert f"{lacking}Cmd" not in builds(world)[0].body
    assert not world.notices


def test_a_service_without_v3_is_asked_the_older_way(world: World) -> None:
    world.service.has_v3 = False
    publisher = world.v3()
    for name in ("api", "web"):
        publisher.snapshot(release(name=name), IMAGE, emit=world.events.append, cancel=world.cancel)
    assert [sent.body["alias"] for sent in world.service.sent("POST", "/v2/templates")] == [
        "api",
        "web",
    ]
    assert len(world.service.sent("POST", REGISTER)) == 1
    assert len(world.notices) == 1


# --- resuming --------------------------------------------------------------------------------

ROWS: list[tuple[Step | None, str, int, int]] = [
    # the journal, the service's build, builds in the end, triggers of the first
    (None, "building", 1, 0),
    (None, "waiting", 2, 0),
    (None, "ready", 1, 0),
    (None, "error", 2, 0),
    ("register", "waiting", 1, 1),
    ("register", "building", 1, 0),
    ("register", "ready", 1, 0),
    ("register", "error", 2, 0),
    ("registered", "waiting", 1, 1),
    ("registered", "building", 1, 0),
    ("registered", "ready", 1, 0),
    ("trigger", "waiting", 1, 1),
    ("trigger", "building", 1, 0),
    ("trigger", "ready", 1, 0),
    ("triggered", "building", 1, 0),
    ("triggered", "ready", 1, 0),
    ("ready", "ready", 1, 0),
    ("closed", "ready", 1, 0),
    ("ready", "error", 2, 0),
]


@pytest.mark.parametrize(("step", "state", "count", "triggers"), ROWS)
def test_a_run_goes_on_where_the_last_one_stopped(
    world: World, step: Step | None, state: str, count: int, triggers: int
) -> None:
    build = world.service.register("api", (CONTENT,))
    build.state = state
    if state in {"ready", "error"}:
        build.settle(state)
    build.reason = {"message": "build was cancelled"}
    if step is not None:
        journaled(world, None if step == "register" else build, step)
    done = snapshot(world)
    assert len(builds(world)) == count
    assert build.triggers == triggers
    assert done == result_of(builds(world)[-1])
    assert not world.service.harmful_triggers


@pytest.mark.parametrize("step", [None, "ready", "closed"])
def test_a_forced_build_is_a_new_one_whatever_is_ready(world: World, step: Step | None) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    if step is not None:
        journaled(world, build, step)
    done = snapshot(world, replace(release(), fresh=True))
    assert done == result_of(builds(world)[-1])
    assert len(builds(world)) == 2


def test_a_forced_build_does_not_go_on_with_one_that_was_left_and_then_taken(world: World) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    journaled(world, build, "triggered")
    assert world.v3().find_snapshot(release()) == result_of(build)
    done = snapshot(world, replace(release(), fresh=True))
    assert done == result_of(builds(world)[-1])
    assert len(builds(world)) == 2


@pytest.mark.parametrize("state", ["building", "ready"])
def test_a_build_that_another_run_is_about_to_trigger_is_followed(world: World, state: str) -> None:
    other = world.service.register("api", (CONTENT,))
    sleep = world.clock.sleep

    def pause(cancel: Cancel, seconds: float) -> None:
        if other.state == "waiting":
            world.service.trigger(other)
            if state == "ready":
                other.settle("ready")
        sleep(cancel, seconds)

    done = snapshot(world, patience=replace(world.clock.patience(), sleep=pause))
    assert done == result_of(other)
    assert world.service.sent("POST", REGISTER) == []


def test_a_third_run_that_overtakes_the_one_waited_for_is_followed(world: World) -> None:
    world.service.register("api", (CONTENT,))
    sleep = world.clock.sleep

    def pause(cancel: Cancel, seconds: float) -> None:
        if len(builds(world)) == 1:
            world.service.trigger(world.service.register("api", (CONTENT,)))
        sleep(cancel, seconds)

    done = snapshot(world, patience=replace(world.clock.patience(), sleep=pause))
    _, third = builds(world)
    assert done == result_of(third)
    assert third.triggers == 1


def test_a_build_that_nobody_triggers_is_superseded_after_a_moment(world: World) -> None:
    orphan = world.service.register("api", (CONTENT,))
    began = world.clock.now
    done = snapshot(world)
    assert (orphan.state, done.build_id != orphan.id) == ("error", True)
    assert 5 <= world.clock.now - began < 10


def test_a_build_that_is_ready_and_of_no_use_here_is_not_taken(world: World) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    journaled(world, build, "ready")
    done = snapshot(world, usable=lambda _, ids: ids.build_id != build.id)
    assert done == result_of(builds(world)[-1])
    assert len(builds(world)) == 2


@pytest.mark.parametrize("step", ["registered", "trigger", "triggered"])
def test_a_receipt_of_a_deleted_build_is_void(world: World, step: Step) -> None:
    gone = Build(id="00000000-0000-4000-8000-999999999999", template="tmplgone", tags=())
    journaled(world, gone, step)
    assert snapshot(world) == result_of(builds(world)[0])


def test_an_unfinished_build_of_other_content_is_left_alone(world: World) -> None:
    other = world.service.register("api", ("sf-other",))
    journaled(world, other, "registered", "sf-other")
    done = snapshot(world)
    assert done.build_id != other.id
    assert (other.state, other.triggers) == ("waiting", 0)


def test_a_build_that_waits_for_ever_is_triggered_once_more_and_then_replaced(
    world: World,
) -> None:
    stuck = world.service.register("api", (CONTENT,))
    journaled(world, stuck, "trigger")
    world.service.fail("POST", TRIGGER, Answer(status=202))  # says yes and does nothing
    world.service.script = ("building", "ready")
    done = snapshot(world, patience=world.clock.patience(waiting=30.0, new_builds=1))
    assert done.build_id != stuck.id


# --- killed anywhere -------------------------------------------------------------------------


class Killed(BaseException):
    """What `kill -9` looks like from inside."""


class DyingJournal(Journal):
    """Dies before or after its n-th record."""

    countdown = 0
    after = False

    def write(self, record: Record) -> None:
        DyingJournal.countdown -= 1
        if DyingJournal.countdown == 0 and not self.after:
            raise Killed
        super().write(record)
        if DyingJournal.countdown == 0 and self.after:
            raise Killed


class DyingWeb(Web):
    """Dies before its n-th request is sent, or after it was carried out."""

    countdown = 0
    after = False

    def send(self, method: str, url: str, **options: Any) -> Reply:
        self.countdown -= 1
        if self.countdown == 0 and not self.after:
            raise Killed
        reply = super().send(method, url, **options)
        if self.countdown == 0 and self.after:
            raise Killed
        return reply


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", range(1, 6))
def test_a_run_killed_at_any_record_is_completed_by_the_next(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    after: bool,  # noqa: FBT001 - from the table
) -> None:
    monkeypatch.setattr(DyingJournal, "countdown", count)
    monkeypatch.setattr(DyingJournal, "after", after)
    with pytest.raises(Killed):
        snapshot(world, journal=world.journal(DyingJournal))
    check_completion(world)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", range(1, 7))
def test_a_run_killed_at_any_request_is_completed_by_the_next(
    world: World,
    count: int,
    after: bool,  # noqa: FBT001 - from the table
) -> None:
    web = DyingWeb(user_agent="test", sleep=lambda _: None)
    web.countdown, web.after = count, after
    with pytest.raises(Killed):
        snapshot(world, web=web)
    web.close()
    check_completion(world)


def check_completion(world: World) -> None:
    done = world.v3().find_snapshot(release()) or snapshot(world)
    build = world.service.builds[done.build_id]
    assert build.state == "ready"
    assert len(world.service.names) == 1
    assert len(builds(world)) == 1
    assert build.triggers == 1
    assert not world.service.harmful_triggers


# --- answers that are lost, and refusals -----------------------------------------------------


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_lost_registration_makes_no_second_build(
    world: World,
    carried_out: bool,  # noqa: FBT001 - from the table
) -> None:
    world.service.lose("POST", REGISTER, carried_out=carried_out)
    snapshot(world)
    assert len(builds(world)) == 1
    assert len(world.service.names) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_registration_that_fails_is_asked_again(world: World, status: int) -> None:
    world.service.fail("POST", REGISTER, error(status, "oops"), error(status, "oops"))
    snapshot(world)
    assert len(builds(world)) == 1


def test_a_registration_that_always_fails_ends_the_run(world: World) -> None:
    world.service.fail("POST", REGISTER, *[error(500, "oops")] * 3)
    with pytest.raises(Unreachable, match="answered 500: oops"):
        snapshot(world)
    assert snapshot(world) == result_of(builds(world)[0])


def test_too_many_builds_at_once_are_waited_for(world: World) -> None:
    full = error(429, "you have reached the maximum number of concurrent template builds (20)")
    world.service.fail("POST", REGISTER, full, full, full, full)
    began = world.clock.now
    snapshot(world)
    assert len(world.service.sent("POST", REGISTER)) == 5
    assert world.clock.now - began >= 10 + 20 + 40 + 60
    (notice,) = world.notices  # once, not at each trial
    assert "concurrent template builds (20)" in notice
    assert "wait in line" in notice


def while_waiting(world: World, act: Callable[[Journal], None]) -> dict[str, Any]:
    """Have another process act while the first wait for room goes on."""
    sleep = world.clock.sleep

    def pause(cancel: Cancel, seconds: float) -> None:
        if not world.clock.slept:
            # Its waits end at once: a turn that is not free is seen as stopped.
            cancelled = Cancel()
            cancelled.set()
            act(Journal.open(world.path, emit=world.events.append, cancel=cancelled))
        sleep(cancel, seconds)

    return {"patience": replace(world.clock.patience(), sleep=pause)}


def test_others_have_their_turn_while_one_waits_for_room(world: World) -> None:
    def write(journal: Journal) -> None:
        journal.write(Record(template="other", content="sf-0", step="register"))

    world.service.fail("POST", REGISTER, error(429, "too many"))
    snapshot(world, **while_waiting(world, write))
    assert world.journal().pending("other") is not None
    assert len(builds(world)) == 1


@pytest.mark.parametrize("step", ["registered", "trigger", "triggered", "ready"])
def test_what_another_process_got_while_one_waited_for_room_is_followed(
    world: World, step: Step
) -> None:
    def publish(_: Journal) -> None:
        build = world.service.register("api", (CONTENT,))
        if step != "registered":
            world.service.trigger(build)
        if step == "ready":
            build.settle("ready")
        journaled(world, build, step)

    world.service.fail("POST", REGISTER, error(429, "too many"))
    done = snapshot(world, **while_waiting(world, publish))
    (build,) = builds(world)
    assert done == result_of(build)
    assert build.triggers == 1
    assert len(world.service.sent("POST", REGISTER)) == 1


def while_sending(world: World, root: Path, act: Callable[[Journal], None]) -> Release:
    """Have another process act while the files of a release are under way."""
    cancelled = Cancel()  # its waits end at once: a turn that is not free is seen as stopped
    cancelled.set()

    class Storing(FakeService):
        def _put(self, request: Sent, files: str) -> Answer:
            act(Journal.open(world.path, emit=world.events.append, cancel=cancelled))
            return super()._put(request, files)

    world.service.__class__ = Storing
    (root / "hello").write_text("hello\n")
    copy = Copy(sources=("hello",), to="/srv/", root=root, at=AT)
    files = upload(select(copy, Ground(root)), NoCache())
    return replace(release(), image=None, recipe=Recipe(image=IMAGE, uploads={1: files}))


@pytest.mark.parametrize("template", ["other", "api"])
def test_others_have_their_turn_while_files_are_sent(
    world: World, tmp_path: Path, template: str
) -> None:
    def write(journal: Journal) -> None:
        journal.write(Record(template=template, content="sf-0", step="register"))

    done = snapshot(world, while_sending(world, tmp_path, write))
    (build,) = builds(world)
    assert done == result_of(build)
    assert build.triggers == 1
    if template == "other":
        assert world.journal().pending("other") is not None


def test_a_build_that_another_process_triggers_while_files_are_sent_is_followed(
    world: World, tmp_path: Path
) -> None:
    def trigger(_: Journal) -> None:
        (build,) = builds(world)
        world.service.trigger(build)
        journaled(world, build, "triggered")

    done = snapshot(world, while_sending(world, tmp_path, trigger))
    (build,) = builds(world)
    assert done == result_of(build)
    assert build.triggers == 1


def test_waiting_for_room_ends(world: World) -> None:
    world.service.fail("POST", REGISTER, *[error(429, "too many")] * 40)
    with pytest.raises(Busy) as caught:
        snapshot(world)
    assert isinstance(caught.value, NotAllowed)
    assert world.clock.now > 1000 + 900


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        (error(400, "Memory must be divisible by 2"), "resources"),
        (error(400, "CPU count must be at most 32"), "resources"),
        (error(400, "Invalid name: no"), None),
    ],
)
def test_a_refused_registration_names_its_place(
    world: World, answer: Answer, key: str | None
) -> None:
    world.service.fail("POST", REGISTER, answer)
    with pytest.raises(SandboxfileError, match="answered 400") as caught:
        snapshot(world)
    assert caught.value.at == (PLACES[key] if key else AT)
    assert world.journal().pending("api") is None


def test_a_name_of_somebody_else_is_told(world: World) -> None:
    world.service.fail("POST", REGISTER, error(403, "Alias 'api' already used"))
    with pytest.raises(NameTaken, match="the template name is taken"):
        snapshot(world)


LOST_TRIGGERS: list[tuple[Callable[[FakeService], None], int]] = [
    (lambda service: service.lose("POST", TRIGGER, carried_out=True), 1),
    (lambda service: service.lose("POST", TRIGGER, carried_out=False), 1),
    (lambda service: service.fail("POST", TRIGGER, error(500, "Error when starting")), 1),
    (lambda service: service.fail("POST", TRIGGER, error(502, "")), 1),
    (lambda service: service.fail("POST", TRIGGER, error(504, "")), 1),
    (lambda service: service.fail("POST", TRIGGER, error(502, ""), error(500, "")), 1),
    (lambda service: service.fail("POST", TRIGGER, *[error(503, "no build client")] * 4), 1),
    (lambda service: service.fail("POST", TRIGGER, *[error(429, "slow down")] * 4), 1),
]


@pytest.mark.parametrize(("fault", "triggers"), LOST_TRIGGERS)
def test_no_trigger_is_repeated_blindly(
    world: World, fault: Callable[[FakeService], None], triggers: int
) -> None:
    fault(world.service)
    assert snapshot(world) == result_of(builds(world)[0])
    assert builds(world)[0].triggers == triggers
    assert not world.service.harmful_triggers


def test_a_build_that_no_trigger_reaches_gives_way_to_another(world: World) -> None:
    world.service.fail("POST", TRIGGER, *[error(502, "")] * 3)
    done = snapshot(world)
    first, second = builds(world)
    assert done == result_of(second)
    assert (first.state, first.triggers, second.triggers) == ("error", 0, 1)  # superseded


def test_what_is_not_known_is_asked_again_before_another_build_is_made(world: World) -> None:
    world.service.lose("POST", REGISTER, carried_out=True)
    world.service.fail("GET", "/tags", *[error(500, "no")] * 2)
    snapshot(world)
    assert len(builds(world)) == 1


def test_a_build_that_began_meanwhile_is_not_triggered_again(world: World) -> None:
    class Odd(FakeService):
        def trigger(self, build: Build, body: Any = None) -> Answer:
            super().trigger(build, body)
            return error(503, "no build client")

    world.service.__class__ = Odd
    snapshot(world)
    assert builds(world)[0].triggers == 1


def test_a_build_that_is_not_waiting_any_more_was_triggered(world: World) -> None:
    class Odd(FakeService):
        def trigger(self, build: Build, body: Any = None) -> Answer:
            super().trigger(build, body)
            return error(400, "build is not in waiting state")

    world.service.__class__ = Odd
    assert snapshot(world) == result_of(builds(world)[0])


def test_a_service_without_builders_is_given_up_after_a_while(world: World) -> None:
    world.service.fail("POST", TRIGGER, *[error(503, "no build client")] * 99)
    with pytest.raises(Unreachable, match="no build client"):
        snapshot(world)
    assert world.clock.now > 1000 + 120
    world.service.faults.clear()
    assert snapshot(world) == result_of(builds(world)[0])


def test_a_refused_trigger_is_told_and_not_resumed(world: World) -> None:
    world.service.fail("POST", TRIGGER, error(400, "Invalid request body: steps"))
    with pytest.raises(SandboxfileError, match="Invalid request body: steps"):
        snapshot(world)
    assert world.journal().pending("api") is None


def test_a_template_deleted_before_the_trigger_is_made_anew(world: World) -> None:
    world.service.fail("POST", TRIGGER, error(404, "Error when getting template: x"))
    assert snapshot(world) == result_of(builds(world)[1])


def test_a_service_that_never_begins_is_given_up(world: World) -> None:
    world.service.fail("POST", TRIGGER, *[error(500, "oops")] * 99)
    with pytest.raises(Unreachable, match="takes builds of `api` and never begins them"):
        snapshot(world)
    assert len(builds(world)) == 3


def test_ids_that_cannot_be_journaled_are_shown_and_not_triggered(world: World) -> None:
    class Full(Journal):
        def write(self, record: Record) -> None:
            if record.step == "registered":
                raise JournalFailed("disk full")
            super().write(record)

    with pytest.raises(JournalFailed):
        snapshot(world, journal=world.journal(Full))
    (build,) = builds(world)
    assert build.triggers == 0
    assert json.loads(world.notices[0]) == {
        "template": "api",
        "template_id": build.template,
        "build_id": build.id,
    }


def test_an_intent_that_cannot_be_journaled_stops_before_the_effect(world: World) -> None:
    class Full(Journal):
        def write(self, record: Record) -> None:
            raise JournalFailed(record.step)

    with pytest.raises(JournalFailed):
        snapshot(world, journal=world.journal(Full))
    assert not builds(world)
    assert not world.notices


# --- polling ---------------------------------------------------------------------------------

BAD_POLLS = [
    error(500, "oops"),
    error(502, "bad gateway"),
    error(429, "Rate limit exceeded", retry_after="1"),
    Answer(body=b"<html>gateway</html>"),
    Answer(body=b""),
    Answer(body=[]),
    Answer(body={"status": None}),
    Answer(body={"status": "ready", "buildID": "other"}),
    Answer(status=302, headers={"location": "https://elsewhere.example/"}),
]


@pytest.mark.parametrize("answer", BAD_POLLS)
@pytest.mark.parametrize("good", range(3))
def test_any_single_poll_may_fail(world: World, answer: Answer, good: int) -> None:
    class Failing(FakeService):
        polls = 0

        def _route(self, request: Sent) -> Answer:
            if request.path.endswith("/status"):
                Failing.polls += 1
                if Failing.polls == good + 1:
                    return answer
            return super()._route(request)

    world.service.__class__ = Failing
    world.service.script = ("building", "building", "ready")
    assert snapshot(world) == result_of(builds(world)[0])
    assert len(builds(world)) == 1


def test_polls_that_fail_for_minutes_end_the_run_but_not_the_build(world: World) -> None:
    world.service.fail("GET", STATUS, *[error(500, "oops")] * 200)
    with pytest.raises(Unreachable, match="oops"):
        snapshot(world)
    assert world.clock.now > 1000 + 300
    world.service.faults.clear()
    assert snapshot(world) == result_of(builds(world)[0])


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_meanwhile_ends_the_run_at_once(world: World, status: int) -> None:
    world.service.scripts.append(["building"] * 5 + ["ready"])
    world.service.fail("GET", "/nothing", error(status, ""))

    class Rotated(FakeService):
        polls = 0

        def _route(self, request: Sent) -> Answer:
            if request.path.endswith("/status"):
                Rotated.polls += 1
                if Rotated.polls == 3:
                    return error(status, "no")
            return super()._route(request)

    world.service.__class__ = Rotated
    with pytest.raises(NotAllowed, match="NOVITA_API_KEY"):
        snapshot(world)
    assert snapshot(world) == result_of(builds(world)[0])


def test_an_unknown_status_is_not_the_end(world: World) -> None:
    world.service.script = ("building", "snapshotting", "waiting", "uploading", "ready")
    assert snapshot(world) == result_of(builds(world)[0])


def test_polls_back_off(world: World) -> None:
    world.service.script = ["building"] * 12 + ["ready"]
    snapshot(world)
    waits = world.clock.slept
    assert waits[0] == 0.5
    assert waits == sorted(waits)
    assert max(waits) == 5.0


@pytest.mark.parametrize(
    ("state", "minutes", "what"), [("waiting", 10, "not begun"), ("building", 65, "not finished")]
)
def test_a_build_that_hangs_is_left_and_can_be_resumed(
    world: World, state: str, minutes: int, what: str
) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle(state)
    journaled(world, build, "triggered")
    slow = world.clock.patience(poll_first=60.1, poll_most=60.1)
    with pytest.raises(Unreachable, match=f"has {what} after {minutes} minutes") as caught:
        snapshot(world, patience=slow)
    assert "run the same command again" in caught.value.hint
    build.settle("ready")
    assert snapshot(world) == result_of(build)


def test_one_false_failure_is_not_believed(world: World) -> None:
    world.service.script = ("building", "error", "building", "error", "ready")
    assert snapshot(world) == result_of(builds(world)[0])
    assert len(builds(world)) == 1


def entry(number: int, message: str = "") -> dict[str, str]:
    stamp = f"2026-01-01T00:00:{number:06}Z"
    return {"timestamp": stamp, "message": message or f"line {number}", "level": "info"}


@pytest.mark.parametrize(
    ("said", "times", "told"),
    [
        ("Template is not ready: exit status 127 sh: curl: not found", 5, 1),
        ("Template is not ready: exit status 126", 2, 1),
        ("Template is not ready: exit status 127 sh: curl: not found", 1, 0),
        ("Template is not ready: exit status 1", 5, 0),
        ("[start] [stdout]: exit status 127", 5, 0),
    ],
)
def test_a_ready_command_that_cannot_be_run_is_warned_of_once(
    world: World, said: str, times: int, told: int
) -> None:
    world.service.logs = [entry(number, said) for number in range(times)]
    world.service.script = ("ready",)
    snapshot(world)
    warned = [text for text in world.notices if "the ready command cannot be run" in text]
    assert len(warned) == told
    assert all("(exit status 12" in text and "use one of `port`" in text for text in warned)
    if told and "curl" in said:
        assert "(exit status 127: sh: curl: not found)" in warned[0]


def test_the_log_is_read_to_its_end(world: World) -> None:
    world.service.logs = [entry(number) for number in range(250)]
    world.service.script = ("ready",)
    snapshot(world)
    assert world.logs == [f"line {number}" for number in range(250)]


def test_a_full_page_is_followed_by_the_next_at_once(world: World) -> None:
    world.service.logs = [entry(number) for number in range(250)]
    world.service.script = ["building"] * 3 + ["ready"]
    snapshot(world)
    assert len(world.logs) == 250
    assert len(world.clock.slept) == 1


def test_what_fails_while_the_log_is_drained_does_not_matter(world: World) -> None:
    world.service.logs = [entry(number) for number in range(150)]
    world.service.script = ("ready",)

    class Failing(FakeService):
        def _status(self, request: Sent, template: str, build: str) -> Answer:
            if int(request.query["logsOffset"]) >= 100:
                return error(500, "logs are gone")
            return super()._status(request, template, build)

    world.service.__class__ = Failing
    snapshot(world)
    assert len(world.logs) == 100


def test_draining_a_log_without_end_ends(world: World) -> None:
    class Endless(FakeService):
        def _status(self, request: Sent, template: str, build: str) -> Answer:
            answer = super()._status(request, template, build)
            if answer.body["status"] == "ready":
                offset = int(request.query["logsOffset"])
                answer.body["logEntries"] = [entry(offset)]
            return answer

    world.service.__class__ = Endless
    snapshot(world)
    assert len(world.logs) == 51


def test_entries_that_come_again_are_shown_once(world: World) -> None:
    class Shifting(FakeService):
        def _status(self, request: Sent, template: str, build: str) -> Answer:
            offset = max(0, int(request.query["logsOffset"]) - 3)
            again = Sent(**{**vars_of(request), "query": {"logsOffset": str(offset)}})
            answer = super()._status(again, template, build)
            if len(self.requests) > 12:
                answer.body["logEntries"] = []
            return answer

    world.service.logs = [entry(number) for number in range(5)]
    world.service.script = ("building", "building", "ready")
    world.service.__class__ = Shifting
    snapshot(world)
    assert world.logs == [f"line {number}" for number in range(5)]


def vars_of(request: Sent) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("method", "path", "headers", "body")}


def test_lines_without_a_time_may_be_equal(world: World) -> None:
    world.service.logs = [{"message": "."}, {"message": "."}, {"message": "a\nb\n"}]
    snapshot(world)
    assert world.logs == [".", ".", "a", "b"]


def test_stopping_while_a_build_runs_says_that_it_goes_on(world: World) -> None:
    world.service.script = ("building",) * 100

    class Stopping(FakeService):
        def _status(self, request: Sent, template: str, build: str) -> Answer:
            if self.builds[build].triggers:
                world.cancel.set()
            return super()._status(request, template, build)

    world.service.__class__ = Stopping
    with pytest.raises(Cancelled):
        snapshot(world)
    (build,) = builds(world)
    resume = "run the same command again to pick it up where it is"
    assert world.notices == [f"build {build.id} goes on at the service; {resume}"]


def test_stopping_before_anything_began_says_nothing(world: World) -> None:
    world.cancel.set()
    with pytest.raises(Cancelled):
        snapshot(world)
    assert not world.notices


# --- failed builds ---------------------------------------------------------------------------


def failing(world: World, *reasons: dict[str, str] | None) -> None:
    for reason in reasons:
        world.service.scripts.append(("building", "error"))
        world.service.reasons.append(reason)


def test_a_failed_build_ends_with_its_place_and_log(world: World) -> None:
    world.service.logs = [entry(number) for number in range(30)]
    message = "start command failed: error running start command: exit status 3"
    failing(world, {"message": message, "step": "finalize"})
    with pytest.raises(BuildFailed, match=f"`api` failed at the service: {message}") as caught:
        snapshot(world)
    failure = caught.value
    assert failure.at == PLACES["start"]
    assert failure.status == 3
    assert failure.step == "finalize"
    assert failure.tail == tuple(f"line {number}" for number in range(10, 30))
    assert len(builds(world)) == 1


def test_a_failed_build_is_not_resumed(world: World) -> None:
    failing(world, {"message": "failed to run command 'x': exit status 1", "step": "1"})
    with pytest.raises(BuildFailed):
        snapshot(world)
    assert snapshot(world) == result_of(builds(world)[1])


@pytest.mark.parametrize(
    "reason",
    [
        None,
        {"message": "An internal error occurred. Please try again"},
        {"message": "polling received unrecoverable error: DeadlineExceeded"},
        {"message": "build is in waiting state for too long"},
    ],
)
def test_a_build_that_the_service_lost_is_replaced(
    world: World, reason: dict[str, str] | None
) -> None:
    failing(world, reason, reason)
    assert snapshot(world) == result_of(builds(world)[2])
    assert "trying with a new build" in world.notices[0]


def test_a_service_that_loses_every_build_is_given_up(world: World) -> None:
    failing(world, *[{"message": "An internal error occurred"}] * 9)
    with pytest.raises(BuildFailed, match="An internal error occurred"):
        snapshot(world)
    assert len(builds(world)) == 3


def test_a_build_deleted_while_it_runs_is_replaced(world: World) -> None:
    class Deleting(FakeService):
        def _status(self, request: Sent, template: str, build: str) -> Answer:
            if len(self.builds) == 1 and self.builds[build].triggers:
                return error(400, f"Build '{build}' not found")
            return super()._status(request, template, build)

    world.service.__class__ = Deleting
    assert snapshot(world) == result_of(builds(world)[1])
    assert "no longer knows build" in world.notices[0]


@pytest.mark.parametrize("state", ["building", "ready", "waiting"])
def test_an_overtaken_build_gives_way_to_the_other_of_the_same_content(
    world: World, state: str
) -> None:
    class Racing(FakeService):
        def _status(self, request: Sent, template: str, build: str) -> Answer:
            if len(self.builds) == 1 and self.builds[build].triggers:
                other = self.register("api", (CONTENT,))
                self.trigger(other)
                other.state = state
                if state == "ready":
                    other.settle(state)
            if state == "waiting" and len(self.builds) == 2:
                list(self.builds.values())[1].settle("ready")
            return super()._status(request, template, build)

    world.service.__class__ = Racing
    done = snapshot(world)
    assert done == result_of(builds(world)[1])
    assert len(builds(world)) == 2
    assert "following build" in world.notices[0]


def test_an_overtaken_build_without_successor_is_replaced(world: World) -> None:
    failing(world, {"message": "build was cancelled"})
    assert snapshot(world) == result_of(builds(world)[1])


def test_two_runs_of_one_content_meet_in_one_build(world: World) -> None:
    results: list[Snapshot] = []
    emit = world.events.append

    def run() -> None:
        results.append(world.v3().snapshot(release(), IMAGE, emit=emit, cancel=Cancel()))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(world.service.names) == 1
    assert not world.service.harmful_triggers
    assert all(world.service.builds[each.build_id].state == "ready" for each in results)


# --- looking for what is there ---------------------------------------------------------------


def test_a_ready_build_of_the_same_content_is_found(world: World) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    world.service.register("api", ("other",))
    assert world.v3().find_snapshot(release()) == result_of(build)


def test_a_ready_build_that_only_the_journal_knows_is_found(world: World) -> None:
    build = world.service.register("api", ("moved",))
    build.settle("ready")
    journaled(world, build, "ready")
    assert world.v3().find_snapshot(release()) == result_of(build)


@pytest.mark.parametrize("state", ["waiting", "building", "error"])
def test_only_a_ready_build_counts(world: World, state: str) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle(state)
    journaled(world, build, "triggered")
    assert world.v3().find_snapshot(release()) is None


def test_a_template_that_is_not_there_has_no_snapshot(world: World) -> None:
    assert world.v3().find_snapshot(release()) is None
    world.service.register("api", ("other",))
    assert world.v3().find_snapshot(release()) is None


def test_a_journal_that_names_a_deleted_build_is_no_proof(world: World) -> None:
    gone = Build(id="00000000-0000-4000-8000-999999999999", template="tmplgone", tags=())
    journaled(world, gone, "ready")
    assert world.v3().find_snapshot(release()) is None


@pytest.mark.parametrize("path", ["/aliases/", "/tags", "/status"])
@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_whatever_a_service_does_not_have_is_no_snapshot(
    world: World, path: str, status: int
) -> None:
    world.service.register("api", (CONTENT,)).settle("ready")
    world.service.fail("GET", path, error(status, "no"))
    world.service.fail("GET", "/templates$", error(status, "no"))
    assert world.v3().find_snapshot(release()) is None


def test_a_service_that_looks_up_no_names_is_asked_for_its_list(world: World) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    publisher = world.v3()
    for _ in range(2):
        world.service.fail("GET", "/aliases/", error(405, "no"))
        assert publisher.find_snapshot(release()) == result_of(build)
    assert len(world.service.sent("GET", "/templates/aliases/api")) == 1
    (notice,) = world.notices
    assert "does not look up names" in notice


@pytest.mark.parametrize(("status", "kind"), [(401, NotAllowed), (500, Unreachable)])
def test_a_service_that_does_not_answer_is_not_an_absent_snapshot(
    world: World, status: int, kind: type[SandboxfileError]
) -> None:
    world.service.fail("GET", "/aliases/", error(status, "no"))
    with pytest.raises(kind):
        world.v3().find_snapshot(release())


# --- images ----------------------------------------------------------------------------------


def test_an_image_at_the_registry_is_found_by_its_key(world: World) -> None:
    digest = world.service.put_manifest("acme/api", release().image_tag, MANIFEST)
    assert world.v3().find_image(release()) == f"{world.registry}/api@{digest}"


def test_an_image_that_is_not_there_is_none(world: World) -> None:
    assert world.v3().find_image(release()) is None


def test_a_push_ends_with_what_the_registry_confirms(world: World) -> None:
    reference = world.v3().push(release(), emit=world.events.append, cancel=world.cancel)
    assert reference == world.v3().find_image(release())
    what = release()
    assert world.engine.pushed == [
        (what.image, f"{world.registry}/api", what.image_tag, world.login)
    ]


def test_what_the_registry_has_is_not_pushed_again(world: World) -> None:
    what = release()
    digest = world.service.put_manifest("acme/api", what.image_tag, MANIFEST)
    world.service.requests.clear()
    reference = world.v3().push(what, emit=world.events.append, cancel=world.cancel)
    assert reference == f"{world.registry}/api@{digest}"
    assert world.engine.pushed == []
    assert [each.method for each in world.service.requests] == ["HEAD"]


def test_what_was_built_by_force_is_pushed_all_the_same(world: World) -> None:
    what = replace(release(), fresh=True)
    world.service.put_manifest("acme/api", what.image_tag, b"{}")
    reference = world.v3().push(what, emit=world.events.append, cancel=world.cancel)
    assert len(world.engine.pushed) == 1
    assert reference == world.v3().find_image(what)


def test_a_push_that_the_registry_does_not_confirm_failed(world: World) -> None:
    world.service.fail("GET", "/manifests/", *[error(404, "manifest unknown")] * 3)
    with pytest.raises(SandboxfileError, match="although it was pushed"):
        world.v3().push(release(), emit=world.events.append, cancel=world.cancel)


def test_a_template_on_a_remote_one_has_no_image(world: World) -> None:
    what = release(base=RemoteBase(remote="code", at=AT))
    assert world.v3().find_image(what) is None
    assert world.v3().push(what, emit=world.events.append, cancel=world.cancel) is None


def test_a_target_without_registry_cannot_push(world: World) -> None:
    target = Target(name="prod", provider="novita", at=AT)
    publisher = world.v3(target=target)
    assert publisher.find_image(release()) is None
    with pytest.raises(SandboxfileError, match="target `prod` names no registry") as caught:
        publisher.push(release(), emit=world.events.append, cancel=world.cancel)
    assert caught.value.at == AT


def test_a_repository_is_named_as_the_engine_names_the_image(world: World) -> None:
    what = release(name="api--x_")
    what = Release(
        template=what.template,
        image="sandboxfile/api-x.1234:sf-cd",
        image_key=what.image_key,
        template_key=what.template_key,
        tags=(),
    )
    world.v3().push(what, emit=world.events.append, cancel=world.cancel)
    assert world.engine.pushed[0][1] == f"{world.registry}/api-x.1234"


# --- tags ------------------------------------------------------------------------------------


def tagged(world: World, *tags: str, **changes: Any) -> Snapshot:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    done = result_of(build)
    assert retagged(world, done, *tags, **changes) == tags
    return done


def retagged(
    world: World, done: Snapshot, *tags: str, remove: tuple[str, ...] = (), **changes: Any
) -> tuple[str, ...]:
    publisher = world.v3(**changes)
    return publisher.tag(
        release(tags=tags), done, remove=remove, emit=world.events.append, cancel=world.cancel
    )


def tags_of(world: World) -> dict[str, str]:
    return {tag: build for (_, tag), build in world.service.tags.items()}


def test_tags_and_default_move_to_the_build(world: World) -> None:
    done = tagged(world, "stable", "v1")
    assert tags_of(world) == dict.fromkeys((CONTENT, "stable", "v1", "default"), done.build_id)
    (sent,) = world.service.sent("POST", "/templates/tags")
    assert sent.body == {"target": f"api:{done.build_id}", "tags": ["stable", "v1", "default"]}


def test_a_target_may_leave_default_where_it_is(world: World) -> None:
    target = Target(name="prod", provider="novita", default=False)
    tagged(world, "stable", target=target)
    assert set(tags_of(world)) == {CONTENT, "stable"}
    tagged(world, target=target)
    assert len(world.service.sent("POST", "/templates/tags")) == 1


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_lost_answer_is_settled_by_reading_back(
    world: World,
    carried_out: bool,  # noqa: FBT001 - from the table
) -> None:
    world.service.lose("POST", "/templates/tags", carried_out=carried_out)
    done = tagged(world, "stable")
    assert tags_of(world)["stable"] == done.build_id


def test_answers_that_are_always_lost_may_yet_have_moved_the_tags(world: World) -> None:
    for _ in range(6):
        world.service.lose("POST", "/templates/tags", carried_out=True)
    done = tagged(world, "stable")
    assert tags_of(world)["stable"] == done.build_id


def test_tags_that_only_moved_in_part_are_moved_again(world: World) -> None:
    world.service.fail("POST", "/templates/tags", Answer(status=201))
    done = tagged(world, "stable")
    assert tags_of(world)["stable"] == done.build_id


def test_tags_that_do_not_move_are_told(world: World) -> None:
    world.service.fail("POST", "/templates/tags", *[Answer(status=201)] * 2)
    with pytest.raises(Unreachable, match="did not move the tags `default`, `stable` of `api`"):
        tagged(world, "stable")


def test_a_service_without_tags_is_told_once(world: World) -> None:
    world.service.has_tags = False
    build = world.service.register("api", (CONTENT,))
    publisher = world.v3()
    for _ in range(2):
        moved = publisher.tag(
            release(tags=("stable",)),
            result_of(build),
            remove=("old",),
            emit=world.events.append,
            cancel=world.cancel,
        )
        assert moved == ("stable",)
    (notice,) = world.notices
    assert notice.startswith("this service has no tags; names and tags stay as they are")


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "template 'api' not found"),
        error(400, "Invalid tag: x"),
        error(500, "oops"),
    ],
)
def test_a_refusal_of_tags_is_an_error(world: World, answer: Answer) -> None:
    world.service.fail("POST", "/templates/tags", *[answer] * 9)
    with pytest.raises(SandboxfileError):
        tagged(world, "stable")


def test_tags_that_are_not_wanted_any_more_are_taken_away(world: World) -> None:
    done = tagged(world, "stable", "old", "older")
    assert retagged(world, done, "stable", remove=("old", "older")) == ("stable",)
    assert set(tags_of(world)) == {CONTENT, "stable", "default"}
    (sent,) = world.service.sent("DELETE", "/templates/tags")
    assert sent.body == {"name": "api", "tags": ["old", "older"]}


def test_tags_are_taken_away_where_none_are_given(world: World) -> None:
    target = Target(name="prod", provider="novita", default=False)
    done = tagged(world, "old", target=target)
    assert retagged(world, done, remove=("old",), target=target) == ()
    assert set(tags_of(world)) == {CONTENT}


def test_a_tag_that_names_another_build_by_now_is_left_and_told(world: World) -> None:
    done = tagged(world, "old", "gone")
    other = world.service.register("api", ("old",))
    del world.service.tags[done.template_id, "gone"]
    retagged(world, done, remove=("gone", "old"))
    assert tags_of(world)["old"] == other.id
    assert world.notices == ["another build has the tags `old` by now; they are left there"]
    assert not world.service.sent("DELETE", "/templates/tags")


def test_a_service_that_takes_no_tags_away_is_told(world: World) -> None:
    done = tagged(world, "stable", "old")
    world.service.fail("DELETE", "/templates/tags", error(405, "method not allowed"))
    assert retagged(world, done, "stable", remove=("old",)) == ("stable",)
    assert world.notices == ["this service cannot take tags away; `old` are left"]


def test_a_refusal_to_take_a_tag_away_is_an_error(world: World) -> None:
    done = tagged(world, "old")
    world.service.fail("DELETE", "/templates/tags", error(403, "you do not own it"))
    with pytest.raises(NotAllowed):
        retagged(world, done, remove=("old",))


def test_nothing_is_tagged_after_the_run_was_stopped(world: World) -> None:
    world.cancel.set()
    with pytest.raises(Cancelled):
        tagged(world, "stable")


def test_closing_gives_back_the_journal(world: World) -> None:
    publisher = world.v3()
    publisher.snapshot(release(), IMAGE, emit=world.events.append, cancel=world.cancel)
    publisher.close()
    assert world.path.read_bytes().count(b"\n") == 1


def test_a_key_goes_in_its_header_and_no_token_with_it(world: World) -> None:
    world.key = Secret("key-123456")
    world.login = Login(username="u", password=Secret("pass-123456"))
    snapshot(world)
    sent = world.service.requests[0]
    assert sent.headers["x-api-key"] == "key-123456"
    assert "authorization" not in sent.headers


# --- leaving a build to itself ---------------------------------------------------------------


def leaving(world: World, **changes: Any) -> Left:
    with pytest.raises(Left) as caught:
        snapshot(world, patience=world.clock.patience(**changes))
    return caught.value


def test_a_build_that_runs_is_left_and_followed_by_the_next_run(world: World) -> None:
    world.service.script = ("building", "building", "ready")
    left = leaving(world, detach=True)
    (build,) = builds(world)
    assert (left.template_id, left.build_id) == (build.template, build.id)
    assert left.exit_code == 0
    assert f"build {build.id} goes on at the service" in left.message
    record = world.journal().pending("api")
    assert record is not None
    assert (record.step, record.build_id) == ("triggered", build.id)

    assert snapshot(world) == result_of(build)
    assert len(builds(world)) == build.triggers == 1


def test_without_the_journal_a_build_that_was_left_is_found_by_its_content(world: World) -> None:
    world.service.script = ("building", "building", "ready")
    leaving(world, detach=True)
    world.path.unlink()

    done = snapshot(world)

    (build,) = builds(world)
    assert done == result_of(build)
    assert build.triggers == len(world.service.sent("POST", REGISTER)) == 1


def test_a_build_that_is_done_at_once_is_not_left(world: World) -> None:
    world.service.script = ("ready",)
    done = snapshot(world, patience=world.clock.patience(detach=True))
    assert done == result_of(builds(world)[0])


def test_leaving_does_not_wait_for_polls_that_fail(world: World) -> None:
    world.service.script = ("building", "ready")
    # The first poll, before the trigger, is answered; those after it are not.
    world.service.fail("GET", STATUS, Answer(body={"status": "waiting"}), *[error(500, "no")] * 9)
    left = leaving(world, detach=True)
    assert left.build_id == builds(world)[0].id


def test_a_build_that_takes_too_long_is_left_and_that_is_no_success(world: World) -> None:
    world.service.script = ("building",) * 30 + ("ready",)
    left = leaving(world, leave_at=world.clock.now + 20)
    assert left.exit_code == 6
    assert world.clock.now >= 1020
    assert snapshot(world) == result_of(builds(world)[0])
    assert len(builds(world)) == 1


def test_who_waits_for_room_too_long_registers_nothing(world: World) -> None:
    world.service.fail("POST", REGISTER, *[error(429, "too many")] * 9)
    left = leaving(world, leave_at=world.clock.now + 15)
    assert (left.exit_code, left.build_id) == (6, "")
    assert "still waits for room" in left.message
    assert builds(world) == []


def test_detaching_waits_for_room_as_long_as_it_takes(world: World) -> None:
    world.service.script = ("building", "building")
    world.service.fail("POST", REGISTER, *[error(429, "too many")] * 3)
    left = leaving(world, detach=True)
    assert left.build_id == builds(world)[0].id


def test_a_failed_build_is_told_also_to_who_would_leave(world: World) -> None:
    world.service.script = ("error",)
    world.service.reasons.append({"message": "failed to run command 'x': exit status 2"})
    with pytest.raises(BuildFailed, match="exit status 2"):
        snapshot(world, patience=world.clock.patience(detach=True))


# --- a service that answers the trigger when the build is done ---------------------------------


@pytest.mark.parametrize("during", ["building", "waiting"])
def test_an_answer_that_comes_when_the_build_is_done_is_waited_for(
    world: World, during: str
) -> None:
    world.service.slow = during
    patience = world.clock.patience(answer=0.05, settle=0.0, resettle=0.0, poll_most=0.05)
    done = snapshot(world, patience=patience)
    (build,) = builds(world)
    assert done == result_of(build)
    assert build.triggers == 1
    assert not world.service.harmful_triggers


# --- whose it is -----------------------------------------------------------------------------


def test_a_build_of_another_teams_template_is_not_taken_over(world: World) -> None:
    build = world.service.register("api", [CONTENT])
    build.settle("ready")
    assert world.v3().find_snapshot(release()) == result_of(build)

    world.service.foreign.add("api")

    publisher = world.v3()
    assert publisher.find_snapshot(release()) is None
    assert publisher.find_snapshot(release()) is None
    assert [text for text in world.notices if "of another team" in text] == world.notices[:1]
    assert len(world.notices) == 1


@pytest.mark.parametrize("is_ours", [True, False])
def test_where_templates_cannot_be_asked_for_the_list_says_whose_they_are(
    world: World,
    is_ours: bool,  # noqa: FBT001 - from the table
) -> None:
    build = world.service.register("api", [CONTENT])
    build.settle("ready")
    world.service.has_template = False
    if not is_ours:
        world.service.foreign.add("api")

    assert world.v3().find_snapshot(release()) == (result_of(build) if is_ours else None)


def test_tags_that_are_held_are_not_moved(world: World) -> None:
    done = snapshot(world)

    moved = world.v3().tag(
        replace(release(tags=("extra",)), held=("default", "stable")),
        done,
        remove=(),
        emit=world.events.append,
        cancel=world.cancel,
    )

    assert moved == ("extra",)
    assert {tag for _, tag in world.service.tags} == {CONTENT, "extra"}


def test_a_build_of_a_service_that_ends_with_us_is_told_as_that(world: World) -> None:
    world.service.script = ("building",) * 9
    left = leaving(world, leave_at=world.clock.now + 1, outlived=False)
    assert left.message.endswith("ends with this run")


def test_a_trigger_without_an_answer_is_left_when_the_time_is_over(world: World) -> None:
    world.service.slow = "waiting"
    left = leaving(world, answer=0.05, poll_most=0.05, leave_at=world.clock.now)
    assert left.build_id == builds(world)[0].id
    record = world.journal().pending("api")
    assert record is not None
    assert record.step == "trigger"


def test_where_nothing_can_be_written_a_build_that_was_left_is_found_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = world.service.register("api", (CONTENT,))
    build.settle("ready")
    journaled(world, build, "triggered")
    real = os.open

    def read_only(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", read_only)
    assert world.v3().find_snapshot(release()) == result_of(build)
