"""What goes wrong: one clear message, the right exit code, and the rest of the graph goes on."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import PASSWORD, USER
from tests.fakes.service import Answer, FakeService, error, serving
from tests.fakes.shell import User

pytestmark = pytest.mark.engine

HEAD = """\
version: 1
templates:
"""
GOOD = """\
  fn-good:
    base: {base}
    env: {{NONCE: "{nonce}"}}
    resources: {{cpu: 1, memory: 128}}
    tags: [fine]
"""
BAD = """\
  fn-bad:
    base: {base}
    env: {{NONCE: "{nonce}"}}
    resources: {{cpu: 1, memory: 128}}
    {what}
"""
UPON = """\
  fn-upon-bad:
    base: {template: fn-bad}
    run: ["true"]
    inherit: false
"""
TARGET = """\
targets:
  box: {{provider: novita, api_url: "{url}", registry: "{registry}"}}
"""


@pytest.fixture
def write(user: User, base: str, nonce: str, images: Callable[[str], None]) -> Callable[..., User]:
    """Write a workspace of a good template and, beside it, a bad one with another based on it."""

    def written(what: str = "", *, url: str = "", registry: str = "", image: str = base) -> User:
        for name in ("fn-good", "fn-bad", "fn-upon-bad"):
            images(name)
        text = HEAD + GOOD.format(base=base, nonce=nonce)
        if what:
            text += BAD.format(base=image, nonce=nonce, what=what) + UPON
        if url:
            text += TARGET.format(url=url, registry=registry)
        user.write("novita.yaml", text)
        target = {"SANDBOXFILE_TARGET": "box", "NOVITA_API_KEY": "key-of-the-tests"}
        return user.having(**target) if url else user

    return written


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as fake:
        yield fake


def sole_error(text: str) -> str:
    """Return the one error of an output, from its place to its end."""
    assert text.count("error: ") == 1, text
    assert "Traceback" not in text
    return text[text.index("error: ") :]


# --- of a template ---------------------------------------------------------------------------


def test_a_command_that_fails_is_told_with_its_line(write: Callable[..., User]) -> None:
    user = write("run: [echo fine, 'echo about to fail; exit 3']")

    ran = user.run("build")

    assert ran.code == 1
    assert "fn-bad: build failed\nnovita.yaml:12:22: error: " in ran.err
    said = sole_error(ran.err)
    assert "12 |     run: [echo fine, 'echo about to fail; exit 3']" in said
    assert "exit status" in said or "exit code: 3" in said
    assert "| about to fail" in said
    assert "whole log: .sandboxfile/logs/fn-bad/build.log" in said
    assert "skipped, since the build of fn-bad failed: fn-upon-bad\n" in ran.err
    assert "1 failed, 1 skipped, 1 built in" in ran.err
    assert set(user.entries()) == {"fn-good"}
    assert "about to fail" in user.run("logs", "fn-bad").out
    told = "fn-bad       the last build failed at `build`: "
    assert told not in user.run("status").out  # it is a line of its own
    assert told[13:] in user.run("status").out
    assert list(user.run("plan", "--json").data["failed"]) == ["fn-bad"]


def test_what_came_through_is_kept_going_with(write: Callable[..., User]) -> None:
    user = write("run: ['exit 3']")
    subprocess.run(["git", "-C", str(user.root), "init", "-q"], check=True)
    hint = "add novita.local.lock to .gitignore: what is in it is this machine's own\n"

    first = user.run("build", "--keep-going", "--json")
    second = user.run("build", "fn-bad", "--keep-going")
    user.edit("novita.yaml", lambda text: text.replace("exit 3", "exit 0"))
    third = user.build()

    assert first.code == 7
    assert [hint in each.err for each in (first, second, third)] == [True, False, False]
    assert [each["status"] for each in first.data["templates"]] == ["done", "failed", "skipped"]
    assert first.data["summary"]["counts"] == {"build": 1, "failed": 1, "skipped": 1}
    assert "novita.yaml:12:11: error: " in first.of("fn-bad")["error"]
    assert second.code == 1
    assert {job.partition(":")[2] for job in third.done} == {"fn-bad", "fn-upon-bad"}
    assert user.run("plan", "--json").data["failed"] == {}
    assert set(user.entries()) == {"fn-good", "fn-bad", "fn-upon-bad"}


def test_a_start_command_that_fails_is_told_with_its_line(write: Callable[..., User]) -> None:
    user = write("start: 'echo cannot start; exit 5'\n    ready: sleep 60")

    ran = user.run("build")

    assert ran.code == 1
    assert "novita.yaml:12:5: error: `fn-bad` failed at the service: start command" in ran.err
    said = sole_error(ran.err)
    assert "exit status 5" in said
    assert "cannot start" in said
    # The image of the other is as good as ever: only what starts is wrong.
    assert set(user.entries()) == {"fn-good", "fn-upon-bad"}


def test_a_ready_command_that_never_succeeds_is_told_with_its_line(
    write: Callable[..., User], impatient: str, registry: str
) -> None:
    what = "start: 'echo serving; sleep 60'\n    ready: {file: /never}"
    user = write(what, url=impatient, registry=f"{registry}/fn")

    ran = user.run("build")

    assert ran.code == 1
    said = sole_error(ran.err)
    assert "novita.yaml:13:5: error: `fn-bad` failed at the service: ready command" in ran.err
    assert "ready command timed out after 1s" in said
    assert "hint: does the start command serve what `ready` asks for?" in said
    assert set(user.entries("box")) == {"fn-good", "fn-upon-bad"}


def test_a_base_that_does_not_exist_is_told_with_its_line(
    write: Callable[..., User], registry: str
) -> None:
    user = write("run: ['true']", image=f"{registry}/busibox:1")

    ran = user.run("build")

    assert ran.code == 1
    assert "novita.yaml:9:11: error: image `" in ran.err
    assert "not found at" in sole_error(ran.err)
    assert ran.err.count("\n") < 10


def test_a_file_that_is_not_there_is_told_before_anything_is_done(
    write: Callable[..., User],
) -> None:
    user = write("files: [app.pi -> /srv/]")
    user.write("app.py", "")

    ran = user.run("build")

    assert ran.code == 3
    assert "novita.yaml:12:13: error: " in ran.err
    assert "app.py" in ran.err
    assert not list(user.root.glob("*.lock"))


# --- of the world ----------------------------------------------------------------------------


def test_without_an_engine_the_remedy_is_told(write: Callable[..., User], tmp_path: Path) -> None:
    user = write().having(DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")

    ran = user.run("build")

    assert ran.code == 6
    said = sole_error(ran.err)
    assert "nobody.sock" in said
    assert "hint: " in said


def test_a_refused_push_is_told(
    write: Callable[..., User], service: FakeService, secured_registry: str
) -> None:
    user = write(url=service.url, registry=f"{secured_registry}/fn").having(
        SANDBOXFILE_REGISTRY_USERNAME=USER, SANDBOXFILE_REGISTRY_PASSWORD="wrong-password"
    )

    ran = user.run("build")

    assert ran.code == 5
    said = sole_error(ran.err)
    assert secured_registry in said
    assert "wrong-password" not in ran.err + ran.out
    assert not service.sent("POST", ".*")
    right = user.having(SANDBOXFILE_REGISTRY_PASSWORD=PASSWORD)
    assert right.run("build").code == 0


def test_a_registry_without_a_login_is_told(
    write: Callable[..., User], service: FakeService, secured_registry: str
) -> None:
    ran = write(url=service.url, registry=f"{secured_registry}/fn").run("build")

    assert ran.code == 5
    assert "docker login" in sole_error(ran.err)


@pytest.mark.parametrize(
    ("answer", "path", "code", "said"),
    [
        (error(401, "invalid key"), "/v3/templates", 5, "does not accept the key from NOVITA_API_"),
        (error(403, "forbidden"), "/v3/templates", 5, "the key from NOVITA_API_KEY may not do"),
        (error(500, "oh no"), "/templates/tags", 6, "answered 500: oh no"),
    ],
    ids=["401", "403", "500"],
)
def test_an_error_of_the_service_is_told_and_the_rest_goes_on(
    *,
    write: Callable[..., User],
    service: FakeService,
    registry: str,
    answer: Answer,
    path: str,
    code: int,
    said: str,
) -> None:
    user = write("ready: 'true'", url=service.url, registry=f"{registry}/fn")
    service.fail("POST", path, answer)

    ran = user.run("build")

    assert ran.code == code
    assert said in sole_error(ran.err)
    assert "hint: " in ran.err
    assert "key-of-the-tests" not in ran.err
    assert "1 failed, 2 built in" in ran.err
    # Nothing is lost: the next run does what is missing.
    assert user.build().done
    assert user.run("build").err.endswith("3 up to date, nothing to do\n")
    assert set(user.entries("box")) == {"fn-good", "fn-bad", "fn-upon-bad"}
    assert len(set(service.names)) == 3


def test_a_service_that_is_busy_is_asked_again_and_then_told(
    write: Callable[..., User], service: FakeService, registry: str
) -> None:
    user = write(url=service.url, registry=f"{registry}/fn")
    service.fail("POST", "/templates/tags", *[error(429, "too many")] * 20)

    ran = user.run("build")
    asked = len(service.sent("POST", "/templates/tags"))
    service.faults.clear()
    again = user.build()

    assert ran.code == 5
    assert "has no room for more requests: too many" in sole_error(ran.err)
    assert "hint: wait for running builds to end, or lower -j" in ran.err
    assert asked > 1
    # The snapshot was made, and its IDs were kept.
    assert again.done == {"tag:fn-good"}


def test_a_service_that_is_not_there_is_told(write: Callable[..., User], registry: str) -> None:
    ran = write(url="http://127.0.0.1:9", registry=f"{registry}/fn").run("build")

    assert ran.code == 6
    assert "cannot reach `127.0.0.1:9" in sole_error(ran.err)


def test_without_a_key_nothing_is_begun(
    write: Callable[..., User], service: FakeService, registry: str
) -> None:
    user = write(url=service.url, registry=f"{registry}/fn").without("NOVITA_API_KEY")

    ran = user.run("build")

    assert ran.code == 5
    assert "no API key for target `box`" in sole_error(ran.err)
    assert not service.requests


def test_a_key_is_sent_to_no_stranger(write: Callable[..., User]) -> None:
    ran = write(url="https://templates.example.com", registry="registry.example.com/x").run("build")

    assert ran.code == 5
    assert "SANDBOXFILE_TRUSTED_HOSTS" in sole_error(ran.err)
