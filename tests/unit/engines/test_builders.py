"""Builders as `docker buildx inspect` tells of them."""

import pytest

from sandboxfile.engines import builders
from sandboxfile.engines.builders import Builder
from sandboxfile.errors import SandboxfileError, Unreachable, Unsupported
from sandboxfile.process import Outcome

# As buildx 0.13.1 and 0.29.1 print it.
REMOTE = """\
Name:          farm
Driver:        remote
Last Activity: 2026-01-02 18:08:36 +0000 UTC

Nodes:
Name:             farm0
Endpoint:         tcp://127.0.0.1:17428
Status:           running
BuildKit version: v0.0.0+unknown
Platforms:        linux/amd64, linux/amd64/v2, linux/amd64/v3
Labels:
 org.mobyproject.buildkit.worker.executor:             containerd
GC Policy rule#0:
 All:           false
Name:             farm1
Endpoint:         tcp://127.0.0.1:17429
Error:            failed to reach it: refused
Platforms:        linux/arm64*
"""


def outcome(text: str = "", *said: str, status: int = 0) -> Outcome:
    return Outcome(status=status, stdout=text, stderr=said, seconds=0)


def test_the_nodes_of_a_builder_are_taken_together() -> None:
    found = builders.read("farm", outcome(REMOTE))
    assert found == Builder(
        name="farm",
        driver="remote",
        running=1,
        platforms=frozenset({"linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/arm64"}),
        error="failed to reach it: refused",
    )
    assert (found.is_running, found.elsewhere) == (True, True)
    assert builders.checked(found) is found
    assert not builders.read("default", outcome("Driver: docker\n")).elsewhere


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (("", 'ERROR: no builder "farm" found', " "), Unsupported, "buildx has no builder `farm`"),
        (("ERROR: disk full",), Unreachable, "the builder `farm` cannot be used: disk full"),
        ((), Unreachable, "the builder `farm` cannot be used: "),
    ],
)
def test_a_builder_that_is_not_told_of_is_none(
    said: tuple[str, ...], kind: type[SandboxfileError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        builders.read("farm", outcome("", *said, status=1))
    assert caught.value.message == message


def test_a_builder_must_run_and_build_for_the_service() -> None:
    stopped = Builder(name="farm", driver="kubernetes", error="pods are forbidden")
    with pytest.raises(Unreachable, match="the builder `farm` does not run: pods are forbidden"):
        builders.checked(stopped)
    with pytest.raises(Unreachable, match=r"does not run \(driver remote\)"):
        builders.checked(Builder(name="farm", driver="remote"))
    arm = Builder(name="farm", driver="remote", running=1, platforms=frozenset({"linux/arm64"}))
    with pytest.raises(Unsupported, match="cannot build for linux/amd64, only for linux/arm64"):
        builders.checked(arm)
    untold = Builder(name="farm", driver="remote", running=1)
    assert builders.checked(untold) is untold
