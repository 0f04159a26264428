import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sandboxfile.credentials import config_file, login_for
from sandboxfile.errors import ConfigError, NotAllowed
from sandboxfile.model import TOKEN_USER

AUTH = base64.b64encode(b"alice:s3cr:et").decode()
HUB = "https://index.docker.io/v1/"


class Docker:
    """What `docker login` leaves on a machine: a configuration, and helpers on the PATH."""

    def __init__(self, directory: Path) -> None:
        self.home = directory
        self.config = directory / ".docker/config.json"
        self.config.parent.mkdir()
        self.environ = {"PATH": f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def configure(self, content: Any) -> None:
        self.config.write_text(content if isinstance(content, str) else json.dumps(content))

    def helper(self, name: str, script: str) -> None:
        """Put a credential helper on the PATH that keeps what it was asked and runs `script`."""
        program = self.home / "bin" / f"docker-credential-{name}"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {self.home}/asked\n{script}\n')
        program.chmod(0o755)

    def login(self, host: str) -> tuple[str, str] | None:
        login = login_for(host, environ=self.environ, home=self.home)
        return (login.username, login.password.reveal()) if login else None


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    return Docker(tmp_path)


def answer(username: str, secret: str) -> str:
    told = json.dumps({"ServerURL": "x", "Username": username, "Secret": secret})
    return f"echo '{told}'"


def test_the_configuration_is_in_the_home_directory_unless_docker_is_told_otherwise() -> None:
    home = Path("/home/alice")
    assert config_file({}, home) == Path("/home/alice/.docker/config.json")
    assert config_file({"DOCKER_CONFIG": ""}, home) == Path("/home/alice/.docker/config.json")
    assert config_file({"DOCKER_CONFIG": "/etc/d"}, home) == Path("/etc/d/config.json")


def test_without_a_configuration_there_is_no_login(docker: Docker) -> None:
    assert docker.login("ghcr.io") is None
    docker.environ["DOCKER_CONFIG"] = "/dev/null"
    assert docker.login("ghcr.io") is None


def test_an_empty_file_has_no_login(docker: Docker) -> None:
    docker.configure("")
    assert docker.login("ghcr.io") is None


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("ghcr.io", "ghcr.io"),
        ("https://ghcr.io", "ghcr.io"),
        ("http://ghcr.io/", "ghcr.io"),
        ("https://ghcr.io/v2/", "ghcr.io"),
        ("GHCR.io", "ghcr.io"),
        ("localhost:5000", "localhost:5000"),
        (HUB, "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_a_login_is_found_under_every_spelling_of_its_host(
    key: str, host: str, docker: Docker
) -> None:
    docker.configure({"auths": {key: {"auth": AUTH}}})
    assert docker.login(host) == ("alice", "s3cr:et")


@pytest.mark.parametrize("host", ["example.com", "ghcr.io:5000", "hcr.io", "ghcr.io.evil.com"])
def test_a_login_is_for_its_own_host_alone(host: str, docker: Docker) -> None:
    docker.configure({"auths": {"ghcr.io": {"auth": AUTH}}})
    assert docker.login(host) is None


def test_the_exact_spelling_goes_before_others(docker: Docker) -> None:
    other = base64.b64encode(b"bob:other").decode()
    docker.configure({"auths": {"https://ghcr.io": {"auth": other}, "ghcr.io": {"auth": AUTH}}})
    assert docker.login("ghcr.io") == ("alice", "s3cr:et")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"username": "alice", "password": "s3cret"}, ("alice", "s3cret")),
        ({"username": "alice"}, None),
        ({"password": "s3cret"}, None),
        ({}, None),
        ({"auth": ""}, None),
        ({"auth": 7}, None),
        ({"auth": base64.b64encode(b"alice:s3cret\0\0").decode()}, ("alice", "s3cret")),
        ({"auth": AUTH, "identitytoken": "eyJ"}, (TOKEN_USER, "eyJ")),
    ],
)
def test_an_entry_is_read_as_docker_reads_it(
    entry: Mapping[str, Any], expected: tuple[str, str] | None, docker: Docker
) -> None:
    docker.configure({"auths": {"ghcr.io": entry}})
    assert docker.login("ghcr.io") == expected


def test_docker_config_names_another_directory(docker: Docker) -> None:
    docker.configure({"auths": {"ghcr.io": {"auth": AUTH}}})
    docker.environ["DOCKER_CONFIG"] = str(docker.config.parent)
    docker.home = Path("/nonexistent")
    assert docker.login("ghcr.io") == ("alice", "s3cr:et")


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ('{\n "auths": x}', "2:11", "is not JSON: expecting value"),
        ("[]", "1:1", "is not a JSON object"),
        ("[" * 100_000, "1:1", "is nested too deeply"),
        ({"auths": []}, "1:1", "is wrong: `auths` is not an object"),
        ({"auths": {"ghcr.io": "s3cret"}}, "1:1", "is wrong: `auths` has no object for `ghcr.io`"),
        ({"credHelpers": "gcr"}, "1:1", "is wrong: `credHelpers` is not an object"),
        (
            {"credHelpers": {"ghcr.io": "../evil"}},
            "1:1",
            "is wrong: `credHelpers` for `ghcr.io` is not the name of a helper",
        ),
        ({"credsStore": ["a"]}, "1:1", "is wrong: `credsStore` is not the name of a helper"),
    ],
)
def test_a_wrong_file_is_an_error_with_its_place(
    content: Any, place: str, message: str, docker: Docker
) -> None:
    docker.configure(content)
    with pytest.raises(ConfigError) as caught:
        docker.login("ghcr.io")
    assert str(caught.value) == (
        f"{docker.config}:{place}: error: Docker's configuration {message}\n"
        "hint: this is Docker's configuration; `docker login` writes it"
    )


