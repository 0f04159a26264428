"""What a run may send where: logins, keys and secrets, and what is refused first."""

import argparse
import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path

import pytest

from sandboxfile import app
from sandboxfile.app import Session
from sandboxfile.errors import ConfigError, NotAllowed, SandboxfileError
from sandboxfile.events import Event
from sandboxfile.model import AwsCredentials, Login
from sandboxfile.parts import Parts
from sandboxfile.redact import Redactor
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey
from sandboxfile.targets.novita_v3 import NovitaV3
from tests.fakes.shell import User

KEY = "nvta_canary_of_a_key"
REGISTRY = {
    "SANDBOXFILE_REGISTRY_USERNAME": "alice",
    "SANDBOXFILE_REGISTRY_PASSWORD": "canary-of-a-password",
}
TARGET = """\
version: 1
name: web
base: debian:12
targets:
  it: {TARGET}
"""


def parts(user: User, target: str, environ: Mapping[str, str]) -> Parts:
    user.write("novita.yaml", TARGET.replace("{TARGET}", target))
    args = argparse.Namespace(
        file=None, target="it", var=None, environ=dict(environ), home=user.home, offline=False
    )
    with chdir(user.root):
        workspace = app.workspace(args)
        chosen, _ = app.target(args, workspace)
    said = list[Event]()
    session = Session(
        args=args, workspace=workspace, target=chosen, emit=said.append, redactor=Redactor()
    )
    return Parts(session)


def test_the_key_logs_in_to_the_registry_of_a_legacy_domain(user: User) -> None:
    opened = parts(user, "{provider: novita, domain: sandbox.novita.ai}", {"NOVITA_API_KEY": KEY})

    login = opened.login("docker.sandbox.novita.ai")

    assert login is not None
    assert (login.username, login.password.reveal()) == ("_e2b_access_token", KEY)
    assert opened.login("docker.io") is None


@pytest.mark.parametrize("host", ["api.evil.example", "api.novita.ai.evil.example"])
def test_the_key_logs_in_nowhere_that_a_file_alone_names(user: User, host: str) -> None:
    target = f'{{provider: novita, api: v1, api_url: "https://{host}"}}'
    opened = parts(user, target, {"NOVITA_API_KEY": KEY})

    with pytest.raises(NotAllowed, match=f"`{host}` is not a host that API keys may be sent to"):
        opened.login(host.replace("api.", "docker.", 1))


@pytest.mark.parametrize(
    ("registry", "more"),
    [
        ("127.0.0.1:5000/x", {}),
        ("localhost:5000/x", {}),
        ("registry.example/x", {"SANDBOXFILE_TRUSTED_HOSTS": "registry.example"}),
        ("registry.example:5000/x", {"SANDBOXFILE_TRUSTED_HOSTS": "registry.example"}),
        ("registry.example:5000/x", {"SANDBOXFILE_REGISTRY": "registry.example:5000/y"}),
    ],
)
def test_the_registrys_password_goes_where_the_operator_says(
    user: User, registry: str, more: dict[str, str]
) -> None:
    opened = parts(user, f"{{provider: novita, registry: {registry}}}", {**REGISTRY, **more})

    login = opened.login(registry.partition("/")[0])

    assert login is not None
    assert (login.username, login.password.reveal()) == ("alice", "canary-of-a-password")


@pytest.mark.parametrize(
    "more", [{}, {"SANDBOXFILE_TRUSTED_HOSTS": "x.example"}, {"SANDBOXFILE_REGISTRY": "x.example"}]
)
def test_the_registrys_password_goes_nowhere_that_a_file_alone_names(
    user: User, more: dict[str, str]
) -> None:
    opened = parts(user, "{provider: novita, registry: evil.example/x}", {**REGISTRY, **more})

    with pytest.raises(NotAllowed, match=r"is not sent to `evil\.example`") as caught:
        opened.login("evil.example")

    assert caught.value.hint == "if you trust it, set `SANDBOXFILE_TRUSTED_HOSTS=evil.example`"
    assert opened.login("docker.io") is None


