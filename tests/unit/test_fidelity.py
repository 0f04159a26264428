"""What a template loses at the service is told before it is built, with a remedy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import fidelity, userdockerfile
from sandboxfile.fidelity import Finding, Subject
from sandboxfile.model import (
    Base,
    DockerfileBase,
    Env,
    ImageBase,
    ImageConfig,
    Install,
    Ready,
    RemoteBase,
    Resources,
    Run,
    Target,
    Template,
    TemplateBase,
)
from sandboxfile.places import Position

AT = Position("novita.yaml", 3, 9)
NOVITA = Target(name="prod", provider="novita", domain="us-phx-1.sandbox.novita.ai")
BOX = Target(name="box", provider="novita", api_url="http://127.0.0.1:8080")
LOCAL = Target(name="local", provider="local", builder="remote")
REMOTE = replace(NOVITA, builder="remote")
PORT = Ready(kind="port", value="80", at=AT)
DEBIAN = ImageConfig(commands=("RUN apt-get update && apt-get install -y git",))
KEYS = ("user", "workdir", "start", "ready", "pre_boot", "resources", "inherit")
PLACES = {key: Position("novita.yaml", line, 3) for line, key in enumerate(KEYS, 10)}


def template(base: Base | None = None, **changes: Any) -> Template:
    fields: dict[str, Any] = {
        "name": "api",
        "base": base or ImageBase(image="acme/app", at=AT),
        "instructions": (),
        "user": None,
        "workdir": None,
        "start": None,
        "ready": None,
        "resources": Resources(),
        "tags": (),
        "pre_boot": None,
        "at": AT,
        "places": PLACES,
    }
    return Template(**{**fields, **changes})


def told(of: Template, target: Target = NOVITA, **known: Any) -> list[str]:
    """Return what is told, as `level line: text`."""
    subject = Subject(template=of, target=target, **known)
    return [f"{f.level} {f.at.line}: {f.text}" for f in fidelity.findings(subject)]


def test_of_a_plain_template_nothing_is_told() -> None:
    assert told(template(), config=DEBIAN) == []
    assert told(template()) == []


# --- the base --------------------------------------------------------------------------------


def test_a_base_that_is_certainly_refused_is_an_error_at_novita() -> None:
    subject = Subject(template=template(), target=NOVITA, image="node:20-alpine")
    (found,) = fidelity.findings(subject)
    assert found == Finding(
        level="error",
        text="the base of `api` is Alpine (its tag is `20-alpine`), and the service takes only "
        "Debian, Ubuntu and what is made from them",
        at=AT,
        remedy="choose an image made from Debian or Ubuntu, such as those with `-slim` or "
        "`-bookworm` in their tags, or try it with `--allow-unsupported`",
    )
    assert found.plain == {
        "level": "error", "text": found.text, "at": "novita.yaml:3:9", "hint": found.remedy,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "target", "levels"),
    [
        ("acme/app:alpine", NOVITA, ["warning"]),
        ("alpine", BOX, ["warning"]),
        ("alpine", LOCAL, []),
        ("debian", NOVITA, []),
        ("alpine", replace(NOVITA, domain=None, api_url="https://novita.ai"), ["error"]),
        ("alpine", replace(NOVITA, domain=None, api_url="https://notnovita.ai"), ["warning"]),
    ],
)
def test_a_base_that_may_work_is_none(image: str, target: Target, levels: list[str]) -> None:
    found = fidelity.findings(Subject(template=template(), target=target, image=image))
    assert [each.level for each in found] == levels


def test_a_base_for_another_machine_is_an_error() -> None:
    found = fidelity.wrong_platform(template(), "not for linux/amd64", "choose another")
    assert (found.level, found.at, found.remedy) == ("error", AT, "choose another")


def test_a_base_that_nobody_could_be_asked_about_is_noted() -> None:
    found = fidelity.unknown(template(), "no network")
    assert found.level == "note"
    assert found.text == "what the base of `api` says of itself is not known: no network"


def test_what_the_image_says_is_carried_over_and_told() -> None:
    config = ImageConfig(
        user="node:node", workdir="/app", entrypoint=("run.sh",), cmd=("serve",),
        has_healthcheck=True, ports=("80/tcp",), volumes=("/data",), stop_signal="SIGQUIT",
        env={"my-var": "1", "GOOD": "2"},
    )  # fmt: skip
    told_as = "of the image: it is told as"
    assert told(template(), config=config) == [
        "warning 3: what `api` takes over as `start` has no `ready`: it is given 20 s",
        "warning 3: the service ignores `HEALTHCHECK` of the image",
        "warning 3: no shell can have the image's variables `my-var`: they are dropped",
        f"note 3: the service ignores `USER node:node` {told_as} `user: node`",
        f"note 3: the service ignores `WORKDIR /app` {told_as} `workdir: /app`",
        f"note 3: the service ignores ENTRYPOINT and CMD {told_as} `start: run.sh serve`",
        "note 3: the service ignores `VOLUME`, `EXPOSE`, `STOPSIGNAL` of the image",
    ]
    own = template(user="me", workdir="/me", start="mine", ready=PORT)
    quiet = replace(config, ports=(), volumes=(), stop_signal="", env={})
    assert told(own, config=quiet) == []


def test_what_is_not_to_be_inherited_is_told_as_left_out() -> None:
    config = ImageConfig(user="node", workdir="/app", cmd=("serve",))
    assert sorted(told(template(inherit=()), config=config)) == [
        "note 16: the service ignores CMD of the image, and `inherit` leaves it out",
        "note 16: the service ignores `USER node` of the image, and `inherit` leaves it out",
        "note 16: the service ignores `WORKDIR /app` of the image, and `inherit` leaves it out",
    ]


def test_an_entrypoint_alone_is_told_as_such() -> None:
    config = ImageConfig(entrypoint=("serve",))
    assert told(template(ready=PORT), config=config) == [
        "note 3: the service ignores ENTRYPOINT of the image: it is told as `start: serve`"
    ]


def test_a_user_by_number_is_lost() -> None:
    assert told(template(), config=ImageConfig(user="1000:1000")) == [
        "warning 3: the service ignores `USER 1000:1000` of the image, which is no name"
    ]
    assert told(template(), config=ImageConfig(user="root:adm")) == []


def test_the_services_own_steps_do_not_see_every_variable() -> None:
    config = ImageConfig(env={"PATH": "/opt/bin", "EMPTY": "", "A": "1"})
    note = "note 3: the service's steps do not see `PATH`, `EMPTY` of the image: kept in files "
    assert told(template(), REMOTE, config=config) == [note + "instead"]
    assert told(template(), REMOTE, config=ImageConfig(env={"A": "1"})) == []
    assert told(template(), NOVITA, config=config) == []
    assert told(template(), LOCAL, config=config) == []


# --- Dockerfiles -----------------------------------------------------------------------------

DOCKERFILE = """\
FROM debian AS first
USER build
FROM debian AS base
HEALTHCHECK CMD true
USER one
FROM base
USER two
WORKDIR /app
EXPOSE 80
CMD serve
RUN true
"""


def of_dockerfile(text: str, of: Template) -> list[str]:
    parsed = userdockerfile.parse(text, file="Dockerfile")
    return told(of, config=None, image=parsed.base, dockerfile=parsed)


def test_a_cache_that_the_service_does_not_mount_is_told() -> None:
    text = "FROM debian\nRUN --mount=type=cache,target=/c make\nRUN make\n"
    parsed = userdockerfile.parse(text, file="Dockerfile")
    base = DockerfileBase(dockerfile=Path("/w/Dockerfile"), context=Path("/w"), at=AT)
    known = {"config": None, "image": parsed.base, "dockerfile": parsed}
    found = "the service mounts no cache: the files of this one stay in the template"
    assert told(template(base), REMOTE, **known) == [f"note 2: {found}"]
    assert told(template(base), NOVITA, **known) == []


def test_instructions_of_a_dockerfile_are_told_where_they_are_written() -> None:
    base = DockerfileBase(dockerfile=Path("/w/Dockerfile"), context=Path("/w"), at=AT)
    assert of_dockerfile(DOCKERFILE, template(base, start="mine")) == [
        "warning 4: the service ignores `HEALTHCHECK`",
        "note 7: the service ignores `USER two` of the image: it is told as `user: two`",
        "note 8: the service ignores `WORKDIR`: the image's is told as `workdir`",
        "note 9: the service ignores `EXPOSE`",
    ]
    quiet = template(base, ready=PORT, inherit=("workdir",))
    assert of_dockerfile(DOCKERFILE, quiet) == [
        "note 8: the service ignores `WORKDIR`: the image's is told as `workdir`",
        "note 9: the service ignores `EXPOSE`",
        "note 10: the service ignores `CMD`; `inherit` leaves it out",
        "note 16: the service ignores `USER two` of the image, and `inherit` leaves it out",
    ]


IGNORED = "the service ignores `USER"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("USER 1000", f"warning 2: {IGNORED} 1000` of the image, which is no name"),
        ('USER "1000:0"', f"warning 2: {IGNORED} 1000:0` of the image, which is no name"),
        ("USER me\nUSER 7\nFROM one", f"warning 3: {IGNORED} 7` of the image, which is no name"),
        ("USER 7\nUSER root", ""),
        ("USER 7\nFROM debian", ""),
        ("ARG ID=7\nUSER $ID", f"note 3: {IGNORED}`: the image's is told as `user`"),
        ('USER "7', f"note 2: {IGNORED}`: the image's is told as `user`"),
    ],
)
def test_a_user_by_number_is_told_before_the_dockerfile_is_built(lines: str, found: str) -> None:
    base = DockerfileBase(dockerfile=Path("/w/Dockerfile"), context=Path("/w"), at=AT)
    text = f"FROM debian AS one\n{lines}\n"
    assert of_dockerfile(text, template(base)) == [found] * bool(found)
    assert of_dockerfile(text, template(base, user="me")) == []


def test_the_user_of_what_a_dockerfile_begins_with_is_its_own_unless_it_says_another() -> None:
    base = DockerfileBase(dockerfile=Path("/w/Dockerfile"), context=Path("/w"), at=AT)
    origin = ImageConfig(user="7")
    plain, other = (
        userdockerfile.parse(f"FROM x\n{line}\n", file="Dockerfile")
        for line in ("RUN true", "USER root")
    )
    of = template(base)
    found = [f"warning 3: {IGNORED} 7` of the image, which is no name"]
    assert told(of, origin=origin, dockerfile=plain) == found
    assert told(of, origin=origin, dockerfile=other) == []
    assert told(of, origin=origin, config=ImageConfig(), dockerfile=plain) == []


def test_what_a_dockerfile_says_is_told_once_where_its_image_is_known() -> None:
    base = DockerfileBase(dockerfile=Path("/w/Dockerfile"), context=Path("/w"), at=AT)
    parsed = userdockerfile.parse(DOCKERFILE + "VOLUME /data\n", file="Dockerfile")
    config = ImageConfig(
        user="two", workdir="/app", cmd=("serve",), has_healthcheck=True, ports=("80/tcp",)
    )
    known: dict[str, Any] = {"image": parsed.base, "dockerfile": parsed}
    assert told(template(base), config=config, **known)[2:] == [
        "note 7: the service ignores `USER two` of the image: it is told as `user: two`",
        "note 8: the service ignores `WORKDIR /app` of the image: it is told as `workdir: /app`",
        "note 10: the service ignores CMD of the image: it is told as `start: serve`",
        "note 12: the service ignores `VOLUME`",  # which a translation does not say
        "note 3: the service ignores `EXPOSE` of the image",
    ]
    assert told(template(base), config=config, **known)[0] == (
        "warning 4: the service ignores `HEALTHCHECK` of the image"
    )
    # Of its base alone, to which no line of the Dockerfile belongs; a shell is not taken over.
    plain = userdockerfile.parse("FROM debian\nUSER root\nCMD bash\n", file="Dockerfile")
    of_base: dict[str, Any] = {"image": plain.base, "dockerfile": plain}
    assert told(template(base), config=ImageConfig(workdir="/srv", cmd=("bash",)), **of_base) == [
        "note 3: the service ignores `WORKDIR /srv` of the image: it is told as `workdir: /srv`"
    ]


# --- ready -----------------------------------------------------------------------------------


def waits(command: str) -> Template:
    return template(ready=Ready(kind="command", value=command, at=PLACES["ready"]))


@pytest.mark.parametrize(
    ("command", "tools"),
    [
        ("ss -tuln | grep :80", ["ss"]),
        ("test -e /x && ! pgrep -x nginx", ["pgrep"]),
        ("until nc -z localhost 80; do sleep 1; done", ["nc"]),
        ("sudo lsof -i", ["lsof"]),
        ("curl localhost", []),
        ("wget localhost; wget x | ps", ["wget", "ps"]),
        ("test -e /ss", []),
        ("echo ss; ./ss", []),
    ],
)
def test_a_tool_that_nothing_installs_is_told(command: str, tools: list[str]) -> None:
    found = told(waits(command), config=DEBIAN)
    assert [text.split("`")[1] for text in found] == tools
    assert all(text.startswith("warning 13: the ready check calls") for text in found)


def test_a_tool_that_somebody_installs_is_there() -> None:
    of = waits("ss -l && pgrep x && netstat && lsof")
    of = replace(
        of,
        instructions=(
            Env(values={"A": "1"}, at=AT),
            Install(manager="pip", packages=("netstat",), at=AT),
            Install(manager="apt", packages=("iproute2",), at=AT),
            Run(command="apt-get install -y procps", at=AT),
        ),
    )
    image = replace(DEBIAN, commands=(*DEBIAN.commands, "RUN make lsof"))
    assert [text.split("`")[1] for text in told(of, config=image)] == ["netstat"]


@pytest.mark.parametrize(
    "config",
    [None, ImageConfig(), ImageConfig(commands=("RUN x",)), ImageConfig(commands=("apk add x",))],
)
def test_where_it_is_not_known_what_is_there_nothing_is_said(config: ImageConfig | None) -> None:
    assert not any("ready" in text for text in told(waits("ss -l"), LOCAL, config=config))


def test_before_a_dockerfile_is_built_its_base_and_its_text_tell() -> None:
    base = DockerfileBase(dockerfile=Path("/w/Dockerfile"), context=Path("/w"), at=AT)
    parsed = userdockerfile.parse("FROM x\nRUN get procps\n", file="Dockerfile")
    of = replace(waits("ss -l && ps"), base=base)
    found = told(of, origin=DEBIAN, dockerfile=parsed)
    assert [text.split("`")[1] for text in found] == ["ss"]


@pytest.mark.parametrize(
    ("target", "command", "count"),
    [
        (LOCAL, "RUN apt-get update", 1),
        (LOCAL, "RUN apt-get install -y python3", 0),
        (NOVITA, "RUN apt-get update", 0),
    ],
)
def test_a_url_is_asked_with_something(target: Target, command: str, count: int) -> None:
    of = template(ready=Ready(kind="url", value="http://localhost/", at=AT))
    assert len(told(of, target, config=ImageConfig(commands=(command,)))) == count


# --- on a template ---------------------------------------------------------------------------

THERE = RemoteBase(remote="code:stable", at=AT)
PARENT = TemplateBase(template="parent", at=AT)


def test_one_of_start_and_ready_drops_the_other_that_a_template_had() -> None:
    assert told(template(THERE, ready=PORT)) == [
        "warning 13: with `ready` alone, the `start` command of `code:stable` is dropped too"
    ]
    assert told(template(THERE, start="x")) == [
        "warning 12: with `start` alone, the `ready` command of `code:stable` is dropped too"
    ]
    assert told(template(THERE)) == told(template(THERE, start="x", ready=PORT)) == []


def test_a_pre_boot_script_on_a_template_is_ignored() -> None:
    text = "the service ignores `pre_boot` of a template that is built on a template"
    assert told(template(THERE, pre_boot="x")) == [f"warning 14: {text}"]
    assert told(template(PARENT, pre_boot="x"), REMOTE) == [f"warning 14: {text}"]
    assert told(template(PARENT, pre_boot="x")) == []
    assert told(template(pre_boot="x")) == []


def test_what_a_parents_image_says_is_the_parents_to_tell() -> None:
    config = ImageConfig(user="1000")
    assert told(template(PARENT), config=config, image="alpine") == []


# --- resources -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu", "memory", "levels"),
    [
        (2, 1024, []),
        (4, 4096, ["note"]),
        (2, 8192, ["note"]),
        (8, 16384, ["warning"]),
        (16, 8192, ["warning", "warning"]),
        (6, 6144, ["warning", "note"]),
        (1, 128, ["warning"]),
        (1, 4608, ["warning", "note"]),
        (2, 1000, ["warning"]),
    ],
)
def test_sizes_beyond_the_plans_are_told_at_novita(
    cpu: int, memory: int, levels: list[str]
) -> None:
    of = template(resources=Resources(cpu=cpu, memory=memory))
    found = fidelity.findings(Subject(template=of, target=NOVITA))
    assert [each.level for each in found] == levels
    assert all(each.at == PLACES["resources"] for each in found)
    assert fidelity.findings(Subject(template=of, target=BOX)) == ()


@pytest.mark.parametrize(
    ("cpu", "memory", "remedy"),
    [
        (4, 1024, "with 4 CPU they have 2048 to 8192 MiB, in steps of 512"),
        (1, 4608, "with 1 CPU they have 512 to 4096 MiB, in steps of 512"),
        (6, 6144, "they are 1, 2, 4 or 8 CPU, with memory in steps of 512 MiB"),
    ],
)
def test_a_size_that_is_not_documented_is_told_which_are(
    cpu: int, memory: int, remedy: str
) -> None:
    of = template(resources=Resources(cpu=cpu, memory=memory))
    found = fidelity.findings(Subject(template=of, target=NOVITA))
    assert remedy in [each.remedy for each in found]


# --- showing ---------------------------------------------------------------------------------


def test_findings_are_written_as_a_compiler_would() -> None:
    found = (
        Finding(level="warning", text="a", at=AT, remedy="b"),
        Finding(level="note", text="c", at=AT),
    )
    assert fidelity.lines(found) == (
        "novita.yaml:3:9: warning: a\n  hint: b\nnovita.yaml:3:9: note: c\n"
    )
