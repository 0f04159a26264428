import pytest

from sandboxfile.buildstatus import BuildStatus
from sandboxfile.errors import BuildFailed, NotAllowed
from sandboxfile.targets import failures
from sandboxfile.targets.failures import Asked
from tests.fakes.publishing import AT, PLACES, release


def failed(reason: str, step: str = "") -> BuildStatus:
    build = "00000000-0000-4000-8000-000000000001"
    return BuildStatus(template_id="t", build_id=build, state="error", reason=reason, step=step)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("The build was canceled because it was superseded by a newer one.", "superseded"),
        ("build was cancelled", "superseded"),
        ("", "service"),
        ("An internal error occurred. Please try again or contact support", "service"),
        ("polling received unrecoverable error: rpc DeadlineExceeded", "service"),
        ("build is in waiting state for too long", "service"),
        ("build already exists in cache", "service"),
        ("error when building env: x", "service"),
        ("Error when starting template build: x", "service"),
        ("failed to run command 'x': exit status 1", "user"),
        ("build timed out", "user"),
        ("ready command failed: ready command timed out after 10m0s", "user"),
    ],
)
def test_failures_are_told_apart(reason: str, kind: str) -> None:
    assert failures.kind(failed(reason)) == kind


@pytest.mark.parametrize(
    ("reason", "step", "key"),
    [
        ("start command failed: exit status 3", "finalize", "start"),
        ("ready command failed: timed out", "finalize", "ready"),
        ("image 'x' not found", "base", "base"),
        ("failed to add user", "1", "user"),
        ("failed to make directory", "2", "workdir"),
        ("failed", "3", None),
        ("failed", "0", None),
        ("failed", "\u00b2", None),
        ("failed", "1" * 5000, None),
        ("configuration script failed: exit status 1", "finalize", None),
    ],
)
def test_a_failure_names_its_place(reason: str, step: str, key: str | None) -> None:
    error = failures.explain(
        failed(reason, step),
        release().template,
        tail=(),
        steps=(Asked(at=PLACES["user"]), Asked(at=PLACES["workdir"])),
    )
    assert error.at == (PLACES[key] if key else AT)


def test_a_script_of_ours_is_told_in_a_few_words() -> None:
    ours = Asked(at=AT, script="for each in x; do y; done", title="keep the environment")
    users = Asked(at=AT, script="make it")
    error = failures.explain(
        failed(f"failed to run command '{ours.script}': exit status 127", "1"),
        release().template,
        tail=(f"[builder 1/2] RUN {ours.script} root", "[builder 2/2] RUN make it root"),
        steps=(ours, users),
    )
    assert isinstance(error, BuildFailed)
    assert "'keep the environment': exit status 127" in error.message
    assert error.tail == (
        "[builder 1/2] RUN keep the environment root",
        "[builder 2/2] RUN make it root",
    )


@pytest.mark.parametrize(
    ("reason", "status"), [("exit status 3", 3), ("exit status: 1", 1), ("timed out", None)]
)
def test_a_failure_has_its_exit_status(reason: str, status: int | None) -> None:
    error = failures.explain(failed(reason), release().template, tail=("a", "b"))
    assert isinstance(error, BuildFailed)
    assert (error.status, error.tail) == (status, ("a", "b"))


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("ready command failed: ready command timed out after 10m", "what `ready` asks for"),
        ("error waiting for provisioning sandbox: exit status: 1", "apt and glibc"),
        ('image architecture "arm64" does not match expected "amd64"', "linux/amd64"),
        ("failed to pull image x: registry returned status code 500", "reach the target's"),
        ("something else", ""),
    ],
)
def test_a_failure_has_its_remedy(reason: str, hint: str) -> None:
    found = failures.explain(failed(reason), release().template, tail=()).hint
    assert hint in found
    assert bool(found) == bool(hint)


def test_an_image_that_the_service_may_not_pull_is_a_matter_of_permission() -> None:
    error = failures.explain(failed("access denied to 'x'", "base"), release().template, tail=())
    assert isinstance(error, NotAllowed)
    assert error.at == PLACES["base"]


def test_a_failure_without_reason_says_so() -> None:
    error = failures.explain(failed(""), release().template, tail=())
    assert error.message == "`api` failed at the service: no reason given"
