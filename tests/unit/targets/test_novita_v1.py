from dataclasses import replace
from typing import Any

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.declined import NameTaken
from sandboxfile.errors import BuildFailed, Cancelled, NotAllowed, SandboxfileError, Unreachable
from sandboxfile.journal import Journal, Record, Step
from sandboxfile.model import Login, RemoteBase, Secret, Target
from sandboxfile.targets import Release, Snapshot
from sandboxfile.targets.novita_v1 import registry_host, registry_login
from tests.fakes.publishing import AT, CONTENT, PLACES, World, release
from tests.fakes.service import Answer, Build, error

REGISTER = "/templates"
TRIGGER = "/templates/[^/]+/builds/[^/]+"


def publish(world: World, what: Release | None = None, **changes: Any) -> Snapshot:
    publisher = world.v1(**changes)
    what = what or release()
    image = publisher.push(what, emit=world.events.append, cancel=world.cancel)
    return publisher.snapshot(what, image, emit=world.events.append, cancel=world.cancel)


def builds(world: World) -> list[Build]:
    return list(world.service.builds.values())


def result_of(build: Build) -> Snapshot:
    return Snapshot(template_id=build.template, build_id=build.id)


def journaled(world: World, build: Build, step: Step, image: str = "") -> None:
    record = Record(
        template="api",
        content=CONTENT,
        step=step,
        template_id=build.template,
        build_id=build.id,
        image=image,
    )
    world.journal().write(record)


# --- the ordinary way ------------------------------------------------------------------------


def test_a_build_is_registered_with_everything_but_the_image(world: World) -> None:
    publish(world)
    (sent,) = world.service.sent("POST", REGISTER)
    assert sent.body == {
        "dockerfile": f"FROM {release().image}\n",
        "alias": "api",
        "startCmd": "python -m app",
        "readyCmd": "test -e /ok",
        "cpuCount": 2,
        "memoryMB": 1024,
    }


def test_what_the_template_does_not_have_is_not_sent(world: World) -> None:
    publish(world, release(start=None, ready=None))
    (sent,) = world.service.sent("POST", REGISTER)
    assert not {"startCmd", "readyCmd"} & set(sent.body)


def test_commands_begin_in_the_working_directory_and_the_rest_is_told(world: World) -> None:
    publish(world, release(user="user", workdir="/srv/my app"))
    (sent,) = world.service.sent("POST", REGISTER)
    assert sent.body["startCmd"] == "cd '/srv/my app' || exit 1; python -m app"
    assert sent.body["readyCmd"] == "cd '/srv/my app' || exit 1; test -e /ok"
    (told,) = world.notices
    assert told == (
        "the legacy service has no working directory: only start and ready commands of `api` "
        "begin in /srv/my app"
    )


def test_a_user_that_cannot_be_had_is_told(world: World) -> None:
    publish(world, release(user="root"))
    assert world.notices == [
        "the legacy service runs everything as `user`: `user: root` is not carried over"
    ]


def test_the_image_is_pushed_under_the_ids_before_the_trigger(world: World) -> None:
    done = publish(world)
    (pushed,) = world.engine.pushed
    assert pushed == (
        release().image,
        f"{world.registry}/{done.template_id}",
        done.build_id,
        world.login,
    )
    methods = [(sent.method, sent.path) for sent in world.service.requests]
    confirmed = next(n for n, (_, path) in enumerate(methods) if "/manifests/" in path)
    triggered = methods.index(("POST", f"/templates/{done.template_id}/builds/{done.build_id}"))
    assert confirmed < triggered


def test_the_trigger_has_no_body_and_both_credentials(world: World) -> None:
    publish(world)
    (sent,) = world.service.sent("POST", TRIGGER)
    assert sent.body is None
    assert sent.headers["x-api-key"] == "key-123456"
    assert sent.headers["authorization"] == "Bearer key-123456"


def test_without_a_registry_the_image_goes_to_that_of_the_service(world: World) -> None:
    target = Target(name="old", provider="novita", domain="sandbox.example", api="v1")
    login = registry_login(Secret("token-1234"))
    with pytest.raises(SandboxfileError):  # nobody answers at that registry
        publish(world, target=target, logins={"docker.sandbox.example": login}.get)
    (build,) = builds(world)
    assert world.engine.pushed == [
        (
            release().image,
            f"docker.sandbox.example/e2b/custom-envs/{build.template}",
            build.id,
            Login(username="_e2b_access_token", password=Secret("token-1234")),
        )
    ]


