"""What an image says of itself holds in the sandboxes made of it, by whatever way it came."""

from collections.abc import Callable

import pytest

from sandboxfile.cancel import Cancel
from sandboxfile.engines import Engine
from tests.fakes.shell import User
from tests.functional.commands.conftest import Place, Serving

pytestmark = pytest.mark.engine

DOCKERFILE = """\
FROM {base}
RUN echo node:x:1001:1001::/app:/bin/sh >> /etc/passwd && echo node:x:1001: >> /etc/group && \
    mkdir /app && chown node /app && echo {nonce} > /nonce
ENV PATH=/opt/tools:/bin:/usr/bin COLOUR="light blue"
USER node
WORKDIR /app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -un > who; pwd > where; sleep 600"]
"""
READY = "    ready: until test -s /app/where; do sleep 0.1; done\n"
SMALL = "    resources: {cpu: 1, memory: 128}\n"
MADE = f"""\
version: 1
templates:
  fn-made:
    base: {{dockerfile: Dockerfile}}
{READY}{SMALL}"""
BASED = """\
version: 1
templates:
  fn-based:
    base: {image}
    env: {{ADDED: "1"}}
{ready}{small}  fn-child:
    base: {{template: fn-based}}
{small}  fn-refused:
    base: {image}
    inherit: false
{small}targets:
  box: {{provider: novita, api_url: "{url}", registry: "{registry}"}}
"""
SCRIPT = 'id -un; pwd; echo "$COLOUR $PATH"; cat /app/who /app/where; true'
TAKEN = "node\n/app\nlight blue /opt/tools:/bin:/usr/bin\nnode\n/app\n"


def seen(user: User, template: str) -> str:
    ran = user.command("run", template, "--", "sh", "-c", SCRIPT)
    assert ran.code == 0, ran.err
    return ran.out


@pytest.fixture
def made(user: User, base: str, nonce: str, registry: str, engine: Engine) -> str:
    """An image at a registry, made by a template of a Dockerfile alone."""
    user.write("Dockerfile", DOCKERFILE.format(base=base, nonce=nonce))
    user.write("novita.yaml", MADE)
    user.build()
    tag = f"sandboxfile/fn-made:sf-{user.entries()['fn-made'].image_key[4:20]}"
    repository = f"{registry}/fn-made"
    engine.push(tag, repository, "1", login=None, emit=lambda _: None, cancel=Cancel(), job="base")
    return f"{repository}:1"


@pytest.fixture(autouse=True)
def _cleared(images: Callable[[str], None]) -> None:
    for name in ("fn-made", "fn-based", "fn-child", "fn-refused"):
        images(name)


def test_user_directory_environment_and_start_command_are_carried_over(
    user: User, place: Place, registry: str, made: str, serve: Serving
) -> None:
    assert seen(user, "fn-made") == TAKEN

    host = place("host")
    url = serve(host, "--port", "0")
    text = BASED.format(image=made, ready=READY, small=SMALL, url=url, registry=f"{registry}/team")
    user.write("novita.yaml", text)
    user.having(NOVITA_API_KEY="any").build("--target", "box")
    user.build("--target", "local")

    for who in (user, host):
        assert seen(who, "fn-based") == TAKEN
        assert seen(who, "fn-child") == TAKEN
        assert seen(who, "fn-refused").splitlines()[:2] == ["user", "/home/user"]
    generated = user.root / ".sandboxfile/generated/fn-based/Dockerfile"
    assert generated.read_text().rstrip().endswith("USER node")
