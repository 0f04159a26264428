"""What `status` and `logs` say of builds that run at the service."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxfile import tags
from sandboxfile.cancel import Cancel
from sandboxfile.config import finding, load
from sandboxfile.journal import Journal, Record, Step
from sandboxfile.statcache import NoCache
from sandboxfile.survey import survey
from tests.fakes import built
from tests.fakes.service import Answer, Build, FakeService, error, serving
from tests.fakes.shell import User

TARGET = """\
targets:
  box: {{provider: novita, api_url: "{url}", registry: "127.0.0.1:1/x"}}
"""
KEY = "key-of-the-tests"


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serving(FakeService()) as running:
        yield running


@pytest.fixture
def boxed(three: User, service: FakeService) -> User:
    """A workspace of which everything is built at a service, which has forgotten it."""
    text = (three.root / "novita.yaml").read_text()
    three.write("novita.yaml", text + TARGET.format(url=service.url))
    built.pretend(three.root, target="box")
    for name in "abc":  # so that later builds have other IDs than those of the lock
        service.register(name, ())
    return three.having(NOVITA_API_KEY=KEY, SANDBOXFILE_TARGET="box")


def key_of(root: Path, name: str) -> str:
    workspace = load.load(finding.find(root, None))
    keys = survey(workspace, [name], resolved=built.PINS, digests=NoCache())[name].keys
    assert keys is not None
    return keys.template_key


def left(user: User, build: Build, step: Step = "triggered", *, content: str = "") -> None:
    """Leave the journal of a run that ended at this step of template `other`."""
    path = user.root / ".sandboxfile/journal/box.jsonl"
    journal = Journal.open(path, emit=lambda _: None, cancel=Cancel())
    journal.write(
        Record(
            template="other",
            content=content or tags.content(key_of(user.root, "other")),
            step=step,
            template_id=build.template,
            build_id=build.id,
        )
    )


@pytest.fixture
def build(boxed: User, service: FakeService) -> Build:
    """A build of `other`, whose template has changed since the lock was written."""
    boxed.replace("novita.yaml", "  other:\n    base: debian:12", "  other:\n    base: debian:12\n"
                  "    run: [x]")  # fmt: skip
    made = service.register("other", (tags.content(key_of(boxed.root, "other")),))
    made.logs = [
        {"timestamp": f"t{number}", "message": f"line {number}", "level": "info"}
        for number in range(250)
    ]
    service.trigger(made)
    return made


# --- status ----------------------------------------------------------------------------------


def test_status_tells_of_a_build_that_runs_without_asking(
    boxed: User, service: FakeService, build: Build
) -> None:
    left(boxed, build)

    ran = boxed.run("status", "other")

    assert ran.code == 0, ran.err
    first, second = ran.out.splitlines()
    assert first.split()[:2] == ["other", "stale"]
    assert second.strip() == (
        f"building at the service, build {build.id}, since this machine triggered it"
    )
    assert service.requests == []


def test_status_as_json_has_the_build(boxed: User, build: Build) -> None:
    left(boxed, build)

    ran = boxed.run("status", "--json")

    rows = {row["name"]: row for row in ran.data["templates"]}
    assert rows["parent"]["running"] is None
    assert rows["other"]["running"] == {
        "state": "building",
        "template_id": build.template,
        "build_id": build.id,
        "current": True,
        "from_service": False,
        "reason": None,
    }


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("register", "asked for by a run that did not learn its ID"),
        ("registered", "registered at the service, not begun"),
        ("ready", "ready at the service, not in the lock"),
    ],
)
def test_status_says_how_far_a_build_has_come(
    boxed: User, build: Build, step: Step, text: str
) -> None:
    left(boxed, build, step)
    assert text in boxed.run("status").out


def test_a_build_of_what_the_template_was_before_is_told_as_that(boxed: User, build: Build) -> None:
    left(boxed, build, content="sf-0000000000000000")
    assert "the template has changed since" in boxed.run("status").out
    left(boxed, build, "ready", content="sf-0000000000000000")
    assert build.id not in boxed.run("status").out  # done, and of no use any more


def test_a_build_that_is_in_the_lock_does_not_run(boxed: User, service: FakeService) -> None:
    entry = built.pretend(boxed.root, target="box")["other"]
    left(boxed, Build(id=entry.build_id, template=entry.template_id, tags=()))
    assert len(boxed.run("status").out.splitlines()) == 3
    assert service.requests == []


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("building", "building at the service, build {id}\n"),
        ("ready", "ready at the service, not in the lock, build {id}\n"),
        ("error", "failed at the service, build {id}: no disk\n"),
        ("deleted", "no longer known to the service, build {id}\n"),
    ],
)
def test_status_asks_when_told_to(
    boxed: User, service: FakeService, build: Build, state: str, text: str
) -> None:
    left(boxed, build)
    build.settle(state)
    build.reason = {"message": "no disk"}
    if state == "deleted":
        service.builds.clear()

    ran = boxed.run("status", "--refresh")

    assert text.format(id=build.id) in ran.out
    (row,) = boxed.run("status", "other", "--refresh", "--json").data["templates"]
    assert row["running"]["from_service"] is True


def test_asking_needs_a_network(boxed: User) -> None:
    ran = boxed.run("status", "--refresh", "--offline")
    assert (ran.code, ran.out) == (64, "")


def test_status_has_an_exit_code_for_scripts(boxed: User, service: FakeService) -> None:
    assert boxed.run("status", "--exit-code").code == 0
    made = service.register("other", ("sf-1",))
    left(boxed, made)
    assert boxed.run("status", "--exit-code").code == 2  # it runs, though nothing is stale
    assert boxed.run("status").code == 0
    assert boxed.run("status", "parent", "--exit-code").code == 0
    boxed.write("data/one.txt", "eno\n")
    assert boxed.run("status", "parent", "--exit-code").code == 2


def test_a_damaged_journal_says_nothing_here(boxed: User, build: Build) -> None:
    left(boxed, build)
    path = boxed.root / ".sandboxfile/journal/box.jsonl"
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    ran = boxed.run("status")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 3


# --- logs ------------------------------------------------------------------------------------

ALL = "".join(f"line {number}\n" for number in range(250))


def test_a_log_is_followed_to_its_last_line(boxed: User, build: Build) -> None:
    left(boxed, build)

    ran = boxed.run("logs", "other", "--follow")

    assert (ran.code, ran.out) == (0, ALL), ran.err


def test_a_log_survives_polls_that_fail(boxed: User, service: FakeService, build: Build) -> None:
    left(boxed, build)
    build.script.extend(["building"] * 3 + ["ready"])
    service.fail("GET", "/status", Answer(body={"status": "building"}), error(502, "no"))
    ran = boxed.run("logs", "other", "-F")
    assert (ran.code, ran.out) == (0, ALL), ran.err


def test_the_log_of_a_build_that_failed_ends_with_1(boxed: User, build: Build) -> None:
    left(boxed, build)
    build.settle("error")
    build.reason = {"message": "failed to run command 'x': exit status 2"}

    for option in ("--follow", f"--build={build.id}"):
        ran = boxed.run("logs", "other", option)

        assert (ran.code, ran.out) == (1, ALL)
        assert f"error: build {build.id} of `other` failed: failed to run command" in ran.err


def test_a_log_may_be_read_while_the_build_runs(boxed: User, build: Build) -> None:
    left(boxed, build)
    build.settle("building")

    ran = boxed.run("logs", "other", "--build", build.id)

    assert (ran.code, ran.out) == (0, ALL)
    assert f"build {build.id} is building; `--follow` waits for its end" in ran.err


def test_without_a_journal_the_locks_build_is_the_last(boxed: User, service: FakeService) -> None:
    entry = built.pretend(boxed.root, target="box")["other"]
    old = Build(id=entry.build_id, template=entry.template_id, tags=(), state="ready")
    old.lines = ["[2026-01-01T00:00:00Z] old\n"]
    service.builds[entry.build_id] = old
    ran = boxed.run("logs", "other", "--follow")
    assert (ran.code, ran.out) == (0, "old\n"), ran.err


def test_without_any_record_the_service_is_asked_for_the_last(boxed: User, build: Build) -> None:
    (boxed.root / "novita.lock").unlink()
    ran = boxed.run("logs", "other", "--follow")
    assert (ran.code, ran.out) == (0, ALL), ran.err
    ran = boxed.run("logs", "other", "--build", build.id)
    assert (ran.code, ran.out) == (0, ALL), ran.err
    ran = boxed.run("logs", "parent", "--follow")
    assert (ran.code, ran.out) == (1, "")
    assert "no build of `parent` is known here or at the service" in ran.err


def test_a_log_as_json_is_one_document(boxed: User, build: Build) -> None:
    left(boxed, build)

    ran = boxed.run("logs", "other", "--follow", "--json")

    assert ran.data["build_id"] == build.id
    assert ran.data["state"] == "ready"
    assert [line["text"] for line in ran.data["log"]] == ALL.splitlines()


def test_what_a_build_writes_cannot_command_a_terminal_or_ci(boxed: User, build: Build) -> None:
    left(boxed, build)
    build.logs = [{"timestamp": "t", "message": f"\x1b]0;x\x07::error::{KEY}", "level": "info"}]

    ran = boxed.having(GITHUB_ACTIONS="true").run("logs", "other", "--follow")

    assert ran.out == "│ ^[]0;x^G::error::***\n"


def test_a_build_that_is_gone_is_told(boxed: User, service: FakeService, build: Build) -> None:
    left(boxed, build)
    service.builds.clear()
    ran = boxed.run("logs", "other", "--follow")
    assert (ran.code, ran.out) == (1, "")
    assert f"the service no longer knows build {build.id}" in ran.err


def test_without_a_network_the_log_of_this_machine_is_printed(boxed: User, build: Build) -> None:
    left(boxed, build)
    boxed.write(".sandboxfile/logs/other/snapshot.log", "so far\n")

    ran = boxed.run("logs", "other", "--follow", "--offline")

    assert (ran.code, ran.out) == (0, "so far\n")
    assert "this is the log on this machine" in ran.err


def test_a_template_that_no_build_is_known_of_has_no_log(boxed: User, service: FakeService) -> None:
    (boxed.root / "novita.lock").unlink()
    service.register("other", ())
    service.tags.clear()
    ran = boxed.run("logs", "other", "--follow")
    assert (ran.code, ran.out) == (1, "")
    assert "no build of `other` is known here or at the service" in ran.err


def test_a_state_that_the_service_does_not_tell_is_an_error(
    boxed: User, service: FakeService, build: Build
) -> None:
    left(boxed, build)
    service.lack("GET", ".*/status")
    ran = boxed.run("status", "--refresh")
    assert (ran.code, ran.out) == (1, "")


def test_a_service_that_does_not_answer_is_no_network(
    boxed: User, service: FakeService, build: Build
) -> None:
    left(boxed, build)
    boxed.write(".sandboxfile/logs/other/snapshot.log", "so far\n")
    service.fail("GET", "/status", *[error(500, "no")] * 2)

    ran = boxed.run("logs", "other", "--follow")
    assert (ran.code, ran.out) == (0, "so far\n")
    ran = boxed.run("logs", "other", "--build", build.id)  # no file has this one for sure
    assert (ran.code, ran.out) == (6, "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--follow", "--step", "build"], "`--step` is about the logs on this machine"),
        (["--build", "latest"], "`latest` is not a build's ID"),
        (["--follow", "-t", "local"], "the logs of target `local` are on this machine"),
    ],
)
def test_what_makes_no_sense_is_64(boxed: User, argv: list[str], message: str) -> None:
    ran = boxed.run("logs", "other", *argv)
    assert (ran.code, ran.out) == (64, "")
    assert f"error: {message}" in ran.err


def test_the_journal_is_not_made_by_looking(boxed: User) -> None:
    boxed.run("status")
    assert not (boxed.root / ".sandboxfile/journal").exists()
    assert json.loads(boxed.run("status", "--json").out)["target"] == "box"