@pytest.mark.parametrize(
    ("domain", "api_url", "host"),
    [
        ("sandbox.example", None, "docker.sandbox.example"),
        ("sandbox.example", "https://api.sandbox.example", "docker.sandbox.example"),
        ("evil.example", "https://api.sandbox.example:8443/x", "docker.sandbox.example"),
        ("evil.example", "http://127.0.0.1:3000", "127.0.0.1:3000"),  # its own registry
        ("evil.example", "http://localhost", "localhost"),
    ],
)
def test_the_token_goes_next_to_the_address_that_is_trusted(
    domain: str, api_url: str | None, host: str
) -> None:
    target = Target(name="old", provider="novita", domain=domain, api_url=api_url)
    assert registry_host(target) == host


def test_a_service_elsewhere_needs_a_registry_of_its_own() -> None:
    target = Target(name="old", provider="novita", api_url="https://box.example", at=AT)
    with pytest.raises(SandboxfileError, match="target `old` names no registry") as caught:
        registry_host(target)
    assert caught.value.at == AT


def test_the_log_of_this_api_is_text(world: World) -> None:
    publisher = world.v1()
    publisher.push(release(), emit=world.events.append, cancel=world.cancel)
    (build,) = builds(world)
    build.lines = [f"[2026-01-01T00:00:{n:02}Z] line {n}\n" for n in range(3)] + ["bare\n"]
    publisher.snapshot(release(), None, emit=world.events.append, cancel=world.cancel)
    assert world.logs == ["pushed", "line 0", "line 1", "line 2", "bare"]


def test_no_image_is_ever_found_beforehand(world: World) -> None:
    publish(world)
    assert world.v1().find_image(release()) is None


def test_a_remote_base_is_refused_with_its_place(world: World) -> None:
    what = release(base=RemoteBase(remote="code", at=AT))
    publisher = world.v1()
    for act in (
        lambda: publisher.push(what, emit=world.events.append, cancel=world.cancel),
        lambda: publisher.snapshot(what, None, emit=world.events.append, cancel=world.cancel),
    ):
        with pytest.raises(SandboxfileError, match="cannot build on a template") as caught:
            act()
        assert caught.value.at == PLACES["base"]


# --- one template ----------------------------------------------------------------------------


def test_a_template_of_the_lock_is_built_again_under_its_id(world: World) -> None:
    first = publish(world)
    second = publish(world, release(key="ef"), known={"api": first.template_id})
    assert second.template_id == first.template_id
    assert world.service.sent("POST", f"/templates/{first.template_id}")
    assert not world.service.sent("GET", "/templates")[1:]


def test_a_template_that_the_lock_does_not_know_is_found_by_its_name(world: World) -> None:
    first = publish(world)
    second = publish(world, release(key="ef"))
    assert second.template_id == first.template_id
    assert second.build_id != first.build_id


def test_a_name_that_was_taken_meanwhile_is_ours_when_we_find_it(world: World) -> None:
    world.service.register("api", ())
    world.service.fail("GET", "/templates", Answer(body=[]))
    done = publish(world)
    assert done.template_id == world.service.names["api"]
    assert len(world.service.names) == 1


def test_a_name_of_somebody_else_is_told(world: World) -> None:
    world.service.register("api", ())
    world.service.fail("GET", "/templates", Answer(body=[]), Answer(body=[]))
    with pytest.raises(NameTaken, match="the template name is taken") as caught:
        publish(world)
    assert caught.value.at == AT


def test_a_template_that_was_deleted_is_made_anew_and_told(world: World) -> None:
    done = publish(world, known={"api": "tmplgone"})
    assert done.template_id == world.service.names["api"]
    assert world.notices == ["template tmplgone of `api` is not there any more; making a new one"]


def test_a_refused_registration_is_told(world: World) -> None:
    world.service.fail("POST", REGISTER, error(400, "Memory must be divisible by 2"))
    with pytest.raises(SandboxfileError, match="Memory must be divisible") as caught:
        publish(world)
    assert caught.value.at == PLACES["resources"]