AWS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud-key"}
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def test_a_cloud_registry_is_pulled_from_with_the_clouds_key(user: User) -> None:
    opened = parts(user, f"{{provider: novita, registry: {ECR}/x}}", AWS)

    found = opened.pull_credentials(ECR)

    assert isinstance(found, AwsCredentials)
    assert opened.session.redactor.lines("canary-of-a-cloud-key") == "***"
    assert opened.pull_credentials("ghcr.io") is None


def test_the_operators_own_login_comes_before_a_clouds_key(user: User) -> None:
    trusted = {"SANDBOXFILE_TRUSTED_HOSTS": ECR}
    opened = parts(user, f"{{provider: novita, registry: {ECR}/x}}", {**AWS, **REGISTRY, **trusted})

    found = opened.pull_credentials(ECR)

    assert isinstance(found, Login)
    assert found.username == "alice"


def test_a_key_is_needed_to_publish(user: User) -> None:
    opened = parts(user, "{provider: novita, registry: 127.0.0.1:5000/x}", {})

    with pytest.raises(NotAllowed, match="no API key for target `it`"):
        opened.publisher()


@pytest.mark.parametrize(
    "target",
    ["{provider: novita}", "{provider: novita, builder: remote, registry: 127.0.0.1:5000/x}"],
)
def test_a_target_that_builds_itself_needs_no_engine(user: User, target: str) -> None:
    opened = parts(user, target, {"NOVITA_API_KEY": KEY, "DOCKER_HOST": "unix:///nowhere"})

    assert isinstance(opened.publisher(), NovitaV3)


# --- what leads out of the workspace ---------------------------------------------------------


def _linked_secret(user: User) -> Callable[[], object]:
    (user.root / "s").symlink_to(user.write("../outside", "key"))
    opened = parts(user, "{provider: local}\nsecrets: {k: {file: s}}", {})
    return lambda: opened.session.secret("k")


def _linked_state(user: User) -> Callable[[], object]:
    (user.root / ".sandboxfile").symlink_to(user.home)
    return lambda: app.state(user.root)


def _linked_in_state(user: User) -> Callable[[], object]:
    (user.root / ".sandboxfile/generated").mkdir(parents=True)
    (user.root / ".sandboxfile/generated/web").symlink_to(user.home)
    return lambda: app.state(user.root)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_linked_secret, "the file of secret `k`: it leads out of the workspace"),
        (_linked_state, r"\.sandboxfile` is a link"),
        (_linked_in_state, r"\.sandboxfile/generated/web` is a link"),
    ],
)
def test_a_link_that_a_checkout_brings_is_not_followed(
    user: User, make: Callable[[User], Callable[[], object]], expected: str
) -> None:
    act = make(user)

    with pytest.raises(SandboxfileError, match=expected):
        act()


def dockerfile(user: User, path: Path | None, text: str = "FROM debian:12\n") -> None:
    """Survey a template on a Dockerfile: a link to `path`, else a file with `text`."""
    if path is None:
        user.write("Dockerfile", text)
    else:
        (user.root / "Dockerfile").symlink_to(path)
    user.write("novita.yaml", "version: 1\nname: web\nbase: {dockerfile: Dockerfile}\n")
    args = argparse.Namespace(file=None, target=None, var=None, environ={}, home=user.home)
    with chdir(user.root):
        survey(app.workspace(args), ["web"], resolved={}, digests=NoCache())


def test_a_dockerfile_that_leads_out_of_the_workspace_is_not_read(user: User) -> None:
    with pytest.raises(ConfigError, match="cannot be read: it leads out of the workspace"):
        dockerfile(user, user.write("../outside", "FROM x\n"))


def test_a_dockerfile_that_is_no_file_is_not_waited_for(user: User) -> None:
    os.mkfifo(user.root / "fifo")

    with pytest.raises(ConfigError, match="cannot be read: it is not a regular file"):
        dockerfile(user, user.root / "fifo")


def test_a_secret_that_a_dockerfile_mounts_must_be_declared(user: User) -> None:
    text = "FROM debian:12\nRUN --mount=type=secret,id=npm cat /run/secrets/npm\n"

    with pytest.raises(ConfigError, match="mounts secret `npm`, which is not declared"):
        dockerfile(user, None, text)
