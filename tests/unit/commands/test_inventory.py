"""What is at the service: listed, deleted, pruned, compared with the lock."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandboxfile import lockfile
from sandboxfile.cancel import Cancel
from sandboxfile.journal import Journal, Record
from sandboxfile.lockfile import Lock
from tests.fakes.released import build, entry, on
from tests.fakes.service import Answer, Build, FakeService, error
from tests.fakes.shell import CHECKOUT, User


def key(client: User) -> str:
    return entry(client).template_key.removeprefix("sf1:")[:16]


def names(service: FakeService) -> set[str]:
    return {*service.names}


# --- list --remote ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["novita", "e2b", "v1"])
def test_the_accounts_templates_are_listed_and_the_locks_marked(
    client: User, service: FakeService, new: Build, shape: str
) -> None:
    service.list_shape = shape
    build(service, "other", "default", "live")

    lines = client.run("list", "--remote").out.splitlines()

    assert [line.split()[:2] for line in lines[:2]] == [["*", "api"], ["*", "web"]]
    assert lines[0].endswith("2 builds  2 cpu   1024 MiB    default, stable, at-" + key(client))
    assert lines[2].startswith("  other ")
    rows = client.run("list", "--remote", "a*", new.template, "--json").data["templates"]
    assert [(row["name"], row["lock"], row["template_id"]) for row in rows] == [
        ("api", "api", new.template)
    ]
    assert rows[0]["tags"]["stable"] == new.id
    assert rows[0]["build_id"] == new.id


def test_a_service_without_tags_is_listed_without(client: User, service: FakeService) -> None:
    service.has_tags = False

    ran = client.run("list", "--remote")

    assert (ran.code, ran.err) == (0, "the service of target `box` has no tags\n")
    assert len(ran.out.splitlines()) == 2
    service.names.clear()
    assert client.run("list", "--remote").out == ""


# --- delete ----------------------------------------------------------------------------------


def test_a_template_is_deleted_by_its_id_and_leaves_the_lock(
    client: User, service: FakeService, new: Build
) -> None:
    ran = client.run("delete", "api", "--yes", "--json")

    assert ran.data == {
        "target": "box",
        "deleted": [{"name": "api", "template_id": new.template}],
    }
    assert names(service) == {"web"}
    assert [r.path for r in service.sent("DELETE", ".*")] == [f"/templates/{new.template}"]
    assert [*lockfile.read(client.root / "novita.lock").targets["box"]] == ["web"]
    assert client.run("delete", "web", "--yes").code == 0
    assert lockfile.read(client.root / "novita.lock").targets == {}


def test_a_deleted_template_is_not_said_to_be_ready_at_the_service(client: User) -> None:
    journal = open_journal(client)
    for name in ("api", "web"):
        built = entry(client, name)
        ids = {"template_id": built.template_id, "build_id": built.build_id}
        journal.write(Record(template=name, content=f"sf-{key(client)}", step="ready", **ids))
    journal.close()

    assert client.run("delete", "api", "--yes").code == 0

    status = client.run("status").out
    assert "api  not built   -\n" in status
    assert "ready at the service" not in status
    journal = open_journal(client)
    assert journal.pending("api") is None
    assert journal.pending("web") is not None  # another template's stays
    journal.close()


def open_journal(client: User) -> Journal:
    path = client.root / ".sandboxfile/journal/box.jsonl"
    return Journal.open(path, emit=lambda _: None, cancel=Cancel())


def test_what_is_gone_already_leaves_the_lock_all_the_same(
    client: User, service: FakeService
) -> None:
    del service.names["api"]

    ran = client.run("delete", "api", "--yes")

    assert (ran.code, ran.err.endswith("was gone already\n")) == (0, True)
    assert [*lockfile.read(client.root / "novita.lock").targets["box"]] == ["web"]


def test_without_a_terminal_only_yes_deletes(client: User, service: FakeService) -> None:
    ran = client.command("delete", "api")

    assert (ran.code, "there is no terminal to ask at" in ran.err) == (64, True)
    assert names(service) == {"api", "web"}


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("YES", 0), ("n", 1), ("", 1)])
def test_at_a_terminal_it_is_asked_first(
    client: User, service: FakeService, answer: str, code: int
) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sandboxfile", "--progress", "plain", "delete", "api"],
        cwd=client.root,
        env={**client.environ, "HOME": str(client.home), "PYTHONPATH": CHECKOUT},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = b""
        while b"[y/N] " not in said:
            said += os.read(ours, 4096)
        os.write(ours, answer.encode() + b"\n")
        with suppress(OSError):  # how a terminal ends
            while said_more := os.read(ours, 4096):
                said += said_more
        assert process.wait() == code
    os.close(ours)

    assert b"for everybody and for good? [y/N] " in said
    assert ("api" in service.names) == (code == 1)


def test_what_is_not_in_the_lock_needs_yes(client: User, service: FakeService) -> None:
    other = build(service, "other", "default")

    ran = client.run("delete", "other")

    assert (ran.code, "others may use it" in ran.err) == (64, True)
    assert "other" in service.names
    assert client.run("delete", other.template, "--yes").code == 0
    assert "other" not in service.names


def test_another_teams_template_is_never_deleted(client: User, service: FakeService) -> None:
    build(service, "public", "default")
    service.foreign.add("public")

    ran = client.run("delete", "public", "--yes")

    assert (ran.code, "belongs to another team" in ran.err) == (5, True)
    assert service.sent("DELETE", ".*") == []


def test_a_tag_is_not_taken_for_a_template(client: User, service: FakeService) -> None:
    ran = client.run("delete", "api:stable", "--yes")

    assert (ran.code, service.sent("DELETE", ".*")) == (64, [])
    assert "hint: take the tag away: `sandboxfile tag api --remove stable`" in ran.err


def test_what_is_nowhere_is_told(client: User) -> None:
    ran = client.run("delete", "nothing", "--yes")

    assert (ran.code, "has no template `nothing`" in ran.err) == (1, True)


def test_templates_in_use_stay_and_the_rest_goes(
    client: User, service: FakeService, new: Build
) -> None:
    service.in_use[new.template] = "running sandboxes using it"

    ran = client.run("delete", "*", "--yes")

    assert (ran.code, "is in use by running sandboxes" in ran.err) == (1, True)
    assert names(service) == {"api"}
    assert entry(client).build_id == new.id


@pytest.mark.parametrize("argv", [["delete", "x", "--yes"], ["list", "--remote"], ["prune"]])
def test_nothing_is_asked_offline(client: User, service: FakeService, argv: list[str]) -> None:
    assert client.run(*argv, "--offline").code == 64
    assert service.requests == []


@pytest.mark.parametrize("word", ["other", "ID"])
def test_legacy_services_are_asked_for_their_list(
    client: User, service: FakeService, word: str
) -> None:
    other = build(service, "other", "default")
    service.has_template, service.list_shape = False, "v1"
    service.fail("GET", "/templates/aliases/.*", error(404, "no such route"))

    assert client.run("delete", word.replace("ID", other.template), "--yes").code == 0
    assert "other" not in service.names


# --- prune -----------------------------------------------------------------------------------


@pytest.fixture
def git(client: User) -> Callable[..., str]:
    def run(*argv: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        return subprocess.run(
            ["git", "-C", client.root, *identity, *argv],
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run("init", "-q", "-b", "main")
    return run


@pytest.fixture
def renamed(client: User, service: FakeService, git: Callable[..., str]) -> Build:
    """A template that an older lock of the repository has, and nothing names any more."""
    made = build(service, "before")
    lock = client.root / "novita.lock"
    text = lock.read_text()
    old = entry(client).template_id
    lock.write_text(text.replace(old, made.template))
    git("add", "-A")
    git("commit", "-qm", "before")
    lock.write_text(text)
    git("commit", "-qam", "after")
    return made


def names_of(service: FakeService, build: Build) -> str:
    return next(name for name, owner in service.names.items() if owner == build.template)


def kept(client: User, *argv: str) -> dict[str, Any]:
    rows = client.run("prune", "--json", *argv).data["templates"]
    return {row["name"]: row["kept"] for row in rows}


def test_only_what_nothing_names_is_pruned_and_only_with_yes(
    client: User, service: FakeService, renamed: Build
) -> None:
    build(service, "elsewhere")  # of another repository of the same account

    ran = client.run("prune")

    assert ran.code == 0
    assert f"before     {renamed.template}  would be deleted\n" in ran.out
    assert "api        tmpl0000000000000000  kept: a lock names it\n" in ran.out
    assert "kept: not known to be of this workspace\n" in ran.out
    assert ran.err == "nothing is deleted without `--yes`\n"
    assert "before" in service.names

    ran = client.run("prune", "--yes")

    assert f"before     {renamed.template}  deleted\n" in ran.out
    assert names(service) == {"api", "web", "elsewhere"}
    assert client.run("prune", "--yes", "--json").data["templates"][-1]["deleted"] is False


def test_what_the_lock_alone_still_names_is_told_how_to_go(
    client: User, service: FakeService
) -> None:
    client.replace("novita.yaml", "  web:", "  page:")

    assert kept(client)["web"] == (
        "the lock still names it, novita.yaml does not: `sandboxfile delete web`"
    )
    assert kept(client)["api"] == "a lock names it"
    assert client.run("prune").err == "nothing to delete\n"
    assert client.run("delete", "web", "--yes").code == 0
    assert "web" not in service.names


def test_a_tag_keeps_a_template_unless_it_is_ignored(
    client: User, service: FakeService, renamed: Build
) -> None:
    service.tags[renamed.template, "default"] = renamed.id

    assert kept(client)["before"] == "it has the tag `default`"
    assert kept(client, "--ignore-tag", "default")["before"] is None


def test_a_running_build_keeps_a_template(
    client: User, service: FakeService, renamed: Build
) -> None:
    running = service.register("before", ["sf-00000000000000ff"])
    assert running.template == renamed.template

    assert kept(client)["before"] == f"build {running.id} runs"


def test_what_we_did_not_make_is_kept(client: User, service: FakeService, renamed: Build) -> None:
    service.tags = {key: b for key, b in service.tags.items() if key[0] != renamed.template}

    assert kept(client)["before"] == "it has no content tag: sandboxfile did not make it"


def test_what_changed_lately_is_kept(client: User, service: FakeService, renamed: Build) -> None:
    row = {"templateID": renamed.template, "aliases": ["before"]}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    service.fail("GET", "/v2/templates", *[error(404, "no such route")] * 3)
    for updated in (now, "", now):
        service.fail("GET", "/templates$", Answer(body=[{**row, "updatedAt": updated}]))

    assert str(kept(client)["before"]).endswith("too short a time ago")
    assert kept(client)["before"] == "the service does not say when it was changed"
    assert kept(client, "--older-than", "0")["before"] is None


def test_published_templates_are_kept(client: User, service: FakeService, renamed: Build) -> None:
    row = {"templateID": renamed.template, "aliases": ["before"], "public": True}
    service.fail(
        "GET", "/v2/templates", Answer(body=[{**row, "updatedAt": "2026-01-01T00:00:00Z"}])
    )

    assert kept(client)["before"] == "it is published: other teams may use it"


def test_the_locks_of_other_branches_are_kept(
    client: User, service: FakeService, renamed: Build, git: Callable[..., str]
) -> None:
    assert kept(client)[names_of(service, renamed)] is None
    git("branch", "release", "HEAD~1")

    assert kept(client)["before"] == "a lock names it"


@pytest.mark.usefixtures("renamed")
def test_nothing_is_pruned_where_git_does_not_tell_what_other_branches_have(
    client: User,
    service: FakeService,
    git: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> str:
        ran = client.run("prune", "--yes")
        assert (ran.code, ran.out) == (1, "")
        assert "which templates other branches have" in ran.err
        assert "before" in service.names
        return ran.err

    git("tag", "a-blob", "HEAD:novita.yaml")
    git("branch", "without-a-lock", git("commit-tree", "-m", "x", git("mktree").strip()).strip())
    assert kept(client)["before"] is None
    head = client.root / ".git" / "HEAD"
    good = head.read_bytes()
    head.write_text("damaged")
    assert "not a git repository" in refused()
    head.write_bytes(good)
    tree = git("rev-parse", "HEAD~1^{tree}").strip()
    lost = client.root / ".git" / "objects" / tree[:2] / tree[2:]
    away = lost.rename(client.root / "away")
    git("branch", "release", "HEAD~1")
    refused()
    away.rename(lost)
    git("branch", "-D", "release")
    monkeypatch.setenv("PATH", str(client.root))
    assert "`git`" in refused()


def test_without_a_repository_there_are_no_other_branches(client: User) -> None:
    assert client.run("prune").code == 0
    ran = client.having(GIT_DIR="/nowhere").run("prune")
    assert (ran.code, "other branches" in ran.err) == (1, True)


def test_a_given_lock_is_kept(client: User, service: FakeService, renamed: Build) -> None:
    other = client.root / "other.lock"
    old = entry(client).template_id
    other.write_text((client.root / "novita.lock").read_text().replace(old, renamed.template))

    assert kept(client, "--keep-lock", "other.lock")["before"] == "a lock names it"
    assert client.run("prune", "--keep-lock", "none.lock").code == 1
    ran = client.run("prune", "--keep-lock", "other.lock/none")
    assert (ran.code, "the lock cannot be read: not a directory" in ran.err) == (3, True)
    ran = client.run("prune", "--keep-lock", "novita.yaml")
    assert (ran.code, "this is no lock" in ran.err, "remove" in ran.err) == (3, True, False)
    assert "before" in service.names


def test_what_novita_yaml_names_is_kept(client: User, service: FakeService, renamed: Build) -> None:
    del service.names["before"]
    service.names["api"] = renamed.template

    assert kept(client)["api"] == "novita.yaml has `api`"


def test_the_journal_here_knows_what_was_made_here(client: User, service: FakeService) -> None:
    made = build(service, "lost")
    assert kept(client)["lost"] == "not known to be of this workspace"
    assert kept(client, "--all-of-account")["lost"] is None
    journal = Journal.open(
        client.root / ".sandboxfile/journal/box.jsonl", emit=lambda _: None, cancel=Cancel()
    )
    journal.write(
        Record(template="lost", content="sf-1", step="ready",
               template_id=made.template, build_id=made.id)
    )  # fmt: skip
    journal.close()

    assert kept(client)["lost"] is None


def test_templates_in_use_are_told_and_stay(
    client: User, service: FakeService, renamed: Build
) -> None:
    service.in_use[renamed.template] = "paused sandboxes using it"

    ran = client.run("prune", "--yes")

    assert (ran.code, "before" in service.names) == (1, True)
    assert "in use by sandboxes: 1 of 1 template\n" in ran.err


@pytest.mark.parametrize(
    ("lacks", "said"), [("has_tags", "has no tags"), ("has_template", "does not list builds")]
)
def test_a_service_that_cannot_tell_what_is_in_use_is_not_pruned(
    client: User, service: FakeService, renamed: Build, lacks: str, said: str
) -> None:
    setattr(service, lacks, False)

    ran = client.run("prune", "--yes")

    assert (ran.code, said in ran.err) == (64, True)
    assert "before" in service.names
    assert renamed.template in service.names.values()


def test_old_builds_are_forgotten_but_for_those_that_something_names(
    client: User, service: FakeService, new: Build
) -> None:
    for number in range(6):  # all of them older than the lock's, as far as the lock can tell
        build(service, "api", *(["live"] if number == 0 else []))
    later = [each for each in service.builds.values() if each.template == new.template][2:]
    kept_by_tag, middle, newest = later[0], later[1:4], later[4:]
    assert client.run("prune").out.count("would be taken") == 0

    ran = client.run("prune", "--builds", "2")

    tags = [each.tags[0] for each in reversed(middle)]
    first = next(tag for tag in (each.tags[0] for each in service.builds.values()))
    assert ran.out.splitlines()[-1] == (
        f"api: would be taken from builds that nothing names: {', '.join([*tags, first])}"
    )
    assert on(service, tags[0])
    assert client.run("prune", "--builds", "2", "--yes", "--json").data["builds"] == [
        {"name": "api", "tags": [*tags, first]}
    ]
    left = {build for (owner, _), build in service.tags.items() if owner == new.template}
    assert left == {new.id, kept_by_tag.id, *(each.id for each in newest)}
    assert client.run("prune", "--builds", "2").err == "nothing to delete\n"


def test_builds_that_are_young_or_moved_to_are_not_forgotten(
    client: User, service: FakeService, old: Build
) -> None:
    assert old.tags[0] in client.run("prune", "--builds", "1").out
    assert (
        client.run("prune", "--builds", "1", "--older-than", "36500").err == "nothing to delete\n"
    )
    client.run("tag", "api", "stable", "--build", old.id)
    assert client.run("prune", "--builds", "1").err == "nothing to delete\n"
    assert client.run("prune", "--builds", "0").code == 64
    assert on(service, old.tags[0]) == old.id


def test_days_are_a_number(client: User) -> None:
    assert client.run("prune", "--older-than", "-1").code == 64
    for days in ("nan", "inf", "1e300", "999999999"):
        assert client.run("prune", "--older-than", days).code == 64


# --- drift -----------------------------------------------------------------------------------


def drift(client: User, name: str = "api") -> list[dict[str, Any]]:
    rows = client.run("status", "--refresh", "--json").data["templates"]
    found: list[dict[str, Any]] = next(row["drift"] for row in rows if row["name"] == name)
    return found


def test_a_service_that_is_as_the_lock_says_has_no_drift(client: User) -> None:
    assert drift(client) == []
    assert client.run("status", "--refresh", "--exit-code").code == 0


def test_a_tag_that_was_moved_is_drift(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    service.tags[new.template, "stable"] = old.id

    (found,) = drift(client)

    assert (found["kind"], found["tag"], found["build_id"]) == ("retagged", "stable", old.id)
    assert found["text"] == f"`stable` is on build {old.id}, not on {new.id}"
    assert found["remedy"] == f"sandboxfile tag api stable --build {new.id}"
    ran = client.run("status", "--refresh", "--exit-code")
    assert (ran.code, f"({found['remedy']})\n" in ran.out) == (2, True)
    client.run(*str(found["remedy"]).split()[1:])
    assert drift(client) == []


def test_a_tag_that_is_gone_is_drift(client: User, service: FakeService, new: Build) -> None:
    del service.tags[new.template, "stable"]

    assert [each["text"] for each in drift(client)] == [f"`stable` is gone, not on {new.id}"]


def test_tags_that_went_together_are_told_on_one_line(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    for tag in ("default", "stable"):
        service.tags[new.template, tag] = old.id
    assert [each["tag"] for each in drift(client)] == ["default", "stable"]

    ran = client.run("status", "api", "--refresh")

    (line,) = ran.out.splitlines()[1:]
    remedy = f"sandboxfile tag api default stable --build {new.id}"
    said = f"`default`, `stable` are on build {old.id}, not on {new.id} ({remedy})"
    assert line.strip() == said
    other = client.having(SANDBOXFILE_TARGET="local")  # where `--target` has to be given again
    ran = other.run("status", "api", "--refresh", "--target", "box")
    assert ran.out.splitlines()[1].strip() == f"{said[:-1]} --target box)"
    assert other.run(*remedy.split()[1:], "--target", "box").code == 0
    assert drift(client) == []


def test_a_newer_build_is_drift(client: User, service: FakeService, new: Build) -> None:
    later = build(service, "api", "default")

    (found,) = drift(client)

    assert (found["kind"], found["build_id"]) == ("rebuilt", later.id)
    assert found["text"] == f"`default` is on the newer build {later.id}, not on {new.id}"


def test_the_same_content_built_elsewhere_is_drift(client: User, service: FakeService) -> None:
    later = service.register("api", ["sf-" + key(client)])
    assert drift(client) == []  # not ready, so nobody would use it
    later.settle("ready")

    (found,) = drift(client)

    assert (found["kind"], found["build_id"]) == ("rebuilt", later.id)


def test_a_rollback_from_here_is_no_drift_and_its_undoing_is(
    client: User, service: FakeService, old: Build, new: Build
) -> None:
    client.run("rollback", "api")
    assert drift(client) == []

    service.tags[new.template, "default"] = new.id

    assert [each["tag"] for each in drift(client)] == ["default"]
    assert on(service, "stable") == old.id


def test_what_was_deleted_is_drift(client: User, service: FakeService, new: Build) -> None:
    del service.builds[new.id]
    assert [each["kind"] for each in drift(client)] == ["build gone"]
    service.register("web", ["sf-2"])
    list(service.builds.values())[-2].settle("error")
    del service.names["api"]

    (found,) = drift(client)

    assert found["kind"] == "deleted"
    assert found["remedy"] == "build it again: sandboxfile build api --force"


def test_a_build_that_is_not_ready_is_drift(client: User, new: Build) -> None:
    new.settle("error")

    assert drift(client)[0]["kind"] == "build not ready"


def test_without_tags_builds_alone_are_compared(
    client: User, service: FakeService, new: Build
) -> None:
    service.has_tags = False
    assert drift(client) == []
    del service.builds[new.id]
    assert [each["kind"] for each in drift(client)] == ["build gone"]
    service.has_template = False
    assert drift(client) == []


def test_a_template_that_was_never_built_has_no_drift(client: User, tmp_path: Path) -> None:
    def nothing(_: Lock) -> Lock:
        return Lock()

    lockfile.update(client.root / "novita.lock", nothing)

    assert drift(client) == []
    assert tmp_path.exists()