def test_a_service_without_listing_registers_a_new_template(world: World) -> None:
    world.service.fail("GET", "/templates", error(404, "no such route"))
    assert publish(world) == result_of(builds(world)[0])


def test_a_lost_registration_makes_no_second_template(world: World) -> None:
    world.service.lose("POST", REGISTER, carried_out=True)
    publish(world)
    assert len(world.service.names) == 1


def test_a_token_that_is_refused_is_told(world: World) -> None:
    world.service.fail("POST", REGISTER, error(401, "bad token"))
    with pytest.raises(NotAllowed, match="does not accept the key from NOVITA_API_KEY: bad token"):
        publish(world)


# --- resuming --------------------------------------------------------------------------------


def test_a_push_that_was_done_is_not_repeated(world: World) -> None:
    publisher = world.v1()
    emit = world.events.append
    first = publisher.push(release(), emit=emit, cancel=world.cancel)
    second = world.v1().push(release(), emit=emit, cancel=world.cancel)
    assert first == second
    assert len(world.engine.pushed) == len(builds(world)) == 1


@pytest.mark.parametrize("step", ["trigger", "triggered"])
def test_a_build_that_may_run_is_not_pushed_to(world: World, step: Step) -> None:
    build = world.service.register("api", ())
    world.service.trigger(build)
    journaled(world, build, step, "r/x@sha256:00")
    assert publish(world) == result_of(build)
    assert not world.engine.pushed
    assert build.triggers == 1


def test_a_registered_build_is_pushed_to_and_triggered(world: World) -> None:
    build = world.service.register("api", ())
    journaled(world, build, "registered")
    assert publish(world) == result_of(build)
    assert len(world.engine.pushed) == build.triggers == 1


def test_a_snapshot_alone_registers_and_pushes_too(world: World) -> None:
    done = world.v1().snapshot(
        release(), "r/old@sha256:00", emit=world.events.append, cancel=world.cancel
    )
    assert done == result_of(builds(world)[0])
    assert len(world.engine.pushed) == 1


def test_a_build_that_expired_before_its_push_is_registered_anew(world: World) -> None:
    build = world.service.register("api", ())
    build.settle("error")
    journaled(world, build, "registered")
    assert publish(world) == result_of(builds(world)[1])


def test_a_build_that_was_deleted_before_its_push_is_registered_anew(world: World) -> None:
    gone = Build(id="00000000-0000-4000-8000-999999999999", template="tmplgone", tags=())
    journaled(world, gone, "registered")
    assert publish(world) == result_of(builds(world)[0])


def test_an_unanswered_registration_is_repeated(world: World) -> None:
    world.journal().write(Record(template="api", content=CONTENT, step="register"))
    assert publish(world) == result_of(builds(world)[0])


@pytest.mark.parametrize("step", ["registered", "pushed", "triggered", "ready"])
def test_what_another_process_got_while_one_waited_for_room_is_followed(
    world: World, step: Step
) -> None:
    sleep = world.clock.sleep

    def pause(cancel: Cancel, seconds: float) -> None:
        if not world.clock.slept:
            build = world.service.register("api", ())
            if step in {"triggered", "ready"}:
                world.service.trigger(build)
            if step == "ready":
                build.settle("ready")
            journaled(world, build, step, "r/x@sha256:00")
        sleep(cancel, seconds)

    world.service.fail("POST", REGISTER, error(429, "too many"))
    done = publish(world, patience=replace(world.clock.patience(), sleep=pause))
    (build,) = builds(world)
    assert done == result_of(build)
    assert build.triggers == 1
    assert len(world.engine.pushed) == (1 if step == "registered" else 0)


class Killed(BaseException):
    """What `kill -9` looks like from inside."""


class Dying(Journal):
    """Dies before or after its n-th record."""

    countdown = 0
    after = False

    def write(self, record: Record) -> None:
        Dying.countdown -= 1
        if Dying.countdown == 0 and not self.after:
            raise Killed
        super().write(record)
        if Dying.countdown == 0 and self.after:
            raise Killed


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", range(1, 7))
def test_a_run_killed_at_any_record_is_completed_by_the_next(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    after: bool,  # noqa: FBT001 - from the table
) -> None:
    monkeypatch.setattr(Dying, "countdown", count)
    monkeypatch.setattr(Dying, "after", after)
    with pytest.raises(Killed):
        publish(world, journal=world.journal(Dying))
    done = world.v1().find_snapshot(release()) or publish(world)
    assert world.service.builds[done.build_id].state == "ready"
    assert world.service.builds[done.build_id].triggers == 1
    assert len(world.service.names) == 1
    assert not world.service.harmful_triggers


