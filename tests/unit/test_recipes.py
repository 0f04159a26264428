"""The service builds: from novita.yaml to requests, without any engine."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxfile import lockfile
from sandboxfile.lockfile import Entry
from tests.fakes.push import image
from tests.fakes.registry import running
from tests.fakes.service import Answer, Build, FakeService, error, serving
from tests.fakes.shell import Ran, User

TARGET = "targets:\n  it: {{provider: novita, api_url: '{url}'{more}}}\n"


CONFIG = {
    "Env": ["PATH=/opt/bin:/bin", "-S id=1", "LANG=C.UTF-8"],
    "WorkingDir": "/image",
    "Cmd": ["./run"],
}


class Far(FakeService):
    """A service, and the image (at a registry of its own) that BASE stands for in a file."""

    base = ""


@pytest.fixture
def service() -> Iterator[Far]:
    with running() as registry, serving(Far()) as far:
        assert isinstance(far, Far)
        digest = registry.add("team/base", "1", image(config=CONFIG))
        far.base = f"{registry.host}/team/base@{digest}"
        far.script = ("ready",)
        yield far


@pytest.fixture
def builder(user: User) -> User:
    nowhere = "unix:///nowhere/docker.sock"
    return user.having(NOVITA_API_KEY="key-123456", SANDBOXFILE_TARGET="it", DOCKER_HOST=nowhere)


def ran(builder: User, service: Far, text: str, *argv: str, more: str = "") -> Ran:
    target = TARGET.format(url=service.url, more=more)
    builder.write("novita.yaml", f"version: 1\n{target}{text}".replace("BASE", service.base))
    return builder.run(*(argv or ("build", "--progress", "plain")))


def built(builder: User, service: Far, text: str) -> Ran:
    done = ran(builder, service, text)
    assert done.code == 0, done.err
    return done


def entries(builder: User) -> dict[str, Entry]:
    return dict(lockfile.read(builder.root / "novita.lock").targets["it"])


def started(service: Far, name: str) -> Any:
    """Return the newest trigger of a template."""
    template = service.names[name]
    return [b.body for b in service.builds.values() if b.template == template and b.body][-1]


def test_a_template_is_built_without_an_engine(builder: User, service: Far) -> None:
    builder.write("app/a.py", "print(1)")
    done = built(
        builder,
        service,
        "name: api\nbase: BASE\nenv: {A: 'x$y'}\nuser: alice\nworkdir: /srv\n"
        "files: ['app/ -> /srv/app/']\nrun: [make]\nstart: ./serve\nready: {delay: 2s}\n",
    )
    body = started(service, "api")
    (files,) = service.files
    assert body["fromImage"] == service.base
    assert "fromTemplate" not in body
    assert body["startCmd"] == "./serve"
    assert [step["type"] for step in body["steps"]] == [
        "RUN", "RUN", "RUN", "COPY", "RUN", "RUN", "USER", "WORKDIR",
    ]  # fmt: skip
    copied = body["steps"][3]
    assert copied["args"] == ["app/", "/srv/app/", "root:root", ""]
    assert copied["filesHash"] == files
    assert entries(builder)["api"].image == ""
    assert "docker" not in done.err.lower()
    generated = json.loads((builder.root / ".sandboxfile/generated/api/steps.json").read_text())
    assert generated["fromImage"] == service.base
    assert len(generated["steps"]) == len(body["steps"])


def test_what_an_image_says_of_itself_is_carried_over(builder: User, service: Far) -> None:
    built(builder, service, "name: api\nbase: BASE\nrun: [make]\n")
    body = started(service, "api")
    first, command, last = body["steps"]
    assert "; export PATH=/opt/bin:/bin LANG=C.UTF-8; exec /bin/sh" in first["args"][0]
    assert command["args"] == ["cd -- /image && exec /bin/sh -c make", "root"]
    assert (last["type"], last["args"]) == ("WORKDIR", ["/image"])
    assert body["startCmd"] == "./run"


def test_an_image_cannot_smuggle_a_script_into_the_services(builder: User, service: Far) -> None:
    with running() as registry:
        digest = registry.add("evil", "1", image(config={"WorkingDir": '/a"; id; "'}))
        service.base = f"{registry.host}/evil@{digest}"
        done = ran(builder, service, "name: api\nbase: BASE\n")
    assert done.code != 0
    assert "is no path that the service takes" in done.err
    assert service.builds == {}


def test_nothing_is_built_twice_and_a_plan_says_who_builds(builder: User, service: Far) -> None:
    text = "name: api\nbase: BASE\nrun: [make]\n"
    planned = ran(builder, service, text, "plan")
    assert "; the service builds" in planned.out
    as_json = json.loads(ran(builder, service, text, "plan", "--json").out)
    assert as_json["templates"][0]["steps"] == ["generate", "snapshot", "tag"]
    assert as_json["templates"][0]["builder"] == "remote"
    assert "the service builds" in ran(builder, service, text, "why", "api").out
    built(builder, service, text)
    count = len(service.builds)
    assert "up to date" in ran(builder, service, text, "plan").out
    built(builder, service, text)
    assert len(service.builds) == count == 1


def test_what_the_service_has_is_adopted(builder: User, service: Far) -> None:
    text = "name: api\nbase: BASE\nrun: [make]\n"
    built(builder, service, text)
    (builder.root / "novita.lock").unlink()
    (builder.root / ".sandboxfile/journal/it.jsonl").unlink()
    assert "adopt" in ran(builder, service, text, "plan").out
    built(builder, service, text)
    assert len(service.builds) == 1


def test_a_child_begins_with_the_build_of_its_parent(builder: User, service: Far) -> None:
    text = (
        "templates:\n  child: {base: {template: parent}, inherit: false, run: [two]}\n"
        "  parent: {base: BASE, user: alice, inherit: false, run: [one], start: ./serve}\n"
    )
    built(builder, service, text)
    body = started(service, "child")
    assert body["fromTemplate"] == f"parent:{entries(builder)['parent'].build_id}"
    assert "fromImage" not in body
    assert ("startCmd" in body, body["readyCmd"]) == (False, "sleep 0")
    assert body["steps"][-1]["args"] == ["user"]
    assert entries(builder)["child"].parent == "parent"
    built(builder, service, text.replace("two", "three"))
    assert len([b for b in service.builds.values() if b.template == service.names["parent"]]) == 1


def test_steps_are_added_to_a_template_at_the_target(builder: User, service: Far) -> None:
    built(builder, service, "name: api\nbase: {remote: 'code:v1'}\nrun: [make]\n")
    body = started(service, "api")
    assert body["fromTemplate"] == "code:v1"
    assert [step["args"][1] for step in body["steps"]] == ["root"]


def test_force_and_no_cache_reach_the_service(builder: User, service: Far) -> None:
    text = "name: api\nbase: BASE\nrun: [make]\n"
    built(builder, service, text)
    assert started(service, "api")["force"] is False
    assert ran(builder, service, text, "build", "--force").code == 0
    assert started(service, "api")["force"] is True
    assert ran(builder, service, text + "env: {A: b}\n", "build", "--no-cache").code == 0
    assert started(service, "api")["force"] is True
    assert len(_builds(service)) == 3


def test_a_failing_step_is_told_at_its_line(builder: User, service: Far) -> None:
    service.script = ("error",)
    service.reasons.append({"message": "failed to run command 'false': exit status 1", "step": "3"})
    done = ran(builder, service, "name: api\nbase: BASE\nenv: {A: '1'}\nrun:\n  - 'false'\n")
    assert done.code == 1
    assert "novita.yaml:8:5" in done.err


def test_files_are_sent_again_by_nobody(builder: User, service: Far) -> None:
    builder.write("a.txt", "1")
    text = "templates:\n" + "".join(
        f"  t{n}: {{base: BASE, files: ['a.txt -> /a/'], run: [r{n}]}}\n" for n in range(3)
    )
    built(builder, service, text)
    assert len(service.sent("PUT", ".*")) == 1
    hashes = {started(service, f"t{n}")["steps"][1]["filesHash"] for n in range(3)}
    assert hashes == set(service.files)


def test_a_run_that_ended_while_sending_is_taken_up(builder: User, service: Far) -> None:
    builder.write("a.txt", "1")
    text = "name: api\nbase: BASE\nfiles: ['a.txt -> /a/']\n"
    service.fail("PUT", "/storage", *[Answer(status=403)] * 3)
    assert ran(builder, service, text).code == 6
    assert len(service.files) == 0
    built(builder, service, text)
    (build,) = service.builds.values()
    assert (build.state, build.triggers) == ("ready", 1)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("base: {debian: bookworm}", "5:16", "cannot make debian from its packages"),
        (
            "base: BASE\nrun: [{run: x, secrets: [s]}]\nsecrets: {s: {env: S}}",
            "6:13",
            "cannot mount the build secret `s`",
        ),
        ("base: BASE\nuser: '1000'", "6:1", "knows users by name"),
    ],
)
def test_what_the_service_cannot_do_is_refused_before_anything_is_sent(
    builder: User, service: Far, text: str, place: str, message: str
) -> None:
    done = ran(builder, service, f"name: api\n{text}\n")
    assert done.code == 3
    assert f"novita.yaml:{place}: error: " in done.err
    assert message in done.err
    assert service.requests == []


def test_an_image_that_only_an_engine_has_is_refused(builder: User, service: Far) -> None:
    host = service.base.partition("/")[0]
    done = ran(builder, service, f"name: api\nbase: {host}/mine:1\n")
    assert done.code != 0
    assert "mine:1" in done.err
    assert service.builds == {}


def test_a_service_that_takes_no_files_says_so(builder: User, service: Far) -> None:
    builder.write("a.txt", "1")
    service.fail("GET", "/files/", error(404, "404 page not found"))
    done = ran(builder, service, "name: api\nbase: BASE\nfiles: ['a.txt -> /a/']\n")
    assert done.code != 0
    assert "this service takes no files" in done.err


def _builds(service: Far) -> list[Build]:
    return list(service.builds.values())


def test_what_looks_like_a_secret_is_not_sent(builder: User, service: Far) -> None:
    builder.write("app/.env", "A=1")
    builder.write("app/key", "-----BEGIN PRIVATE KEY-----\n")
    text = "name: api\nbase: BASE\nfiles:\n  - app -> /app/\n"
    for command in ("plan", "build"):
        done = ran(builder, service, text, command)
        assert done.code == 3
        assert "novita.yaml:7:5: error: `app/.env` looks like an environment file" in done.err
        assert "novita.yaml:7:5: error: `app/key` looks like a private key" in done.err
        assert 'allow: [".env"]' in done.err
    assert service.requests == []
    named = "name: api\nbase: BASE\nfiles:\n  - {from: app, to: /app/, allow: [.env, key]}\n"
    built(builder, service, named)
    assert len(service.files) == 1


def test_the_steps_are_shown_as_they_are_sent(builder: User, service: Far) -> None:
    builder.write("a.txt", "1")
    text = "name: api\nbase: BASE\nfiles: ['a.txt -> /a/']\n"
    shown = ran(builder, service, text, "show", "steps", "--json").data["api"]
    built(builder, service, text)
    sent = started(service, "api")
    assert shown["fromImage"] == sent["fromImage"]
    assert [(s["type"], s["args"]) for s in shown["steps"]] == [
        (s["type"], s["args"]) for s in sent["steps"]
    ]
    assert shown["steps"][1]["at"] == "novita.yaml:6:9"
    assert ran(builder, service, text, "show", "files").out == "/a/: a.txt\n"


# --- the user's own Dockerfile ---------------------------------------------------------------

OWN = """\
FROM BASE
ARG VERSION=1
ENV HERE=$LANG-$VERSION
RUN make $VERSION
COPY --chmod=755 app ./app/
WORKDIR sub
USER app
CMD ["./serve"]
"""
ON_DOCKERFILE = (
    "name: api\nbase: {dockerfile: Dockerfile}\nfiles: [own.txt -> /own.txt]\nrun: [x]\n"
)


def test_a_dockerfile_is_carried_out_by_the_service(builder: User, service: Far) -> None:
    builder.write("app/a.py", "1")
    builder.write("app/b.log", "1")
    builder.write("own.txt", "1")
    builder.write("Dockerfile.dockerignore", "**/*.log\n")
    builder.write("Dockerfile", OWN.replace("BASE", service.base))
    built(builder, service, ON_DOCKERFILE)
    body = started(service, "api")
    assert body["fromImage"] == service.base
    assert body["startCmd"] == "./serve"
    env, first, made, copied, entered, own, run, user, end = (s["args"] for s in body["steps"])
    assert "LANG=C.UTF-8" in env[0]
    assert "HERE=C.UTF-8-1" in first[0]
    assert made[0].startswith("cd -- /image && exec /bin/sh -c 'export VERSION=1; exec ")
    assert copied == ["app", "/image/app/", "root:root", ""]
    assert "mkdir -p -- /image/sub" in entered[0]
    assert own[:2] == ["own.txt", "/own.txt"]
    assert run == ["cd -- /image/sub && exec /bin/sh -c x", "root"]
    assert (user, end) == (["app"], ["/image/sub"])
    assert len(service.files) == 2
    generated = json.loads((builder.root / ".sandboxfile/generated/api/steps.json").read_text())
    assert generated["steps"][2]["at"] == "Dockerfile:4:1"


def test_what_a_dockerfile_asks_too_much_is_told_at_its_line(builder: User, service: Far) -> None:
    builder.write("own.txt", "1")
    builder.write("a.tgz", "\x1f not a gzip")
    (builder.root / "b.tgz").write_bytes(b"\x1f\x8b")
    builder.write("d/f", "1")
    builder.write("d/e/f", "1")
    (builder.root / "d/c.tgz").write_bytes(b"\x1f\x8b")
    text = "secrets: {s: {env: S}}\ntemplates: {api: {base: {dockerfile: Dockerfile}}}\n"
    for line, told in (
        ("RUN --mount=type=secret,id=s x", "`--mount=type=secret"),
        ("USER 1000\nRUN x", "3:1: error: the service knows users by name"),
        ("ADD b.tgz /x/", "2:1: error: the service cannot unpack `b.tgz`, as `ADD` does"),
        ("ADD *.tgz /x/", "2:1: error: the service cannot unpack `b.tgz`, as `ADD` does"),
        ("COPY --chmod=644 d /x/", "2:1: error: the service would let everybody enter"),
        ("COPY nothing /x/", "2:1: error: nothing matches `nothing`"),
    ):
        builder.write("Dockerfile", f"FROM {service.base}\n{line}\n")
        done = ran(builder, service, text, "validate")
        assert (done.code, told in done.err) == (3, True), done.err
    copies = "ADD a.tgz d /x/\nCOPY b.tg* /y/\n"
    builder.write("Dockerfile", f"FROM {service.base}\n{copies}")
    assert ran(builder, service, text, "validate").code == 0


def test_likely_secrets_of_a_dockerfile_are_not_sent(builder: User, service: Far) -> None:
    builder.write("app/.env", "A=1")
    builder.write("own.txt", "1")
    builder.write("Dockerfile", f"FROM {service.base}\nCOPY app /app/\n")
    done = ran(builder, service, ON_DOCKERFILE)
    assert done.code == 3
    assert "Dockerfile:2:1: error: `app/.env` looks like an environment file" in done.err
    assert service.files == {}


def test_an_image_may_not_decide_what_is_sent(builder: User, service: Far) -> None:
    builder.write("own.txt", "1")
    builder.write("Dockerfile", f"FROM {service.base}\nARG LANG=own.txt\nCOPY $LANG /x/\n")
    done = ran(builder, service, ON_DOCKERFILE)
    assert done.code == 3
    assert "Dockerfile:3:1: error: what is copied here is decided by a variable" in done.err


def test_a_child_of_a_dockerfile_begins_where_that_ends(builder: User, service: Far) -> None:
    builder.write("Dockerfile", f"FROM {service.base}\nWORKDIR /deep\nUSER app\n")
    text = (
        "templates:\n  parent: {base: {dockerfile: Dockerfile}, inherit: false}\n"
        "  child: {base: {template: parent}, run: [x], inherit: false}\n"
    )
    built(builder, service, text)
    (run,) = started(service, "child")["steps"]
    assert run["args"] == ["cd -- /deep && exec /bin/sh -c x", "root"]


def test_what_is_pushed_is_looked_at_for_likely_secrets(builder: User, service: Far) -> None:
    builder.write("app/.env", "A=1")
    text = "name: api\nbase: BASE\nfiles: ['app/ -> /app/']\n"
    done = ran(
        builder,
        service,
        text,
        "build",
        "--progress",
        "plain",
        more=", builder: docker, registry: 'localhost:9/team'",
    )
    assert "`app/.env` looks like an environment file, and will be in the image" in done.err
    assert "allow" in done.err
