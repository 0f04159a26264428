"""Who runs what, where and with which variables, in templates of the local service."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandboxfile.buildstatus import BuildStatus, Registration
from sandboxfile.cancel import Cancel
from sandboxfile.commands.run import LOGIN
from sandboxfile.engines import Engine
from sandboxfile.local import layers
from sandboxfile.local.service import LocalService, open_box
from sandboxfile.model import Secret
from sandboxfile.service import TemplateService
from sandboxfile.triggers import Start
from sandboxfile.web import Web
from tests.fakes.building import Events, context, spec
from tests.integration.test_local_service import Running, step

pytestmark = pytest.mark.engine
LOOK = 'echo "$(id -un) $(pwd) ${EMPTY-none} $FULL"'


@pytest.fixture
def service(engine: Engine, tmp_path: Path) -> Iterator[LocalService]:
    service = LocalService(engine, tmp_path / "data", logins=lambda _: None, ready_interval_s=0.1)
    service.start()
    yield service
    service.stop()
    for label in ("true", "false"):
        engine.remove_labelled({layers.LABEL: label})


@pytest.fixture
def image(engine: Engine, busybox: str) -> Iterator[str]:
    """An image with variables, one of them empty, and with a user and a directory of its own."""
    tag = "sandboxfile-tests/settings:1"
    dockerfile = f"""\
        FROM {busybox}
        RUN mkdir -p /etc/profile.d
        COPY profile /etc/profile
        ENV EMPTY= FULL=full
        USER nobody
        WORKDIR /etc
        """
    profile = b'for f in /etc/profile.d/*.sh; do [ -r "$f" ] && . "$f"; done\n'
    made = spec(dockerfile, tag, context=context(dockerfile, {"profile": profile}))
    engine.build(made, emit=Events().emit, cancel=Cancel())
    yield tag
    engine.untag(tag)


@dataclass(frozen=True, kw_only=True)
class Client(Running):
    """A program that calls itself `name`."""

    name: str
    web: Web

    def begin(self, name: str, start: Start, *tags: str) -> Registration:
        ids = self.register(name, *tags)
        url = f"{self.url}/v2/templates/{ids.template_id}/builds/{ids.build_id}"
        headers = {"user-agent": self.name}
        assert self.web.send("POST", url, json=start.body(), headers=headers).status == 202
        return ids


def client(stack: ExitStack, service: LocalService, name: str) -> Client:
    assert service._server is not None
    web = Web(user_agent=name)
    stack.callback(web.close)
    url = service._server.url
    calls = TemplateService(web, url, Secret("k"))
    return Client(service=service, client=calls, url=url, name=name, web=web)


def seen(running: Running, status: BuildStatus) -> list[str]:
    assert status.state == "ready", status.reason
    return [line.rpartition("]: ")[2] for line in running.log(status) if "[stdout]: " in line]


def test_old_clients_build_as_root_and_their_sandboxes_are_the_users(
    service: LocalService, engine: Engine, image: str
) -> None:
    start = Start(
        image=image,
        steps=(step("RUN", LOOK),),
        start=f"{LOOK} >/tmp/began; sleep 600",
        ready="test -s /tmp/began",
    )
    with ExitStack() as stack:
        old = client(stack, service, "e2b-python-sdk/2.2.0")
        new = client(stack, service, "e2b-python-sdk/2.3.0")
        was = old.build("old", start, "v1")
        now = new.build("new", start, "v1")
        upon = new.build("upon", Start(template="old:v1", steps=(step("RUN", LOOK),)), "v1")
        # Of the image, only variables with a value are taken over.
        first, second = seen(old, was), seen(new, now)
        assert (first, second) == (["root /root none full"], ["user /home/user none full"])
        assert seen(new, upon) == first, "the last user is the next one's first"

    for name, began in (("old", first[0]), ("new", second[0])):
        with open_box(service, engine, f"{name}:v1") as it:
            assert (it.user, it.workdir) == ("user", "/home/user")
            assert it.box.execute(("/bin/cat", "/tmp/began")).output.strip() == began


SCRIPT = """
: >/etc/profile.d/99-image-env.sh; : >/etc/environment
export FULL='changed'; export NEW="$FULL too"
printf "export FULL='%s'\\nexport NEW='%s'\\n" "$FULL" "$NEW" >/etc/profile.d/99-image-env.sh
printf 'FULL=%s\\nNEW=%s\\n' "$FULL" "$NEW" >/etc/environment
chmod 0644 /etc/profile.d/99-image-env.sh /etc/environment
"""


def test_variables_that_the_last_step_writes_are_those_of_the_sandbox(
    service: LocalService, engine: Engine, image: str
) -> None:
    """As Novita's SDK makes them last (docs/protocol.md, 3.8)."""
    encoded = base64.b64encode(SCRIPT.encode()).decode()
    decode = (
        f"echo {encoded} | base64 -d > /tmp/.novita-image-env.sh && sh /tmp/.novita-image-env.sh"
    )
    last = step("RUN", f"{decode} && rm -f /tmp/.novita-image-env.sh", "root")
    with ExitStack() as stack:
        running = client(stack, service, "novita-sandbox-python-sdk/2.1.1")
        status = running.build("env", Start(image=image, steps=(last,)), "v1")
    assert status.state == "ready", status.reason
    with open_box(service, engine, "env:v1") as it:
        show = ("sh", "-c", 'echo "$FULL, $NEW, $1, $(id -un)"', "sh", "an 'argument'")
        done = it.box.execute((*LOGIN, *show), user=it.user, workdir=it.workdir, env=it.env)
        assert done.output == "changed, changed too, an 'argument', user\n"
        assert it.box.execute((*LOGIN, "exit-is-no-program")).status == 127
        assert it.box.execute(("ls", "-a", "/tmp")).output.split() == [".", ".."]