def test_a_build_that_ended_since_this_was_planned_is_taken(world: World) -> None:
    build = world.service.register("api", ())
    build.settle("ready")
    journaled(world, build, "ready")
    assert publish(world) == result_of(build)
    assert len(builds(world)) == 1
    assert world.engine.pushed == []


def test_a_finished_build_is_found_in_the_journal(world: World) -> None:
    assert world.v1().find_snapshot(release()) is None
    done = publish(world)
    assert world.v1().find_snapshot(release()) == done
    assert world.v1().find_snapshot(release(key="ef")) is None


def test_a_build_that_the_service_lost_is_pushed_and_triggered_anew(world: World) -> None:
    world.service.scripts.append(("error",))
    world.service.reasons.append({"message": "An internal error occurred"})
    assert publish(world) == result_of(builds(world)[1])
    assert [pushed[2] for pushed in world.engine.pushed] == [build.id for build in builds(world)]


def test_a_build_that_failed_is_told_with_its_place(world: World) -> None:
    world.service.scripts.append(("error",))
    message = "ready command failed: ready command timed out after 10m0s"
    world.service.reasons.append({"message": message, "step": "finalize"})
    with pytest.raises(BuildFailed, match="ready command timed out") as caught:
        publish(world)
    assert caught.value.at == PLACES["ready"]
    assert "start command" in caught.value.hint


# --- tags ------------------------------------------------------------------------------------


def tag(world: World, *tags: str, remove: tuple[str, ...] = ()) -> tuple[str, ...]:
    done = result_of(world.service.register("api", ()))
    world.service.tags[done.template_id, "old"] = done.build_id
    return world.v1().tag(
        release(tags=tags), done, remove=remove, emit=world.events.append, cancel=world.cancel
    )


def test_default_moves_by_itself(world: World) -> None:
    assert tag(world) == ()
    assert not world.service.requests


def test_tags_move_where_there_are_any(world: World) -> None:
    assert tag(world, "stable") == ("stable",)
    assert world.service.tags["tmpl0000000000000000", "stable"] == builds(world)[0].id


def test_tags_that_are_not_wanted_any_more_are_taken_away(world: World) -> None:
    assert tag(world, "stable", remove=("old",)) == ("stable",)
    assert {name for _, name in world.service.tags} == {"default", "stable"}


def test_tags_that_do_not_move_are_told(world: World) -> None:
    world.service.fail("POST", "/templates/tags", *[Answer(status=201)] * 2)
    with pytest.raises(Unreachable, match="did not move the tags `stable` of `api`"):
        tag(world, "stable")


def test_a_service_without_tags_is_told(world: World) -> None:
    world.service.has_tags = False
    assert tag(world, "stable", remove=("old",)) == ("stable",)
    (notice,) = world.notices
    assert notice.startswith("this service has no tags; names and tags stay as they are")


def test_a_service_that_answers_the_trigger_at_the_end_is_triggered_once(world: World) -> None:
    world.service.slow = "waiting"
    world.service.slow_s = 0.2
    patience = world.clock.patience(answer=0.05, settle=0.0, resettle=0.0, poll_most=0.05)
    done = publish(world, patience=patience)
    (build,) = world.service.builds.values()
    assert (done.build_id, build.state, build.triggers) == (build.id, "ready", 1)


def test_a_refusal_of_tags_is_an_error(world: World) -> None:
    world.service.fail("POST", "/templates/tags", error(400, "Invalid tag: x"))
    with pytest.raises(SandboxfileError, match="Invalid tag"):
        tag(world, "x")


def test_nothing_is_tagged_after_the_run_was_stopped(world: World) -> None:
    world.cancel = Cancel()
    world.cancel.set()
    with pytest.raises(Cancelled):
        tag(world, "stable")


def test_closing_gives_back_the_journal(world: World) -> None:
    publisher = world.v1()
    publisher.push(release(), emit=world.events.append, cancel=world.cancel)
    publisher.close()
    assert world.path.read_bytes().count(b"\n") == 1