@pytest.mark.parametrize("secret", ["s3cret", "YWxpY2U=", "OnMzY3JldA==", "czNjcmV0:==="])
def test_a_wrong_auth_is_an_error_that_does_not_show_it(secret: str, docker: Docker) -> None:
    docker.configure({"auths": {"ghcr.io": {"auth": secret}}})
    with pytest.raises(ConfigError, match=r"`auth` for `ghcr\.io` is not base64") as caught:
        docker.login("ghcr.io")
    assert secret not in str(caught.value)


def test_bytes_that_are_no_text_are_an_error(docker: Docker) -> None:
    docker.config.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        docker.login("ghcr.io")


def test_a_file_that_cannot_be_read_is_an_error(docker: Docker) -> None:
    docker.config.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        docker.login("ghcr.io")


# --- helpers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "asked"),
    [("ghcr.io", "ghcr.io"), ("localhost:5000", "localhost:5000"), ("docker.io", HUB)],
)
def test_the_store_is_asked_for_the_host_as_docker_wrote_it(
    host: str, asked: str, docker: Docker
) -> None:
    docker.configure({"credsStore": "desktop", "auths": {host: {}}})
    docker.helper("desktop", answer("alice", "s3cret"))
    assert docker.login(host) == ("alice", "s3cret")
    assert (docker.home / "asked").read_text() == f"get {asked}\n"


def test_a_helper_for_one_host_goes_before_the_store(docker: Docker) -> None:
    docker.configure({"credsStore": "desktop", "credHelpers": {"https://ghcr.io": "mine"}})
    docker.helper("desktop", answer("bob", "other"))
    docker.helper("mine", answer("alice", "s3cret"))
    assert docker.login("ghcr.io") == ("alice", "s3cret")
    assert docker.login("quay.io") == ("bob", "other")


def test_an_identity_token_of_a_helper_keeps_its_user(docker: Docker) -> None:
    docker.configure({"credsStore": "desktop"})
    docker.helper("desktop", answer("<token>", "eyJ"))
    assert docker.login("acme.azurecr.io") == (TOKEN_USER, "eyJ")


BROKEN = {
    "junk": ("echo junk", "`docker-credential-mine` answered something else than a login"),
    "list": ("echo '[]'", "`docker-credential-mine` answered something else than a login"),
    "half": (
        """echo '{"Username": "alice"}'""",
        "`docker-credential-mine` answered something else than a login",
    ),
    "failing": ("echo s3cret; exit 3", "`docker-credential-mine` failed with status 3"),
    "missing": (None, "`docker-credential-mine` is not installed"),
}


@pytest.mark.parametrize(("script", "why"), BROKEN.values(), ids=BROKEN)
def test_a_helper_named_for_this_host_has_to_work(
    script: str | None, why: str, docker: Docker
) -> None:
    docker.configure({"credHelpers": {"ghcr.io": "mine"}})
    if script:
        docker.helper("mine", script)
    with pytest.raises(NotAllowed) as caught:
        docker.login("ghcr.io")
    assert str(caught.value) == (
        f"error: no login for `ghcr.io`: {why}\n"
        f"hint: install or repair it, or change `credHelpers` in `{docker.config}`"
    )


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
@pytest.mark.parametrize("script", [script for script, _ in BROKEN.values()], ids=BROKEN)
def test_a_written_login_replaces_a_helper_that_does_not_work(
    script: str | None, key: str, docker: Docker
) -> None:
    named = "mine" if key == "credsStore" else {"ghcr.io": "mine"}
    docker.configure({key: named, "auths": {"ghcr.io": {"auth": AUTH}}})
    if script:
        docker.helper("mine", script)
    assert docker.login("ghcr.io") == ("alice", "s3cr:et")


@pytest.mark.parametrize("script", [script for script, _ in BROKEN.values()], ids=BROKEN)
def test_a_store_that_does_not_work_leaves_open_registries_open(
    script: str | None, docker: Docker
) -> None:
    docker.configure({"credsStore": "mine"})
    if script:
        docker.helper("mine", script)
    assert docker.login("ghcr.io") is None


NOTHING = "echo 'credentials not found in native keychain'; exit 1"


@pytest.mark.parametrize("script", [NOTHING, answer("", ""), answer("alice", "")])
@pytest.mark.parametrize("auths", [{}, {"ghcr.io": {"auth": AUTH}}], ids=["none", "written"])
def test_a_helper_that_knows_no_login_is_no_failure(
    script: str, auths: Mapping[str, Any], docker: Docker
) -> None:
    docker.configure({"credHelpers": {"ghcr.io": "mine"}, "auths": auths})
    docker.helper("mine", script)
    found = docker.login("ghcr.io")
    assert found == (("alice", "s3cr:et") if auths else None)


def test_a_helper_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch, docker: Docker) -> None:
    monkeypatch.setattr("sandboxfile.credentials.HELPER_S", 0.2)
    docker.configure({"credHelpers": {"ghcr.io": "mine"}})
    docker.helper("mine", "exec sleep 60")
    with pytest.raises(NotAllowed, match=r"`docker-credential-mine` did not end within 0\.2 s"):
        docker.login("ghcr.io")


def test_no_password_is_shown_by_accident(docker: Docker) -> None:
    docker.configure({"auths": {"ghcr.io": {"auth": AUTH}}})
    login = login_for("ghcr.io", environ=docker.environ, home=docker.home)
    assert "alice" in repr(login)
    assert "s3cr" not in repr(login)
